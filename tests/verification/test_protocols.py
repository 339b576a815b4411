"""A protocol is a name or a file, and a file that is wrong is answered with the key at fault."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from unlearnable.errors import UsageError
from unlearnable.train import PAPER
from unlearnable.verification import plan, protocols


def written(folder: Path, text: str) -> str:
    path = folder / "mine.toml"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("name", protocols.NAMED)
@pytest.mark.parametrize("photos", [False, True])
def test_the_named_protocols_can_be_written_as_files(name: str, photos: bool, tmp_path: Path) -> None:
    named = protocols.find(name)
    given = {key: value for key, value in asdict(named).items() if key != "name" and value is not None}
    path = written(tmp_path, "".join(f"{key} = {json.dumps(value)}\n" for key, value in given.items()))
    assert protocols.find(path) == replace(named, name="custom")
    for images in (100, 1000, 50_000):
        one, other = (plan.make(each, images, photos=photos) for each in (name, path))
        assert replace(other, protocol=name) == one
    assert plan.most_images(path) == plan.most_images(name)


def test_the_paper_protocol_is_the_papers() -> None:
    made = plan.make("paper", 50_000)
    assert made.recipe == PAPER and made.seeds == (0, 1, 2) and made.victims == ("resnet18",)


def test_every_key_of_a_file_reaches_the_plan(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        'victims = ["tiny", "linear"]\nepochs = 3\nbatch = 7\nlearning_rate = 0.02\nschedule = "steps"\n'
        'milestones = [0.5, 0.9]\nmomentum = 0.5\nweight_decay = 0.1\nnesterov = false\naugment = "none"\nseeds = 4\n'
        'against = "jpeg10, blur1"\ntrain_images = 50\ntest_images = 20\n',
    )
    made = plan.make(path, 50, photos=True)
    assert (made.protocol, made.victims, made.seeds) == ("custom", ("tiny", "linear"), (0, 1, 2, 3))
    wanted = {"epochs": 3, "batch": 7, "learning_rate": 0.02, "momentum": 0.5, "weight_decay": 0.1, "nesterov": False}
    wanted |= {"schedule": "steps", "milestones": (0.5, 0.9), "augment": "none"}
    assert vars(made.recipe) == wanted and made.recipe_of("linear") == made.recipe
    assert [name for name, _, _ in made.against] == ["jpeg10", "blur1"]
    assert plan.most_images(path) == (50, 20)


def test_the_command_line_takes_the_files_place(tmp_path: Path) -> None:
    path = written(tmp_path, 'victim = "tiny"\nseeds = 4\nagainst = ["jpeg10"]\n')
    made = plan.make(path, 500, victim="linear,small", seeds=1, against=("none",))
    assert made.victims == ("linear", "small") and made.seeds == (0,) and made.against == ()


WRONG = {
    'epoch = 3': "no key 'epoch'. Did you mean 'epochs'",
    'name = "mine"': "no key 'name'",
    'epochs = 0': "epochs is a whole number from 1",
    'epochs = "ten"': "epochs is a whole number from 1 to 10000, not 'ten'",
    'epochs = true': "epochs is a whole number",
    'batch = 1.5': "batch is a whole number",
    'seeds = 21': "seeds is a whole number from 1 to 20, not 21",
    'train_images = 1': "train_images",
    'test_images = -1': "test_images",
    'learning_rate = "high"': "learning_rate is a number",
    'learning_rate = nan': "learning_rate is a number",
    'momentum = 1': "momentum is a number from 0",
    'momentum = 0': "nesterov needs a momentum",
    'weight_decay = -1': "weight_decay",
    'nesterov = 1': "nesterov is true or false",
    'schedule = "linear"': "schedule is one of one_cycle, cosine, steps, not 'linear'",
    'schedule = "steps"': "milestones are missing",
    'milestones = [0.5]': "milestones are for schedule = 'steps'",
    'schedule = "steps"\nmilestones = [50]': "milestones are rising fractions",
    'schedule = "steps"\nmilestones = [0.9, 0.5]': "milestones are rising fractions",
    'augment = "mixup"': "augment is one of none, crop_flip, resized_crop",
    'victims = []': "victims names no network",
    'victims = [1]': "victims is a name or a list of names",
    'victim = "tiny"\nvictims = ["tiny"]': "both victim and victims",
    'victim = "resnet81"': "Did you mean 'resnet18'",
    'against = ["jpg10"]': "Did you mean 'jpeg10'",
    'epochs = ': "is not TOML",
}  # fmt: skip


@pytest.mark.parametrize("text", WRONG)
def test_a_wrong_file_gets_one_sentence_that_names_the_key(text: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as why:
        plan.make(written(tmp_path, text), 100)
    assert WRONG[text] in str(why.value)


def test_what_is_no_protocol_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Did you mean 'paper'"):
        protocols.find("papre")
    with pytest.raises(UsageError, match="cannot be read"):
        protocols.find(str(tmp_path / "none.toml"))


def test_the_documented_keys_are_the_keys() -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "verify.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    named = {name.strip(" `") for row in rows for part in row.split(",") for name in part.split(" or ")}
    assert named - {"victim"} == set(vars(protocols.Protocol())) - {"name"}
    example = text.partition("`paper` as a file")[2].partition("\n\n")[2].partition("\n\n")[0]
    assert protocols.Protocol(**{}) != protocols.NAMED["paper"]
    lines = "\n".join(line.strip() for line in example.splitlines())
    import tomllib

    given = {key: tuple(value) if isinstance(value, list) else value for key, value in tomllib.loads(lines).items()}
    assert protocols.Protocol("paper", **given) == protocols.NAMED["paper"]

"""`verify` and `protect --verify` at the prompt: plans, protocols from files, several networks, interruptions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from made_pictures import write_tree

import cli
from release import layout
from release.manifest import public_verification
from unlearnable import params, registry
from unlearnable.verification import run as run_
from unlearnable.verification.document import _spoken


def run(*words: object) -> Result:
    return CliRunner().invoke(cli.cli, [str(word) for word in words])


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("released")
    write_tree(root / "pictures", each=30)
    (root / "mine.toml").write_text('victim = "tiny"\nepochs = 1\nseeds = 1\n')
    done = run("protect", root / "pictures", root / "out", "--preset", "r16", "--verify", root / "mine.toml", "-q")
    assert done.exit_code == 0, done.output
    return root / "out"


def test_a_dry_run_prints_the_plan(released: Path) -> None:
    words = ("verify", released, "--protocol", released.parent / "mine.toml", "--against", "jpeg10", "--dry-run")
    done = run(*words)
    assert done.exit_code == 0 and "5 trainings of 1 epochs" in done.stdout and "3 are kept from before" in done.stdout
    assert "tiny: " in done.stdout and "About " in done.stdout
    found = json.loads(run(*words, "--json").stdout)
    assert found["plan"]["trainings"] == 5 and set(found) == {"protocol", "plan"}


def test_networks_are_named_between_commas_or_one_by_one_and_the_diagnosis_is_printed(released: Path) -> None:
    words = ("verify", released, "--protocol", released.parent / "mine.toml", "--diagnose")
    one = json.loads(run(*words, "--victim", "tiny,linear", "--json").stdout)
    two = json.loads(run(*words, "--victim", "tiny", "--victim", "linear", "--json").stdout)
    assert (
        one == two
        and list(one["victims"]) == ["tiny", "linear"]
        and set(one["diagnosis"]["transfer"]) == {"tiny", "linear"}
    )
    text = run(*words, "--victim", "tiny,linear").stdout
    for said in (
        "originals, linear",
        "Misread by linear",
        "Misread by these networks on average,",
        "Linear classifier of the change alone",
        "cycles a pixel",
    ):
        assert said in text


def test_every_verification_is_in_the_log(released: Path) -> None:
    log = layout.owner_folder(released) / layout.LOG
    before = len(log.read_text().splitlines())
    assert run("verify", released, "--protocol", released.parent / "mine.toml", "-q").exit_code == 0
    lines = [json.loads(line) for line in log.read_text().splitlines()[before:]]
    assert lines[0]["event"] == "begin" and lines[0]["command"][:2] == ["verify", str(released)]
    assert lines[-1]["event"] == "end" and lines[-1]["how"] == "finished"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--protocol", "papre"), "Did you mean 'paper'"),
        (("--protocol", "no.toml"), "no.toml cannot be read"),
        (("--victim", "tiny,resnet81"), "Did you mean 'resnet18'"),
    ],
)
def test_what_cannot_be_trained_is_refused_in_a_sentence(words: tuple[str, ...], said: str, released: Path) -> None:
    done = run("verify", released, *words)
    assert done.exit_code == 2 and said in done.stderr and "Traceback" not in done.output


def test_protect_goes_on_with_the_trainings_that_an_interruption_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tree(tmp_path / "pictures", each=20)
    (tmp_path / "mine.toml").write_text('victim = "tiny"\nepochs = 2\nseeds = 1\n')
    out, trained, call = tmp_path / "out", [], run_._Progress.__call__

    def killed(self: Any, cell: Any, epoch: int, history: Any) -> None:
        trained.append(cell.arm)
        if len(trained) == 4:
            raise KeyboardInterrupt
        call(self, cell, epoch, history)

    monkeypatch.setattr(run_._Progress, "__call__", killed)
    words = (
        "protect",
        tmp_path / "pictures",
        out,
        "--preset",
        "r16",
        "--verify",
        tmp_path / "mine.toml",
        "--json",
        "-q",
    )
    done = run(*words)
    assert done.exit_code == 130 and "repeat the same command" in done.stderr and not out.exists()
    assert trained == ["clean", "clean", "noise", "noise"]
    document = json.loads(run(*words).stdout)
    assert trained[4:] == ["noise", "noise", "protected", "protected"], "what was finished is not trained again"
    assert set(document["verification"]["arms"]) == {"clean", "noise", "protected"}
    assert len(list((layout.owner_folder(out) / layout.STATE / layout.CELLS).iterdir())) == 3


def test_a_protocol_that_changed_meanwhile_is_another_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from release import build

    write_tree(tmp_path / "pictures", each=20)
    protocol = tmp_path / "mine.toml"
    protocol.write_text('victim = "tiny"\nepochs = 1\nseeds = 1\n')
    words = ("protect", tmp_path / "pictures", tmp_path / "out", "--preset", "r16", "--verify", protocol, "-q")
    monkeypatch.setattr(build, "_write_mark", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
    assert run(*words).exit_code == 130
    monkeypatch.undo()
    protocol.write_text('victim = "tiny"\nepochs = 2\nseeds = 1\n')
    done = run(*words)
    assert done.exit_code == 2 and "other options" in done.stderr


def test_what_strangers_read_names_neither_countermeasures_nor_what_was_diagnosed(released: Path) -> None:
    words = (
        "--protocol",
        released.parent / "mine.toml",
        "--victim",
        "tiny,linear",
        "--against",
        "jpeg10",
        "--diagnose",
    )
    full = json.loads(run("verify", released, *words, "--json").stdout)
    public = json.dumps(public_verification(full)).lower()
    assert "jpeg" in json.dumps(full) and full["worst_case"]["words"]
    for word in ("jpeg", "linear", "within_noise", "diagnosis", "misread", "worst", "mine.toml"):
        assert word not in public, word


def test_the_owner_finds_a_page_of_every_verification_and_the_release_stays_as_it_was(released: Path) -> None:
    owner = layout.owner_folder(released)
    sealed, before = (owner / layout.OWNER_REPORT).read_bytes(), (released / layout.MANIFEST).read_bytes()
    words = ("--protocol", released.parent / "mine.toml", "--victim", "tiny,linear", "--diagnose")
    done = run("verify", released, *words, "-q")
    page = owner / layout.VERIFIED
    assert f"Your report: {page}" in done.stdout and "95 % intervals of the peaks: originals " in done.stdout
    text = page.read_text()
    for said in ("Every network that was trained", "Seen from outside", "--victim tiny,linear --diagnose", "Original"):
        assert said in text, said
    assert json.loads((owner / layout.VERIFICATION).read_text())["diagnosis"]["transfer"].keys() == {"tiny", "linear"}
    assert {"peaks.png", "spectrum-diagnosed.json"} <= {path.name for path in (owner / layout.VERIFIED_PLOTS).iterdir()}
    assert page.stat().st_mode & 0o777 == 0o600
    assert (owner / layout.OWNER_REPORT).read_bytes() == sealed and (released / layout.MANIFEST).read_bytes() == before
    assert run("check", released).exit_code == 0


@pytest.mark.parametrize("name", registry.names("defences"))
def test_every_countermeasure_has_words_for_a_sentence(name: str) -> None:
    presets = registry.describe("defences", name).presets
    said = [_spoken(preset, name, params.build("defences", name, values)) for preset, values in presets.items()]
    assert len(set(said)) == len(said) and not set(said) & set(presets), "each its own, and no preset's name"
    assert not any(character in text for text in said for character in "{}.") or name == "blur"

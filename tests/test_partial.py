"""Only some classes are protected: the others ship as they are, are counted, and flatter no figure."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from made_pictures import write_tree
from PIL import Image

import cli
import unlearnable
from release import layout
from unlearnable import Options
from unlearnable.errors import UsageError

PROTOCOL = 'victim = "tiny"\nepochs = 2\nseeds = 1\nagainst = ["grayscale"]\n'


def run(*words: object) -> Result:
    return CliRunner().invoke(cli.cli, [str(word) for word in words])


def pixels(folder: Path) -> dict[str, np.ndarray]:
    return {str(path.relative_to(folder)): np.asarray(Image.open(path)) for path in sorted(folder.rglob("*.png"))}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("partial")
    write_tree(root / "pictures", each=24)
    (root / "mine.toml").write_text(PROTOCOL)
    return root


@pytest.fixture(scope="module")
def first(root: Path) -> str:
    return sorted(path.name for path in (root / "pictures").iterdir())[0]


@pytest.fixture(scope="module")
def document(root: Path, first: str) -> dict[str, object]:
    words = ("--preset", "r16", "--classes", first, "--format", "png", "--verify", root / "mine.toml")
    done = run("protect", root / "pictures", root / "out", *words, "--json", "-q")
    assert done.exit_code == 0, done.output
    loaded: dict[str, object] = json.loads(done.stdout)
    return loaded


def test_the_named_class_is_protected_and_the_others_ship_as_they_were(
    root: Path, first: str, document: dict[str, object]
) -> None:
    before, after = pixels(root / "pictures"), pixels(root / "out" / layout.DATA)
    assert len(before) == len(after) == 72
    for name, original in before.items():
        (copy,) = (found for path, found in after.items() if path.endswith(name))
        changed = np.abs(copy.astype(int) - original).max()
        assert 0 < changed <= 8 if name.startswith(f"{first}/") else changed == 0, name
    assert document["images"] == {"total": 72, "protected": 24, "unprotected": 48, "skipped": 0}


def test_manifest_card_and_report_say_how_many_are_not_protected(root: Path, document: dict[str, object]) -> None:
    manifest = json.loads((root / "out" / layout.MANIFEST).read_text())
    assert manifest["counts"] == document["images"] and manifest["splits"] == {"train": 72}
    assert manifest["quality"]["images"] == 12 and manifest["quality"]["ssim"] < 1, "of protected images alone"
    for name in (layout.CARD, layout.REPORT):
        text = (root / "out" / name).read_text()
        assert "24 of 72 images are protected. 48 images of other classes are not" in text
    assert "The pixels of 24 of these 72 images carry" in (root / "out" / layout.CARD).read_text()


def test_the_headline_is_the_accuracy_on_the_protected_class_with_all_classes_beside(
    document: dict[str, dict[str, dict[str, dict[str, object]]]],
) -> None:
    found = document["verification"]
    told = found["protocol"]
    assert (told["protected_classes"], told["classes"], told["chance"]) == (1, 3, 1 / 3)
    assert told["test_images"] * 3 == told["test_images_of_all_classes"], "as many of each class"
    for table in (found["arms"], found["against"]["grayscale"]):
        for arm in table.values():
            assert len(arm["all_classes"]["peak"]["runs"]) == 1 and "figures" not in arm
    assert "on the protected classes" in found["verdict"] and "Over all classes it peaked at" in found["verdict"]


def test_a_later_verification_and_a_grown_release_know_which_classes(
    root: Path, first: str, document: dict[str, dict[str, object]]
) -> None:
    again = unlearnable.verify(root / "out", protocol=str(root / "mine.toml"))
    assert {key: again[key] for key in document["verification"]} == document["verification"]
    page = Path(again["report"]).read_text()
    assert "unlearnable verify" in page and "Over all classes, of which some are not protected" in page
    words = ("--preset", "r16", "--format", "png", "--verify", "none", "--grow")
    done = run("protect", root / "pictures", root / "out", *words, "-q")
    assert done.exit_code == 2 and "--classes" in done.stderr, "to protect more is another job"


@pytest.mark.parametrize(
    ("given", "chosen"),
    [
        (("a",), ("a",)),
        (("c, a",), ("a", "c")),
        (("b,c", "a"), ("a", "b,c")),
        (("c", "c"), ("c",)),
        ((), None),
    ],
)
def test_classes_are_named_one_by_one_or_between_commas(given: tuple[str, ...], chosen: tuple[str, ...] | None) -> None:
    assert Options(classes=given).only(("a", "b,c", "c")) == chosen


def test_a_class_that_is_not_there_is_refused_with_the_nearest(root: Path) -> None:
    with pytest.raises(UsageError, match=r"no class 'spaniel'.*Did you mean 'spaniels'\? Known: cats, spaniels"):
        Options(classes=("cats,spaniel",)).only(("cats", "spaniels"))
    with pytest.raises(UsageError, match="these images have none"):
        Options(classes=("cats",)).only(None)
    for words in (("--classes", "nobody"), ("--classes", "nobody", "--dry-run")):
        done = run("protect", root / "pictures", root / "never", "--preset", "r16", *words, "-q")
        assert done.exit_code == 2 and "There is no class 'nobody' to protect." in done.stderr
        assert not (root / "never.owner").exists()

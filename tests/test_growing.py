"""Promises to an archive that lives on: a rerun makes what is new, changed or was skipped, and leaves the rest as it is."""

from __future__ import annotations

import dataclasses
import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from made_pictures import picture, write_tree
from PIL import Image

import unlearnable
from cli import cli
from release import build, layout
from unlearnable import Options
from unlearnable.errors import IntegrityError, UsageError

FAST = Options(preset="r16", verify="none")
GROW = dataclasses.replace(FAST, grow=True)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return write_tree(tmp_path / "pictures", classes=2, each=6)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the images that were perturbed, as they come."""
    names: list[str] = []
    real = build.make
    monkeypatch.setattr(build, "make", lambda p, *rest: names.append(p.name) or real(p, *rest))
    return names


def data(root: Path) -> dict[str, bytes]:
    found = sorted(p for p in (root / "data").rglob("*") if p.is_file())
    return {p.relative_to(root / "data").as_posix(): p.read_bytes() for p in found}


def draw(path: Path, kind: int, seed: int) -> None:
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(picture(kind, seed)).save(path)


def test_what_was_skipped_is_tried_again_and_nothing_else(tree: Path, tmp_path: Path, made: list[str]) -> None:
    whole = (tree / "across/000.png").read_bytes()
    (tree / "across/000.png").write_bytes(whole[:100])
    first = unlearnable.protect(str(tree), tmp_path / "out", FAST)
    before = data(tmp_path / "out")
    assert first["images"] == {"total": 12, "protected": 11, "skipped": 1}
    (tree / "across/000.png").write_bytes(whole)
    made.clear()
    again = unlearnable.protect(str(tree), tmp_path / "out", GROW)
    assert again["images"] == {"total": 12, "protected": 12, "skipped": 0} and made == ["across/000.png"]
    assert before.items() < data(tmp_path / "out").items()
    assert unlearnable.check(tmp_path / "out")["ok"]


@pytest.mark.parametrize("kind", ["folder", "zip", "parquet"])
def test_a_grown_archive_ends_in_the_bytes_of_one_that_was_always_so(
    tree: Path, tmp_path: Path, made: list[str], kind: str
) -> None:
    options = dataclasses.replace(FAST, layout="parquet") if kind == "parquet" else FAST

    def source() -> str:
        if kind != "zip":
            return str(tree)
        with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
            for path in tree.rglob("*.png"):
                archive.write(path, path.relative_to(tree))
        return str(tmp_path / "in.zip")

    unlearnable.protect(source(), tmp_path / "out", options)
    draw(tree / "across/100.png", 0, 100)  # gained
    (tree / "down/001.png").unlink()  # lost
    draw(tree / "down/002.png", 1, 200)  # changed
    shutil.move(tree / "down/003.png", tree / "down/300.png")  # renamed: one image must not get two copies
    made.clear()
    document = unlearnable.protect(source(), tmp_path / "out", dataclasses.replace(options, grow=True))
    assert document["images"] == {"total": 12, "protected": 12, "skipped": 0}
    assert sorted(made) == ["across/100.png", "down/002.png"]
    assert unlearnable.check(tmp_path / "out")["ok"]
    key = layout.owner_folder(tmp_path / "out") / layout.KEY
    unlearnable.protect(source(), tmp_path / "anew", dataclasses.replace(options, key=key))
    assert data(tmp_path / "out") == data(tmp_path / "anew"), "a pattern by class does not depend on the file's name"


def test_a_new_class_is_drawn_against_those_that_are_there(tree: Path, tmp_path: Path, made: list[str]) -> None:
    unlearnable.protect(str(tree), tmp_path / "out", FAST)
    before = data(tmp_path / "out")
    for number in range(4):
        draw(tree / f"abstract/{number}.png", 2, number)  # its name sorts before the others
    made.clear()
    unlearnable.protect(str(tree), tmp_path / "out", GROW)
    after = data(tmp_path / "out")
    assert before.items() < after.items() and sorted(made) == [f"abstract/{n}.png" for n in range(4)]

    def change(name: str) -> np.ndarray:
        clean, shipped = (np.asarray(Image.open(p)).astype(int) for p in (tree / name, tmp_path / "out/data" / name))
        return (shipped - clean).ravel()

    new, old = change("abstract/0.png"), [change(f"{name}/000.png") for name in ("across", "down")]
    assert all(abs(np.corrcoef(new, each)[0, 1]) < 0.9 for each in old)
    assert np.corrcoef(new, change("abstract/1.png"))[0, 1] > 0.9
    (tree / "down/007.png").write_bytes((tree / "across/005.png").read_bytes())  # the same picture in another class
    made.clear()
    unlearnable.protect(str(tree), tmp_path / "out", GROW)
    assert made == ["down/007.png"], "a copy keeps its image only within its class"


def test_a_method_that_cannot_add_classes_says_so_and_offers_a_full_rerun(
    tree: Path, tmp_path: Path, monkeypatch
) -> None:
    from unlearnable.poisons import regions

    unlearnable.protect(str(tree), tmp_path / "out", FAST)
    draw(tree / "new/0.png", 2, 0)
    monkeypatch.delattr(regions, "extend")
    before = data(tmp_path / "out")
    with pytest.raises(UsageError, match=r"(?s)cannot add the new classes 'new'.*--overwrite"):
        unlearnable.protect(str(tree), tmp_path / "out", GROW)
    assert data(tmp_path / "out") == before and unlearnable.check(tmp_path / "out")["ok"]


def test_interrupted_growth_leaves_the_old_release_and_goes_on(tree: Path, tmp_path: Path, monkeypatch) -> None:
    from release.formats import folder

    monkeypatch.setattr(folder, "MAX_ROWS", 3)
    unlearnable.protect(str(tree), tmp_path / "out", FAST)
    before = data(tmp_path / "out")
    draw(tree / "across/100.png", 0, 100)
    real, count = build._write_mark, [0]

    def interrupted(*args: Any) -> None:
        count[0] += 1
        if count[0] == 3:
            raise KeyboardInterrupt
        real(*args)

    monkeypatch.setattr(build, "_write_mark", interrupted)
    with pytest.raises(KeyboardInterrupt):
        unlearnable.protect(str(tree), tmp_path / "out", GROW)
    assert data(tmp_path / "out") == before and unlearnable.check(tmp_path / "out")["ok"]
    monkeypatch.setattr(build, "_write_mark", real)
    unlearnable.protect(str(tree), tmp_path / "out", GROW)
    assert before.items() < data(tmp_path / "out").items() and len(data(tmp_path / "out")) == 13
    assert not layout.staging_folder(tmp_path / "out").exists()


def test_only_a_finished_untouched_release_with_the_same_options_grows(tree: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no finished release"):
        unlearnable.protect(str(tree), tmp_path / "out", GROW)
    unlearnable.protect(str(tree), tmp_path / "out", FAST)
    with pytest.raises(UsageError, match=r"other options: --eps, --preset\."):
        unlearnable.protect(str(tree), tmp_path / "out", dataclasses.replace(GROW, preset="r4", eps=4))
    with pytest.raises(UsageError, match=r"other options: --labels\."):
        unlearnable.protect(str(tree), tmp_path / "out", dataclasses.replace(GROW, labels="none"))
    with pytest.raises(UsageError, match="held no images out"):
        unlearnable.protect(str(tree), tmp_path / "out", dataclasses.replace(GROW, verify="quick"))
    draw(tmp_path / "out/data/across/000.png", 3, 3)
    with pytest.raises(IntegrityError, match="not as it was sealed"):
        unlearnable.protect(str(tree), tmp_path / "out", GROW)


def test_the_verdict_of_a_grown_release_is_read_on_what_was_held_out_at_first(tmp_path: Path, monkeypatch) -> None:
    tree = write_tree(tmp_path / "pictures", classes=2, each=14)
    options = Options(preset="r16", seeds=1)
    proven = unlearnable.protect(str(tree), tmp_path / "out", options)["verification"]
    read: list[list[str]] = []

    def prove(seen: Any, options: Any, learned: Any, *rest: Any) -> Any:
        read.append(learned.ids()["test"])
        return proven

    monkeypatch.setattr(unlearnable.api.prove, "prove", prove)

    def parts() -> dict[str, Any]:
        path = layout.owner_folder(tmp_path / "out") / layout.STATE / layout.RECEIPT
        return {name: ids for name, ids in json.loads(path.read_text())["parts"].items() if name != "how"}

    first = parts()
    draw(tree / "across/100.png", 0, 100)
    document = unlearnable.protect(str(tree), tmp_path / "out", dataclasses.replace(options, grow=True))
    assert parts() == first and read == [first["test"]]
    assert document["images"]["protected"] == 29


def test_the_command_line_calls_it_by_both_names(tree: Path, tmp_path: Path) -> None:
    words = ["protect", str(tree), str(tmp_path / "out"), "--preset", "r16", "--verify", "none", "-q"]
    for more in ([], ["--retry-failed"], ["--grow"]):
        done = CliRunner().invoke(cli, [*words, *more])
        assert done.exit_code == 0, done.output

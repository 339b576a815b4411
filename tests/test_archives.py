"""The whole job on archives, lists and single files: the same release as of a folder, sidecars accounted for."""

from __future__ import annotations

import dataclasses
import json
import random
import shutil
import tarfile
import zipfile
from pathlib import Path

import pytest
from made_pictures import write_tree

import unlearnable
from release import build, layout
from unlearnable import Options
from unlearnable.errors import UsageError

FAST = Options(preset="r16", verify="none")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return write_tree(tmp_path / "pictures", classes=2, each=8)


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "my.key"
    path.write_text("0123456789abcdef" * 4)
    return path


def data(root: Path) -> dict[str, bytes]:
    found = sorted(p for p in (root / "data").rglob("*") if p.is_file())
    return {str(p.relative_to(root)): p.read_bytes() for p in found}


def packed(tree: Path, kind: str) -> Path:
    """The tree as an archive or a list, members in no order."""
    names = sorted(p.relative_to(tree).as_posix() for p in tree.rglob("*") if p.is_file())
    random.Random(0).shuffle(names)
    path = tree.parent / f"photos.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name in names:
                archive.write(tree / name, name)
    elif kind == "txt":
        path = tree / "all.txt"
        path.write_text("\n".join(name for name in names if name.endswith(".png")))
    else:
        with tarfile.open(path, "w:gz" if kind == "tar.gz" else "w") as archive:
            for name in names:
                archive.add(tree / name, f"./{name}")
    return path


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz", "txt"])
def test_an_archive_ends_in_the_release_of_its_tree(tree: Path, tmp_path: Path, key: Path, kind: str) -> None:
    options = dataclasses.replace(FAST, key=key)
    unlearnable.protect(str(tree), tmp_path / "plain", options)
    document = unlearnable.protect(str(packed(tree, kind)), tmp_path / "out", options)
    assert document["images"] == {"total": 16, "protected": 16, "skipped": 0}
    assert data(tmp_path / "out") == data(tmp_path / "plain")
    assert unlearnable.check(tmp_path / "out")["ok"]


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
@pytest.mark.parametrize("stop_after", [1, 3])
def test_interrupted_on_an_archive_the_rerun_ends_in_the_same_bytes(
    tree: Path, tmp_path: Path, key: Path, kind: str, stop_after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from release.formats import folder

    monkeypatch.setattr(folder, "MAX_ROWS", 4)
    options, source = dataclasses.replace(FAST, key=key), str(packed(tree, kind))
    unlearnable.protect(source, tmp_path / "whole", options)
    real, count = build._write_mark, [0]

    def interrupted(*args: object) -> None:
        if count[0] == stop_after:
            raise KeyboardInterrupt
        count[0] += 1
        real(*args)

    monkeypatch.setattr(build, "_write_mark", interrupted)
    with pytest.raises(KeyboardInterrupt):
        unlearnable.protect(source, tmp_path / "out", options)
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr(build, "_write_mark", real)
    unlearnable.protect(source, tmp_path / "out", options)
    assert data(tmp_path / "out") == data(tmp_path / "whole")


def test_sidecars_are_copied_or_left_out_with_their_reason(tree: Path, tmp_path: Path) -> None:
    (tree / "across/000.png.xmp").write_text("<x:xmpmeta>a title</x:xmpmeta>")
    (tree / "across/001.json").write_text('{"thumb": "data:image/png;base64,AAAA"}')
    (tree / "across/torn.png").write_bytes((tree / "across/000.png").read_bytes()[:90])
    (tree / "across/torn.json").write_text("{}")
    (tree / "notes.txt").write_text("not beside any photo")
    unlearnable.protect(str(tree), tmp_path / "out", FAST)
    kept = {name for name in data(tmp_path / "out") if not name.endswith(".png")}
    assert kept == {"data/across/000.png.xmp"}
    assert unlearnable.check(tmp_path / "out")["ok"], "a sidecar is a file of the release like any other"
    receipt = json.loads((layout.owner_folder(tmp_path / "out") / layout.STATE / layout.RECEIPT).read_text())
    told = {item["id"]: (item["reason"], item["image"]) for item in receipt["skipped"]}
    assert told["across/001.json"] == ("a sidecar that may hold a picture; left out", False)
    assert told["across/torn.json"] == ("a sidecar of a photo that could not be protected", False)
    assert told["notes.txt"] == ("not an image", False) and told["across/torn.png"][1]
    unlearnable.protect(str(tree), tmp_path / "table", dataclasses.replace(FAST, layout="parquet"))
    receipt = json.loads((layout.owner_folder(tmp_path / "table") / layout.STATE / layout.RECEIPT).read_text())
    told = {item["id"]: item["reason"] for item in receipt["skipped"]}
    assert told["across/000.png.xmp"] == "a sidecar; the layout parquet holds images alone"


def test_a_sidecar_that_a_killed_run_lost_is_written_again(tree: Path, tmp_path: Path, monkeypatch) -> None:
    (tree / "across/000.png.xmp").write_text("<x:xmpmeta>a title</x:xmpmeta>")
    monkeypatch.setattr(unlearnable.api, "finish", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        unlearnable.protect(str(tree), tmp_path / "out", FAST)
    monkeypatch.undo()
    (layout.staging_folder(tmp_path / "out") / "data/across/000.png.xmp").unlink()
    unlearnable.protect(str(tree), tmp_path / "out", FAST)
    assert "data/across/000.png.xmp" in data(tmp_path / "out") and unlearnable.check(tmp_path / "out")["ok"]


def test_one_image_says_why_it_cannot_be_protected_alone_or_is_protected(tree: Path, tmp_path: Path) -> None:
    one = shutil.copy(tree / "across/000.png", tmp_path / "one.png")
    with pytest.raises(UsageError, match="--verify none"):
        unlearnable.protect(str(one), tmp_path / "out", Options(preset="r16"))
    unlearnable.protect(str(one), tmp_path / "out", FAST)
    assert set(data(tmp_path / "out")) == {"data/one.png"}
    assert data(tmp_path / "out")["data/one.png"] != one.read_bytes()

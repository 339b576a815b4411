"""Promises of what comes before a run: a dry run writes nothing and foresees, a preview shows what will ship."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import re
import shutil
import stat
import zipfile
from pathlib import Path

import datasets
import numpy as np
import pytest
from click import Context
from click.testing import CliRunner
from made_pictures import write_tree
from PIL import Image

import unlearnable
from cli import cli
from unlearnable import Options
from unlearnable.errors import UsageError

FAST = Options(preset="r16", verify="none")


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "my.key"
    path.write_text("0123456789abcdef" * 4)
    return path


def everything(root: Path) -> dict[str, tuple[int, int, bytes]]:
    """Every entry below root with its times, mode and bytes."""
    found = {}
    for path in sorted([root, *root.rglob("*")]):
        about = path.lstat()
        found[str(path)] = (about.st_mtime_ns, about.st_mode, path.read_bytes() if path.is_file() else b"")
    return found


def test_a_dry_run_writes_nothing_at_all(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNLEARNABLE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    flat = tmp_path / "flat"
    flat.mkdir()
    for number, path in enumerate(sorted(tree.rglob("*.png"))[::2]):
        shutil.copy(path, flat / f"{number}.png")
    before = everything(tmp_path)
    unlearnable.plan_run(str(tree), tmp_path / "out", FAST)
    unlearnable.plan_run(str(flat), tmp_path / "out", dataclasses.replace(FAST, clusters=3))
    unlearnable.plan_run(str(tree), tmp_path / "out", Options(method="targeted"))
    assert everything(tmp_path) == before


def test_a_dry_run_counts_what_the_run_then_does(tree: Path, tmp_path: Path) -> None:
    (tree / "notes.txt").write_text("text")
    (tree / "across/000.xmp").write_text("<x/>")
    (tree / "across/torn.png").write_bytes((tree / "across/000.png").read_bytes()[:120])
    told = unlearnable.plan_run(str(tree), tmp_path / "out", FAST)
    done = unlearnable.protect(str(tree), tmp_path / "out", FAST)
    assert told["images"]["total"] == done["images"]["total"] == 61
    assert told["images"]["formats"]["PNG"]["images"] == 61
    assert (told["release"], told["owner"], told["eps"]) == (done["release"], done["owner"], done["eps"])
    assert told["method"] == done["method"] and told["layout"] == "folder"
    assert told["skipped"] == [{"reason": "not an image", "count": 1, "image": False}] and told["sidecars"] == 1
    written = sum(p.stat().st_size for p in (tmp_path / "out/data").rglob("*.png"))
    assert written / 1.3 < told["forecast"]["bytes"] < written * 1.3
    seconds = told["forecast"]["seconds"]
    assert set(seconds) == {"learn", "write", "verify", "finish", "total"} and seconds["verify"] == 0
    assert told["disk"]["enough"] and told["forecast"]["memory"] > 50e6


def test_every_image_of_a_small_source_is_tried_and_the_largest_of_a_large_one(tmp_path: Path) -> None:
    from release.forecast import chosen
    from unlearnable.sources import open_source

    write_tree(tmp_path / "in", classes=2, each=40)
    Image.effect_noise((200, 200), 90).save(tmp_path / "in/across/big.png")
    (tmp_path / "in/down/rare.bmp").write_bytes(b"BM")
    picked = chosen(open_source(str(tmp_path / "in")))
    assert [record.id for record in picked["BMP"]] == ["down/rare.bmp"]
    assert len(picked["PNG"]) == 24 and picked["PNG"][-1].id == "across/big.png"
    assert len({record.id for record in picked["PNG"]}) == 24


def test_what_cannot_be_known_before_the_run_is_none_and_said(tree: Path, tmp_path: Path) -> None:
    told = unlearnable.plan_run(str(tree), tmp_path / "out", Options(method="targeted"))
    seconds = told["forecast"]["seconds"]
    assert seconds["learn"] is None and seconds["verify"] is None and seconds["total"] is None
    assert seconds["write"] >= 0 and not told["probe"]["exact"] and told["method"] == "targeted"


def test_a_dry_run_refuses_what_the_run_would_refuse(tree: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="lie in one another"):
        unlearnable.plan_run(str(tree), tree / "out", FAST)
    unlearnable.protect(str(tree), tmp_path / "out", FAST)
    with pytest.raises(UsageError, match="--overwrite"):
        unlearnable.plan_run(str(tree), tmp_path / "out", FAST)


def test_the_command_prints_one_document_or_plain_words(tree: Path, tmp_path: Path) -> None:
    words = ["protect", str(tree), str(tmp_path / "out"), "--preset", "r16", "--verify", "none", "--dry-run", "-q"]
    document = json.loads(CliRunner().invoke(cli, [*words, "--json"]).stdout)
    assert document["dry_run"] and document["images"]["total"] == 60
    text = (Path(__file__).resolve().parents[1] / "docs/output.md").read_text(encoding="utf-8")
    table = text.partition("## `protect --dry-run`\n")[2].partition("\n## ")[0]
    cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    assert set(document) == {name.strip(" `") for cell in cells for name in cell.split(",")}, "docs/output.md names all"
    plain = CliRunner().invoke(cli, words)
    assert plain.exit_code == 0
    for line in ("60 images to protect (60 PNG)", "Writing: about", "Memory: about", "Nothing was written."):
        assert line in plain.stdout


def test_a_dry_run_for_a_bucket_names_it_and_says_nothing_of_the_disk(tree: Path) -> None:
    words = ["protect", str(tree), "memory://bucket/out", "--preset", "r16", "--verify", "none", "--dry-run", "-q"]
    document = json.loads(CliRunner().invoke(cli, [*words, "--json"]).stdout)
    assert document["release"] == "memory://bucket/out" and document["disk"] is None
    assert document["owner"].endswith("/out.owner")
    plain = CliRunner().invoke(cli, words).stdout
    assert "Release: memory://bucket/out" in plain and "that are free" not in plain


# --- preview ---


def pictures(page: bytes) -> list[np.ndarray]:
    found = re.findall(rb"data:image/png;base64,([A-Za-z0-9+/=]+)", page)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(body))).convert("RGB")) for body in found]


def test_a_preview_shows_the_very_copies_that_the_run_with_that_key_ships(
    tree: Path, tmp_path: Path, key: Path
) -> None:
    options = dataclasses.replace(FAST, key=key)
    document = unlearnable.preview(str(tree), tmp_path / "p.html", options)
    assert document["images"] == 12 and document["method"] == "r16"
    shown = pictures((tmp_path / "p.html").read_bytes())
    assert len(shown) == 36
    unlearnable.protect(str(tree), tmp_path / "out", options)
    shipped = [np.asarray(Image.open(p)) for p in (tmp_path / "out/data").rglob("*.png")]
    originals = [np.asarray(Image.open(p)) for p in tree.rglob("*.png")]
    for original, difference, protected in zip(shown[::3], shown[1::3], shown[2::3], strict=True):
        assert any(np.array_equal(original, each) for each in originals)
        assert any(np.array_equal(protected, each) for each in shipped)
        moved = protected.astype(int) - original
        assert np.array_equal(difference, np.clip(128 + 10 * moved, 0, 255))


def test_a_preview_is_one_file_for_its_owner_alone(tree: Path, tmp_path: Path) -> None:
    unlearnable.preview(str(tree), tmp_path / "p.html", FAST)
    page = (tmp_path / "p.html").read_text()
    assert stat.S_IMODE((tmp_path / "p.html").stat().st_mode) == 0o600
    assert not re.search(r"(?:src|href)=\"(?!data:)", page) and "Not for publication" in page
    assert sorted(p.name for p in tmp_path.iterdir()) == ["p.html", "pictures"]
    with pytest.raises(UsageError, match="exists"):
        unlearnable.preview(str(tree), tmp_path / "p.html", FAST)
    with pytest.raises(UsageError, match=r"\.html or \.png"):
        unlearnable.preview(str(tree), tmp_path / "p.pdf", FAST)
    with pytest.raises(UsageError, match="lie in one another"):
        unlearnable.preview(str(tree), tree / "p.html", FAST)


def test_a_preview_may_be_a_picture_and_needs_no_method(tree: Path, tmp_path: Path) -> None:
    (tree / "across/000.png").rename(tree / "across/odd <b>&.png")
    document = unlearnable.preview(str(tree), tmp_path / "p.png")
    assert "choose one by measurement" in document["note"]
    assert Image.open(tmp_path / "p.png").size == (8 + 3 * 24, 8 + 12 * 24)
    done = CliRunner().invoke(cli, ["preview", str(tree), "--out", str(tmp_path / "q.html"), "--preset", "r16", "-q"])
    assert done.exit_code == 0 and "it shows originals" in done.stdout


def test_a_preview_reads_a_dataset_as_protect_is_asked_to(tmp_path: Path) -> None:
    """Two splits, two columns of images and two of labels: what none of which says must be named, as for `protect`."""
    kinds = datasets.ClassLabel(names=["a", "b"])
    for split, grey in (("train", 40), ("test", 200)):
        columns = {
            "photo": [Image.new("RGB", (16, 16), (grey, grey, grey))] * 6,
            "mask": [Image.new("RGB", (16, 16), (255, 0, 0))] * 6,
            "kind": [0, 1] * 3,
            "other": [0, 0, 1] * 2,
        }
        of = {"photo": datasets.Image(), "mask": datasets.Image(), "kind": kinds, "other": kinds}
        (tmp_path / "set").mkdir(exist_ok=True)
        rows = datasets.Dataset.from_dict(columns, features=datasets.Features(of))
        rows.to_parquet(tmp_path / "set" / f"{split}.parquet")
    words = ["preview", str(tmp_path / "set"), "--out", str(tmp_path / "p.html"), "--preset", "r16", "-q"]
    unclear = CliRunner().invoke(cli, words)
    assert unclear.exit_code == 2 and "--image-column" in unclear.stderr
    named = ["--image-column", "photo", "--label-column", "kind", "--split", "test"]
    done = CliRunner().invoke(cli, [*words, *named])
    assert done.exit_code == 0, done.stderr
    originals = pictures((tmp_path / "p.html").read_bytes())[::3]
    assert len(originals) == 6 and all((each == 200).all() for each in originals), "of that split and that column"


def test_preview_takes_every_option_by_which_protect_reads_a_source() -> None:
    asked = {option.name for option in cli.get_command(Context(cli), "preview").params}
    assert set(Options().reading()) | {"clusters", "weights"} <= asked


# --- what is protected already ---


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("done")
    unlearnable.protect(str(write_tree(root / "pictures", each=10)), root / "out", FAST)
    return root / "out"


def test_a_release_is_not_protected_again(release: Path, tmp_path: Path) -> None:
    for source in (release, release / "data", release / "data/across"):
        with pytest.raises(UsageError, match=r"(?s)belongs to the protected release.*--force"):
            unlearnable.protect(str(source), tmp_path / "twice", FAST)
    assert not list(tmp_path.iterdir()), "it is refused before anything is written"


def test_a_packed_release_is_recognised(release: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "r.zip", "w") as archive:
        for path in release.rglob("*"):
            archive.write(path, f"photos/{path.relative_to(release)}")
    with pytest.raises(UsageError, match=r"it holds photos/manifest\.json"):
        unlearnable.protect(str(tmp_path / "r.zip"), tmp_path / "twice", FAST)


def test_a_protected_file_among_originals_is_recognised_by_a_manifest_beside(release: Path, tmp_path: Path) -> None:
    tree = write_tree(tmp_path / "more", each=10)
    shutil.copy(release / "data/across/003.png", tree / "down/stray.png")
    with pytest.raises(UsageError, match=r"down/stray\.png of .* is a protected image"):
        unlearnable.protect(str(tree), release.parent / "twice", FAST)
    forced = dataclasses.replace(FAST, force=True)
    assert unlearnable.protect(str(tree), tmp_path / "twice", forced)["images"]["protected"] == 31


def test_another_tools_manifest_is_no_release(tree: Path, tmp_path: Path) -> None:
    (tree / "manifest.json").write_text('{"files": []}')
    assert unlearnable.protect(str(tree), tmp_path / "out", FAST)["images"]["protected"] == 60

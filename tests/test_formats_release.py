"""A release of odd files: each comes out as itself, opted out, or is named with its reason."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import unlearnable
from release import layout
from unlearnable import Options, imageio
from unlearnable.errors import UsageError

QUICK = {"preset": "r16", "verify": "none"}


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """Two classes of the same seven files."""
    rng = np.random.default_rng(0)
    for kind in ("cats", "dogs"):
        folder = tmp_path / "odd" / kind
        folder.mkdir(parents=True)
        colour = [Image.fromarray(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)) for _ in range(3)]
        colour[0].save(folder / "plain.jpg")
        colour[0].save(folder / "plain.BMP")
        colour[0].save(folder / "still.gif")
        colour[0].save(folder / "moving.gif", save_all=True, append_images=colour[1:])
        colour[0].save(folder / "moving.png", save_all=True, append_images=colour[1:])
        colour[0].save(folder / "pages.tif", save_all=True, append_images=colour[1:])
        Image.fromarray(rng.integers(0, 256, (20, 30, 4), dtype=np.uint8), "CMYK").save(folder / "print.jpg")
        Image.fromarray(rng.integers(0, 65536, (20, 30), dtype=np.uint16)).save(folder / "deep.png")
    return tmp_path / "odd"


def receipt(out: Path) -> dict[str, object]:
    document: dict[str, object] = json.loads((layout.owner_folder(out) / layout.STATE / layout.RECEIPT).read_text())
    return document


def test_every_file_comes_out_as_itself_or_is_named(odd: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    document = unlearnable.protect(str(odd), out, Options(**QUICK))
    names = {str(p.relative_to(out / "data/cats")) for p in (out / "data/cats").iterdir()}
    assert names == {"plain.jpg", "plain.BMP", "still.png", "moving.png", "pages.tif", "print.jpg", "deep.png"}
    assert {item["id"] for item in document["skipped"]} == {"cats/moving.gif", "dogs/moving.gif"}
    assert "--format png" in document["skipped"][0]["reason"]
    for name in names:
        image = Image.open(out / "data/cats" / name)
        assert (b"DMI-PROHIBITED" in image.info.get("xmp", b"")) == (name != "plain.BMP"), name
    assert receipt(out)["without_opt_out"] == 2
    before = imageio.decode((odd / "cats/pages.tif").read_bytes(), "pages.tif")
    after = imageio.decode((out / "data/cats/pages.tif").read_bytes(), "pages.tif")
    for old, new in zip((before, *before.more), (after, *after.more), strict=True):
        assert 0 < np.abs(old.pixels.astype(int) - new.pixels).max() <= 8


def test_the_opt_out_can_be_left_out_and_changes_no_pixel(odd: Path, tmp_path: Path) -> None:
    unlearnable.protect(str(odd), tmp_path / "one", Options(**QUICK))
    key = next(p for p in (tmp_path / "one.owner").rglob("*key*") if p.is_file())
    unlearnable.protect(str(odd), tmp_path / "two", Options(**QUICK, key=key, opt_out=False))
    for path in sorted(p for p in (tmp_path / "two/data").rglob("*.*") if p.is_file()):
        assert b"DataMining" not in path.read_bytes()
        twin = tmp_path / "one/data" / path.relative_to(tmp_path / "two/data")
        assert (imageio.decode(path.read_bytes(), "x").pixels == imageio.decode(twin.read_bytes(), "x").pixels).all()


def test_too_large_is_one_sentence_with_a_way_out(odd: Path, tmp_path: Path) -> None:
    Image.new("RGB", (400, 300)).save(odd / "cats/large.png")
    try:
        document = unlearnable.protect(str(odd), tmp_path / "out", Options(**QUICK, max_pixels=0.1))
    finally:
        imageio.limit(imageio.LIMIT_MEGAPIXELS)
    large = next(item for item in document["skipped"] if item["id"] == "cats/large.png")
    assert "400 x 300" in large["reason"] and "limit of 0.1" in large["reason"] and "--max-pixels" in large["reason"]


def test_the_options_are_checked_and_spelled_as_on_the_command_line() -> None:
    assert Options(opt_out=False, max_pixels=300).words() == ["--no-opt-out", "--max-pixels", "300"]
    assert not Options().words()
    for wrong in (0, -1, float("nan"), 1e9):
        with pytest.raises(UsageError, match="--max-pixels"):
            Options(max_pixels=wrong)

"""Whatever a file is called and however it is shaped, it comes out under its name, or is named with a reason."""

from __future__ import annotations

import io
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

import unlearnable
from release import build, formats
from release.build import Settings
from release.formats import Item, folder
from unlearnable import Options, imageio
from unlearnable.errors import ImageError
from unlearnable.sources import open_source

ENDS = (".png", ".PNG", ".bmp", ".jpg", ".tar", "", ".")
RESERVED = ("CON", "aux", "NUL.tar", "com1", "LPT9", "con ", "prn.")
LONG = "n" * 251 + ".png"


def picture(container: str = "PNG", height: int = 8, width: int = 8) -> bytes:
    y, x = np.mgrid[:height, :width]
    out = io.BytesIO()
    Image.fromarray(np.stack([x % 120 + 60, y % 120 + 60, (x + y) % 120 + 60], 2).astype(np.uint8)).save(out, container)
    return out.getvalue()


PNG, BMP = picture(), picture("BMP")

some = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=40)
stems = st.one_of(
    some, st.sampled_from(RESERVED), st.sampled_from(["a", "A", "é", "e\u0301", " ", "x\ny", "..x", "~1"])
)
names = (
    st.tuples(stems, st.sampled_from(ENDS))
    .map("".join)
    .filter(lambda n: n not in (".", "..") and len(n.encode()) < 256)
)


@settings(max_examples=150, deadline=None)
@given(st.sets(names, min_size=1, max_size=8))
@example({LONG, LONG[:-4] + ".bmp", "y" * 255, "ü" * 127, " .png", "-rf.png", "a\nb.png", "A\nB.png"})
def test_every_name_is_kept_or_reported(wanted: set[str]) -> None:
    with tempfile.TemporaryDirectory() as place:
        root, out = Path(place) / "in", Path(place) / "out"
        root.mkdir()
        (root / "certain.png").write_bytes(PNG)
        for name in wanted:
            (root / name).write_bytes(BMP if ord(name[0]) % 2 else PNG)
        source = open_source(str(root), labels="none")
        there = {os.fsdecode(entry) for entry in os.listdir(os.fsencode(root))}  # noqa: PTH208 - as the disk spells them
        assert {r.id for r in source.records} | {s.id for s in source.skipped} == there
        assert all(item.reason for item in source.skipped)
        shard = formats.shards(source, "folder")[0]
        placed = folder.write(
            out, shard, source, iter([Item(r, r.id.encode(), imageio.suffix_for(r.id, "PNG")) for r in shard.records])
        )
        assert len({place.path.casefold() for place in placed}) == len(placed) == len(source.records)
        assert all(len(part.encode()) <= 255 for place in placed for part in place.path.split("/"))
        assert list(folder.read(out, placed)) == [record.id.encode() for record in shard.records]
        assert {p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()} == {
            place.path for place in placed
        }
        kept = [place for place in placed if place.id.lower().endswith(".png")]
        assert all(place.path == f"data/{place.id}" for place in kept), "a name changes only with its extension"


def test_odd_names_go_through_a_whole_run(tmp_path: Path) -> None:
    odd = ["CON.png", " x .png", "a\nb.png", "-rf.png", LONG, "y" * 255, "日本 写真.PNG", "a.b.c.png", "%41.png"]
    for kind in ("one", "two"):
        (tmp_path / "in" / kind).mkdir(parents=True)
        for name in odd:
            (tmp_path / "in" / kind / name).write_bytes(PNG)
    (tmp_path / "in/one/.hidden.png").write_bytes(PNG)
    document = unlearnable.protect(str(tmp_path / "in"), tmp_path / "out", Options(preset="r16", verify="none"))
    assert document["images"] == {"total": 18, "protected": 18, "skipped": 0}
    assert {p.name for p in (tmp_path / "out/data/one").iterdir()} >= {*odd} - {"y" * 255}
    assert unlearnable.check(tmp_path / "out")["ok"]


DELTA = torch.full((3, 32, 32), 8 / 255)
sides = st.one_of(st.integers(1, 40), st.sampled_from([7, 8, 9, 15, 16, 17, 223, 224, 225, 1000, 5000]))


@settings(max_examples=80, deadline=None)
@given(sides, sides, st.sampled_from(["PNG", "JPEG", "BMP"]))
@example(1, 5000, "PNG")
@example(5000, 8, "JPEG")
@example(7, 5000, "JPEG")
@example(8, 8, "JPEG")
def test_every_size_from_8_pixels_a_side_is_protected_and_smaller_ones_are_named(
    height: int, width: int, container: str
) -> None:
    if height * width > 60_000:
        return
    data = picture(container, height, width)
    if min(height, width) < 8:
        with pytest.raises(ImageError, match=f"{width} x {height} pixels, fewer than 8 a side"):
            imageio.decode(data, "x.img")
        return
    before = imageio.decode(data, "x.img")
    made = build.make(before, DELTA, Settings("folder", "auto", 8))
    after = imageio.decode(made.data, "x.img").pixels.astype(int)
    assert after.shape == (height, width, 3)
    if made.lossless:
        assert (after - before.pixels == 8).all()
    else:
        assert (after - before.pixels).mean() > 6


def test_a_strip_that_is_too_thin_is_one_line_of_the_report(tmp_path: Path) -> None:
    for kind in ("one", "two"):
        (tmp_path / "in" / kind).mkdir(parents=True)
        (tmp_path / "in" / kind / "fine.png").write_bytes(picture("PNG", 8, 5000))
        (tmp_path / "in" / kind / "thin.png").write_bytes(picture("PNG", 1, 5000))
    document = unlearnable.protect(str(tmp_path / "in"), tmp_path / "out", Options(preset="r16", verify="none"))
    assert {item["id"] for item in document["skipped"]} == {"one/thin.png", "two/thin.png"}
    assert all("5000 x 1 pixels, fewer than 8" in item["reason"] for item in document["skipped"])

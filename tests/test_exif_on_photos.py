"""EXIF of real camera files, tag by tag: what goes is on a list, everything else is there with the same value."""

from __future__ import annotations

import io
from typing import Any

import pytest
from made_pictures import SHARED
from PIL import Image

from unlearnable import imageio

PHOTOS = SHARED / "photos"
PHOTO, GPS, INTEROP = 0x8769, 0x8825, 0xA005
FOLDERS = {PHOTO, GPS, INTEROP}  # where a folder lies in the file
GONE = {
    0x927C: "maker's note, which may hold a preview",
    0xC4A5: "print settings of a vendor",
    0xEA1C: "padding",
    0xEA1D: "padding",
    0xA004: "a sound beside the photo",
    0x0213: "how colours were subsampled, which they are no longer",
    **dict.fromkeys((0x1001, 0x1002), "the size of a related image"),
    **dict.fromkeys((0x0211, 0x013E, 0x013F), "the meaning of raw colours, which the profile says"),
}
OF_THE_FILE = {0x00FE, *range(0x0100, 0x0107), 0x0111, *range(0x0115, 0x0119), 0x011C, 0x013D, 0x0152, 0x0153, 0x02BC}
OF_THE_PIXELS = {0x0112: "turned upright", 0xA002: "their true width", 0xA003: "their true height"}


def tags(image: Image.Image) -> dict[tuple[int, int], Any]:
    exif, out = image.getexif(), {}
    for folder in (0, PHOTO, GPS, INTEROP):
        held = exif.get_ifd(folder) if folder else exif
        out.update({(folder, tag): held[tag] for tag in held if tag not in FOLDERS | OF_THE_FILE})
    return out


def same(before: Any, after: Any) -> bool:
    as_bytes = [value.encode() if isinstance(value, str) else value for value in (before, after)]
    return bool(as_bytes[0] == as_bytes[1]) or before != before  # 0/0 is no number


@pytest.mark.skipif(not PHOTOS.is_dir(), reason="needs ../shared/data/photos")
def test_every_tag_of_every_camera_file_is_kept_or_on_the_list() -> None:
    kept = 0
    for path in sorted(p for p in PHOTOS.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".tiff")):
        before, like = tags(Image.open(path)), imageio.decode(path.read_bytes(), path.name)
        shipped = imageio.encode(like.pixels, like, like.container, opt_out=True)
        after = tags(Image.open(io.BytesIO(shipped)))
        for (folder, tag), value in before.items():
            misplaced = folder == 0 and 0xA000 <= tag <= 0xA500
            if tag in GONE or misplaced:
                assert (folder, tag) not in after, (path, hex(tag))
            elif tag not in OF_THE_PIXELS:
                assert same(value, after.get((folder, tag))), (path, hex(folder), hex(tag), value)
                kept += 1
        assert after.get((0, 0x0112), 1) == 1, path
        height, width = like.pixels.shape[:2]
        assert after.get((PHOTO, 0xA002), width) == width and after.get((PHOTO, 0xA003), height) == height
    assert kept > 2000


@pytest.mark.skipif(not PHOTOS.is_dir(), reason="needs ../shared/data/photos")
def test_no_camera_file_ships_a_second_picture_or_a_place_that_was_to_go() -> None:
    with_place = 0
    for path in sorted(p for p in (PHOTOS / "exif-jpg").rglob("*.jpg")):
        data = path.read_bytes()
        like = imageio.decode(data, path.name)
        shipped = imageio.encode(like.pixels, like, "JPEG", metadata="no-gps", opt_out=True)
        with_place += bool(Image.open(path).getexif().get_ifd(GPS))
        assert shipped.count(b"\xff\xd8\xff") == 1, path
        assert not Image.open(io.BytesIO(shipped)).getexif().get_ifd(GPS), path
        assert b"GPSL" not in shipped, path
    assert with_place > 5

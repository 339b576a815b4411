"""EXIF, rebuilt tag by tag from a list of tags that cannot hold a picture.

An EXIF block may carry the clean original in small: a thumbnail (IFD1), a preview inside the maker's own note (0x927C),
Photoshop resources, XMP. So nothing is copied as a block: a fresh one is written from allowed tags only, and MakerNote
is dropped although cameras keep useful settings there, because its layout is secret and previews are common in it.
A tag that cannot be read or written is dropped alone; broken EXIF never costs the image.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from PIL import Image

from unlearnable._containers import CODEC_ERRORS

ORIENTATION = 0x0112
_EXIF, _GPS, _INTEROP = 0x8769, 0x8825, 0xA005

_IMAGE_TAGS = frozenset(
    [
        *(0x010E, 0x010F, 0x0110, 0x011A, 0x011B, 0x0128, 0x0131, 0x0132, 0x013B, 0x013C, 0x8298),  # text, resolution
        *(0x4746, 0x4749, *range(0x9C9B, 0x9CA0)),  # ratings and the titles Windows writes
    ]
)
_PHOTO_TAGS = frozenset(
    [
        *(*range(0x829A, 0x829E), 0x8822, 0x8824, *range(0x8827, 0x8836)),  # exposure, sensitivity
        *(*range(0x9000, 0x9015), *range(0x9101, 0x9103), *range(0x9201, 0x9215)),  # versions, dates, lens and light
        *(0x9286, *range(0x9290, 0x9293), *range(0x9400, 0x9406)),  # comment, fractions of a second, surroundings
        *(*range(0xA000, 0xA004), *range(0xA20B, 0xA218), *range(0xA300, 0xA303)),  # colour space, size, sensor
        *(*range(0xA401, 0xA40B), 0xA40C, *range(0xA420, 0xA440), *range(0xA460, 0xA463), 0xA500),  # scene, owner, lens
    ]
)
_WIDTH, _HEIGHT = 0xA002, 0xA003
_LARGEST_VALUE = 8192  # bytes; longer values are not settings
_LARGEST = 65_000  # bytes; a JPEG segment holds no more


def orientation(image: Image.Image) -> int:
    """1 to 8, as the trainers who honour the tag will read it; 1 where it is absent or nonsense."""
    try:
        value = image.getexif().get(ORIENTATION, 1)
    except CODEC_ERRORS:
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def rebuilt(image: Image.Image, width: int, height: int) -> bytes | None:
    """A fresh EXIF block of an upright image of width x height pixels; None when there is nothing worth keeping."""
    try:
        exif = image.getexif()
        photo, gps, interop = (dict(exif.get_ifd(ifd)) for ifd in (_EXIF, _GPS, _INTEROP))
    except CODEC_ERRORS:
        return None
    kept = {None: _allowed(exif, _IMAGE_TAGS), _EXIF: _allowed(photo, _PHOTO_TAGS), _GPS: _allowed(gps, range(32))}
    if kept[_EXIF].keys() & {_WIDTH, _HEIGHT}:
        kept[_EXIF] |= {_WIDTH: width, _HEIGHT: height}
    if interop and kept[_EXIF]:
        kept[_EXIF][_INTEROP] = _allowed(interop, (1, 2))  # "R03" here says that the colours are Adobe RGB
    return _written(kept) if any(kept.values()) else None


def without_gps(exif: bytes) -> bytes | None:
    """The same block with no place in it."""
    read = Image.Exif()
    read.load(exif)
    photo = dict(read.get_ifd(_EXIF))
    if _INTEROP in photo:
        photo[_INTEROP] = dict(read.get_ifd(_INTEROP))
    return _written({None: {tag: read[tag] for tag in read if tag not in (_EXIF, _GPS)}, _EXIF: photo})


def has_folders(exif: bytes) -> bool:
    """Whether the block holds more than the image's own tags (which libtiff cannot write)."""
    read = Image.Exif()
    read.load(exif)
    return _EXIF in read or _GPS in read


def _allowed(tags: Any, wanted: Any) -> dict[int, Any]:
    """The wanted tags whose values can be read and can hold no picture."""
    out: dict[int, Any] = {}
    for tag in sorted(set(tags) & set(wanted)):
        try:
            value = tags[tag]
        except CODEC_ERRORS:
            continue
        raw = value if isinstance(value, bytes) else str(value).encode("utf-8", "replace")
        if len(raw) <= _LARGEST_VALUE and b"\xff\xd8\xff" not in raw and b"\x89PNG" not in raw:
            out[tag] = value
    return out


def _written(groups: Mapping[int | None, Mapping[int, Any]]) -> bytes | None:
    """Bytes of the groups; where the whole cannot be written, of the tags that can be written one by one."""
    data = _try_write(groups)
    if data is None:
        good = {g: {t: v for t, v in tags.items() if _try_write({g: {t: v}})} for g, tags in groups.items()}
        data = _try_write(good)
    return data if data is not None and len(data) <= _LARGEST else None


def _try_write(groups: Mapping[int | None, Mapping[int, Any]]) -> bytes | None:
    fresh = Image.Exif()
    fresh[ORIENTATION] = 1  # the pixels are upright, and say so to those who look
    for group, tags in groups.items():
        if group is None:
            fresh.update(tags)
        elif tags:
            fresh[group] = dict(tags)
    try:
        return bytes(fresh.tobytes())
    except CODEC_ERRORS:
        return None

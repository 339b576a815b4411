"""Damaged and hostile image files by number, what must hold for each, and a child process that may hang or die alone.

Whole files of every container, with clean pictures hidden where cameras hide them, are flipped, cut, spliced and grown.
"""

from __future__ import annotations

import functools
import io
import json
import os
import random
import re
import select
import signal
import struct
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from made_pictures import SHARED
from PIL import Image, PngImagePlugin, features

from release import build
from release.build import Settings
from unlearnable import budget, imageio
from unlearnable.errors import ImageError

LEVELS, LIMIT = 8, 4.0  # grey levels; megapixels, so that no case takes long
PATIENCE = 20.0  # seconds for one file
_BEGINNING = re.compile(rb"\xff\xd8\xff[\xc0-\xfe]")  # of a JPEG inside a JPEG
_TINY = 60_000  # bytes of a real photo that is small enough to be tried often
_DELTA = torch.full((3, 32, 32), LEVELS / 255)


def ground(seed: int, channels: int = 3, height: int = 24, width: int = 33) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    planes = [(x * (2 + c) + y * (4 - c) + 37 * (c + seed)) % 256 for c in range(channels)]
    return (np.stack(planes, 2) // 2 + 50).astype(np.uint8)


@functools.cache
def hidden() -> bytes:
    """A small clean picture, as thumbnails are; its bytes may be found in no file that ships."""
    out = io.BytesIO()
    Image.fromarray(np.random.default_rng(99).integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(out, "JPEG")
    return out.getvalue()


def exif() -> bytes:
    """With a turn, a maker's note that holds a picture, and a thumbnail in its second folder."""
    tags = Image.Exif()
    tags[0x0112], tags[0x010F] = 6, "Maker"
    tags[0x8769] = {0x9003: "2020:01:02 03:04:05", 0x927C: b"note" + hidden()}
    tiff = bytearray(tags.tobytes()[6:])
    first = struct.unpack(">L", tiff[4:8])[0]
    here = len(tiff)
    struct.pack_into(">L", tiff, first + 2 + 12 * struct.unpack(">H", tiff[first : first + 2])[0], here)
    entries = [(0x0103, 3, 1, 6 << 16), (0x0201, 4, 1, here + 42), (0x0202, 4, 1, len(hidden()))]
    tiff += struct.pack(">H", 3) + b"".join(struct.pack(">HHLL", *e) for e in entries) + struct.pack(">L", 0)
    return b"Exif\0\0" + bytes(tiff) + hidden()


def saved(image: Image.Image, container: str, **options: object) -> bytes:
    out = io.BytesIO()
    for each in (image, *options.get("append_images", ())):  # type: ignore[call-overload]
        each.encoderconfig = ()  # Pillow keeps those of the container before
    image.save(out, container, **options)
    return out.getvalue()


@functools.cache
def seeds() -> tuple[bytes, ...]:
    """Whole files: every container and kind that is read, most with something hidden; small real photos where there are."""
    colour, grey, clear = (Image.fromarray(ground(0, n).squeeze()) for n in (3, 1, 4))
    deep = Image.fromarray(np.random.default_rng(1).integers(0, 65536, (24, 33), dtype=np.uint16))
    more = [Image.fromarray(ground(n)) for n in (1, 2)]
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"/></x:xmpmeta>'
    text = PngImagePlugin.PngInfo()
    text.add(b"prVt", hidden())
    frames: dict[str, object] = {"save_all": True, "append_images": more}
    made = [
        saved(colour, "JPEG", exif=exif(), xmp=xmp, comment=hidden()) + hidden(),
        saved(colour, "JPEG", progressive=True, subsampling=2),
        saved(grey, "JPEG", exif=exif()),
        saved(colour.convert("CMYK"), "JPEG"),
        saved(colour, "MPO", **frames),
        *(saved(image, "PNG", exif=exif(), pnginfo=text) + hidden() for image in (colour, grey, clear, deep)),
        saved(colour.quantize(16), "PNG"),
        saved(colour, "PNG", **frames, duration=50),
        *(
            saved(image, "WEBP", exif=exif(), lossless=lossless) + hidden()
            for image in (colour, clear)
            for lossless in (0, 1)
        ),
        saved(colour, "WEBP", **frames, duration=50),
        *(
            saved(image, "TIFF", compression=how) + hidden()
            for image in (colour, grey, deep)
            for how in (None, "tiff_lzw")
        ),
        saved(colour, "TIFF", **frames),
        saved(colour.convert("CMYK"), "TIFF"),
        saved(colour, "BMP") + hidden(),
        saved(colour, "GIF", comment=b"x"),
        saved(colour, "GIF", **frames),
    ]
    if features.check("avif"):
        made += [saved(colour, "AVIF", exif=exif()), saved(clear, "AVIF")]
    photos = sorted((SHARED / "photos").rglob("*.*")) if (SHARED / "photos").is_dir() else []
    return (*made, *(p.read_bytes() for p in photos if 0 < p.stat().st_size < _TINY))


def case(number: int) -> bytes:
    """The file of that number, the same on every machine that has the same seeds."""
    rng = random.Random(number)
    data = bytearray(seeds()[number % len(seeds())])
    for _ in range(rng.choice((1, 1, 2, 4))):
        rng.choice((flip, flip, flip, cut, splice, swap, grow, number_in_head, chunk))(data, rng)
    return bytes(data)


def flip(data: bytearray, rng: random.Random) -> None:
    for _ in range(rng.choice((1, 3, 20))):
        if data:
            data[rng.randrange(len(data))] = rng.choice((0, 255, rng.randrange(256)))


def cut(data: bytearray, rng: random.Random) -> None:
    del data[rng.randrange(len(data) + 1) :]


def splice(data: bytearray, rng: random.Random) -> None:
    other = rng.choice(seeds())
    start = rng.randrange(len(other))
    at = rng.randrange(len(data) + 1)
    data[at : at + rng.choice((0, 40))] = other[start : start + rng.randrange(400)]


def swap(data: bytearray, rng: random.Random) -> None:
    a, b, c, d = sorted(rng.randrange(len(data) + 1) for _ in range(4))
    data[:] = data[:a] + data[c:d] + data[b:c] + data[a:b] + data[d:]


def grow(data: bytearray, rng: random.Random) -> None:
    """More metadata than there was, or than there is room for, behind the head of a JPEG or anywhere."""
    junk = rng.choice((exif(), hidden(), bytes(rng.randrange(70_000)), rng.randbytes(300)))
    if data[:2] == b"\xff\xd8":
        length = rng.choice((len(junk) + 2, 2, 0, 0xFFFF, rng.randrange(0x10000))) & 0xFFFF
        data[2:2] = (
            bytes([0xFF, rng.choice((0xE0, 0xE1, 0xE2, 0xED, 0xFE))]) + length.to_bytes(2, "big") + junk[:65_000]
        )
    else:
        at = rng.randrange(len(data) + 1)
        data[at:at] = junk


def number_in_head(data: bytearray, rng: random.Random) -> None:
    """A size, a count or an offset becomes an extreme one."""
    width = rng.choice((1, 2, 4))
    value = rng.choice((0, 1, 7, 8, (1 << 8 * width) - 1, 1 << (8 * width - 1), rng.randrange(1 << 8 * width)))
    at = rng.randrange(max(1, min(len(data), 200)))
    data[at : at + width] = value.to_bytes(width, rng.choice(("big", "little")))


def chunk(data: bytearray, rng: random.Random) -> None:
    """Doubles, drops or moves a chunk of a PNG, and mends the checksums of what is left, so that the damage gets in."""
    if data[:4] != b"\x89PNG":
        return swap(data, rng)
    parts, at = [], 8
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        if at + 12 + length > len(data):
            break
        parts.append((bytes(data[at + 4 : at + 8]), bytearray(data[at + 8 : at + 8 + length])))
        at += 12 + length
    if len(parts) > 2:
        which = rng.randrange(1, len(parts))
        what = rng.randrange(4)
        if what == 0:
            parts.insert(which, parts[which])
        elif what == 1:
            parts.pop(which)
        elif what == 2:
            parts.insert(rng.randrange(1, len(parts)), parts.pop(which))
        elif parts[which][1]:
            flip(parts[which][1], rng)
        rest = bytes(data[at:])
        data[:] = data[:8]
        for kind, body in parts:
            data += len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")
        data += rest


def judge(data: bytes, number: int = 0) -> str:
    """What became of a file: its container, or "refused". Raises AssertionError where a promise is broken."""
    try:
        picture = imageio.decode(data, "a/b.img", limit_megapixels=LIMIT)
        made = build.make(picture, _DELTA, Settings("folder", "auto", LEVELS, opt_out=bool(number % 2)))
    except ImageError as why:
        assert why.message.startswith("a/b.img") and why.hint, why
        return "refused"
    clean = [picture, *picture.more]
    shipped = imageio.decode(made.data, "out", limit_megapixels=2 * LIMIT)
    after = [shipped, *shipped.more]
    assert len(after) == len(clean), f"{len(clean)} pictures in, {len(after)} out"
    for old, new in zip(clean, after, strict=True):
        require_perturbed(old, new, made.lossless)
    require_alone(made.data, made.container, len(clean))
    return made.container


def require_perturbed(old: imageio.Picture, new: imageio.Picture, lossless: bool) -> None:
    """Everywhere, as far as black and white leave room."""
    expected = budget.protect(_DELTA, old.pixels, LEVELS)
    if old.pixels.shape[2] == 4 and new.pixels.shape[2] == 3:  # WebP stores no alpha that hides nothing
        assert (old.pixels[:, :, 3] == 255).all()
        expected = expected[:, :, :3]
    assert expected.shape == new.pixels.shape
    if lossless and old.inks is None:
        assert (new.pixels == expected).all()
        return
    colours = 1 if old.pixels.shape[2] <= 2 else 3
    moved = (new.pixels[:, :, :colours].astype(int) - old.pixels[:, :, :colours]).mean(2)
    room = (old.pixels[:, :, :colours].max(2) <= 200) & (old.pixels[:, :, :colours].min(2) >= 40)
    for top in range(0, moved.shape[0], 8):
        for left in range(0, moved.shape[1], 8):
            part = moved[top : top + 8, left : left + 8]
            if room[top : top + 8, left : left + 8].all() and old.inks is None:
                assert part.mean() >= LEVELS / 4, f"clean at row {top}, column {left}: {part.mean():.2f}"
    assert old.inks is None or (new.pixels[:, :, :colours] != old.pixels[:, :, :colours]).any() or not room.any()


def require_alone(data: bytes, container: str, count: int) -> None:
    """No thumbnail, second picture or tail, and nothing of what was hidden."""
    secret = hidden()[-400:]  # behind the tables that every JPEG has
    assert not any(secret[at : at + 12] in data for at in range(0, len(secret) - 12, 12)), "a hidden picture ships"
    with Image.open(io.BytesIO(data)) as image:
        assert getattr(image, "n_frames", 1) == count
        if container != "TIFF":
            assert not image.getexif().get_ifd(1), "a thumbnail"
    if container == "JPEG":
        assert data.endswith(b"\xff\xd9") and not any(_BEGINNING.search(part) for part in segments(data))
    if container == "PNG":
        assert data.endswith(b"IEND\xaeB\x60\x82")


def segments(jpeg: bytes) -> Iterator[bytes]:
    """What each segment of a JPEG holds, the last one with the pixels."""
    at = 2
    while jpeg[at + 1] != 0xDA:
        length = int.from_bytes(jpeg[at + 2 : at + 4], "big")
        yield jpeg[at + 4 : at + 2 + length]
        at += 2 + length
    yield jpeg[at:]


def run(numbers: range, stop: float) -> tuple[Counter[str], list[str]]:
    """Judges the cases in a child, a new one after each that hangs, dies or breaks a promise: outcomes, and the broken."""
    found: Counter[str] = Counter()
    broken: list[str] = []
    at = numbers.start
    while at < numbers.stop and time.monotonic() < stop:
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reader)
            _child(range(at, numbers.stop), stop, writer)
        os.close(writer)
        at, why = _listen(reader, child, at, found)
        os.close(reader)
        if why and at < numbers.stop:  # else all were judged, and the child is slow to end
            broken.append(f"case {at}: {why}")
            at += 1
    return found, broken


def _child(numbers: range, stop: float, writer: int) -> None:
    """Judges until it breaks; says each outcome on a line."""
    torch.set_num_threads(1)
    try:
        for number in numbers:
            if time.monotonic() > stop:
                break
            try:
                outcome = {"ok": judge(case(number), number)}
            except BaseException as why:  # noqa: BLE001 - whatever it is, it is what we look for
                outcome = {"broken": f"{type(why).__name__}: {why}"[:500]}
            os.write(writer, json.dumps(outcome).encode() + b"\n")
            if "broken" in outcome:
                break
    finally:
        os._exit(0)


def _listen(reader: int, child: int, at: int, found: Counter[str]) -> tuple[int, str]:
    """Counts outcomes until the child ends: the next number, and what was wrong with it, if anything."""
    rest = b""
    while True:
        ready, _, _ = select.select([reader], [], [], PATIENCE)
        data = os.read(reader, 1 << 16) if ready else b""
        if not data:
            if not ready:
                os.kill(child, signal.SIGKILL)
            status = os.waitpid(child, 0)[1]
            died = f"the process died ({os.waitstatus_to_exitcode(status)})" if status else ""
            return at, died if ready else f"no end within {PATIENCE:.0f} s"
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            outcome = json.loads(line)
            if "broken" in outcome:
                os.waitpid(child, 0)
                return at, outcome["broken"]
            found[outcome["ok"]] += 1
            at += 1


def write_cases(folder: Path, numbers: range) -> list[str]:
    """The files of these numbers, in two class folders; their names."""
    names = []
    for number in numbers:
        name = f"{'odd' if number % 2 else 'even'}/{number:05d}.jpg"
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(case(number))
        names.append(name)
    return names

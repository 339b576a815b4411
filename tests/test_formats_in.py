"""Print colours, 16 bits, animations, pages, AVIF and HEIC: each protected as what it is, or refused by name."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made_pictures import SHARED
from PIL import Image, TiffImagePlugin, features

from release import build
from release.build import Made, Settings
from unlearnable import imageio
from unlearnable.errors import ImageError

LEVELS = 8
needs_avif = pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")


def noise(shape: Sequence[int], seed: int = 0, of: type = np.uint8) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, np.iinfo(of).max, shape, dtype=of, endpoint=True)


def smooth(height: int = 40, width: int = 56, seed: int = 0, channels: int = 3) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    planes = [(x * (2 + c) + y * (4 - c) + 37 * (c + seed)) % 256 for c in range(channels)]
    return (np.stack(planes, 2) // 2 + 50).astype(np.uint8)


def saved(image: Image.Image, container: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, container, **options)
    return out.getvalue()


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def decoded(data: bytes) -> imageio.Picture:
    return imageio.decode(data, "a/b.img")


def protected(data: bytes, container: str = "auto", seed: int = 3) -> Made:
    """As a release makes it, with a random perturbation of more than the budget."""
    delta = (torch.rand((3, 32, 32), generator=torch.Generator().manual_seed(seed)) * 2 - 1) * 12 / 255
    return build.make(decoded(data), delta, Settings("folder", container, LEVELS, opt_out=True))


def refused(data: bytes, words: str) -> None:
    with pytest.raises(ImageError, match=words) as caught:
        decoded(data)
    assert caught.value.message.startswith("a/b.img") and caught.value.hint


def moved(before: np.ndarray, after: np.ndarray) -> int:
    return int(np.abs(before.astype(int) - after.astype(int)).max())


# --- CMYK ---


def plain_rgb(inks: np.ndarray) -> np.ndarray:
    """What trainers get of inks, by the formula, in whole numbers."""
    clear = 255 - inks.astype(int)
    product = clear[:, :, :3] * clear[:, :, 3:]
    return (2 * product + 255) // 510


@settings(max_examples=60, deadline=None)
@given(st.integers(8, 33), st.integers(8, 33), st.integers(0, 99))
def test_a_cmyk_tiff_stays_inside_the_budget_in_what_trainers_see(height: int, width: int, seed: int) -> None:
    inks = noise((height, width, 4), seed)
    made = protected(saved(Image.fromarray(inks, "CMYK"), "TIFF"))
    after = opened(made.data)
    assert after.mode == "CMYK" and made.container == "TIFF" and made.lossless
    shipped = np.asarray(after)
    seen, seen_before = (np.asarray(Image.fromarray(i, "CMYK").convert("RGB")) for i in (shipped, inks))
    assert made.linf == moved(seen_before, seen) <= LEVELS
    assert np.abs(plain_rgb(shipped) - seen).max() <= 1, "and the formula says the same"
    assert (shipped[:, :, 3] == inks[:, :, 3]).all(), "black is never touched"
    same = seen == seen_before
    assert (shipped[:, :, :3][same] == inks[:, :, :3][same]).all(), "nor is what needs no change"


def test_where_there_is_no_black_ink_every_step_is_taken_exactly() -> None:
    inks = np.dstack([smooth(), np.zeros((40, 56), np.uint8)])
    like = decoded(saved(Image.fromarray(inks, "CMYK"), "TIFF"))
    wanted = like.pixels - 5
    shipped = np.asarray(opened(imageio.encode(wanted, like, "TIFF")))
    assert (shipped[:, :, :3] == inks[:, :, :3] + 5).all()


def test_a_cmyk_jpeg_stays_one_with_profile_and_colours() -> None:
    inks = smooth(channels=4)
    header = struct.pack(">L12x4s16x4s88x", 156, b"CMYK", b"acsp")
    profile = header + struct.pack(">L4sLL", 1, b"cprt", 144, 12) + b"text\0\0\0\0ink\0"
    data = saved(Image.fromarray(inks, "CMYK"), "JPEG", quality=95, subsampling=0, icc_profile=profile)
    made = protected(data)
    after = opened(made.data)
    assert after.mode == "CMYK" and after.info["icc_profile"] == profile and after.info["adobe_transform"] in (0, 2)
    before = np.asarray(opened(data).convert("RGB"))
    assert 0 < moved(before, np.asarray(after.convert("RGB"))) <= 3 * LEVELS  # JPEG again: no hard bound
    assert abs(np.asarray(after.convert("RGB")).mean() - before.mean()) < 1
    assert made.linf == moved(before, np.asarray(after.convert("RGB"))), "measured on what ships"


def test_cmyk_is_never_put_where_its_profile_does_not_fit() -> None:
    like = decoded(saved(Image.fromarray(smooth(channels=4), "CMYK"), "JPEG"))
    for wanted in ("png", "webp"):
        with pytest.raises(ImageError, match="CMYK"):
            imageio.target_container(like, wanted)
    assert imageio.target_container(like, "jpeg") == "JPEG"


# --- 16 bits ---


def deep_png(deep: np.ndarray, filters: Sequence[int] = (0,), *more: bytes) -> bytes:
    """Our own writer: Pillow cannot make 16-bit colour. Rows take the filters in turn (0 none, 1 left, 2 up)."""
    height, width, channels = deep.shape
    rows = deep.astype(">u2").view(np.uint8).reshape(height, -1)
    size, body, above = channels * 2, b"", np.zeros_like(rows[0])
    for number, row in enumerate(rows):
        kind = filters[number % len(filters)]
        left = np.concatenate([np.zeros(size, np.uint8), row[:-size]])
        line = {0: row, 1: row - left, 2: row - above}[kind]
        body, above = body + bytes([kind]) + line.tobytes(), row

    def chunk(kind: bytes, of: bytes) -> bytes:
        return struct.pack(">L", len(of)) + kind + of + struct.pack(">L", zlib.crc32(kind + of))

    header = struct.pack(">LLBBBBB", width, height, 16, (0, 4, 2, 6)[channels - 1], 0, 0, 0)
    parts = [chunk(b"IHDR", header), *more, chunk(b"IDAT", zlib.compress(body)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def png_numbers(data: bytes) -> np.ndarray:
    """The 16-bit numbers of a PNG, by a slow reader of our own that knows filters 0, 1 and 2."""
    at, body, shape = 8, b"", (0, 0, 0)
    while at < len(data):
        length, kind = struct.unpack(">L4s", data[at : at + 8])
        part = data[at + 8 : at + 8 + length]
        if kind == b"IHDR":
            width, height, bits, colour = struct.unpack(">LLBB", part[:10])
            assert bits == 16
            shape = (height, width, {0: 1, 4: 2, 2: 3, 6: 4}[colour])
        body += part if kind == b"IDAT" else b""
        at += length + 12
    raw, size, stride = zlib.decompress(body), shape[2] * 2, shape[1] * shape[2] * 2
    above, out = np.zeros(stride, np.uint8), []
    for row in range(shape[0]):
        kind, line = raw[row * (stride + 1)], raw[row * (stride + 1) + 1 : (row + 1) * (stride + 1)]
        now = np.frombuffer(line, np.uint8).copy()
        if kind == 1:
            for x in range(size, stride):
                now[x] += now[x - size]
        elif kind == 2:
            now += above
        else:
            assert kind == 0
        out.append(now)
        above = now
    return np.stack(out).reshape(-1).view(">u2").reshape(shape).astype(int)


@settings(max_examples=50, deadline=None)
@given(st.integers(8, 30), st.integers(8, 30), st.sampled_from([1, 3, 4]), st.integers(0, 99))
def test_16_bit_png_keeps_its_low_bits_and_the_budget_at_full_depth(
    height: int, width: int, channels: int, seed: int
) -> None:
    deep = noise((height, width, channels), seed, np.uint16)
    deep[0, 0], deep[0, 1] = 0, 65535
    made = protected(deep_png(deep, (0, 1, 2)))
    after = png_numbers(made.data)
    before, colours = deep.astype(int), 1 if channels == 1 else 3
    assert np.abs(after - before).max() <= LEVELS * 257
    assert (after[:, :, colours:] == before[:, :, colours:]).all(), "alpha is untouched"
    inside = (after % 257 == before % 257) | (after == 65535)
    assert inside.all(), "low bits stay"
    assert made.linf == moved(before // 257, after // 257) <= LEVELS
    assert (decoded(made.data).pixels == after // 257).all()


def test_without_a_perturbation_16_bit_files_come_back_exactly() -> None:
    grey, colour, clear = (noise((20, 31, c), c, np.uint16) for c in (1, 3, 4))
    for deep in (grey, colour, clear):
        like = decoded(deep_png(deep))
        assert (png_numbers(imageio.encode(like.pixels, like, "PNG")) == deep).all()
        assert (decoded(imageio.encode(like.pixels, like, "TIFF")).deep == deep).all()
    assert (
        np.asarray(opened(imageio.encode((like := decoded(deep_png(grey))).pixels, like, "TIFF"))) == grey[:, :, 0]
    ).all()


def test_interlaced_16_bit_colour_is_read_too() -> None:
    flat = np.full((8, 8, 3), (300, 40_000, 65_535), np.uint16)
    rows = b"".join(  # Adam7: the seven small images of an 8 x 8 one
        (b"\0" + flat[0, :w].astype(">u2").tobytes()) * h
        for w, h in ((1, 1), (1, 1), (2, 1), (2, 2), (4, 2), (4, 4), (8, 4))
    )
    data = deep_png(flat)
    head = bytearray(data[:33])
    head[28] = 1
    head[29:33] = struct.pack(">L", zlib.crc32(bytes(head[12:29])))
    body = zlib.compress(rows)
    idat = struct.pack(">L", len(body)) + b"IDAT" + body + struct.pack(">L", zlib.crc32(b"IDAT" + body))
    assert (decoded(bytes(head) + idat + data[-12:]).deep == flat).all()


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate"])
def test_16_bit_grey_tiff_keeps_its_low_bits(compression: str | None) -> None:
    deep = noise((30, 41), 1, np.uint16)
    made = protected(saved(Image.fromarray(deep), "TIFF", compression=compression))
    after = np.asarray(opened(made.data)).astype(int)
    assert made.container == "TIFF" and 0 < np.abs(after - deep).max() <= LEVELS * 257
    assert ((after % 257 == deep % 257) | (after == 65535)).all()


def test_16_bit_colour_tiff_is_read_and_written_by_others_too() -> None:
    deep = noise((30, 41, 3), 2, np.uint16)
    like = decoded(deep_png(deep))
    like = imageio.decode(imageio.encode(like.pixels, like, "TIFF"), "x.tif")
    made = build.make(like, torch.full((3, 8, 8), 4 / 255), Settings("folder", "auto", LEVELS, opt_out=True))
    again = decoded(made.data)
    want = np.minimum(deep // 257 + 4, 255)
    assert (again.pixels == want).all()
    assert (again.deep == np.minimum(want.astype(int) * 257 + deep % 257, 65535)).all()
    other = opened(made.data)  # Pillow by itself gives the high bytes
    assert (np.asarray(other) == again.deep >> 8).all()
    assert b"DMI-PROHIBITED" in other.info["xmp"]


@pytest.mark.parametrize("order", ["II", "MM"])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_16_bit_tiff_of_either_byte_order_is_read_whole(order: str, packed: bool, channels: int) -> None:
    deep = noise((21, 17, channels), 8, np.uint16)
    body = deep.astype("<u2" if order == "II" else ">u2").tobytes()
    body = zlib.compress(body) if packed else body
    page = TiffImagePlugin.ImageFileDirectory_v2(prefix=order.encode())
    page[256], page[257], page[258], page[259] = 17, 21, (16,) * channels, 8 if packed else 1
    page[262], page[273], page[277], page[278], page[279] = 1 if channels == 1 else 2, 0, channels, 21, len(body)
    if channels == 4:
        page[338] = 2
    out = io.BytesIO()
    page.save(out)
    out.write(body)
    assert (decoded(out.getvalue()).deep == deep).all()
    assert protected(out.getvalue()).container == "TIFF"


def test_16_bits_become_8_only_where_the_owner_asks_for_jpeg_or_webp() -> None:
    data = deep_png(noise((24, 24, 3), 5, np.uint16))
    assert protected(data).container == "PNG"
    for wanted in ("jpeg", "webp"):
        made = protected(data, wanted)
        assert made.container == wanted.upper() and opened(made.data).mode == "RGB"


def test_deep_files_that_cannot_be_had_whole_are_refused() -> None:
    refused(deep_png(noise((16, 16, 2), 0, np.uint16)), "16 bits")  # grey and alpha
    key = b"\0\1\0\2\0\3"
    keyed = struct.pack(">L", 6) + b"tRNS" + key + struct.pack(">L", zlib.crc32(b"tRNS" + key))
    refused(deep_png(noise((16, 16, 3), 0, np.uint16), (0,), keyed), "16 bits")
    refused(saved(Image.fromarray(noise((16, 16)).astype(np.int32)), "TIFF"), "32 bits")


# --- animations and pages ---


def frames(count: int = 3, channels: int = 3) -> list[Image.Image]:
    return [Image.fromarray(smooth(seed=7 * s, channels=channels)) for s in range(count)]


def timeline(data: bytes) -> list[tuple[np.ndarray, float]]:
    image, out = opened(data), []
    for number in range(image.n_frames):
        image.seek(number)
        out.append((np.asarray(image.convert("RGBA")), image.info.get("duration")))
    return out


@pytest.mark.parametrize("container", ["PNG", "WEBP"])
def test_every_frame_of_an_animation_is_protected_and_timed_as_it_was(container: str) -> None:
    images = frames()
    options = {"lossless": True} if container == "WEBP" else {}
    data = saved(
        images[0], container, save_all=True, append_images=images[1:], duration=[40, 80, 120], loop=3, **options
    )
    made = protected(data)
    assert made.container == container and made.lossless and made.linf == LEVELS
    before, after = timeline(data), timeline(made.data)
    assert [ms for _, ms in after] == [ms for _, ms in before] == [40, 80, 120]
    assert opened(made.data).info["loop"] == 3
    assert all(0 < moved(old, new) <= LEVELS for (old, _), (new, _) in zip(before, after, strict=True))


def test_frames_are_those_that_are_seen_whatever_part_the_file_stores() -> None:
    first, second = smooth(), smooth()
    second[10:20, 5:9] = 0  # only this part is stored
    images = [Image.fromarray(a) for a in (first, second, first)]
    data = saved(images[0], "PNG", save_all=True, append_images=images[1:], duration=50, disposal=[0, 2, 1], blend=1)
    got, seen = decoded(data), timeline(data)
    stored = [got.pixels, *(page.pixels for page in got.more)]
    for shown, (wanted, _) in zip(stored, seen, strict=True):
        assert (shown[:, :, :3] == wanted[:, :, :3]).all()


def test_transparent_animations_leave_webp_for_png() -> None:
    images = frames(channels=4)
    data = saved(images[0], "WEBP", save_all=True, append_images=images[1:], duration=50, lossless=True)
    made = protected(data)
    assert made.container == "PNG" and opened(made.data).n_frames == 3
    source = decoded(data)
    for (after, _), was in zip(timeline(made.data), [source, *source.more], strict=True):
        assert moved(was.pixels, after) <= LEVELS and (after[:, :, 3] == was.pixels[:, :, 3]).all()


def test_a_still_for_other_programs_stays_apart_from_the_animation() -> None:
    images = frames(3)
    data = saved(images[0], "PNG", save_all=True, append_images=images[1:], duration=[30, 60], default_image=True)
    made = protected(data)
    assert opened(made.data).default_image
    after = timeline(made.data)
    assert len(after) == 3 and [ms for _, ms in after[1:]] == [30, 60]
    assert all(moved(np.asarray(was), now[:, :, :3]) <= LEVELS for was, (now, _) in zip(images, after, strict=True))


def test_a_gif_becomes_png_and_an_animated_one_only_when_asked() -> None:
    still = saved(frames()[0], "GIF")
    made = protected(still)
    assert made.container == "PNG" and made.linf == LEVELS
    assert moved(np.asarray(opened(still).convert("RGB")), np.asarray(opened(made.data))) <= LEVELS
    images = [Image.fromarray(noise((20, 24, 3), s)) for s in range(3)]
    moving = saved(images[0], "GIF", save_all=True, append_images=images[1:], duration=[100, 200, 300], loop=0)
    with pytest.raises(ImageError, match=r"animated \(3 frames\).*GIF"):
        protected(moving)
    asked = protected(moving, "png")
    assert [ms for _, ms in timeline(asked.data)] == [100, 200, 300] and opened(asked.data).info["loop"] == 0
    assert protected(moving, "jpeg").container == "PNG", "JPEG holds no frames"


def test_a_frame_that_outgrows_the_picture_is_damage_and_no_bomb() -> None:
    images = [Image.fromarray(noise((20, 24, 3), s)) for s in range(2)]
    data = bytearray(saved(images[0], "GIF", save_all=True, append_images=images[1:]))
    second = data.rfind(b"\x2c\0\0\0\0\x18\0\x14\0")
    data[second + 5 : second + 9] = struct.pack("<HH", 3000, 3000)
    refused(bytes(data), "larger than the picture")


def test_every_page_of_a_tiff_is_protected_whatever_its_kind() -> None:
    colour, grey, deep = smooth(), smooth(30, 20)[:, :, 0], noise((25, 19), 4, np.uint16)
    inks = noise((18, 22, 4), 6)
    pages = [Image.fromarray(colour), Image.fromarray(grey), Image.fromarray(deep), Image.fromarray(inks, "CMYK")]
    data = saved(pages[0], "TIFF", save_all=True, append_images=pages[1:], dpi=(300, 300))
    made = protected(data)
    after = opened(made.data)
    assert after.n_frames == 4 and made.container == "TIFF" and made.linf == LEVELS
    for number, was in enumerate(pages):
        after.seek(number)
        assert (after.mode, after.size) == (was.mode, was.size)
        assert b"DMI-PROHIBITED" in after.info["xmp"]
        assert after.info["dpi"] == (300, 300)
        step = 257 if was.mode.startswith("I;16") else 1
        old, new = (np.asarray(i.convert("RGB") if i.mode == "CMYK" else i) for i in (was, after))
        assert 0 < moved(old, new) <= LEVELS * step
    with pytest.raises(ImageError, match="4 pages"):
        protected(data, "png")


def joined(parts: Sequence[bytes]) -> bytes:
    """One TIFF of TIFFs of one page, all in the machine's byte order: every pointer is moved by the bytes before its page."""
    out, link = bytearray(), 4
    sizes = (0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8)

    def move(page: bytearray, at: int, by: int) -> int:
        count = struct.unpack_from("<H", page, at)[0]
        for entry in range(at + 2, at + 2 + 12 * count, 12):
            tag, kind, number, value = struct.unpack_from("<HHLL", page, entry)
            if sizes[kind] * number > 4 or tag in (273, 0x8769, 0x8825):
                struct.pack_into("<L", page, entry + 8, value + by)
            if tag in (0x8769, 0x8825):
                move(page, value, by)
        return at + 2 + 12 * count

    for part in parts:
        page, by = bytearray(part), len(out)
        assert page[:4] == b"II*\0"
        first = struct.unpack_from("<L", page, 4)[0]
        last = move(page, first, by)
        if out:
            struct.pack_into("<L", out, link, first + by)
        out += page
        link = by + last
    return bytes(out)


def test_a_later_page_of_a_tiff_keeps_its_own_exif_and_no_picture_in_it() -> None:
    preview = saved(Image.fromarray(noise((24, 24, 3))), "JPEG")
    parts = []
    for number in (1, 2, 3):
        tags = Image.Exif()
        tags[0x010E], tags[0x0112] = f"page {number}", number  # its title; how it is turned
        tags[0x8769] = {0x9003: f"2020:01:0{number} 03:04:05", 0x927C: b"note" + preview}
        tags[0x8825] = {1: "N", 2: (48.0, 1.0, 2.0)}
        read = Image.Exif()
        read.load(tags.tobytes())  # Pillow writes folders into a TIFF only if it read them
        parts.append(saved(Image.fromarray(smooth(seed=number)), "TIFF", exif=read))
    whole = joined(parts)
    source, made = decoded(whole), protected(whole)
    assert len(source.more) == 2 and preview[200:240] in whole and preview[200:240] not in made.data
    for number, clean in enumerate((source, *source.more), 1):
        with opened(made.data) as image:
            image.seek(number - 1)
            exif = image.getexif()
            photo, place = dict(exif.get_ifd(0x8769)), dict(exif.get_ifd(0x8825))
            assert exif[0x010E] == f"page {number}" and exif.get(0x0112, 1) == 1
            assert photo[0x9003] == f"2020:01:0{number} 03:04:05" and 0x927C not in photo
            assert place[1] == "N", "under --metadata keep"
            assert 0 < moved(clean.pixels, np.asarray(image)) <= LEVELS


def test_a_preview_page_does_not_survive() -> None:
    photo, small = smooth(), smooth(10, 14, 9)
    out = io.BytesIO()
    with TiffImagePlugin.AppendingTiffWriter(out, new=True) as writer:
        for pixels, kind in ((photo, 0), (small, 1)):
            writer.write(saved(Image.fromarray(pixels), "TIFF", tiffinfo={254: kind}))
            writer.newFrame()
    assert opened(out.getvalue()).n_frames == 2
    made = protected(out.getvalue())
    assert opened(made.data).n_frames == 1
    assert small.tobytes()[:60] not in made.data


# --- AVIF and HEIC ---


@needs_avif
def test_avif_stays_avif_and_is_measured_as_it_ships() -> None:
    made = protected(saved(Image.fromarray(smooth(64, 80)), "AVIF", quality=95, subsampling="4:4:4"))
    after = opened(made.data)
    assert made.container == "AVIF" and not made.lossless
    before = decoded(saved(Image.fromarray(smooth(64, 80)), "AVIF", quality=95, subsampling="4:4:4"))
    assert made.linf == moved(before.pixels, np.asarray(after.convert("RGB"))) > 0
    assert b"DMI-PROHIBITED" in after.info["xmp"]
    again = protected(saved(Image.fromarray(smooth(64, 80)), "AVIF", quality=95, subsampling="4:4:4"))
    assert again.data == made.data, "the same bytes twice"


@needs_avif
def test_avif_with_more_than_8_bits_is_refused_and_not_flattened() -> None:
    data = bytearray(saved(Image.fromarray(smooth()), "AVIF"))
    data[data.find(b"av1C") + 6] |= 0x40
    depths = data.find(b"pixi") + 9
    data[depths : depths + 3] = bytes([10] * 3)
    refused(bytes(data), "10 bits")


@needs_avif
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_avif_is_upright(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = orientation, "Maker"
    data = saved(Image.fromarray(smooth()), "AVIF", exif=exif.tobytes(), quality=100)
    like = decoded(data)
    assert like.pixels.shape[:2] == ((40, 56) if orientation < 5 else (56, 40))
    after = opened(imageio.encode(like.pixels, like, "AVIF"))
    assert after.size == (like.pixels.shape[1], like.pixels.shape[0])
    assert after.getexif().get(0x0112, 1) == 1 and after.getexif()[0x010F] == "Maker"
    if orientation != 1:
        upright = np.rot90(smooth(), {3: 2, 6: 3, 8: 1}[orientation])
        assert np.abs(like.pixels.astype(int) - upright).mean() < 3


def test_heic_is_read_upright_and_becomes_jpeg_without_its_thumbnail() -> None:
    heif = pytest.importorskip("pillow_heif")
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Maker"
    out = io.BytesIO()
    picture = heif.from_pillow(Image.fromarray(smooth(64, 96)))
    picture.save(out, quality=-1, exif=exif.tobytes(), matrix_coefficients=0, chroma=444)
    like = decoded(out.getvalue())
    assert like.container == "HEIC" and like.pixels.shape == (96, 64, 3)
    assert np.abs(like.pixels.astype(int) - np.rot90(smooth(64, 96), 3)).max() <= 1
    made = protected(out.getvalue())
    after = opened(made.data)
    assert made.container == "JPEG" and after.size == (64, 96)
    assert after.getexif()[0x010F] == "Maker" and after.getexif()[0x0112] == 1


def test_heic_without_its_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImageError, match="pillow-heif") as caught:
        decoded(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(9))
    assert "[heif]" in caught.value.hint


def test_avif_with_a_general_brand_is_not_taken_for_heic() -> None:
    assert imageio.sniff(b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf") == "AVIF"
    assert imageio.sniff(b"\0\0\0\x1cftypmif1\0\0\0\0mif1heicmiaf") == "HEIC"


# --- the limit, and memory ---


def test_frames_and_pages_count_together_against_the_limit() -> None:
    images = frames(5)
    for container in ("PNG", "TIFF"):
        data = saved(images[0], container, save_all=True, append_images=images[1:])
        assert len(imageio.decode(data, "x", 5 * 40 * 56 / 1e6).more) == 4
        with pytest.raises(ImageError, match="more than the limit") as caught:
            imageio.decode(data, "x", 4.5 * 40 * 56 / 1e6)
        assert "--max-pixels" in caught.value.hint


def test_the_limit_of_the_process_can_be_moved() -> None:
    data = saved(Image.fromarray(smooth(100, 100)), "PNG")
    try:
        imageio.limit(0.009)
        refused(data, "0 megapixels, more than the limit of 0.009")
        imageio.limit(0.011)
        assert decoded(data).pixels.shape == (100, 100, 3)
    finally:
        imageio.limit(imageio.LIMIT_MEGAPIXELS)


@pytest.mark.slow
@pytest.mark.parametrize("container", ["PNG", "JPEG"])
def test_a_hundred_megapixels_take_less_than_ten_times_their_pixels(container: str, tmp_path: Path) -> None:
    path = tmp_path / "large"
    Image.fromarray(np.tile(smooth(100, 100), (100, 100, 1))).save(path, container)
    program = (
        "import resource, sys, torch; from pathlib import Path\n"
        "from release import build; from unlearnable import imageio\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024\n"
        "before = peak()\n"
        f"picture = imageio.decode(Path({str(path)!r}).read_bytes(), 'x')\n"
        "build.make(picture, torch.rand(3, 224, 224) / 32, build.Settings('folder', 'auto', 8))\n"
        "print((peak() - before) / picture.pixels.nbytes)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 10


@pytest.mark.parametrize("suffix", [".heic", ".heif"])
def test_shared_heic_files_are_protected(suffix: str) -> None:
    pytest.importorskip("pillow_heif")
    files = [p for p in (SHARED / "photos").rglob("*") if p.suffix.lower() == suffix and p.stat().st_size < 900_000]
    if not files:
        pytest.skip("needs ../shared/data/photos")
    made = protected(min(files, key=lambda p: p.stat().st_size).read_bytes())
    assert made.container == "JPEG" and made.linf > 0 and made.data.count(b"\xff\xd8\xff") == 1

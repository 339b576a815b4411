"""Containers of images by their content, the extensions they go by, and how their codecs fail. Decodes nothing."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import PurePosixPath

from PIL import Image

# Damaged files and tags that break the standard make Pillow's readers and writers raise nearly anything; these are the
# kinds seen (huggingface/datasets #7668, #8165). One tuple, because which of them comes out differs between versions.
CODEC_ERRORS = (
    OSError,
    SyntaxError,  # a plugin that does not know the file after all
    ValueError,
    TypeError,
    LookupError,
    EOFError,
    ArithmeticError,  # a rational over zero, a number too large for its type
    AttributeError,
    RuntimeError,
    MemoryError,
    AssertionError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
EXTENSIONS = {  # the first is written when a name needs a new one
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png", ".apng"),
    "WEBP": (".webp",),
    "TIFF": (".tif", ".tiff"),
    "AVIF": (".avif",),
    "BMP": (".bmp", ".dib"),
}
LOSSY = ("JPEG", "AVIF")  # as we write them
ONLY_READ = {"GIF": (".gif",), "HEIC": (".heic", ".heif", ".hif")}
REFUSED = {  # container: its extensions
    "JPEG 2000": (".jp2", ".j2k", ".jpx"),
    "JPEG XL": (".jxl",),
    "Photoshop": (".psd",),
    "camera raw": (".dng", ".nef", ".cr2", ".cr3", ".arw", ".orf", ".raf", ".rw2"),
}
# Every extension that owners call an image, whether we can protect it or must say why not.
IMAGE_EXTENSIONS = frozenset(e for group in (EXTENSIONS, ONLY_READ, REFUSED) for known in group.values() for e in known)


def sniff(head: bytes) -> str:
    """The container by the first 32 bytes or more: a key of EXTENSIONS, ONLY_READ or REFUSED, or ""."""
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return "camera raw" if head[8:10] == b"CR" else "TIFF"
    if head[:2] == b"BM" and len(head) > 18 and head[14] in (12, 16, 40, 52, 56, 64, 108, 124):
        return "BMP"
    if head[4:8] == b"ftyp":
        brands = {b"avif": "AVIF", b"avis": "AVIF", b"crx ": "camera raw"}
        if head[8:12] in (b"mif1", b"msf1") and b"avi" in head[16:32] and b"hei" not in head[16:32]:
            return "AVIF"
        heif = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
        return brands.get(head[8:12], "HEIC" if head[8:12] in heif else "")
    others = {b"GIF87a": "GIF", b"GIF89a": "GIF", b"8BPS": "Photoshop", b"\xff\x0a": "JPEG XL"} | {
        b"\0\0\0\x0cJXL ": "JPEG XL",
        b"\0\0\0\x0cjP  ": "JPEG 2000",
        b"\xff\x4f\xff\x51": "JPEG 2000",
    }
    return next((name for magic, name in others.items() if head.startswith(magic)), "")


def suffix_for(name: str, container: str) -> str:
    """`name` with an extension that fits: kept when it does ("A.JPG"), else replaced or added."""
    suffix = PurePosixPath(name).suffix
    if suffix.lower() in EXTENSIONS[container]:
        return name
    stem = name[: -len(suffix)] if suffix.lower() in IMAGE_EXTENSIONS else name
    return stem + EXTENSIONS[container][0]


def webp_chunks(data: bytes) -> Iterator[tuple[bytes, int]]:
    """Kind and payload offset of every chunk."""
    at = 12
    while at + 8 <= len(data):
        yield data[at : at + 4], at + 8
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        at += 8 + length + (length & 1)


def webp_size(data: bytes) -> tuple[int, int]:
    """Width and height by the extended header; 0, 0 where there is none (then a side has at most 16383 pixels)."""
    kind, at = next(webp_chunks(data), (b"", 0))
    if kind != b"VP8X" or len(data) < at + 10:
        return 0, 0
    return 1 + int.from_bytes(data[at + 4 : at + 7], "little"), 1 + int.from_bytes(data[at + 7 : at + 10], "little")


def avif_bits(data: bytes) -> int:
    """8, 10 or 12 bits a channel, by the first codec configuration; 8 where there is none to be found."""
    at = data.find(b"av1C", 0, 1 << 16)
    flags = data[at + 6] if 0 <= at < len(data) - 6 else 0
    return 8 if not flags & 0x40 else 12 if flags & 0x20 else 10

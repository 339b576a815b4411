"""What an image file holds besides its picture, read from its bytes alone: previews, second pictures, tails, places.

A protected file is written afresh, so none of this should be there; `check --source` looks all the same, with a reader that
shares nothing with the writer. Blocks are told from a list of those that a release may hold; anything else is named.
Damage ends the reading of a block and never raises: whether a file can be decoded is another question.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from unlearnable.imageio import sniff

_PICTURES = (b"\xff\xd8\xff", b"\x89PNG\r\n", b"ftypheic", b"ftypavif", b"WEBPVP8")
_XMP_PICTURES = re.compile(
    rb"(?i)xmpgimg:image|xmp:thumbnails|photoshop:thumbnail|data:image|ns\.google\.com/photos/(1\.0/(depthmap|image|camera|"
    rb"container)|dd/)|hdr-?gain-?map|GCamera:(MicroVideo|MotionPhoto)|HasExtendedXMP|[A-Za-z0-9+/=]{1024,}"
)
_XMP_PLACES = re.compile(rb"(?i)[:<\s](gps\w+|\w*latitude|\w*longitude|(sub)?location\w*|city|state|country)\s*[=>]")
_XMP_NAMES = re.compile(rb"[<\s]([A-Za-z]\w*):[A-Za-z]\w*\s*[=>/\s]")
_XMP_OURS = (b"x", b"rdf", b"xmlns", b"plus", b"xml")  # the opt-out and what holds it
_PNG = b"IHDR PLTE tRNS IDAT IEND pHYs iCCP eXIf iTXt acTL fcTL fdAT sRGB gAMA cHRM sBIT bKGD".split()
_WEBP = (b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF", b"ICCP", b"EXIF", b"XMP ")
_AVIF = (b"ftyp", b"meta", b"mdat", b"free", b"moov")
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_EXIF_IFD, _GPS_IFD, _SUB_IFDS, _MAKER_NOTE, _PHOTOSHOP, _XMP_TAG = 0x8769, 0x8825, 330, 0x927C, 34377, 700
_SUBFILE, _THUMBNAIL = 254, 513
_AT_50 = 3688  # sum of the luminance table of ITU-T T.81, annex K.1, which is libjpeg's at quality 50
_MOST = 10_000  # tags that are read of one block


@dataclass(frozen=True)
class Left:
    """faults: what must not ship, in words. exif, place, words: whether there is EXIF, a place, XMP beside the opt-out."""

    faults: tuple[str, ...] = ()
    exif: bool = False
    place: bool = False
    words: bool = False


def look(data: bytes) -> Left:
    """Everything in one file that is not its picture, colours, or plain metadata."""
    reader = {"JPEG": _jpeg, "PNG": _png, "WEBP": _webp, "AVIF": _avif, "TIFF": _tiff_file, "BMP": _bmp}
    container = sniff(data[:32])
    if container not in reader:
        return Left((f"is {container or 'no image'}, which no release holds",))
    return _joined(reader[container](data))


def against(left: Left, policy: str | None) -> list[str]:
    """What a file holds against the metadata policy "keep", "no-gps" or "strip" (None: nobody knows which)."""
    if policy == "no-gps" and left.place:
        return ["says where it was taken, against --metadata no-gps"]
    if policy != "strip":
        return []
    return [
        f"has {what}, against --metadata strip" for what, there in (("EXIF", left.exif), ("XMP", left.words)) if there
    ]


def _joined(parts: Iterator[Left]) -> Left:
    found = list(parts)
    faults = dict.fromkeys(fault for part in found for fault in part.faults)
    return Left(
        tuple(faults),
        any(part.exif for part in found),
        any(part.place for part in found),
        any(part.words for part in found),
    )


def _fault(words: str) -> Left:
    return Left((words,))


def quality(data: bytes) -> int | None:
    """The quality 1 to 100 that libjpeg would have been asked for, by a JPEG's first quantisation table; else None."""
    if sniff(data[:32]) != "JPEG":
        return None
    table = next((body for _, kind, body in _segments(data) if kind == 0xDB and len(body) >= 65), None)
    if table is None or table[0]:
        return None
    if sum(table[1:65]) == 64:  # nothing is rounded
        return 100
    scale = 100 * sum(table[1:65]) / _AT_50
    return max(1, min(100, round(5000 / scale if scale > 100 else (200 - scale) / 2)))


def _segments(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """(where it ends, kind, body) of every block up to the end of the picture, whose kind is 0xD9."""
    at = 2
    while at + 2 <= len(data) and data[at] == 0xFF:
        kind = data[at + 1]
        if kind == 0xD9:
            yield at + 2, kind, b""
            return
        if kind == 0xFF or 0xD0 <= kind <= 0xD8:
            at += 1 if kind == 0xFF else 2
            continue
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        yield at + 2 + length, kind, data[at + 4 : at + 2 + length]
        at += 2 + length
        if kind == 0xDA:  # the coded picture: up to the next marker that is one
            found = _MARKER.search(data, at)
            at = found.start() if found else len(data)


def _jpeg(data: bytes) -> Iterator[Left]:
    kind = 0
    for end, kind, body in _segments(data):
        if kind == 0xD9:
            yield from _tail(data, end)
        else:
            yield from _segment(kind, body)
    if kind != 0xD9:
        yield _fault("is damaged, so that not all of it could be looked at")


_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")


def _segment(kind: int, body: bytes) -> Iterator[Left]:
    """One block of a JPEG before its coded picture."""
    if kind == 0xE1 and body.startswith(b"Exif\0\0"):
        yield from _exif(body[6:])
    elif kind == 0xE1 and body.startswith(b"http://ns.adobe.com/xap/1.0/\0"):
        yield _xmp(body[29:])
    elif kind == 0xE0 and body.startswith(b"JFIF\0"):
        if body[12:14] not in (b"", b"\0\0"):
            yield _fault("has a JFIF thumbnail")
    elif kind == 0xE2 and body.startswith(b"MPF\0"):
        yield _fault("lists further pictures (MPO)")
    elif (kind == 0xE2 and body.startswith(b"ICC_PROFILE\0")) or (kind == 0xEE and body.startswith(b"Adobe")):
        return
    elif kind == 0xED:
        yield _fault("has a Photoshop block, which may hold a thumbnail")
    elif kind == 0xFE:
        yield _fault("has a comment")
    elif 0xE0 <= kind <= 0xEF:
        yield _fault(f"has a block of another program (APP{kind - 0xE0})")


def _png(data: bytes) -> Iterator[Left]:
    at = 8
    while at + 8 <= len(data):
        length, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        body = data[at + 8 : at + 8 + length]
        at += 12 + length
        if kind == b"eXIf":
            yield from _exif(body)
        elif kind == b"iTXt" and body.startswith(b"XML:com.adobe.xmp\0\0"):  # not compressed
            yield _xmp(body)
        elif kind == b"iTXt" or kind not in _PNG:
            yield _fault(f"has a block {kind.decode('ascii', 'replace')} that no release holds")
        if kind == b"IEND":
            break
    yield from _tail(data, at)


def _webp(data: bytes) -> Iterator[Left]:
    end = 8 + int.from_bytes(data[4:8], "little")
    at = 12
    while at + 8 <= min(end, len(data)):
        kind, length = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        body = data[at + 8 : at + 8 + length]
        at += 8 + length + (length & 1)
        if kind == b"EXIF":
            yield from _exif(body.removeprefix(b"Exif\0\0"))
        elif kind == b"XMP ":
            yield _xmp(body)
        elif kind not in _WEBP:
            yield _fault(f"has a block {kind.decode('ascii', 'replace')!r} that no release holds")
    yield from _tail(data, end + (end & 1))


def _avif(data: bytes) -> Iterator[Left]:
    at = 0
    while at + 8 <= len(data):
        length, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        if length == 1:
            length = int.from_bytes(data[at + 8 : at + 16], "big")
        body = data[at + 8 : at + length] if length else data[at + 8 :]
        if kind not in _AVIF:
            yield _fault(f"has a block {kind.decode('ascii', 'replace')!r} that no release holds")
        if kind == b"meta" and b"thmb" in body:
            yield _fault("has a thumbnail")
        if kind == b"meta" and re.search(rb"(?i)tmap|gain.?map|depth", body):
            yield _fault("has a gain map or depth map")
        if kind == b"mdat":
            for start in re.finditer(rb"(?:II\*\0|MM\0\*)", body[: 1 << 20]):
                yield from _exif(body[start.start() :])
                break
            packet = re.search(rb"<\?xpacket begin.*?<\?xpacket end[^>]*>", body, re.S)
            if packet:
                yield _xmp(packet[0])
        if length < 8:
            return
        at += length


def _bmp(data: bytes) -> Iterator[Left]:
    yield from _tail(data, int.from_bytes(data[2:6], "little"))


def _tail(data: bytes, end: int) -> Iterator[Left]:
    if 0 < end < len(data):
        yield _fault(f"has {len(data) - end:,} bytes behind its picture")


def _xmp(packet: bytes) -> Left:
    faults = ("has XMP that may hold a picture",) if _XMP_PICTURES.search(packet) else ()
    words = {name for name in _XMP_NAMES.findall(packet) if name not in _XMP_OURS}
    return Left(faults, place=bool(_XMP_PLACES.search(packet)), words=bool(words))


def _exif(block: bytes) -> Iterator[Left]:
    """One EXIF block. Our writers put an empty one with the orientation alone beside XMP in some containers."""
    for folder, tag, value in _tags(block):
        if folder == "GPS":
            yield Left(exif=True, place=True)
        elif folder == "page 2":
            yield _fault("has a thumbnail in its EXIF")
        elif tag == _MAKER_NOTE:
            yield _fault("has a maker's note in its EXIF, which may hold a preview")
        elif any(magic in value for magic in _PICTURES):
            yield _fault("has a picture in its EXIF")
        else:
            yield Left(exif=tag != 0x0112)


def _tiff_file(data: bytes) -> Iterator[Left]:
    """A TIFF: its pages are pictures, and their number is compared with the original's elsewhere."""
    for folder, tag, value in _tags(data):
        if folder == "GPS":
            yield Left(exif=True, place=True)
        elif folder == "EXIF" or tag == _EXIF_IFD:
            yield Left(exif=True)
        elif tag == _XMP_TAG:
            yield _xmp(value)
        elif tag in (_SUB_IFDS, _THUMBNAIL) or (tag == _SUBFILE and b"\1" in value):
            yield _fault("has a preview page")
        elif tag == _PHOTOSHOP:
            yield _fault("has a Photoshop block, which may hold a thumbnail")
        if tag == _MAKER_NOTE:
            yield _fault("has a maker's note in its EXIF, which may hold a preview")


def _tags(block: bytes) -> Iterator[tuple[str, int, bytes]]:
    """(folder, tag, value) of every entry: "page 1", "page 2" ..., "EXIF", "GPS"."""
    order = {b"II": "<", b"MM": ">"}.get(block[:2])
    if order is None or len(block) < 8:
        return
    (first,) = struct.unpack_from(order + "I", block, 4)
    waiting, seen, pages, read = [("page", first)], set(), 0, 0
    while waiting:
        folder, at = waiting.pop()
        if at in seen or not 8 <= at <= len(block) - 2:
            continue
        seen.add(at)
        pages += folder == "page"
        (count,) = struct.unpack_from(order + "H", block, at)
        for number in range(count):
            entry = at + 2 + 12 * number
            read += 1
            if entry + 12 > len(block) or read > _MOST:
                return
            tag, kind, values = struct.unpack_from(order + "HHI", block, entry)
            size = _SIZES.get(kind, 1) * values
            (where,) = struct.unpack_from(order + "I", block, entry + 8)
            start = entry + 8 if size <= 4 else where
            yield (f"page {pages}" if folder == "page" else folder), tag, block[start : start + size]
            if tag in (_EXIF_IFD, _GPS_IFD):
                waiting.append(("EXIF" if tag == _EXIF_IFD else "GPS", where))
        following = at + 2 + 12 * count
        if folder == "page" and following + 4 <= len(block):
            waiting.insert(0, ("page", struct.unpack_from(order + "I", block, following)[0]))

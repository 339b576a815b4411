"""XMP and JSON files beside photos: which photo each belongs to, and whether it may be published.

A sidecar is no picture, but it can hold one (an XMP thumbnail, base64 in JSON, a list of pixels), name the place where
the photo was taken, or the original's checksum. What holds any of these stays out of a release.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence

from unlearnable.imageio import IMAGE_EXTENSIONS

_KINDS = (".xmp", ".json")
_EXPORTED = ".supplemental-metadata"  # Google Photos: photo.jpg.supplemental-metadata.json
_LARGEST = 1 << 20
_ENCODED = re.compile(r"[A-Za-z0-9+/_=-]{256,}")  # no word is as long: base64, hexadecimal, a thumbnail
_NUMBERS = re.compile(r"(?:[-+.\deE]+[\s,;\[\]]+){256,}")  # pixels, one by one
_LINE_ENDS = re.compile(r"&#(?:10|13|x[aAdD]);|\\[nrt/]|\s")
_PICTURE_WORDS = ("data:image", "xmpgimg:", "xmp:thumbnails", "photoshop:thumbnail")
_PLACE_WORDS = ("gps", "geodata", "latitude", "longitude", "iptc4xmpcore:location", "photoshop:city")
_DIGESTS = ("md5", "sha1", "sha256")
_ENCODED_LINE = re.compile(r"[A-Za-z0-9+/_=-]+")


def of_records(records: Sequence[str], others: Iterable[str]) -> dict[str, list[str]]:
    """Sidecars by the record they belong to: photo.jpg.xmp, photo.xmp and photo.jpg.json belong to photo.jpg."""
    photos: dict[str, str] = {}
    for record in records:
        photos.setdefault(_stem(record), record)
    photos |= {record: record for record in records}
    found: dict[str, list[str]] = {}
    taken: set[str] = set()  # common disks would write two names over one another
    for name in others:
        stem, dot, kind = name.rpartition(".")
        photo = photos.get(stem.removesuffix(_EXPORTED))
        if (dot + kind).lower() in _KINDS and photo and name.casefold() not in taken:
            found.setdefault(photo, []).append(name)
            taken.add(name.casefold())
    return found


def refusal(data: bytes, original: bytes, metadata: str) -> str | None:
    """Why this sidecar of that photo must not ship under the policy "keep", "no-gps" or "strip"; None when it may."""
    if metadata == "strip":
        return "a sidecar, left out by --metadata strip"
    if len(data) > _LARGEST:
        return "a sidecar of more than 1 MB, which may hold a picture; left out"
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return "a sidecar that is not UTF-8 text; left out"
    low = text.lower()
    if "\0" in text or any(word in low for word in _PICTURE_WORDS) or _packed(text):
        return "a sidecar that may hold a picture; left out"
    if any(hashlib.new(kind, original, usedforsecurity=False).hexdigest() in low for kind in _DIGESTS):
        return "a sidecar with a checksum of the original; left out"
    if metadata == "no-gps" and any(word in low for word in _PLACE_WORDS):
        return "a sidecar that may name the place, left out by --metadata no-gps"
    return None


def publishable(text: str, original: bytes) -> str | None:
    """A sample's text as it may ship: JSON without the fields that may not, other text whole or not at all."""
    if refusal(text.encode(), original, "keep") is None:
        return text
    try:
        found = json.loads(text)
    except ValueError:
        return None
    if not isinstance(found, dict):
        return None
    kept = {
        name: value for name, value in found.items() if refusal(json.dumps(value).encode(), original, "keep") is None
    }
    return json.dumps(kept, ensure_ascii=False)


def _packed(text: str) -> bool:
    """Whether a long run without a space, or with line ends alone inside, could be an encoded picture."""
    if _NUMBERS.search(text) or _ENCODED.search(text):
        return True
    lines = [line.strip() for line in _LINE_ENDS.sub("\n", text).split("\n")]
    # a picture that was cut into lines: words of prose are shorter, and keys and tags have other characters
    run = 0
    for line in lines:
        run = run + len(line) if len(line) >= 32 and _ENCODED_LINE.fullmatch(line) else 0
        if run >= 256:
            return True
    return False


def _stem(name: str) -> str:
    stem, dot, suffix = name.rpartition(".")
    return stem if (dot + suffix).lower() in IMAGE_EXTENSIONS else name

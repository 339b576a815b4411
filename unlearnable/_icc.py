"""Colour profiles: kept byte for byte where they are whole, dropped where they are not.

A profile is a table of tags and their values, and whoever reads it trusts the table. What the table does not lead to, a
tail or a hole between values, changes no colour and could be anything, also a picture; a profile whose values do not stand
where the table says is refused by every reader, so nothing is lost with it. ICC.1:2022, sections 7.2 and 7.3.
"""

from __future__ import annotations

import struct

_HEADER, _ENTRY = 128, 12
_MOST_TAGS = 1_000  # real profiles have up to a few dozen


def cleaned(profile: bytes | None) -> bytes | None:
    """The same profile without tail and with its holes emptied; None when it is damaged."""
    if not profile or len(profile) < _HEADER + 4 or profile[36:40] != b"acsp":
        return None
    size, count = struct.unpack_from(">L", profile)[0], struct.unpack_from(">L", profile, _HEADER)[0]
    if not _HEADER <= size <= len(profile) or not 0 < count <= _MOST_TAGS:
        return None
    start = _HEADER + 4 + _ENTRY * count
    kept = bytearray(size)
    kept[:start] = profile[:start]
    for number in range(count):
        at, length = struct.unpack_from(">LL", profile, _HEADER + 8 + _ENTRY * number)
        # a value begins with the name of its type and four zero bytes
        if at < start or length < 8 or at + length > size or any(profile[at + 4 : at + 8]):
            return None
        kept[at : at + length] = profile[at : at + length]
    return bytes(kept)

"""Colour profiles stay byte for byte, and carry nothing that their table does not lead to."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ImageCms

from unlearnable import _icc


def profile(name: str = "sRGB") -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile(name)).tobytes()


@pytest.mark.parametrize("name", ["sRGB", "LAB", "XYZ"])
def test_a_whole_profile_stays_as_it_is(name: str) -> None:
    assert _icc.cleaned(profile(name)) == profile(name)


def test_a_tail_goes_and_a_hole_is_emptied() -> None:
    whole = profile()
    assert _icc.cleaned(whole + b"\xff\xd8\xff\xe0 a picture") == whole
    wider = struct.pack(">L", len(whole) + 64) + whole[4:]
    assert _icc.cleaned(wider + b"a picture" * 8) == wider + bytes(64)


@pytest.mark.parametrize(
    "wrong", [b"", b"short", profile()[:-1], profile()[:300] + b"more" + profile()[300:], bytes(500)]
)
def test_a_damaged_profile_is_dropped(wrong: bytes) -> None:
    assert _icc.cleaned(wrong) is None
    assert _icc.cleaned(None) is None


@given(st.integers(0, len(profile()) - 1), st.binary(min_size=1, max_size=40))
def test_any_bytes_give_a_profile_or_none(at: int, junk: bytes) -> None:
    whole = profile()
    found = _icc.cleaned(whole[:at] + junk + whole[at + len(junk) :])
    assert found is None or _icc.cleaned(found) == found

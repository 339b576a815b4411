"""Same key, same numbers; another key or purpose, other numbers; and the key never shows."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unlearnable.errors import UsageError
from unlearnable.keys import Key

KEY = Key(bytes(range(32)))


def test_the_same_key_and_purpose_give_the_same_numbers() -> None:
    assert KEY.rng("regions", "cat").integers(1 << 60) == Key(bytes(range(32))).rng("regions", "cat").integers(1 << 60)
    # a published release must stay repeatable: this value may never change
    assert KEY.seed("regions", "cat") == 1_247_292_784_021_031_257


@given(st.lists(st.text(max_size=4), max_size=3), st.lists(st.text(max_size=4), max_size=3))
def test_no_two_purposes_share_numbers(a: list[str], b: list[str]) -> None:
    assert (KEY.seed(*a) == KEY.seed(*b)) == (a == b)


@given(st.lists(st.text(max_size=6), max_size=5), st.integers(0, 9))
def test_many_generators_in_a_row_are_those_of_one_each(names: list[str], purpose: int) -> None:
    for name, rng in zip(names, KEY.rngs("noise", purpose, names=names), strict=True):
        alone = KEY.rng("noise", purpose, name)
        assert rng.random() == alone.random()
        assert rng.standard_normal(5).tolist() == alone.standard_normal(5).tolist()
        # an odd number of half words: what is left of them must not reach the next name
        assert rng.integers(100, size=3, dtype="int32").tolist() == alone.integers(100, size=3, dtype="int32").tolist()


def test_another_key_gives_other_numbers() -> None:
    assert KEY.seed("x") != Key.new().seed("x")


def test_a_key_file_is_private_and_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "key"
    KEY.save(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert Key.load(path) == KEY
    with pytest.raises(FileExistsError):
        Key.new().save(path)
    assert Key.load(path) == KEY


def test_a_key_never_shows_in_its_representation() -> None:
    assert KEY.secret.hex() not in repr(KEY) and str(KEY.secret) not in repr(KEY)


@pytest.mark.parametrize("text", ["", "zz" * 32, "ab" * 31, "ab" * 33])
def test_what_is_no_key_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "key").write_text(text)
    with pytest.raises(UsageError):
        Key.load(tmp_path / "key")


def test_the_commitment_binds_without_telling() -> None:
    assert KEY.commitment(b"salt") != KEY.commitment(b"other") != Key.new().commitment(b"salt")
    assert KEY.secret.hex() not in KEY.commitment(b"salt")

"""Checking a release names every changed, missing and extra file, and never crashes on a damaged one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_release import make_facts

from release import hashing, keyring, layout, sign
from release.check import check
from release.manifest import Manifest
from release.seal import seal
from unlearnable.errors import IntegrityError, UsageError


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sealed release. Tests that leave it changed use `release`, a copy."""
    root = tmp_path_factory.mktemp("check") / "out"
    root.mkdir()
    seal(root, root.with_name("out.owner"), make_facts(root))
    return root


@pytest.fixture
def release(sealed: Path, tmp_path: Path) -> Iterator[Path]:
    yield Path(shutil.copytree(sealed, tmp_path / "out"))


DATA = "data/train/cat/1.png"


def test_an_untouched_release_is_fine(sealed: Path) -> None:
    result = check(sealed)
    key = sign.public_key((sealed / layout.PUBLIC_KEY).read_bytes()).keyid
    assert result.ok
    assert result.to_json() == {
        **{"ok": True, "signature": "valid", "signer": key, "changed": [], "missing": [], "extra": []}
    }


@given(data=st.data())
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_one_flipped_bit_anywhere_is_caught_and_named(sealed: Path, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(sorted(hashing.walk(sealed))))
    before = (sealed / path).read_bytes()
    bit = data.draw(st.integers(0, 8 * len(before) - 1))
    altered = bytearray(before)
    altered[bit // 8] ^= 1 << bit % 8
    (sealed / path).write_bytes(altered)
    try:
        result = check(sealed)
    finally:
        (sealed / path).write_bytes(before)
    assert not result.ok
    assert (result.changed, result.missing, result.extra) == ((path,), (), ())


@pytest.mark.parametrize("name", [DATA, layout.CARD, layout.REPORT, layout.MANIFEST, layout.SUMS, layout.PUBLIC_KEY])
def test_a_missing_file_is_named(release: Path, name: str) -> None:
    (release / name).unlink()
    result = check(release)
    assert not result.ok and name in result.missing and result.extra == ()


def test_a_missing_signature_is_not_a_valid_one(release: Path) -> None:
    (release / layout.ATTESTATION).unlink()
    result = check(release)
    assert (result.ok, result.signature, result.missing, result.changed) == (
        False,
        "missing",
        (layout.ATTESTATION,),
        (),
    )


def test_without_a_signature_the_checksums_still_tell_of_a_changed_manifest(release: Path) -> None:
    (release / layout.ATTESTATION).unlink()
    text = (release / layout.MANIFEST).read_text()
    (release / layout.MANIFEST).write_text(text.replace("Herbarium", "Herbarius"))
    assert check(release).changed == (layout.MANIFEST,)


def test_extra_files_are_named_and_those_of_the_hub_are_not(release: Path) -> None:
    for path in ("data/train/cat/extra.png", "notes.txt", ".cache/huggingface/x.lock", ".gitattributes", ".git/HEAD"):
        (release / path).parent.mkdir(parents=True, exist_ok=True)
        (release / path).write_text("x")
    result = check(release)
    assert not result.ok and result.extra == ("data/train/cat/extra.png", "notes.txt")


@pytest.mark.parametrize("name", [layout.MANIFEST, layout.ATTESTATION, layout.SUMS, layout.PUBLIC_KEY])
@pytest.mark.parametrize("junk", [b"", b"{", b"[]", b"\xff\x00", b"[" * 100_000, b'{"files": 3}'])
def test_damaged_documents_are_findings(release: Path, name: str, junk: bytes) -> None:
    (release / name).write_bytes(junk)
    result = check(release)
    assert not result.ok and result.changed == (name,)


def test_everything_damaged_is_still_a_finding(release: Path) -> None:
    for name in (layout.MANIFEST, layout.ATTESTATION, layout.SUMS, layout.PUBLIC_KEY):
        (release / name).write_bytes(b"\0")
    result = check(release)
    assert result.signature == "invalid" and set(result.changed) >= {layout.MANIFEST, layout.SUMS}


def test_a_link_is_a_change_even_to_the_same_bytes(release: Path, sealed: Path) -> None:
    (release / DATA).unlink()
    (release / DATA).symlink_to(sealed / DATA)
    (release / "data/elsewhere").symlink_to(sealed / "data")
    result = check(release)
    assert (result.changed, result.extra) == ((DATA,), ("data/elsewhere",))
    assert "link" in result.why[DATA]


def test_a_special_file_is_a_change_and_is_not_opened(release: Path) -> None:
    for path in (DATA, layout.MANIFEST):
        (release / path).unlink()
        os.mkfifo(release / path)  # opening it would wait for ever
    assert check(release).changed == (DATA, layout.MANIFEST)


def test_a_file_that_became_a_folder_is_missing(release: Path) -> None:
    (release / DATA).unlink()
    (release / DATA).mkdir()
    assert check(release).missing == (DATA,)


def test_an_unreadable_file_is_a_change(release: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = os.open

    def failing(path: str, *rest: int, **more: int) -> int:
        if str(path).endswith("cat/1.png"):
            raise PermissionError(13, "Permission denied")
        return plain(path, *rest, **more)

    monkeypatch.setattr(os, "open", failing)
    result = check(release)
    assert result.changed == (DATA,) and "Permission denied" in result.why[DATA]


def test_an_unreadable_folder_is_a_change_and_what_it_held_is_missing(
    release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = os.scandir

    def failing(path: str) -> object:
        if Path(path).name == "test":
            raise PermissionError(13, "Permission denied")
        return plain(path)

    monkeypatch.setattr(os, "scandir", failing)
    result = check(release)
    assert (result.changed, result.missing) == (("data/test",), ("data/test/cat/3.png",))


def test_a_name_in_another_case_is_one_missing_and_one_extra(release: Path) -> None:
    (release / DATA).rename(release / "data/train/cat/1.PNG")
    result = check(release)
    assert (result.missing, result.extra) == ((DATA,), ("data/train/cat/1.PNG",))


def test_a_name_that_is_not_utf8_is_spelled_and_does_not_crash(release: Path) -> None:
    with open(os.fsencode(release) + b"/odd\xff.png", "wb") as file:  # noqa: PTH123  no Path spells it
        file.write(b"x")
    assert check(release).extra == ("odd\\xff.png",)


def test_a_pinned_key_tells_who_signed(release: Path, sealed: Path, tmp_path: Path) -> None:
    owner = sealed.with_name("out.owner")
    assert check(release, owner / layout.PUBLIC_KEY).ok
    (tmp_path / "stranger.pem").write_bytes(sign.public_pem(sign.from_seed(b"\7" * 32)))
    result = check(release, tmp_path / "stranger.pem")
    assert (result.ok, result.signature, result.changed) == (False, "untrusted", ())


def test_a_forger_who_signs_again_is_untrusted(
    release: Path, sealed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(keyring.FOLDER, str(tmp_path / "of-the-forger"))
    (release / DATA).write_bytes(b"something else")
    seal(release, tmp_path / "forger", make_facts(release, name="Herbarium"))
    assert check(release).ok  # integrity, not identity
    assert check(release, sealed.with_name("out.owner") / layout.PUBLIC_KEY).signature == "untrusted"


def test_a_pinned_key_stands_in_for_a_lost_one(release: Path, sealed: Path) -> None:
    (release / layout.PUBLIC_KEY).unlink()
    result = check(release, sealed.with_name("out.owner") / layout.PUBLIC_KEY)
    assert (result.signature, result.missing, result.changed) == ("valid", (layout.PUBLIC_KEY,), ())


def test_lists_that_disagree_are_named_even_when_signed(release: Path) -> None:
    sums = (release / layout.SUMS).read_text().replace("data/train/cat/1.png", "data/train/cat/7.png")
    (release / layout.SUMS).write_text(sums)
    key = keyring.require().secrets().signer
    digests = {name: hashing.sha256(release / name) for name in (layout.MANIFEST, layout.SUMS)}
    (release / layout.ATTESTATION).write_bytes(sign.attest(key, digests, {}))
    result = check(release)
    assert result.signature == "valid" and result.changed == (layout.SUMS,)


def test_a_signed_manifest_of_a_newer_version_asks_for_a_newer_program(release: Path) -> None:
    text = (release / layout.MANIFEST).read_text().replace('"schema_version": 2', '"schema_version": 3')
    (release / layout.MANIFEST).write_text(text)
    assert check(release).changed == (layout.MANIFEST,)  # not what was signed: changed, whatever it says
    key = keyring.require().secrets().signer
    digests = {name: hashing.sha256(release / name) for name in (layout.MANIFEST, layout.SUMS)}
    (release / layout.ATTESTATION).write_bytes(sign.attest(key, digests, {}))
    with pytest.raises(IntegrityError, match="newer unlearnable"):
        check(release)


def test_a_folder_that_is_no_release_is_a_sentence(tmp_path: Path, release: Path) -> None:
    for path in (tmp_path / "nothing", tmp_path, release / layout.CARD):
        with pytest.raises(UsageError, match=r"not a (folder|release)"):
            check(path)
    with pytest.raises(UsageError, match="not a public key"):
        check(release, release / layout.CARD)


def test_the_manifest_of_the_fixture_is_canonical(sealed: Path) -> None:
    data = (sealed / layout.MANIFEST).read_bytes()
    assert Manifest.from_bytes(data).to_bytes() == data

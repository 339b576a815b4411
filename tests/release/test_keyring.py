"""One file holds the owner's keys: private, never replaced unasked, opened by its passphrase alone, and rotated in peace."""

from __future__ import annotations

import errno
import hashlib
import hmac
import json
import os
import stat
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from made_release import make_facts

from cli import cli
from release import keyring, layout, records, sign
from release.check import check
from release.reseal import reseal
from release.seal import publish, seal
from unlearnable.errors import IntegrityError, UnlearnableError, UsageError
from unlearnable.keys import Key

ASKED = {"asked": "x", "options": {}}
ROOT = bytes(range(32))


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty configuration folder, and scrypt at a cost that tests can pay."""
    monkeypatch.setenv(keyring.FOLDER, str(tmp_path / "config"))
    monkeypatch.setattr(keyring, "_COST", 2**4)
    monkeypatch.setattr(keyring, "_unlocked", {})
    return tmp_path / "config"


def run(*words: object, **more: str) -> Result:
    return CliRunner().invoke(cli, [str(word) for word in words], **more)


def test_an_archives_key_is_hkdf_of_root_and_id() -> None:
    """Against RFC 5869 by hand: extract with a salt of zeros, expand by one block."""
    extracted = hmac.digest(bytes(32), ROOT, "sha256")
    for archive in (b"", b"one", b"other"):
        expected = hmac.digest(extracted, b"unlearnable archive key 1:" + archive + b"\1", "sha256")
        assert Key.for_archive(ROOT, archive).secret == expected
    # archives must grow for ever: this value may never change
    assert hashlib.sha256(Key.for_archive(ROOT, b"one").secret).hexdigest().startswith("0d55fd421e43fb85")


def test_keys_are_made_on_first_use_with_a_word_about_them(config: Path, tmp_path: Path) -> None:
    heard: list[str] = []
    assert keyring.current() is None
    records.open_owner(tmp_path / "out", ASKED, None, False, lambda what, done, of, failed=0: heard.append(what))
    ring = keyring.require(lambda what, done, of, failed=0: heard.append(what))
    (said,) = heard
    assert str(config / keyring.FILE) in said and "Keep a copy" in said and said.startswith("keys: ")
    assert stat.S_IMODE(config.stat().st_mode) == 0o700
    assert stat.S_IMODE(ring.path.stat().st_mode) == 0o600
    secrets = ring.secrets()
    assert secrets.root.hex() not in repr(ring) + repr(secrets) and str(secrets.seed) not in repr(secrets)


def test_a_copy_that_lies_open_is_closed(config: Path) -> None:
    path = keyring.new(None).path
    path.chmod(0o644)
    keyring.current()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_folder_that_was_there_keeps_its_permissions(config: Path) -> None:
    config.mkdir(mode=0o755)
    config.chmod(0o755)
    keyring.new(None)
    keyring.rotate(None)
    assert stat.S_IMODE(config.stat().st_mode) == 0o755, "UNLEARNABLE_CONFIG may name one that others use"
    assert {stat.S_IMODE(path.stat().st_mode) for path in config.iterdir()} == {0o600}
    assert len(list(config.iterdir())) == 2, "nothing is left beside the keys and the retired ones"


def test_two_first_runs_at_the_same_moment_have_the_same_keys(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = keyring.new(None)
    seen = iter([None, other])
    monkeypatch.setattr(keyring, "current", lambda: next(seen))  # it was not there when this run looked
    assert keyring.require().fingerprint == other.fingerprint


def test_keys_are_whole_or_not_there_also_without_links(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*names: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", no_links)
    ring = keyring.new(None)
    assert ring.secrets().root and [path.name for path in config.iterdir()] == [keyring.FILE]
    with pytest.raises(UsageError, match="already"):
        keyring.new(None)


def test_a_full_disk_leaves_no_half_of_a_key(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UnlearnableError, match="is full"):
        keyring.new(None)
    with pytest.raises(OSError):
        Key(ROOT).save(tmp_path / "key")
    assert not list(config.iterdir()) and not (tmp_path / "key").exists()


def test_a_rotation_that_fails_or_meets_another_loses_no_key(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = keyring.new(None)
    real = Path.replace

    def broken(self: Path, target: Path) -> Path:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(Path, "replace", broken)
    with pytest.raises(UnlearnableError, match="is full"):
        keyring.rotate(None)
    assert keyring.require().secrets() == old.secrets(), "the old keys stay in use"
    monkeypatch.setattr(Path, "replace", real)
    _, new = keyring.rotate(None)
    (retired,) = keyring.retired()
    assert retired.secrets() == old.secrets() != new.secrets()
    with pytest.raises(UsageError, match="another run"):
        keyring.change_passphrase(old, None)  # of keys that were rotated away since they were read
    assert keyring.require().secrets() == new.secrets()


def test_the_folder_is_the_systems_unless_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(keyring.FOLDER)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.delenv("APPDATA", raising=False)
    for system, folder in (
        ("linux", ".config/unlearnable"),
        ("darwin", "Library/Application Support/unlearnable"),
        ("win32", "AppData/Roaming/unlearnable"),
    ):
        monkeypatch.setattr(sys, "platform", system)
        assert keyring.folder() == tmp_path / folder
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    assert keyring.folder() == tmp_path / "xdg/unlearnable"


def test_with_a_passphrase_no_secret_is_in_the_file(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ring = keyring.new("correct horse")
    monkeypatch.setenv(keyring.PASSPHRASE, "correct horse")
    secrets = ring.secrets()
    text = ring.path.read_text()
    assert ring.has_passphrase and secrets.root.hex() not in text and secrets.seed.hex() not in text
    monkeypatch.setattr(keyring, "_unlocked", {})
    monkeypatch.setenv(keyring.PASSPHRASE, "wrong")
    with pytest.raises(UsageError, match="not the passphrase"):
        ring.secrets()
    monkeypatch.delenv(keyring.PASSPHRASE)
    with pytest.raises(UsageError, match=keyring.PASSPHRASE):
        ring.secrets()  # nobody is there to ask
    monkeypatch.setenv(keyring.PASSPHRASE, "correct horse")
    assert ring.secrets() == secrets


def test_a_box_opens_only_beside_its_own_public_key(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(keyring.PASSPHRASE, "p")
    path = keyring.new("p").path
    document = json.loads(path.read_text())
    document["public_key"] = sign.public_pem(sign.from_seed(ROOT)).decode()
    path.write_text(json.dumps(document))
    ring = keyring.current()
    assert ring is not None
    with pytest.raises(UsageError, match="not the passphrase"):
        ring.secrets()


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"schema_version": 2}', '{"schema_version": 1, "created": "x", "public_key": "no"}'],
)
def test_damaged_keys_are_a_sentence_and_stay(config: Path, text: str) -> None:
    config.mkdir()
    (config / keyring.FILE).write_text(text)
    with pytest.raises(UsageError, match="your copy"):
        keyring.require()
    assert (config / keyring.FILE).read_text() == text


def test_damaged_secrets_are_a_sentence_too(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(keyring.PASSPHRASE, "p")
    path = keyring.new(None).path
    whole = json.loads(path.read_text())
    for plain in ({}, {"root": "00" * 32, "signing": "00" * 32}, {"root": "00", "signing": "zz"}):
        path.write_text(json.dumps(whole | {"plain": plain}))
        with pytest.raises(UsageError, match="cannot be read as your keys"):
            keyring.require().secrets()
    box = {"kdf": "scrypt", "n": 2**40, "r": 8, "p": 1, "salt": "00", "nonce": "00", "data": "00"}
    path.write_text(json.dumps(whole | {"box": box}))
    with pytest.raises(UsageError, match="scrypt"):
        keyring.require().secrets()


def test_two_archives_have_keys_that_tell_nothing_of_one_another(config: Path, tmp_path: Path) -> None:
    one, two = (records.open_owner(tmp_path / name, ASKED, None, False) for name in ("one", "two"))
    again = records.open_owner(tmp_path / "one", ASKED, None, False)
    assert one.key == again.key != two.key
    archive = json.loads((one.owner / layout.ARCHIVE).read_text())
    ring = keyring.require()
    assert archive["signer"] == ring.fingerprint
    assert one.key == Key.for_archive(ring.secrets().root, bytes.fromhex(archive["archive"]))
    held = b"".join(path.read_bytes() for path in one.owner.rglob("*") if path.is_file())
    for secret in (ring.secrets().root, ring.secrets().seed):
        assert secret not in held and secret.hex().encode() not in held, "what leaks of one archive opens no other"
    (one.owner / layout.KEY).unlink()  # lost, but the archive's id is there
    assert records.open_owner(tmp_path / "one", ASKED, None, False).key == one.key


def test_a_given_key_is_used_and_kept(config: Path, tmp_path: Path) -> None:
    Key(ROOT).save(tmp_path / "mine")
    assert records.open_owner(tmp_path / "out", ASKED, tmp_path / "mine", False).key == Key(ROOT)
    assert Key.load(tmp_path / "out.owner" / layout.KEY) == Key(ROOT)
    with pytest.raises(UsageError, match="--key"):
        Key.new().save(tmp_path / "other")
        records.open_owner(tmp_path / "out", ASKED, tmp_path / "other", False)


@pytest.mark.parametrize("text", ["{}", "[]", '{"archive": "", "signer": ""}', '{"archive": "zz", "signer": 1}'])
def test_a_damaged_archive_id_is_a_sentence_and_no_key_is_drawn_from_it(
    config: Path, tmp_path: Path, text: str
) -> None:
    owner = tmp_path / "out.owner"
    owner.mkdir()
    (owner / layout.ARCHIVE).write_text(text)
    with pytest.raises(IntegrityError, match=r"archive\.json is damaged"):
        records.open_owner(tmp_path / "out", ASKED, None, False)
    assert not (owner / layout.KEY).exists()


def test_a_key_that_is_gone_from_an_older_owner_folder_is_not_drawn_anew(config: Path, tmp_path: Path) -> None:
    """It would be the same for all such archives: they have no id to derive one from."""
    owner = tmp_path / "out.owner"
    owner.mkdir()
    sign.write_new(owner / layout.SIGNING_KEY, sign.from_seed(ROOT).private_bytes, 0o600)
    with pytest.raises(UsageError, match="is gone"):
        records.open_owner(tmp_path / "out", ASKED, None, False)
    assert not (owner / layout.KEY).exists()


def sealed(tmp_path: Path) -> Path:
    staging = tmp_path / ".out.partial"
    staging.mkdir()
    seal(staging, tmp_path / "out.owner", make_facts(staging))
    publish(staging, tmp_path / "out", overwrite=True)
    return tmp_path / "out"


def test_an_older_owner_folder_keeps_both_its_keys_for_ever(config: Path, tmp_path: Path) -> None:
    owner = tmp_path / "out.owner"
    owner.mkdir()
    sign.write_new(owner / layout.SIGNING_KEY, sign.from_seed(ROOT).private_bytes, 0o600)
    Key(ROOT).save(owner / layout.KEY)
    assert records.open_owner(tmp_path / "out", ASKED, None, False).key == Key(ROOT)
    out = sealed(tmp_path)
    assert check(out).signer == sign.from_seed(ROOT).public_key.keyid
    assert layout.CARD in reseal(out, owner, {layout.CARD: b"changed"})
    assert keyring.current() is None, "nothing is drawn for it"


def test_after_a_rotation_old_releases_are_signed_again_by_the_old_key_and_new_ones_by_the_new(
    config: Path, tmp_path: Path
) -> None:
    records.open_owner(tmp_path / "out", ASKED, None, False)
    out = sealed(tmp_path)
    old, new = keyring.rotate(None)
    assert (config / f"retired-{old.fingerprint[:16]}.json").exists() and keyring.find(old.fingerprint) is not None
    assert check(out).signer == old.fingerprint != new.fingerprint
    again = reseal(out, tmp_path / "out.owner", {layout.CARD: b"changed"})
    opened = sign.verified(again[layout.ATTESTATION], sign.public_key(old.public_pem))
    assert opened is not None, "a card is merged under the key that the release names"
    before = records.open_owner(tmp_path / "out", ASKED, None, False).key
    assert check(sealed(tmp_path)).signer == new.fingerprint
    assert before == Key.load(tmp_path / "out.owner" / layout.KEY), "what is protected stays protected with its key"


def test_keys_that_are_gone_are_never_replaced_in_silence(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records.open_owner(tmp_path / "out", ASKED, None, False)
    monkeypatch.setenv(keyring.FOLDER, str(tmp_path / "new-machine"))
    with pytest.raises(UsageError, match="Bring back your copy"):
        records.open_owner(tmp_path / "out", ASKED, None, False)
    assert keyring.current() is None
    (tmp_path / "out.owner" / layout.ARCHIVE).unlink()
    records.open_owner(tmp_path / "out", ASKED, None, False)
    assert keyring.current() is not None


def test_the_commands_make_show_and_export_without_a_secret(config: Path, tmp_path: Path) -> None:
    none = run("key", "show")
    assert none.exit_code == 2 and "unlearnable key new" in none.stderr
    made = run("key", "new")
    ring = keyring.require()
    assert made.exit_code == 0 and ring.fingerprint in made.stdout and "Keep a copy" in made.stdout
    assert run("key", "new").exit_code == 2
    shown = run("key", "show", "--json")
    document = json.loads(shown.stdout)
    assert (document["fingerprint"], document["passphrase"], document["retired"]) == (ring.fingerprint, False, [])
    printed = run("key", "export-public")
    assert run("key", "export-public", tmp_path / "k.pem").exit_code == 0
    assert printed.stdout.encode() == (tmp_path / "k.pem").read_bytes() == ring.public_pem
    assert run("key", "export-public", tmp_path / "k.pem").exit_code == 2
    rotated = run("key", "rotate", "--json")
    assert json.loads(rotated.stdout)["retired"][0]["fingerprint"] == ring.fingerprint
    everything = "".join(done.output for done in (made, shown, printed, rotated))
    assert ring.fingerprint in everything
    for old in keyring.retired():
        assert old.secrets().root.hex() not in everything and old.secrets().seed.hex() not in everything


def test_a_passphrase_is_asked_for_changed_and_removed(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = run("key", "new", "--passphrase", input="one\none\n")
    assert made.exit_code == 0 and "with a passphrase" in made.stdout and "one" not in made.stdout.split()
    ring = keyring.require()
    monkeypatch.setenv(keyring.PASSPHRASE, "one")
    root = ring.secrets().root
    assert run("key", "passphrase", input="two\ntwo\n").exit_code == 0
    monkeypatch.setattr(keyring, "_unlocked", {})
    wrong = run("key", "passphrase", "--remove")
    assert wrong.exit_code == 2 and "not the passphrase" in wrong.stderr
    monkeypatch.setenv(keyring.PASSPHRASE, "two")
    assert run("key", "passphrase", "--remove").exit_code == 0
    monkeypatch.delenv(keyring.PASSPHRASE)
    again = keyring.require()
    assert (again.has_passphrase, again.secrets().root, again.fingerprint) == (False, root, ring.fingerprint)


def test_rotating_never_drops_a_passphrase_unasked(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keyring.new("one")
    done = run("key", "rotate", input="two\ntwo\n")
    assert done.exit_code == 0 and keyring.require().has_passphrase
    monkeypatch.setenv(keyring.PASSPHRASE, "two")
    keyring.require().secrets()

"""The signature is a standard one: other tools can verify it, and nothing that was altered passes."""

from __future__ import annotations

import base64
import hashlib
import json
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_public_key,
)

from release import layout, sign
from unlearnable.errors import UsageError

SUBJECTS = {"manifest.json": "ab" * 32, "SHA256SUMS": "cd" * 32}


def test_the_signature_verifies_without_our_code(tmp_path: Path) -> None:
    key = sign.signer(tmp_path / "owner")
    envelope = json.loads(sign.attest(key, SUBJECTS, {"name": "x"}))
    payload = base64.b64decode(envelope["payload"])
    kind = envelope["payloadType"].encode()
    signed = b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)
    public = load_pem_public_key(sign.public_pem(key))
    assert isinstance(public, Ed25519PublicKey)
    public.verify(base64.b64decode(envelope["signatures"][0]["sig"]), signed)  # raises when it does not hold

    statement = json.loads(payload)
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert {"name": "manifest.json", "digest": {"sha256": "ab" * 32}} in statement["subject"]
    der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert envelope["signatures"][0]["keyid"] == hashlib.sha256(der).hexdigest()


def test_what_was_signed_comes_back_and_signing_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    key = sign.signer(tmp_path / "owner")
    envelope = sign.attest(key, SUBJECTS, {"name": "x"})
    assert sign.verified(envelope, sign.public_key(sign.public_pem(key))) == SUBJECTS
    assert sign.attest(sign.signer(tmp_path / "owner"), SUBJECTS, {"name": "x"}) == envelope


def test_no_single_bit_of_the_attestation_can_change(tmp_path: Path) -> None:
    key = sign.signer(tmp_path / "owner")
    envelope = sign.attest(key, SUBJECTS, {"name": "x"})
    public = sign.public_key(sign.public_pem(key))
    for position in range(len(envelope)):
        for bit in range(8):
            altered = bytearray(envelope)
            altered[position] ^= 1 << bit
            assert sign.verified(bytes(altered), public) is None, (position, bit)


def test_a_key_that_did_not_sign_verifies_nothing(tmp_path: Path) -> None:
    envelope = sign.attest(sign.signer(tmp_path / "one"), SUBJECTS, {})
    other = sign.public_key(sign.public_pem(sign.signer(tmp_path / "other")))
    assert sign.verified(envelope, other) is None
    renamed = json.loads(envelope)
    renamed["signatures"][0]["keyid"] = other.keyid
    assert sign.verified((json.dumps(renamed, sort_keys=True, indent=1) + "\n").encode(), other) is None


@pytest.mark.parametrize("data", [b"", b"[]", b"null", b'{"payload": 1}', b"[" * 100_000, b"\xff", b'{"payload":""}'])
def test_a_damaged_envelope_is_no_signature(tmp_path: Path, data: bytes) -> None:
    key = sign.public_key(sign.public_pem(sign.signer(tmp_path / "owner")))
    assert sign.verified(data, key) is None


def test_keys_are_the_owners_alone(tmp_path: Path) -> None:
    owner = tmp_path / "owner"
    sign.signer(owner)
    assert stat.S_IMODE(owner.stat().st_mode) == 0o700
    assert stat.S_IMODE((owner / layout.SIGNING_KEY).stat().st_mode) == 0o600
    assert sign.public_key((owner / layout.PUBLIC_KEY).read_bytes()).keyid == sign.signer(owner).public_key.keyid


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    owner = tmp_path / "owner"
    sign.signer(owner)
    before = (owner / layout.SIGNING_KEY).read_bytes()
    sign.signer(owner)
    assert (owner / layout.SIGNING_KEY).read_bytes() == before
    with pytest.raises(FileExistsError):
        sign.write_new(owner / layout.SIGNING_KEY, b"other", 0o600)
    assert (owner / layout.SIGNING_KEY).read_bytes() == before


def test_a_key_that_cannot_be_read_is_a_sentence_and_stays(tmp_path: Path) -> None:
    rsa = generate_private_key(65537, 2048).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for data, words in ((b"half a key", "cannot be read"), (b"", "cannot be read"), (rsa, "not an Ed25519 key")):
        (tmp_path / layout.SIGNING_KEY).write_bytes(data)
        with pytest.raises(UsageError, match=words):
            sign.signer(tmp_path)
        assert (tmp_path / layout.SIGNING_KEY).read_bytes() == data


def test_only_an_ed25519_public_key_is_one() -> None:
    rsa = generate_private_key(65537, 2048).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    for data in (b"", b"no key", rsa):
        with pytest.raises(ValueError):
            sign.public_key(data)

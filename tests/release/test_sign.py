"""The signature is a standard one: other tools can verify it, and nothing that was altered passes."""

from __future__ import annotations

import base64
import hashlib
import json
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

from release import sign
from unlearnable.errors import UsageError

KEY = sign.from_seed(bytes(range(32)))
SUBJECTS = {"manifest.json": "ab" * 32, "SHA256SUMS": "cd" * 32}


def test_the_signature_verifies_without_our_code() -> None:
    key = KEY
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


def test_what_was_signed_comes_back_and_signing_twice_gives_the_same_bytes() -> None:
    key = KEY
    envelope = sign.attest(key, SUBJECTS, {"name": "x"})
    assert sign.verified(envelope, sign.public_key(sign.public_pem(key))) == SUBJECTS
    assert sign.attest(sign.from_seed(bytes(range(32))), SUBJECTS, {"name": "x"}) == envelope


def test_no_single_bit_of_the_attestation_can_change() -> None:
    key = KEY
    envelope = sign.attest(key, SUBJECTS, {"name": "x"})
    public = sign.public_key(sign.public_pem(key))
    for position in range(len(envelope)):
        for bit in range(8):
            altered = bytearray(envelope)
            altered[position] ^= 1 << bit
            assert sign.verified(bytes(altered), public) is None, (position, bit)


def test_a_key_that_did_not_sign_verifies_nothing() -> None:
    envelope = sign.attest(KEY, SUBJECTS, {})
    other = sign.public_key(sign.public_pem(sign.from_seed(b"\7" * 32)))
    assert sign.verified(envelope, other) is None
    renamed = json.loads(envelope)
    renamed["signatures"][0]["keyid"] = other.keyid
    assert sign.verified((json.dumps(renamed, sort_keys=True, indent=1) + "\n").encode(), other) is None


def test_a_signature_that_somebody_adds_is_a_change() -> None:
    envelope, other = sign.attest(KEY, SUBJECTS, {}), sign.from_seed(b"\7" * 32)
    both = json.loads(envelope)
    both["signatures"] += json.loads(sign.attest(other, SUBJECTS, {}))["signatures"]
    altered = (json.dumps(both, sort_keys=True, indent=1) + "\n").encode()
    for key in (KEY, other):
        assert sign.verified(altered, sign.public_key(sign.public_pem(key))) is None


@pytest.mark.parametrize("data", [b"", b"[]", b"null", b'{"payload": 1}', b"[" * 100_000, b"\xff", b'{"payload":""}'])
def test_a_damaged_envelope_is_no_signature(data: bytes) -> None:
    key = sign.public_key(sign.public_pem(KEY))
    assert sign.verified(data, key) is None


def test_a_key_of_an_older_owner_folder_is_read_or_refused_in_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "signing-key.pem"
    path.write_bytes(KEY.private_bytes)
    assert sign.load(path).public_key.keyid == KEY.public_key.keyid
    rsa = generate_private_key(65537, 2048).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for data, words in ((b"half a key", "cannot be read"), (b"", "cannot be read"), (rsa, "not an Ed25519 key")):
        path.write_bytes(data)
        with pytest.raises(UsageError, match=words):
            sign.load(path)
        assert path.read_bytes() == data


def test_a_file_is_written_once(tmp_path: Path) -> None:
    sign.write_new(tmp_path / "a", b"one", 0o600)
    with pytest.raises(FileExistsError):
        sign.write_new(tmp_path / "a", b"two", 0o600)
    assert (tmp_path / "a").read_bytes() == b"one"


def test_only_an_ed25519_public_key_is_one() -> None:
    rsa = generate_private_key(65537, 2048).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    for data in (b"", b"no key", rsa):
        with pytest.raises(ValueError):
            sign.public_key(data)

"""Ed25519 signature of a release: an in-toto Statement v1 in a DSSE envelope, made and read by securesystemslib.

`attestation.json` is the plain DSSE envelope, and `public-key.pem` beside it is the key as every tool expects one (PEM,
SubjectPublicKeyInfo), so that anyone can verify a release without this program. A key that comes with what it signed
proves that nothing changed since, not who signed; who knows the owner's fingerprint pins it.

Standards: https://in-toto.io/Statement/v1, DSSE v1.0.2, RFC 8032, RFC 8410.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from securesystemslib import exceptions
from securesystemslib.dsse import Envelope
from securesystemslib.signer import CryptoSigner, SSlibKey  # type: ignore[attr-defined]  # it re-exports them

from unlearnable.errors import UsageError
from unlearnable.keys import write_new as write_new

PublicKey: TypeAlias = SSlibKey

STATEMENT = "https://in-toto.io/Statement/v1"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
PREDICATE = "https://unlearnable/release/v1"  # a name, as in-toto allows; nothing is served there


def from_seed(seed: bytes) -> CryptoSigner:
    """The signing key of 32 secret bytes (RFC 8032). Raises ValueError for another number of them."""
    private = Ed25519PrivateKey.from_private_bytes(seed)
    return CryptoSigner(private, _key(private.public_key()))


def load(path: Path) -> CryptoSigner:
    """A signing key from a PEM file, as releases up to 0.1 have one in their owner folder. Raises UsageError."""
    try:
        private = load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as why:
        raise UsageError(f"{path} cannot be read as a signing key: {why}.", "Restore it from a backup.") from why
    if not isinstance(private, Ed25519PrivateKey):
        raise UsageError(f"{path} is not an Ed25519 key.", "Restore the key that this program wrote.")
    return CryptoSigner(private, _key(private.public_key()))


def public_pem(key: CryptoSigner) -> bytes:
    """The public half, PEM."""
    public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(key.public_key.keyval["public"]))
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def public_key(pem: bytes) -> PublicKey:
    """A public key from PEM. Its keyid is its fingerprint. Raises ValueError when it is not an Ed25519 public key."""
    try:
        loaded = load_pem_public_key(pem)
    except UnsupportedAlgorithm as why:
        raise ValueError(str(why)) from why
    if not isinstance(loaded, Ed25519PublicKey):
        raise ValueError("not an Ed25519 public key")
    return _key(loaded)


def attest(key: CryptoSigner, subjects: Mapping[str, str], predicate: Mapping[str, Any]) -> bytes:
    """Signs the SHA-256 digests of files (name -> hexadecimal). Returns the bytes of the DSSE envelope."""
    statement = {
        "_type": STATEMENT,
        "subject": [{"name": name, "digest": {"sha256": subjects[name]}} for name in sorted(subjects)],
        "predicateType": PREDICATE,
        "predicate": dict(predicate),
    }
    payload = json.dumps(statement, sort_keys=True, separators=(",", ":")).encode("ascii")
    envelope = Envelope(payload, PAYLOAD_TYPE, {})
    envelope.sign(key)
    return _canonical(envelope)


def verified(envelope: bytes, key: PublicKey) -> dict[str, str] | None:
    """The digests that `key` signed (name -> hexadecimal SHA-256), or None when no signature by it holds.

    The envelope must be spelled as `attest` spells it: base64 and JSON leave room for changes that decode to the same
    statement, and a file that changed is to be named. For the same reason it holds one signature and no other's beside it.
    """
    try:
        opened = Envelope.from_dict(json.loads(envelope))
        opened.verify([key], threshold=1)
        statement = json.loads(opened.payload)
        named = {subject["name"]: str(subject["digest"]["sha256"]) for subject in statement["subject"]}
        canonical = _canonical(opened) == envelope and len(opened.signatures) == 1
        ours = (opened.payload_type, statement["_type"], statement["predicateType"])
    except (exceptions.Error, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return named if canonical and ours == (PAYLOAD_TYPE, STATEMENT, PREDICATE) else None


def _canonical(envelope: Envelope) -> bytes:
    return (json.dumps(envelope.to_dict(), sort_keys=True, indent=1) + "\n").encode("ascii")


def _key(public: Ed25519PublicKey) -> PublicKey:
    der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return SSlibKey.from_crypto(public, keyid=hashlib.sha256(der).hexdigest())

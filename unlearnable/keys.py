"""An archive's 256-bit key, and every random number that must be repeatable.

All secrets of a protection (class patterns, the derangement, per-image noise) are draws from generators keyed by
HMAC-SHA256(key, labels). The same key and labels give the same numbers on every machine; the key itself never leaves
the owner folder. It is derived from the owner's root secret (release.keyring) and an archive's id by HKDF-SHA256
(RFC 5869), so that neither the key nor the originals of one archive tell anything of another's.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from unlearnable.errors import UsageError

if TYPE_CHECKING:
    import numpy as np

_BYTES = 32
_WORDS = struct.Struct(">QQ")


@dataclass(frozen=True)
class Key:
    """256 secret bits. The representation never shows them."""

    secret: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.secret) != _BYTES:
            raise UsageError(f"A key is {_BYTES} bytes; this one has {len(self.secret)}.")

    @classmethod
    def new(cls) -> Key:
        return cls(secrets.token_bytes(_BYTES))

    @classmethod
    def for_archive(cls, root: bytes, archive: bytes) -> Key:
        """The key of one archive. root: the owner's 32 secret bytes; archive: an id, drawn at random once."""
        derived = HKDF(SHA256(), _BYTES, salt=None, info=b"unlearnable archive key 1:" + archive)
        return cls(derived.derive(root))

    @classmethod
    def load(cls, path: Path) -> Key:
        """Reads a key file: 64 hexadecimal digits."""
        try:
            return cls(bytes.fromhex(path.read_text(encoding="ascii").strip()))
        except (OSError, ValueError) as why:
            raise UsageError(
                f"{path} is not a key file ({why}).",
                "It holds 64 hexadecimal digits: restore it, or name another file where --key does.",
            ) from why

    def save(self, path: Path) -> None:
        """Writes the key, readable by its owner alone. Never overwrites another key."""
        write_new(path, f"{self.secret.hex()}\n".encode("ascii"), 0o600)

    def rng(self, *labels: str | int) -> np.random.Generator:
        """A generator for one purpose, such as rng("regions", "cat"). Labels are length-prefixed: no two lists collide."""
        import numpy as np  # here, because checking a signature needs this module's files and no generator

        digest = hmac.digest(self.secret, b"".join(map(_part, labels)), "sha256")
        return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "big")))

    def rngs(self, *labels: str | int, names: Iterable[str]) -> Iterator[np.random.Generator]:
        """rng(*labels, name) for one name after another, a few times quicker: the same numbers.

        It is one generator with a new key each time: draw from it before the next is asked for.
        """
        import numpy as np

        prefix = b"".join(map(_part, labels))
        philox = np.random.Philox(key=0)
        generator = np.random.Generator(philox)
        fresh: Any = philox.state  # the stubs want arrays where the setter takes, more quickly, any numbers
        fresh["state"]["counter"], fresh["buffer"] = (0, 0, 0, 0), (0, 0, 0, 0)
        for name in names:
            digest = hmac.digest(self.secret, prefix + _part(name), "sha256")
            high, low = _WORDS.unpack_from(digest)
            fresh["state"]["key"] = (low, high)
            philox.state = fresh
            yield generator

    def derived(self, purpose: str) -> bytes:
        """32 secret bytes for another tool's use, such as an encryption."""
        return HKDF(SHA256(), _BYTES, salt=None, info=b"unlearnable " + purpose.encode()).derive(self.secret)

    def seed(self, *labels: str | int) -> int:
        """A 63-bit seed for one purpose, for generators that take an integer (torch)."""
        return int(self.rng(*labels).integers(2**63 - 1))

    def commitment(self, salt: bytes) -> str:
        """SHA-256 of salt and key: published, it binds the owner to the key without telling it."""
        return hashlib.sha256(salt + self.secret).hexdigest()


def write_new(path: Path, data: bytes, mode: int) -> None:
    """Writes a file that must not exist yet, with these permissions from its first byte on, through to the disk.

    Where the disk fails, nothing stays: half a key would stand in the way of a whole one.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        path.unlink(missing_ok=True)
        raise


NONCE_BYTES = 32


def commitment(document: Mapping[str, Any], nonce: bytes) -> str:
    """SHA-256 of a nonce and a document's canonical JSON, hexadecimal: published, it binds to both and tells neither.

    Raises ValueError for a nonce of another length than 32 bytes: where it ends must not be open to choice.
    """
    if len(nonce) != NONCE_BYTES:
        raise ValueError(f"a nonce is {NONCE_BYTES} bytes, not {len(nonce)}")
    text = json.dumps(document, sort_keys=True, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(nonce + text.encode("ascii")).hexdigest()


def _part(label: str | int) -> bytes:
    text = str(label).encode()
    return len(text).to_bytes(4, "big") + text

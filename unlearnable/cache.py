"""What was expensive to make and depends on its content alone, kept between runs: trained surrogates.

Entries lie in the owner's own cache folder, readable by them alone, and never in a release: a network that was trained on
the originals tells something about them. UNLEARNABLE_CACHE names another folder; "off" keeps nothing. The newest entries
stay, up to a fixed number; a damaged one is made again.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import pickle
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

VARIABLE = "UNLEARNABLE_CACHE"
_MOST = 24  # of about 45 MB each


def folder() -> Path | None:
    """Where entries lie, None where the owner wants none."""
    named = os.environ.get(VARIABLE)
    if named == "off":
        return None
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(named) if named else Path(base) / "unlearnable"


def digest(*parts: str | Tensor) -> str:
    """SHA-256 of texts and tensors (shape, type and bytes), length-prefixed: no two lists collide."""
    total = hashlib.sha256()
    for part in parts:
        if isinstance(part, Tensor):
            total.update(f"{part.dtype} {tuple(part.shape)};".encode())
            total.update(part.cpu().contiguous().numpy().data)
        else:
            total.update(f"text {len(part.encode())};".encode() + part.encode())
    return total.hexdigest()


def load(name: str) -> Any | None:
    """The entry called `name` (a digest), None where there is none that can be read. Tensors and plain data only."""
    where = folder()
    path = where / f"{name}.pt" if where else None
    if path is None or not path.exists():
        return None
    try:
        entry = torch.load(path, weights_only=True, map_location="cpu")
        os.utime(path)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError):
        return None
    return entry


def save(name: str, entry: Any) -> None:
    """Keeps an entry, whole or not at all, and lets the oldest go."""
    where = folder()
    if where is None:
        return
    write_whole(where / f"{name}.pt", lambda file: torch.save(entry, file))
    with contextlib.suppress(OSError):
        for old in sorted(where.glob("*.pt"), key=lambda path: path.stat().st_mtime)[:-_MOST]:
            old.unlink(missing_ok=True)


def write_whole(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """A file for its owner alone (0600, in a folder of 0700), whole or not at all.

    What is kept only saves time: where it cannot be written, that is no reason to stop.
    """
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".partial", delete=False) as file:
            partial = Path(file.name)
            try:
                write(file)
            except BaseException:
                partial.unlink()
                raise
        partial.replace(path)

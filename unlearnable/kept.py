"""What a run keeps in the owner folder for later ones, as torch files: written whole or not at all, read as tensors alone."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from unlearnable.errors import IntegrityError, UsageError, disk_error

# what torch, and who makes something of what it read, raise for a file that is damaged or was made to do harm
_DAMAGE = (EOFError, RuntimeError, ValueError, LookupError, AttributeError, TypeError, AssertionError, UsageError)


def write(document: Mapping[str, Any], path: Path) -> None:
    """Tensors and plain data. Raises UnlearnableError on a failing disk."""
    partial = path.with_suffix(".partial")
    try:
        with partial.open("wb") as file:  # given a path, torch hides a full disk in a RuntimeError
            torch.save(dict(document), file)
        partial.replace(path)
    except OSError as why:
        raise disk_error(why, path) from why


@contextmanager
def opened(path: Path) -> Iterator[dict[str, Any]]:
    """What `write` wrote, to be taken apart inside: no pickled code is run, and damage raises IntegrityError."""
    try:
        document = torch.load(path, weights_only=True, map_location="cpu")
        if not isinstance(document, dict):
            raise TypeError("it holds something else")
        yield document
    except (OSError, pickle.UnpicklingError, *_DAMAGE) as why:
        said = why.strerror if isinstance(why, OSError) else type(why).__name__
        raise IntegrityError(
            f"{path} cannot be read ({said}).", "Restore it from a backup, or start again with --overwrite."
        ) from why

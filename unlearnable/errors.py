"""Every failure an owner can meet, and the exit code it ends with.

An error carries one sentence that names the file or option and why, and a hint that says the way out. The command line
prints both and exits with `exit_code`; nothing else in the project calls `sys.exit`.
"""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any


class UnlearnableError(Exception):
    """A failure with a cause to state and a way out. Exit code 1: the tool itself is at fault."""

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class UsageError(UnlearnableError):
    """What was asked cannot be done as asked: options, source layout, labels."""

    exit_code = 2


class ImageError(UnlearnableError):
    """One image cannot be protected. Caught per image and turned into a line of the report, never a crash."""

    exit_code = 3


class TrainingError(UnlearnableError):
    """A network did not learn, or its loss stopped being a number."""

    exit_code = 1


class IntegrityError(UnlearnableError):
    """A release, or a source that was being read, is not what was signed or seen before."""

    exit_code = 5


class HubError(UnlearnableError):
    """The Hugging Face Hub or the network refused, or could not be reached."""

    exit_code = 6


def disk_error(why: OSError, where: Path) -> UnlearnableError:
    """A failing disk in one sentence; finished shards stay, so the same command goes on where it stopped."""
    if why.errno in (errno.ENOSPC, errno.EDQUOT):
        return UnlearnableError(f"The disk of {where} is full.", "Free space and repeat the command: it continues.")
    return UnlearnableError(f"{where} cannot be written ({why.strerror or why}).", "Mend that and repeat the command.")


# Outcomes that still leave a sealed release behind, so they are codes and not exceptions.
FINISHED_WITH_SKIPS = 3
BELOW_MIN_DROP = 4
INTERRUPTED = 130


def outcome(document: dict[str, Any], min_drop: float | None) -> int:
    """0, 3 (images skipped) or 4 (protection below `min_drop`) for a document of `protect`; 4 comes first."""
    verification = document["verification"]
    if min_drop is not None and (
        verification is None or verification["worst_case"]["relative_accuracy_drop"]["low"] < min_drop
    ):
        return BELOW_MIN_DROP
    return FINISHED_WITH_SKIPS if document["images"]["skipped"] else 0

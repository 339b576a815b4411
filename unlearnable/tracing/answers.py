"""What a suspect model says, in the classes of the release, and the record of every question that was asked.

Labels of the model that are no class of the release count as an answer that is never right: -1.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from unlearnable.errors import UsageError
from unlearnable.types import Tell, silent

TOP, PROBABILITIES, WEIGHTS = "top-1", "probabilities", "weights"  # what a model gives, from little to all
_AT_ONCE = 512


@dataclass(frozen=True)
class Answers:
    """top: (N,) int64 class of the release, -1 for another label. probabilities: (N, K) of its classes, None for top-1."""

    top: Tensor
    probabilities: Tensor | None = None

    def of(self, wanted: Tensor) -> Tensor:
        """(N,) how much the model says `wanted` (N,): the probability where there is one, else 1 for its label and 0."""
        if self.probabilities is None:
            return (self.top == wanted).double()
        return self.probabilities.double().gather(1, wanted[:, None])[:, 0]

    def matrix(self, classes: int) -> Tensor:
        """(N, K) of the same for every class."""
        if self.probabilities is not None:
            return self.probabilities.double()
        rows = torch.zeros(len(self.top), classes, dtype=torch.float64)
        known = self.top >= 0
        rows[known, self.top[known]] = 1
        return rows


@dataclass(frozen=True)
class White:
    """A network's inside. features: uint8 images (N, 3, S, S) -> (N, F) before the last layer; weight: (K, F) its rows, by
    class of the release; rows of classes that it has not are missing, and `rows` names the others."""

    features: Callable[[Tensor], Tensor]
    weight: Tensor
    rows: tuple[int, ...]


class Model(Protocol):
    """A way to ask. Made by a file of `unlearnable.tracing.models`."""

    shown: str  # as the evidence names it: no folder, no password
    gives: str  # top-1, probabilities or weights
    white: White | None
    files: tuple[Path, ...]  # what it was read from, its weights first; none of an endpoint

    def ask(self, images: Tensor) -> Answers:
        """The answers to uint8 images (N, 3, S, S)."""


@dataclass(frozen=True)
class Names:
    """The classes of the release, and what the model calls its outputs: None where they are the same, in that order."""

    classes: tuple[str, ...]
    outputs: tuple[str, ...] | None = None

    @classmethod
    def read(cls, classes: tuple[str, ...], file: Path | None) -> Names:
        """With the names in a file, one a line in the order of the model's outputs."""
        if file is None:
            return cls(classes)
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as why:
            raise UsageError(f"{file} cannot be read as a list of labels ({why}).", "One label a line.") from why
        names = cls(classes, tuple(line.strip() for line in lines if line.strip()))
        if not set(names.outputs or ()) & set(classes):
            raise UsageError(f"{file} names none of the classes of the release, such as {classes[0]!r}.", _LABELS)
        return names

    def columns(self, outputs: int) -> Tensor:
        """(outputs,) class of the release for each output of the model, -1 for none. Raises UsageError if unknown."""
        if self.outputs is None and outputs != len(self.classes):
            raise UsageError(
                f"The model has {outputs} outputs, the release {len(self.classes)} classes: which is which?", _LABELS
            )
        named = self.outputs or self.classes
        if len(named) != outputs:
            raise UsageError(f"The model has {outputs} outputs, but the list of labels {len(named)}.", _LABELS)
        return torch.tensor([self.number(name) for name in named])

    def number(self, label: str) -> int:
        """The class of the release that a label, or the number of an output, means; -1 for none."""
        label = label.strip()
        if label in self.classes:
            return self.classes.index(label)
        named = self.outputs or self.classes
        if label.isdecimal() and int(label) < len(named) and named[int(label)] in self.classes:
            return self.classes.index(named[int(label)])
        return -1

    def answers(self, probabilities: Tensor) -> Answers:
        """From (N, outputs) probabilities."""
        columns = self.columns(probabilities.shape[1])
        out = torch.zeros(len(probabilities), len(self.classes), dtype=torch.float64)
        known = columns >= 0
        out.index_add_(1, columns[known], probabilities[:, known].double().cpu())
        return Answers(columns[probabilities.argmax(1).cpu()], out)


_LABELS = "Name the model's outputs in order, one a line, in a file: --labels FILE."


@dataclass
class Asking:
    """Asks a model and keeps the record: one row (test, what was shown, digest of the picture, wanted, top, score) a query."""

    model: Model
    tell: Tell = silent
    expected: int = 0
    rows: list[tuple[str, str, str, int, int, float]] = field(default_factory=list)

    def __call__(self, test: str, shown: Sequence[str], images: Tensor, wanted: Tensor) -> Answers:
        parts = []
        for part in torch.split(torch.arange(len(images)), _AT_ONCE):
            parts.append(self.model.ask(images[part]))
            done = len(self.rows) + int(part[-1]) + 1
            self.tell("asking the model", done, max(self.expected, done))
        known = [part.probabilities for part in parts]
        together = (
            None if any(each is None for each in known) else torch.cat([each for each in known if each is not None])
        )
        if together is not None and not together.isfinite().all():  # they would rank above or below everything
            raise UsageError(f"{self.model.shown} answers with values that are no numbers.", "Is the file damaged?")
        answers = Answers(torch.cat([part.top for part in parts]), together)
        scores = answers.of(wanted).tolist()
        self.rows += [
            (test, what, digest(image), want, top, score)
            for what, image, want, top, score in zip(
                shown, images, wanted.tolist(), answers.top.tolist(), scores, strict=True
            )
        ]
        return answers


def digest(image: Tensor) -> str:
    """SHA-256 of a picture's size and pixels, (3, S, S) uint8: the same whatever file it travels in."""
    pixels = image.permute(1, 2, 0).contiguous().numpy()
    return hashlib.sha256(f"{pixels.shape[1]}x{pixels.shape[0]} RGB\n".encode() + pixels.tobytes()).hexdigest()

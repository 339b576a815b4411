"""The words of the project as types: what flows from a source to a release.

Nothing here imports torch at run time, so that listing methods and reading a release stay quick.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pyarrow as pa
    from torch import Tensor

    from unlearnable.keys import Key

Pixels: TypeAlias = NDArray[np.uint8]  # (H, W, C), upright; C is 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha
State: TypeAlias = dict[
    str, Any
]  # what a poison's `fit` found: tensors, numbers, strings, nested dicts and lists of them


@dataclass(frozen=True, slots=True)  # there may be millions
class Record:
    """One image of a source.

    id is unique in the source and stable between runs ("train/cat/0001.png", "train/17"): randomness is keyed by it.
    label indexes `Source.classes`; it is None where the source has no labels.
    """

    id: str
    split: str
    label: int | None
    size: int = 0  # bytes, as stored
    index: int = 0  # position in its split


@dataclass(frozen=True)
class Skipped:
    """A file or row that was found and not protected, with the reason in one sentence.

    image: False for what never was an image (a README, a sidecar): it is reported, but is no gap in the protection.
    """

    id: str
    reason: str
    image: bool = True


class Source(Protocol):
    """A set of images, opened read-only. Iteration order is the order of the release."""

    spec: str  # as the owner named it
    kind: str  # the name of its module: "folder", "zip", "parquet", "hub" ...
    tree: bool  # whether a record's id is a path that a release may keep
    classes: tuple[str, ...] | None  # None where there are no labels
    records: Sequence[Record]
    skipped: Sequence[Skipped]  # found while listing: not images, links out of the tree ...

    def read(self, record: Record) -> bytes:
        """The stored bytes of one image, undecoded. Raises ImageError when they cannot be read."""

    def table(self, records: Sequence[Record], images: Sequence[bytes], names: Sequence[str]) -> pa.Table:
        """Rows of a parquet release: every column of the source as it was, with `images` in place of the originals.

        `names` are the file names to store beside the bytes. The schema carries the `datasets` features.
        """

    def extra_columns(self) -> tuple[str, ...]:
        """Columns other than image and label, which only a parquet release can hold."""


@dataclass(frozen=True)
class Batch:
    """A batch at the working size, as poisons see it.

    images: (N, 3, S, S) uint8 RGB; labels: (N,) int64; ids: N record ids.
    """

    ids: tuple[str, ...]
    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.ids)


class Tell(Protocol):
    def __call__(self, what: str, done: int, of: int, failed: int = 0) -> None:
        """Hears how far the work is: what is going on, how much is done, of how much (0: nobody knows), images that failed.

        The words before a colon in `what` name the stage.
        """


def silent(what: str, done: int, of: int, failed: int = 0) -> None:
    """A Tell for who does not listen."""


class TrainSurrogate(Protocol):
    def __call__(
        self,
        data: Batch,
        net: str,
        *,
        number: int = 0,
        epochs: int | None = None,
        milestones: tuple[float, ...] | None = None,
        robust: float = 0.0,
        checkpoints: int = 1,
    ) -> tuple[list[Any], float]:
        """Trains network `net` on clean data with early stopping; returns it in eval mode and its held-out accuracy.

        The network maps (N, 3, S, S) floats in [0, 1] to logits (N, K); normalisation is inside it. number: which of
        several seeds; milestones: fractions of the epochs after which the learning rate falls; robust: radius in [0, 1]
        of adversarial training; checkpoints: how many networks, equally spaced in the training (1: its best epoch).
        Raises TrainingError when it stays below twice chance.
        """


def _unheard(message: str) -> None:
    """Nobody hears it. No lambda: contexts are sent to workers."""


@dataclass(frozen=True)
class Context:
    """What a poison may know besides its data: the owner's key, the class names, the budget, where to compute."""

    key: Key
    classes: tuple[str, ...]
    levels: int  # the budget: largest change of a pixel, in whole grey levels of 255
    size: int  # working size S
    device: str = "cpu"
    train_surrogate: TrainSurrogate | None = None  # None for closed-form methods in tests
    tell: Callable[[str], None] = field(default=_unheard)  # one progress line

    @property
    def eps(self) -> float:
        """The budget as a float in [0, 1] pixel units."""
        return self.levels / 255

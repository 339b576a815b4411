"""What the owner knows and a test uses: the key, the committed plan and its nonce, marks, and clean pictures to ask with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from unlearnable import cache, kept
from unlearnable.craft import Method
from unlearnable.keys import Key
from unlearnable.tracing.answers import Asking, White
from unlearnable.types import Batch, Context, State


@dataclass(frozen=True)
class Marks:
    """Perturbations that take the poison's place on a few images, and the secret that a test needs to find them.

    kind: "canary" or "radioactive"; deltas: (P, 3, S, S) int8 in grey levels, of the records `ids`; secret: by the kind.
    """

    kind: str
    ids: tuple[str, ...]
    deltas: Tensor
    secret: State

    def by_id(self) -> dict[str, Tensor]:
        return dict(zip(self.ids, self.deltas, strict=True))

    def described(self) -> dict[str, Any]:
        """For the plan: how many, and digests of what the test uses; the pictures themselves stay in the owner folder."""
        plain = {k: v for k, v in self.secret.items() if not isinstance(v, Tensor | dict)}
        sums = {
            name: cache.digest(*_flat(v)) for name, v in sorted(self.secret.items()) if isinstance(v, Tensor | dict)
        }
        return {"kind": self.kind, "images": len(self.ids), "sha256": sums, **plain}

    def save(self, path: Path) -> None:
        kept.write({"kind": self.kind, "ids": list(self.ids), "deltas": self.deltas, "secret": self.secret}, path)

    @classmethod
    def load(cls, path: Path) -> Marks:
        """What `save` wrote. Raises IntegrityError for a file that is damaged or missing."""
        with kept.opened(path) as found:
            return cls(found["kind"], tuple(found["ids"]), found["deltas"], found["secret"])


def _flat(value: Tensor | dict[str, Tensor]) -> list[str | Tensor]:
    if isinstance(value, Tensor):
        return [value]
    return [part for name in sorted(value) for part in (name, value[name])]


@dataclass(frozen=True)
class Secret:
    """A release as its owner knows it. context: with the owner's key and all classes, at the working size."""

    plan: Mapping[str, Any]
    nonce: bytes
    method: Method
    context: Context
    marks: Marks | None = None

    @property
    def key(self) -> Key:
        return self.context.key


@dataclass(frozen=True)
class Job:
    """One test of one model. carriers: clean pictures of the owner, in the order that the nonce draws, with their labels.

    decoys, images: how many of the committed ones are used. white: the model's inside, where there is one.
    """

    secret: Secret
    carriers: Batch
    ask: Asking
    decoys: int
    images: int
    white: White | None = None


@dataclass(frozen=True)
class Found:
    """What a test found. p is exact under the test's null; none: why there is nothing to compute.

    value: its statistic; usual: what it is for decoys on average, or expected by chance; more: figures for the evidence.
    """

    test: str
    p: float | None
    value: float | None = None
    usual: float | None = None
    queries: int = 0
    none: str = ""
    more: Mapping[str, Any] = field(default_factory=dict)

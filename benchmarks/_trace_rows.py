"""The networks that benchmarks/trace.py trains: innocent ones, and some that saw a release in part, whole, or under attack."""

from __future__ import annotations

from dataclasses import dataclass

NULLS = 40
SHARES = (1.0, 0.5, 0.1, 0.01)
CHEAP = ("bit_depth", "blur", "grayscale", "jpeg10", "jpeg75", "median", "projection", "resize")


@dataclass(frozen=True)
class Row:
    """One network. share: of the training images that come from the release; other: its key is not the one tested."""

    group: str
    seed: int
    preset: str = ""
    share: float = 0.0
    against: str = "none"
    trace: str = ""
    trace_share: float = 0.0
    other: bool = False

    @property
    def name(self) -> str:
        parts = (self.group, self.preset, f"{self.share:g}", self.against, self.trace, f"{self.trace_share:g}")
        return " ".join((*parts, "other" if self.other else "own", str(self.seed)))


def rows() -> list[Row]:
    """All networks, in an order that gives something of everything early."""
    null = [
        Row("null", seed, *(("r16", 1.0) if seed % 4 == 3 else ("", 0.0)), other=seed % 4 == 3) for seed in range(NULLS)
    ]
    share = [Row("share", seed, preset, s) for seed in range(3) for s in SHARES for preset in ("r16", "p10")]
    against = [Row("against", 0, "r16", 1.0, name) for name in CHEAP]
    kinds = (("", 0.0), ("canary", 0.01), ("radioactive", 0.1))
    marks = [
        Row("marks", seed, preset, 1.0, "none", *kind) for seed in range(2) for kind in kinds for preset in ("", "r16")
    ]
    queue = [null, share, against, [row for row in marks if row.preset or row.trace]]
    return [part[i] for i in range(max(map(len, queue))) for part in queue if i < len(part)]

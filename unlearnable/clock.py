"""Seconds of each stage of a run, for the owner's report."""

from __future__ import annotations

import time
from dataclasses import dataclass, field


@dataclass
class Clock:
    """laps: seconds by stage, in order."""

    laps: dict[str, float] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)

    def lap(self, name: str) -> None:
        self.laps[name] = round(self.total() - sum(self.laps.values()), 2)

    def total(self) -> float:
        return round(time.monotonic() - self.started, 2)

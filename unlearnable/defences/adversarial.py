"""Adversarial training: learns from the worst images within a few grey levels of the published ones.

Madry et al. 2018, arXiv 1706.06083: ten signed steps inside the ball, the network in evaluation mode meanwhile, then one
update on attacked images alone. Steps are a quarter of the radius, from a uniform start (the unlearnable literature: the same
2 of 255 for a radius of 8). A radius as large as the protection's budget has the original inside its ball; it costs a clean
trainer some ten points on CIFAR-10 and eleven times the work.
"""

from __future__ import annotations

from dataclasses import dataclass

from unlearnable import adversarial
from unlearnable.defences._job import Job
from unlearnable.train import History

PAPER = "Madry et al. 2018, arXiv 1706.06083"
COST = 11.0
WORDS = "adversarial training with radius {radius:g}"
PRESETS: dict[str, dict[str, float]] = {"adversarial4": {"radius": 4.0}, "adversarial8": {"radius": 8.0}}


@dataclass(frozen=True)
class Params:
    radius: float = 4.0
    "radius of the ball in grey levels of 255"
    steps: int = 10
    "signed steps of 2.5 radius / steps"

    def __post_init__(self) -> None:
        if not 0 < self.radius <= 64:
            raise ValueError(f"radius is above 0 and at most 64 grey levels, not {self.radius}")
        if not 1 <= self.steps <= 100:
            raise ValueError(f"steps is 1 to 100, not {self.steps}")


def victim(job: Job, params: Params) -> History:
    return job.run(objective=adversarial.objective(params.radius / 255, job.seed, params.steps))

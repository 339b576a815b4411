"""Mixes the release with clean images of the scraper's own, and compares with training on those alone.

A share of the records, drawn at random, is clean; the rest is as released. What counts is how far the mixture beats
`clean_alone_peak`, the honest null: a protected image that adds nothing to it is one that might as well have been dropped.
"""

from __future__ import annotations

from dataclasses import dataclass

from unlearnable.defences._job import Job, mixed
from unlearnable.train import History

COST = 1.5
WORDS = "dilution with {clean:.0%} clean images"
OWN_CLEAN = True
PRESETS: dict[str, dict[str, float]] = {"dilution20": {"clean": 0.2}, "dilution50": {"clean": 0.5}}


@dataclass(frozen=True)
class Params:
    clean: float = 0.2
    "share of the training images that are the scraper's own, clean ones"

    def __post_init__(self) -> None:
        if not 0 < self.clean < 1:
            raise ValueError(f"clean is above 0 and below 1, not {self.clean}")


def victim(job: Job, params: Params) -> History:
    clean = job.draw(params.clean)
    history = job.run(images=mixed(clean, job.clean, job.images))
    history.figures |= job.clean_alone(clean)
    return history

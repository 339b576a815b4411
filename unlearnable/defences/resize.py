"""Makes every training image smaller and large again (bilinear): patterns finer than the small size vanish."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from unlearnable.defences._job import Job, changed
from unlearnable.train import History

CHEAP = True
COST = 1.0
WORDS = "resizing to {factor:.0%} and back"
PRESETS: dict[str, dict[str, float]] = {
    "resize50": {"factor": 0.5},
    "resize75": {"factor": 0.75},
    "resize25": {"factor": 0.25},
}


@dataclass(frozen=True)
class Params:
    factor: float = 0.5
    "share of the side that is kept in between, 0.1 to 0.95"

    def __post_init__(self) -> None:
        if not 0.1 <= self.factor <= 0.95:
            raise ValueError(f"factor is 0.1 to 0.95, not {self.factor}")


def victim(job: Job, params: Params) -> History:
    return job.run(images=changed(lambda part: down_up(part, params.factor), job.images))


def down_up(images: Tensor, factor: float) -> Tensor:
    """(N, 3, V, V) uint8 -> floats of the same shape."""
    side = images.shape[-1]
    small = max(1, round(side * factor))
    less = F.interpolate(images.float(), size=(small, small), mode="bilinear", antialias=True)
    # pixels are stored as whole numbers in between, as a thumbnail would be
    return F.interpolate(less.round(), size=(side, side), mode="bilinear", antialias=True)

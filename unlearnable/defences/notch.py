"""Cuts the band where textures may lie out of every image, of training and test alike.

A scraper who knows `grating` knows which frequencies it chooses from, and needs no key: all of them go, in all images;
`notch_ring` is for one who knows `in_phase`. What stays are the lowest frequencies, those above the band and the ends of it
that no class uses; a clean trainer loses some accuracy. The harmonics of hard edges lie above the band and stay too.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from unlearnable.defences import _spectrum
from unlearnable.defences._job import Job
from unlearnable.train import History

COST = 1.0
WORDS = "cutting {low:g} to {high:g} cycles out of all images"
PRESETS: dict[str, dict[str, float]] = {
    "notch": {"low": 4.0, "high": 8.0},
    "notch16": {"low": 8.0, "high": 16.0},
    "notch_ring": {"low": 3.0, "high": 8.0},
}


@dataclass(frozen=True)
class Params:
    low: float = 4.0
    "lowest frequency that is cut, in cycles an image"
    high: float = 8.0
    "highest one"
    margin: float = 1.0
    "how far on both sides of a band, and of zero across or down, is cut as well"

    def __post_init__(self) -> None:
        if not 1 <= self.low <= 112:
            raise ValueError(f"low is 1 to 112 cycles, not {self.low}")
        if not self.low < self.high <= 112:
            raise ValueError(f"high is above low and at most 112 cycles, not {self.high}")
        if not 0 <= self.margin < self.low:
            raise ValueError(f"margin is 0 to below low, not {self.margin}")


def victim(job: Job, params: Params) -> History:
    keep = kept(job.images.shape[-1], params).to(job.device)

    def cut(images: Tensor) -> Tensor:
        return _spectrum.restored(_spectrum.transformed(images) * keep, images.shape[-1])

    return _spectrum.both_sides(job, cut).run()


def kept(side: int, params: Params) -> Tensor:
    """(V, V // 2 + 1) of 0 and 1: gone is where both frequencies are in the band or one is and the other is near zero."""
    across, down = torch.fft.rfftfreq(side, 1 / side)[None], torch.fft.fftfreq(side, 1 / side)[:, None].abs()
    (x_in, x_zero), (y_in, y_zero) = (
        ((f >= params.low - params.margin) & (f <= params.high + params.margin), f <= params.margin)
        for f in (across, down)
    )
    gone: Tensor = (x_in & y_in) | (x_in & y_zero) | (x_zero & y_in)
    return (~gone).float()

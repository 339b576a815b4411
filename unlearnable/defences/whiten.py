"""Makes the spectrum of all images flat, of training and test alike: no band stands out.

how "mean" divides by the mean amplitude of the release at every frequency, so that what a texture adds to it goes down with
it. "each" divides every image by its own amplitudes and leaves the phases, which is all that textures with phases of their
own cannot tell a class by; pictures lose much as well. All images get one mean and one contrast. No labels are used.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from unlearnable.defences import _spectrum
from unlearnable.defences._job import Job
from unlearnable.train import History

COST = 1.1
WORDS = "whitening all spectra ({how})"
PRESETS: dict[str, dict[str, object]] = {"whiten": {"how": "mean"}, "whiten_each": {"how": "each"}}

_MIDDLE, _CONTRAST = 128.0, 50.0  # grey levels of a whitened image: its mean, and its standard deviation


@dataclass(frozen=True)
class Params:
    how: Literal["mean", "each"] = "mean"
    "mean: by the release's mean spectrum; each: every image by its own"
    strength: float = 1.0
    "power of the amplitude that is divided by: 1 is flat, 0.5 half-way"

    def __post_init__(self) -> None:
        if self.how not in ("mean", "each"):
            raise ValueError(f"how is mean or each, not {self.how!r}")
        if not 0 < self.strength <= 1:
            raise ValueError(f"strength is above 0 and at most 1, not {self.strength}")


def victim(job: Job, params: Params) -> History:
    mean = mean_powers(job.images)
    return _spectrum.both_sides(job, lambda images: whitened(images, mean, params)).run()


def mean_powers(images: Tensor) -> Tensor:
    """(1, 3, V, V // 2 + 1): the release's mean squared amplitudes."""
    nobody = torch.zeros(len(images), dtype=torch.long, device=images.device)
    return _spectrum.powers(images, nobody, 1)[0].diagonal(dim1=-2, dim2=-1).movedim(-1, 1)


def whitened(images: Tensor, mean: Tensor, params: Params) -> Tensor:
    """(N, 3, V, V) uint8 -> floats about the middle grey. mean: (1, 3, V, V // 2 + 1) powers of the release."""
    spectra = _spectrum.transformed(images)
    powers = mean if params.how == "mean" else spectra.abs().square()
    flat = spectra * powers.clamp(min=1e-3) ** (-params.strength / 2)
    flat[:, :, 0, 0] = 0
    out = _spectrum.restored(flat, images.shape[-1])
    return _MIDDLE + _CONTRAST * out / out.std((1, 2, 3), keepdim=True).clamp(min=1e-6)

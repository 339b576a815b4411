"""Gaussian blur of the training images, 5x5 kernel.

The literature's sigma 0.1 is the identity in numbers (a neighbour weighs 2e-22); 0.5 and 1.0 do blur. Of 3.0 the kernel
holds the middle alone: `blur3` is nearly the mean of 5x5, a spread of 1.4 pixels, and no blur of 3.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from unlearnable.defences._job import Job, changed
from unlearnable.train import History

CHEAP = True
COST = 1.0
WORDS = "Gaussian blur of sigma {sigma:g} within 5x5 pixels"
PRESETS: dict[str, dict[str, float]] = {"blur1": {"sigma": 1.0}, "blur05": {"sigma": 0.5}, "blur3": {"sigma": 3.0}}


@dataclass(frozen=True)
class Params:
    sigma: float = 1.0
    "standard deviation in pixels, 0.3 to 3, of the bell curve before it is cut to 5x5: of 3.0, 1.4 are left"

    def __post_init__(self) -> None:
        if not 0.3 <= self.sigma <= 3:
            raise ValueError(f"sigma is 0.3 to 3 pixels, not {self.sigma}")


def victim(job: Job, params: Params) -> History:
    return job.run(images=changed(lambda part: blurred(part, params.sigma), job.images))


def blurred(images: Tensor, sigma: float) -> Tensor:
    """(N, 3, V, V) uint8 -> the same shape and type."""
    from torchvision.transforms.functional import gaussian_blur

    out: Tensor = gaussian_blur(images, [5, 5], [sigma, sigma])
    return out

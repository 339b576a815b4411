"""Keeps the top bits of every channel (posterise): small steps vanish.

Liu et al. 2023, "Image Shortcut Squeezing", arXiv 2301.13838 (bit depth reduction, 2 bits).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from unlearnable.defences._job import Job
from unlearnable.train import History

PAPER = "Liu et al. 2023, arXiv 2301.13838"
CHEAP = True
COST = 1.0
WORDS = "reduction to {bits} bits a channel"
PRESETS: dict[str, dict[str, int]] = {"bit_depth2": {"bits": 2}}


@dataclass(frozen=True)
class Params:
    bits: int = 2
    "bits kept of 8"

    def __post_init__(self) -> None:
        if not 1 <= self.bits <= 7:
            raise ValueError(f"bits is 1 to 7, not {self.bits}")


def victim(job: Job, params: Params) -> History:
    return job.run(images=posterised(job.images, params.bits))


def posterised(images: Tensor, bits: int) -> Tensor:
    """(N, 3, V, V) uint8 -> the same shape and type, in 2**bits levels."""
    return images & (256 - (1 << (8 - bits)))

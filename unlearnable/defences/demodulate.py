"""Reads each class's texture off the release by its labels, and takes it out of that class's images.

Where images of a class have more power than all others, at any frequency and in any mixture of the colours, they are turned
down to it. It needs labels and the release and nothing else, and removes what a class has too much of, whichever the phases;
a class whose texture differs in nothing but its phases keeps it. `blocks` compares coefficients of JPEG's 8x8 blocks in place
of whole images' frequencies, against textures on that grid. Test images have no labels and stay as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import pi, sqrt
from typing import Literal

import torch
from torch import Tensor

from unlearnable.defences import _spectrum
from unlearnable.defences._job import Job
from unlearnable.device import in_parts
from unlearnable.train import History

COST = 1.1
WORDS = "taking {strength:.0%} of what a class's spectrum has too much of out of its {of}"
PRESETS: dict[str, dict[str, object]] = {
    "demodulate": {},
    "demodulate2": {"strength": 2.0},
    "demodulate_blocks": {"of": "blocks"},
}


@dataclass(frozen=True)
class Params:
    strength: float = 1.0
    "1: down to the other classes' mean; 2: as far below it as it was above; up to 8"
    of: Literal["images", "blocks"] = "images"
    "frequencies of whole images, or coefficients of 8x8 blocks"

    def __post_init__(self) -> None:
        if not 0 < self.strength <= 8:
            raise ValueError(f"strength is above 0 and at most 8, not {self.strength}")
        if self.of not in ("images", "blocks"):
            raise ValueError(f"of is images or blocks, not {self.of!r}")


def victim(job: Job, params: Params) -> History:
    return job.run(images=demodulated(job.images, job.labels, job.classes, params))


def demodulated(images: Tensor, groups: Tensor, count: int, params: Params) -> Tensor:
    """(N, 3, V, V) uint8 -> the same, each of `count` groups brought down to what the others have."""
    if params.of == "images":
        gains = _spectrum.excess_removed(*_spectrum.powers(images, groups, count), params.strength)
        return _spectrum.filtered(images, groups, gains)
    gains = _spectrum.excess_removed(*_spectrum.powers(images, groups, count, _cosines), params.strength)

    def part(which: slice) -> Tensor:
        out, inner = images[which].clone(), _cosines(images[which])
        inner = torch.einsum("nuvcd,nduvb->ncuvb", gains[groups[which]], inner)
        rows = images.shape[-1] // 8
        blocks = torch.einsum("ncuvb,ui,vj->ncbij", inner, *[_matrix(images.device)] * 2)
        blocks = blocks.reshape(len(out), 3, rows, rows, 8, 8).transpose(3, 4)
        pixels = blocks.reshape(len(out), 3, 8 * rows, 8 * rows)
        out[:, :, : 8 * rows, : 8 * rows] = pixels.round().clamp(0, 255).byte()
        return out

    return torch.cat(in_parts(part, len(images), _spectrum.AT_ONCE))


def _cosines(images: Tensor) -> Tensor:
    """(N, 3, 8, 8, B) coefficients of the whole blocks: frequency down, across, and the block, row by row."""
    count, side = len(images), images.shape[-1] // 8 * 8
    blocks = images[:, :, :side, :side].float().reshape(count, 3, side // 8, 8, side // 8, 8)
    return torch.einsum("ncaibj,ui,vj->ncuvab", blocks, *[_matrix(images.device)] * 2).flatten(4)


def _matrix(device: torch.device) -> Tensor:
    """(8, 8) orthonormal cosine transform, a function in each row."""
    at = torch.arange(8, device=device)
    rows = torch.cos((2 * at + 1)[None] * at[:, None] * pi / 16) / 2
    rows[0] /= sqrt(2)
    return rows

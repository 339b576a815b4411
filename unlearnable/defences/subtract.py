"""Finds each class's wave by the labels, and subtracts it from the pictures of the class in the phase that each holds it in.

For who knows that a class may have a wave at the whole budget in all its pictures (`grating`, `in_phase`), and its frequencies
from its pictures' spectra: where they are louder than those of all other classes by most. The phase is the picture's own.
Of a wave that was laid into the picture's phase (`in_phase`) little stays; where the phase was drawn (`grating`), the picture's
own component misleads it in part. Each colour channel is looked at by itself, so that another wave in blue is found too.
It needs the release, its labels and the budget, which the card tells. Test images have no labels and stay as they are.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from unlearnable.defences import _spectrum
from unlearnable.defences._job import Job
from unlearnable.device import in_parts
from unlearnable.poisons.in_phase import in_phase
from unlearnable.train import History

COST = 1.1
WORDS = "subtracting each class's loudest wave, {levels:g} grey levels, in the phase that a picture has it in"
PRESETS: dict[str, dict[str, float]] = {"subtract": {}}

_FINER = 4  # frequencies are looked at every quarter of a cycle
_LOWEST, _HIGHEST = 2.0, 64.0  # cycles an image
_AT_ONCE = 32  # spectra of that fineness are large


@dataclass(frozen=True)
class Params:
    levels: float = 8.0
    "loudness of the wave that is subtracted, in grey levels"

    def __post_init__(self) -> None:
        if not 0 < self.levels <= 64:
            raise ValueError(f"levels is above 0 and at most 64, not {self.levels}")


def victim(job: Job, params: Params) -> History:
    pairs = loudest(job.images, job.labels, job.classes)
    return job.run(images=subtracted(job.images, job.labels, pairs, params.levels))


def loudest(images: Tensor, labels: Tensor, classes: int) -> Tensor:
    """(K, 3, 2) cycles across and down in red, green and blue: where a class is louder than all others by most.

    Amplitudes are compared, as a few loud pictures would decide by powers. 0 and 0 where nothing can be compared.
    """
    totals: list[Tensor] = []

    def part(which: slice) -> None:
        found = _amplitudes(images[which])
        if not totals:
            totals.append(torch.zeros((classes, *found.shape[1:]), device=images.device))
        totals[0].index_add_(0, labels[which], found)

    in_parts(part, len(images), _AT_ONCE)
    (total,) = totals
    sizes = torch.bincount(labels, minlength=classes).float().view(-1, 1, 1, 1)
    others = (total.sum(0) - total) / (len(images) - sizes).clamp(min=1)
    excess = total / sizes.clamp(min=1) - others
    cycles = torch.arange(excess.shape[-1], device=images.device) / _FINER
    length = torch.hypot(cycles[:, None], cycles[None])
    excess[..., (length < _LOWEST) | (length > cycles[-1])] = 0
    best = excess.flatten(2).argmax(2)
    alone = (sizes == 0) | (sizes == len(images))
    return torch.stack([cycles[best % len(cycles)], cycles[best // len(cycles)]], 2) * ~alone[..., 0]


def _amplitudes(images: Tensor) -> Tensor:
    """(N, 3, V, V) -> (N, 3, F, F) at quarters of cycles down and across, those of a frequency and its mirror in one."""
    side = images.shape[-1]
    reach = _FINER * min(int(_HIGHEST), side // 2) + 1
    values = images.float()
    values = values - values.mean((2, 3), keepdim=True)
    half = torch.fft.rfft2(values, s=(_FINER * side,) * 2, norm="forward")[..., :reach].abs().square()
    mirrored = half.roll(-1, 2).flip(2)  # a frequency down and its negative
    out: Tensor = (half[:, :, :reach] + mirrored[:, :, :reach]).sqrt()
    return out


def subtracted(images: Tensor, labels: Tensor, pairs: Tensor, levels: float) -> Tensor:
    """(N, 3, V, V) uint8 less a square wave at the frequencies of each image's class, in each channel's own phase; uint8."""

    def undecided(rows: list[int]) -> Tensor:
        return torch.zeros((len(rows), 2), dtype=torch.float64)

    def part(which: slice) -> Tensor:
        out = images[which].float().cpu()  # phases want float64, which Apple's GPUs lack
        for channel, pair in enumerate(pairs[labels[which]].cpu().double().unbind(1)):
            seen = out[:, channel].double()
            wave = in_phase(seen - seen.mean((1, 2), keepdim=True), pair, undecided)
            signs = torch.where(wave < 0, -1.0, 1.0) * (pair.sum(1) > 0)[:, None, None]
            out[:, channel] -= levels * signs.float()
        return out.round().clamp(0, 255).byte().to(images.device)

    return torch.cat(in_parts(part, len(images), _spectrum.AT_ONCE))

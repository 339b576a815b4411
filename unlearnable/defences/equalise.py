"""Adds every other class's texture to every image: if all classes have all textures, none tells anything.

What a class's images have much more of than all others, at each frequency and in each mixture of the colours, is taken
for its texture; noise with that spectrum and random phases is a fresh copy of it. Training images get a copy of all
classes' but their own, test images of all. Needs the release and its labels. What it adds is loud: the trainer has to read
pictures through the textures of K classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from unlearnable.defences import _spectrum
from unlearnable.defences._job import Job
from unlearnable.device import in_parts
from unlearnable.train import History

COST = 1.1
WORDS = "adding every class's texture to every image"
PRESETS: dict[str, dict[str, float]] = {"equalise": {"strength": 1.0}}

# below them pictures of classes differ by themselves
_LOWEST, _MUCH = 3, 2.0  # cycles an image, times the others' power


@dataclass(frozen=True)
class Params:
    strength: float = 1.0
    "amplitude of what is added, in that of the textures found; 0.1 to 2"

    def __post_init__(self) -> None:
        if not 0.1 <= self.strength <= 2:
            raise ValueError(f"strength is 0.1 to 2, not {self.strength}")


def victim(job: Job, params: Params) -> History:
    own = textures(job.images, job.labels, job.classes)
    everyone = own.sum(0)
    # the last row is for images whose class nobody knows
    mixtures = _root(torch.cat([everyone - own, everyone[None]])) * params.strength
    generator = job.generator(job.device)

    def with_all(images: Tensor) -> Tensor:
        nobody = torch.full((len(images),), job.classes, device=job.device)
        return added(images, nobody, mixtures, generator)

    images = added(job.images, job.labels, mixtures, generator)
    return _spectrum.tested(job, with_all).run(images=images)


def textures(images: Tensor, labels: Tensor, classes: int) -> Tensor:
    """(K, V, V // 2 + 1, 3, 3): by how much each class exceeds the others, as powers of the mixtures of the colours."""
    own, others = _spectrum.powers(images, labels, classes)
    much, usual = (each.diagonal(dim1=-2, dim2=-1).sum(-1) for each in (own, others))
    out = (own - others) * (much > _MUCH * usual)[..., None, None]
    across, down = torch.arange(out.shape[2]), torch.arange(out.shape[1])
    coarse = torch.maximum(across[None], torch.minimum(down, out.shape[1] - down)[:, None]) < _LOWEST
    out[:, coarse.to(out.device)] = 0
    return out


def added(images: Tensor, groups: Tensor, mixtures: Tensor, generator: torch.Generator) -> Tensor:
    """(N, 3, V, V) uint8 plus noise with the spectrum of each image's group, (K + 1, V, V // 2 + 1, 3, 3); uint8."""
    side = images.shape[-1]

    def part(which: slice) -> Tensor:
        shape = (len(groups[which]), 3, side, side)
        white = _spectrum.transformed(torch.randn(shape, generator=generator, device=images.device) * side)
        noise = torch.einsum("nhwab,nbhw->nahw", mixtures[groups[which]].to(white.dtype), white)
        return (images[which].float() + _spectrum.restored(noise, side)).round().clamp(0, 255).byte()

    return torch.cat(in_parts(part, len(images), _spectrum.AT_ONCE))


def _root(powers: Tensor) -> Tensor:
    """Symmetric square roots of (..., 3, 3); what is negative in them is none."""
    values, vectors = torch.linalg.eigh(powers)
    out: Tensor = (vectors * values.clamp(min=0).sqrt()[..., None, :]) @ vectors.transpose(-1, -2)
    return out

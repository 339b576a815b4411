"""UEraser: every image is learned from the worst of five drastic random augmentations.

Qin et al. 2023, arXiv 2303.15127 (error-maximising augmentation). Each of the five is plasma brightness, plasma contrast, a
shuffle of the channels and TrivialAugment; the gradient is that of the largest of an image's five losses, in all epochs
("UEraser-max"). The same pipeline is used whatever the poison: the published variant with JPEG is chosen by the attack's name.

The plasma here sums octaves of bilinear noise, each twice as fine and `roughness` as strong as the one before, which has
the spectrum of the diamond-square algorithm without its loop; strengths are those for CIFAR-10 at every size (for ImageNet the
paper takes brightness 0.3 to 1 and contrast roughness 0.1 to 0.7, and JPEG), and the ranges of TrivialAugment the wide ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from unlearnable.defences._job import Job
from unlearnable.defences.trivial_augment import trivial
from unlearnable.nets import Network
from unlearnable.train import History

PAPER = "Qin et al. 2023, arXiv 2303.15127"
COST = 5.0
WORDS = "UEraser augmentation"
PRESETS: dict[str, dict[str, int]] = {"ueraser": {"draws": 5}}
_ROUGHNESS, _BRIGHTNESS = (0.3, 0.7), (0.5, 1.0)


@dataclass(frozen=True)
class Params:
    draws: int = 5
    "augmentations of every image, of which the worst is learned from"

    def __post_init__(self) -> None:
        if not 1 <= self.draws <= 20:
            raise ValueError(f"draws is 1 to 20, not {self.draws}")


def victim(job: Job, params: Params) -> History:
    few, many = job.generator(), job.generator(job.trains_on)

    def objective(net: Network, images: Tensor, labels: Tensor) -> Tensor:
        views = [erased(images, few, many) for _ in range(params.draws)]
        return torch.stack([F.cross_entropy(net(x).float(), labels, reduction="none") for x in views]).amax(0).mean()

    return job.run(objective=objective)


@torch.no_grad()
def erased(images: Tensor, few: torch.Generator, many: torch.Generator) -> Tensor:
    """(N, 3, S, S) floats in [0, 1] -> the same. `few` draws on the CPU, `many` on the images' device."""
    count, device = len(images), images.device
    size = _between(_BRIGHTNESS, count, few).view(-1, 1, 1, 1).to(device)
    x = (images + size * (2 * plasma(images.shape, _between(_ROUGHNESS, count, few), many) - 1)).clamp(0, 1)
    x = ((x - 0.5) * 4 * plasma(images.shape, _between(_ROUGHNESS, count, few), many) + 0.5).clamp(0, 1)
    order = torch.rand((count, 3), generator=few).argsort(1)
    order = torch.where(torch.rand((count, 1), generator=few) < 0.5, order, torch.arange(3)).to(device)
    x = x.gather(1, order[:, :, None, None].expand_as(x))
    return trivial(x, few)


def plasma(shape: torch.Size, roughness: Tensor, generator: torch.Generator) -> Tensor:
    """(N, C, S, S) clouds, each stretched from 0 to 1, a channel of its own each. roughness: (N,), 0 smooth to 1."""
    device = generator.device
    roughness, strength = roughness.to(device).view(-1, 1, 1, 1), torch.ones((), device=device)
    out, points = torch.zeros(shape, device=device), 2
    while True:
        noise = torch.rand((*shape[:2], points, points), generator=generator, device=device)
        out += strength * F.interpolate(noise, size=list(shape[2:]), mode="bilinear", align_corners=True)
        if points >= shape[-1]:
            break
        strength, points = strength * roughness, 2 * points - 1
    low, high = out.amin((2, 3), True), out.amax((2, 3), True)
    return (out - low) / (high - low).clamp(min=1e-6)


def _between(bounds: tuple[float, float], count: int, generator: torch.Generator) -> Tensor:
    return bounds[0] + (bounds[1] - bounds[0]) * torch.rand(count, generator=generator)

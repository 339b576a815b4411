"""Made-up pictures and jobs for the tests of countermeasures."""

from __future__ import annotations

from typing import Any

import torch
from made_pictures import picture

from unlearnable.defences._job import Job
from unlearnable.train import Recipe


def pictures(each: int, start: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Stripes in three directions, `each` of every class: (N, 3, 16, 16) uint8 and labels."""
    made = [torch.from_numpy(picture(k, start + i)).permute(2, 0, 1) for k in range(3) for i in range(each)]
    return torch.stack(made), torch.arange(3).repeat_interleave(each)


def noise(count: int = 40, side: int = 16, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, side, side), generator=torch.Generator().manual_seed(seed)).byte()


def patterned(images: torch.Tensor, labels: torch.Tensor, levels: int = 100) -> torch.Tensor:
    """The images with 4x4 coloured tiles on them, the same for a whole class: a shortcut that a linear classifier finds."""
    tiles = torch.randint(0, 2, (3, 3, 4, 4), generator=torch.Generator().manual_seed(7)) * 2 - 1
    patterns = tiles.repeat_interleave(4, 2).repeat_interleave(4, 3)
    return (images.int() + levels * patterns[labels]).clamp(0, 255).byte()


def tinted(images: torch.Tensor, labels: torch.Tensor, levels: int = 90) -> torch.Tensor:
    """The images with a colour for each class that leaves their luma as it was: a shortcut in colour alone."""
    tints = torch.tensor([[1.0, -0.5, -0.032], [-1.0, 0.5, 0.032], [0.0, -0.194, 1.0]])
    out = images.float() * 0.4 + 76 + levels * tints[labels].view(-1, 3, 1, 1)
    return out.round().clamp(0, 255).byte()


def job(images: torch.Tensor, clean: torch.Tensor, labels: torch.Tensor, **changes: Any) -> Job:
    made: dict[str, Any] = {
        "images": images,
        "clean": clean,
        "labels": labels,
        "test": pictures(20, 1000),
        "classes": 3,
        "victim": "small",
        "recipe": Recipe(epochs=2, batch=16),
        "seed": 0,
    }
    return Job(**(made | changes))

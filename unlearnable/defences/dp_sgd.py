"""Gradient shaping by DP-SGD: every image's gradient is clipped to one length, and noise is added to their sum.

Abadi et al. 2016, arXiv 1607.00133, against poisons as Hong et al. 2020, arXiv 2002.11497, use it: no privacy is claimed or
counted. Clipping keeps single images from pulling far, so it helps where few are poisoned; where all carry the shortcut,
expect little. The defaults are mild settings of theirs (length 4, noise 0.01). Batch normalisation has no gradient of one
image and becomes group normalisation, and nothing is dropped at random, on the clean arm too.

The arithmetic is Opacus's. It keeps a gradient of every weight for each image of a batch: 6 GB for ResNet-18 and 128 images.
"""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unlearnable.defences._job import Job
from unlearnable.errors import UsageError
from unlearnable.nets import Network
from unlearnable.nets._drop import Drop
from unlearnable.train import History

PAPER = "Hong et al. 2020, arXiv 2002.11497"
COST = 4.0
WORDS = "DP-SGD gradient shaping"
NEEDS = "opacus"
PRESETS: dict[str, dict[str, float]] = {"dp_sgd": {"clip": 4.0, "noise": 0.01}}


@dataclass(frozen=True)
class Params:
    clip: float = 4.0
    "greatest length of an image's gradient"
    noise: float = 0.01
    "standard deviation of the noise on the sum, in clips"

    def __post_init__(self) -> None:
        if not 0 < self.clip <= 1000:
            raise ValueError(f"clip is above 0 and at most 1000, not {self.clip}")
        if not 0 <= self.noise <= 100:
            raise ValueError(f"noise is 0 to 100, not {self.noise}")


def ready() -> None:
    """Raises UsageError where Opacus is not installed."""
    if importlib.util.find_spec(NEEDS) is None:
        raise UsageError(
            "The countermeasure dp_sgd needs Opacus, which is not installed.",
            "pip install 'unlearnable[dp]', or leave it out of --against.",
        )


def victim(job: Job, params: Params) -> History:
    ready()
    hooks: Any = importlib.import_module("opacus.grad_sample").GradSampleHooks
    clipped: Any = importlib.import_module("opacus.optimizers").DPOptimizer
    net = per_image(job.network())
    hooks(net)
    batches = max(1, len(job.labels) // job.recipe.batch)

    def reshape(optimiser: torch.optim.Optimizer) -> torch.optim.Optimizer:
        out: torch.optim.Optimizer = clipped(
            optimiser,
            noise_multiplier=params.noise,
            max_grad_norm=params.clip,
            expected_batch_size=len(job.labels) / batches,
            generator=job.generator(job.trains_on),
        )
        return out

    return job.run(net=net, objective=_in_full, reshape=reshape)


def per_image(net: Network) -> Network:
    """The network with group for batch normalisation, nothing computed in place and nothing drawn, as gradients of one image
    need it."""
    for parent in list(net.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, Drop):
                child.share = 0.0
            elif isinstance(child, nn.BatchNorm2d):
                channels = child.num_features
                groups = next(count for count in (32, 16, 8, 4, 2, 1) if channels % count == 0)
                norm = nn.Sequential(nn.GroupNorm(groups, channels), _Copy())
                setattr(parent, name, norm.to(child.weight.device))
            elif isinstance(child, nn.Conv2d):
                # Opacus 1.6 reads channels-last images as if they were not, and gets other gradients
                child.register_forward_pre_hook(lambda module, given: (given[0].contiguous(),))
            elif hasattr(child, "inplace"):
                child.inplace = False  # type: ignore[assignment]
    return net


class _Copy(nn.Module):
    """So that what follows may add to it in place, as residual blocks do: not to what a hook has seen."""

    def forward(self, x: Tensor) -> Tensor:
        return x.clone()


def _in_full(net: Network, images: Tensor, labels: Tensor) -> Tensor:
    # in float32: a length measured in bfloat16 is not the length that is clipped
    with torch.autocast(images.device.type, enabled=False):
        # Opacus hears of a layer's gradient only where the layer's input needs one
        return F.cross_entropy(net(images.detach().requires_grad_()), labels)

"""Purifies the images with a rate-constrained autoencoder that is trained on the release alone (after D-VAE).

Yu et al. 2024, arXiv 2405.01460. Two stages. An autoencoder that may pass on few nats loses what is fine; the mean of what it
lost over a class's images is what the label alone foretells, the bulk of a class-wise perturbation, and is subtracted. A
second autoencoder, with more nats, rebuilds the images, and the victim trains on these. Needs no clean image.

A reduced form of the paper's method. What differs:
- What was lost is foretold by its mean over a class, where the paper trains a second decoder on the code and an embedding of
  the class (loss: |x - x'|^2 + |x - clip(x' + p)|^2 + 0.01 max(nats, target)). So what is each image's own is left to the
  second stage alone. That decoder was tried, at 600 steps a stage, on 2,000 images of CIFAR-10 with a class-wise pattern of
  4x4 blocks: it left 0.34 to 0.38 of the pattern where the mean leaves 0.21. The paper gives it 23,400 steps on a GPU.
- The second stage hands on its rebuilt images at once; the paper first subtracts its second prediction too.
- A code of 24 numbers for every 4x4 pixels from three convolutions, for a ResNet's; rates are nats a pixel, 0.1 and then 2,
  where the paper's are 1 and 3 nats for each place of its code.
- The price of a nat follows the rate instead of being fixed.
- At least 1,500 steps a stage with a one-cycle rate up to 2e-3, for 60 epochs of Adam from 5e-3 with a cosine.
The figures are a lower bound for what the method can do.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unlearnable.defences._job import Job
from unlearnable.device import autocast, in_parts, stopped
from unlearnable.errors import TrainingError
from unlearnable.train import History

PAPER = "Yu et al. 2024, arXiv 2405.01460"
COST = 2.0
WORDS = "purification by an autoencoder"
PRESETS: dict[str, dict[str, float]] = {"purify": {"bulk_rate": 0.1, "rate": 2.0}}
_BLOCK, _CODE, _WIDTH, _LEARNING_RATE = 4, 24, 96, 2e-3
_QUIET = -4.0  # codes begin nearly without noise: the rate falls to what is allowed once there is something to pass on


@dataclass(frozen=True)
class Params:
    bulk_rate: float = 0.1
    "nats a pixel that the first stage may pass on"
    rate: float = 2.0
    "nats a pixel that the second stage may pass on"
    steps: int = 0
    "steps of each stage; 0 takes the victim's, and at least 1500"

    def __post_init__(self) -> None:
        if not 0 <= self.steps <= 1_000_000:
            raise ValueError(f"steps is 0 to 1000000, not {self.steps}")
        for name in ("bulk_rate", "rate"):
            if not 0.01 <= getattr(self, name) <= 10:
                raise ValueError(f"{name} is 0.01 to 10 nats, not {getattr(self, name)}")


def victim(job: Job, params: Params) -> History:
    return job.run(images=purified(job, params))


def purified(job: Job, params: Params) -> Tensor:
    """The arm's images, (N, 3, V, V) uint8, purified."""
    generator = job.generator(job.device)
    images = job.images.float() / 255
    lost = images - fit(images, job, params.bulk_rate, params.steps, generator).rebuild(images)
    for label in range(job.classes):
        chosen = job.labels == label
        images[chosen] -= lost[chosen].mean(0)  # of no images: nothing
    images.clamp_(0, 1)
    rebuilt = fit(images, job, params.rate, params.steps, generator).rebuild(images)
    return (rebuilt.clamp(0, 1) * 255).round().byte()


class Autoencoder(nn.Module):
    """Images in [0, 1] -> a Gaussian code for every 4x4 pixels -> the image."""

    def __init__(self) -> None:
        super().__init__()
        self.encode = _Bent(3 * _BLOCK**2, 2 * _CODE)
        self.decode = _Bent(_CODE, 3 * _BLOCK**2)

    def forward(self, x: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Image (N, 3, V, V) and nats a pixel (N,). The code is drawn by `generator`; None takes its mean."""
        side = x.shape[-1]
        more = -side % _BLOCK
        blocks = F.pixel_unshuffle(F.pad(x - 0.5, (0, more, 0, more), mode="replicate"), _BLOCK)
        mean, logarithm = self.encode(blocks).float().chunk(2, 1)
        logarithm = (logarithm + _QUIET).clamp(-10, 5)
        nats = 0.5 * (mean**2 + logarithm.exp() - 1 - logarithm).sum((1, 2, 3)) / side**2
        code = mean
        if generator is not None:
            code = mean + (logarithm / 2).exp() * torch.randn(mean.shape, generator=generator, device=mean.device)
        out = F.pixel_shuffle(self.decode(code).float(), _BLOCK) + 0.5
        return out[:, :, :side, :side], nats

    @torch.no_grad()
    def rebuild(self, images: Tensor) -> Tensor:
        """Images without sampling."""
        with autocast(images.device):
            return torch.cat(in_parts(lambda part: self(images[part])[0], len(images), 500))


class _Bent(nn.Module):
    """A bent path beside a straight one, which learns fast."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.straight = nn.Conv2d(inputs, outputs, 1)
        self.first = nn.Conv2d(inputs, _WIDTH, 3, 1, 1)
        self.second = nn.Conv2d(_WIDTH, _WIDTH, 3, 1, 1)
        self.third = nn.Conv2d(_WIDTH, outputs, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        bent: Tensor = self.third(F.gelu(self.second(F.gelu(self.first(x)))))
        out: Tensor = bent + self.straight(x)
        return out


def fit(images: Tensor, job: Job, rate: float, steps: int, generator: torch.Generator) -> Autoencoder:
    """An autoencoder of floats (N, 3, V, V) in [0, 1] that passes on about `rate` nats a pixel."""
    net = _create(job, generator)
    batches = max(1, len(images) // job.recipe.batch)
    steps = steps or max(1500, job.recipe.epochs * batches)
    price = torch.tensor(1e-4, device=job.device)
    optimiser = torch.optim.Adam(net.parameters(), _LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, _LEARNING_RATE, total_steps=steps + 2)
    for step in range(steps):
        if stopped():
            raise TrainingError("The training was given up.")
        if step % batches == 0:
            parts = torch.randperm(len(images), generator=generator, device=job.device).tensor_split(batches)
        x = images[parts[step % batches]]
        with autocast(job.device):
            image, nats = net(x, generator)
        passed = nats.mean()
        loss = ((x - image) ** 2).mean() + price * passed
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
        price = price * torch.where(passed.detach() > rate, 1.03, 1 / 1.03)  # no waiting for a GPU
    return net.eval()


def _create(job: Job, generator: torch.Generator) -> Autoencoder:
    with torch.device("meta"):  # the global generator stays untouched: other victims are made in other threads
        net = Autoencoder()
    net = net.to_empty(device=job.device)
    for value in net.parameters():
        if value.dim() > 1:
            nn.init.normal_(value, 0, (2 / value[0].numel()) ** 0.5, generator=generator)
        else:
            nn.init.zeros_(value)
    return net

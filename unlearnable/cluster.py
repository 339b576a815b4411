"""Labels for images that have none: clusters of features that a network learned without labels.

SimCLR (Chen et al. 2020, arXiv 2002.05709) on the training part: two random crops of one image are told from all others.
The views are shuffled in colour channels, brightness and contrast, so that clusters cannot be piles of one colour. K-means
centres are fitted on the training part alone; every other image takes the nearest centre. An owner who has weights of
torchvision's ResNet-18 can have its features clustered instead.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from unlearnable import nets
from unlearnable.augment import resized_crop
from unlearnable.device import autocast
from unlearnable.errors import UsageError
from unlearnable.train import History, Recipe, train

SIZE = 48  # pixels a side that the label-free network sees
NAMED, NAMED_SIZE = "resnet18", 224  # the network whose weights an owner can name, and what it expects
MAX_IMAGES = 4000
_TEMPERATURE = 0.5


@dataclass(frozen=True)
class Labeller:
    """Gives every image a cluster. side: what `net` sees; mean: (F,) of its features; centres: (K, F) unit vectors."""

    net: nets.Network
    side: int
    mean: Tensor
    centres: Tensor

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """(N, 3, any, any) uint8 -> (N,) int64 cluster numbers."""
        return (F.normalize(_embed(self.net, images, self.side) - self.mean) @ self.centres.T).argmax(1)

    def state(self) -> dict[str, Any]:
        """Tensors only, for the owner folder: the same clusters on the next run."""
        return {"net": self.net.state_dict(), "side": self.side, "mean": self.mean, "centres": self.centres}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Labeller:
        net = _network(state["side"], seed=0)
        net.load_state_dict(state["net"])
        return cls(net.eval(), state["side"], state["mean"], state["centres"])


def fit(
    images: Tensor,
    clusters: int,
    *,
    seed: int,
    epochs: int = 15,
    weights: Path | None = None,
    on_epoch: Callable[[int, History], None] = lambda epoch, history: None,
) -> Labeller:
    """Learns features, or takes those of named weights, and `clusters` centres from (N, 3, V, V) uint8 images.

    Raises UsageError with too few images, or when the weights are not those of the network they should be of.
    """
    if len(images) < 2 * clusters:
        raise UsageError(
            f"{len(images)} images are too few for {clusters} clusters.",
            "Add images, or ask for fewer with --clusters.",
        )
    sample = images[:: -(-len(images) // MAX_IMAGES)]
    side = NAMED_SIZE if weights else SIZE
    net = _network(side, seed)
    generator = torch.Generator().manual_seed(seed + 1)
    if weights:
        nets.load_weights(net, weights)
    else:
        _learn(net, resize(sample, SIZE), seed, epochs, generator, on_epoch)
    embedded = _embed(net, sample, side)
    mean = embedded.mean(0)
    return Labeller(net.eval(), side, mean, k_means(F.normalize(embedded - mean), clusters, generator))


def _network(side: int, seed: int) -> nets.Network:
    return nets.create(NAMED if side == NAMED_SIZE else "small", 128, side, seed)


def _learn(
    net: nets.Network,
    images: Tensor,
    seed: int,
    epochs: int,
    generator: torch.Generator,
    on_epoch: Callable[[int, History], None],
) -> None:

    def objective(net: nets.Network, x: Tensor, labels: Tensor) -> Tensor:
        del labels
        pixels = (x * 255).round().byte()
        return nt_xent(net(_view(pixels, generator)).float(), net(_view(pixels, generator)).float())

    recipe = Recipe(epochs=epochs, batch=min(256, len(images)), learning_rate=0.1, augment="none")
    none = torch.zeros(len(images), dtype=torch.long)
    train(net, images, none, recipe, seed=seed, objective=objective, on_epoch=on_epoch)


def nt_xent(a: Tensor, b: Tensor, temperature: float = _TEMPERATURE) -> Tensor:
    """Normalised temperature-scaled cross entropy of two views (N, D): each row's positive is its other view."""
    z = F.normalize(torch.cat([a, b]))
    similarity = z @ z.T / temperature
    similarity.fill_diagonal_(float("-inf"))
    count = len(a)
    return F.cross_entropy(similarity, torch.arange(2 * count).roll(count))


def k_means(points: Tensor, clusters: int, generator: torch.Generator, rounds: int = 50, restarts: int = 5) -> Tensor:
    """Spherical k-means with k-means++ seeding: unit vectors (N, F) -> (K, F) unit centres, the best of `restarts`."""
    best, lowest = points[:clusters], float("inf")
    for _ in range(restarts):
        centres = _spread(points, clusters, generator)
        for _ in range(rounds):
            nearest = (points @ centres.T).argmax(1)
            sums = torch.zeros_like(centres).index_add_(0, nearest, points)
            # an emptied cluster restarts at the point that is worst served
            empty = torch.bincount(nearest, minlength=clusters) == 0
            sums[empty] = points[(points @ centres.T).amax(1).argmin()]
            moved = F.normalize(sums)
            if torch.allclose(moved, centres, atol=1e-5):
                break
            centres = moved
        loss = (1 - (points @ centres.T).amax(1)).sum().item()
        if loss < lowest:
            best, lowest = centres, loss
    return best


def _spread(points: Tensor, clusters: int, generator: torch.Generator) -> Tensor:
    chosen = [int(torch.randint(len(points), (), generator=generator))]
    distance = 1 - points @ points[chosen[0]]
    for _ in range(clusters - 1):
        weights = distance.clamp(min=1e-9)
        chosen.append(int(torch.multinomial(weights, 1, generator=generator)))
        distance = torch.minimum(distance, 1 - points @ points[chosen[-1]])
    return points[chosen]


@torch.no_grad()
def _embed(net: nets.Network, images: Tensor, side: int) -> Tensor:
    """(N, F) features of uint8 images of any square size, shown to the network at `side`."""
    net.eval()
    with autocast(images.device):
        parts = [net.features(resize(part, side).float() / 255).float() for part in torch.split(images, 250)]
    return torch.cat(parts)


def _view(pixels: Tensor, generator: torch.Generator) -> Tensor:
    x = resized_crop(pixels, generator, area=(0.3, 1.0))
    count = len(x)
    order = torch.rand((count, 3), generator=generator).argsort(1)
    x = x.gather(1, order[:, :, None, None].expand_as(x))
    grey = x.mean(1, keepdim=True).expand_as(x)
    x = torch.where(torch.rand((count, 1, 1, 1), generator=generator) < 0.3, grey, x)
    gain = 0.6 + 0.8 * torch.rand((count, 3, 1, 1), generator=generator)
    shift = 0.4 * torch.rand((count, 3, 1, 1), generator=generator) - 0.2
    return ((x - 0.5) * gain + 0.5 + shift).clamp(0, 1)


def resize(images: Tensor, side: int) -> Tensor:
    """uint8 images of any square size -> (N, 3, side, side) uint8."""
    if images.shape[-1] == side:
        return images
    out = F.interpolate(images.float(), size=(side, side), mode="bilinear", antialias=True)
    return out.round().clamp(0, 255).byte()

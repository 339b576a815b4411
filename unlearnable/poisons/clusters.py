"""Label-agnostic noise by clusters: every cluster of images is made to look like another one (UC).

The features of a surrogate are clustered by k-means. Every cluster i gets one pattern that moves *any* image, whatever it
shows, to the centre of cluster g(i), where g is a secret derangement; each image gets the pattern of its own cluster. Labels
are never looked at when images are perturbed, so that it does not matter by which labels a scraper trains. "Unlearnable
Clusters: Towards Label-Agnostic Unlearnable Examples" (Zhang et al. 2023, arXiv 2301.01217).

images: (N, 3, S, S) uint8; returns (N, 3, S, S) float within eps. The paper's budget is 16 levels: --eps 16.

As in the paper: KL(softmax(centre) || softmax(feature(x + pattern))) of the features before the last layer, over the whole
set for every pattern, on randomly cropped and flipped images; a generator network makes the pattern of random numbers (Adam,
weight decay 5e-4, cosine schedule). Otherwise: g is secret where the paper has i + 1; the generator ends in eps tanh where
the paper clips; its learning rate is 1e-3, not 1e-4, because small sets make few steps; clusters are of directions from the
mean feature, by the k-means of the tool (`cluster`), and the centre to go to is the mean of the cluster's features.
`noise=direct` optimises the pattern's pixels: quicker where images are small, but weaker in the one miniature it was tried
in (800 of CIFAR-10, small networks, 5 clusters, 5 epochs, 16 levels; peaks of 32 % and 21 %, clean 44 %).

The surrogate is trained on the images with the labels they have; without labels these are the tool's own clusters, of a
network that learned without any. One that is named with weights ("resnet50@DEFAULT", as in the paper) is taken as it is.
Centres and patterns are frozen with the fit: later images, of whatever class, take the nearest centre. Whoever finds the
clusters can average the patterns out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unlearnable import cluster, nets, registry
from unlearnable.augment import crop_flip
from unlearnable.device import Room, autocast, in_parts
from unlearnable.errors import TrainingError, UsageError
from unlearnable.nets import Network
from unlearnable.poisons import _surrogates
from unlearnable.poisons._derange import derangement
from unlearnable.types import Batch, Context, State

PAPER = "Zhang et al. 2023, arXiv 2301.01217"
COST = "500 F+B an image of the fit (50 epochs, 10 clusters) + a surrogate; 1 F an image afterwards"
LEVEL = "sample"
NEEDS_LABELS = False
TRAINS = True
PRESETS: dict[str, dict[str, object]] = {"uc": {}}


@dataclass(frozen=True)
class Params:
    net: str = "resnet18"
    "network whose features are clustered: trained on the images, or with weights (NAME@WEIGHTS) taken as it is"

    clusters: int = 10
    "number of clusters, and of patterns"

    noise: Literal["generator", "direct"] = "generator"
    "generator: what is optimised is a network that makes the pattern of random numbers, as in the paper; direct: the pattern"

    epochs: int = 50
    "passes over the images for every pattern"

    batch: int = 256
    "images in a batch"

    rate: float = 0.0
    "Adam's learning rate; 0 is 0.001 for the generator, a tenth of the budget for direct"

    def __post_init__(self) -> None:
        if len(registry.ensemble(self.net)) != 1:
            raise ValueError(f"net is one network, whose features are clustered, not {self.net!r}")
        if not 2 <= self.clusters <= 1000:
            raise ValueError(f"clusters is 2 to 1000, not {self.clusters}")
        if self.noise not in ("direct", "generator"):
            raise ValueError(f"noise is direct or generator, not {self.noise!r}")
        if min(self.epochs, self.batch) < 1:
            raise ValueError("epochs and batch are at least 1")
        if not 0 <= self.rate <= 1:
            raise ValueError(f"rate is 0 to 1, not {self.rate}")


def fit(data: Batch | None, params: Params, context: Context) -> State:
    """The surrogate's state and what K clusters of F features are.

    "mean" (F,) and "centres" (K, F), unit vectors from it; "targets" {cluster: cluster}; "goals" (K, F), what each pattern
    moves features to; "patterns" (K, 3, S, S) in budgets; "before" and "after", the K mean divergences from the goals.
    """
    if data is None:
        raise ValueError("clusters needs training images")
    if len(data) < 2 * params.clusters:
        raise UsageError(
            f"{len(data)} images are too few for {params.clusters} clusters.", "Add images, or --set clusters=2."
        )
    state = _surrogates.pack([_surrogate(data, params, context)], params.net, context)
    (net,) = _surrogates.unpack(state, context)
    found = features(net, data.images, params, context)
    mean = found.mean(0)
    generator = torch.Generator().manual_seed(context.key.seed("clusters", "k-means"))
    centres = cluster.k_means(F.normalize(found - mean), params.clusters, generator)
    own = nearest(found, mean, centres)
    count = torch.bincount(own, minlength=params.clusters)
    if not count.all():
        raise UsageError(
            f"The images fall into {int((count > 0).sum())} clusters, not {params.clusters}: many are the same.",
            "Ask for fewer: --set clusters=2.",
        )
    raw = torch.stack([found[own == number].mean(0) for number in range(params.clusters)])
    names = [str(number) for number in range(params.clusters)]
    targets = derangement(names, context.key.rng("clusters", "derangement"))
    goals = raw[[int(targets[name]) for name in names]]
    patterns, before, after = [], [], []
    for number, goal in enumerate(goals):
        patterns.append(_pattern(net, data, goal.to(context.device), number, params, context))
        moved = features(net, data.images, params, context, patterns[-1] * context.eps)
        before.append(apart(found, goal).mean().item())
        after.append(apart(moved, goal).mean().item())
        context.tell(
            f"clusters: pattern {number + 1} of {len(goals)}, divergence {before[-1]:.4f} without it, {after[-1]:.4f} with"
        )
    kept = {"mean": mean, "centres": centres, "goals": goals, "targets": targets, "patterns": torch.stack(patterns)}
    return {**state, **kept, "before": before, "after": after}


def delta(batch: Batch, state: State, params: Params, context: Context) -> Tensor:
    """The pattern of the cluster whose centre is nearest to the image."""
    (net,) = _surrogates.unpack(state, context)
    own = nearest(features(net, batch.images, params, context), state["mean"], state["centres"])
    patterns: Tensor = state["patterns"]
    return (patterns[own] * context.eps).to(batch.images.device)


def apart(found: Tensor, goal: Tensor) -> Tensor:
    """(N,) KL(softmax(goal) || softmax(features)) of (N, F) features and an (F,) goal."""
    wanted, have = goal.log_softmax(-1), found.log_softmax(-1)
    return (wanted.exp() * (wanted - have)).sum(-1)


@torch.no_grad()
def features(net: Network, images: Tensor, params: Params, context: Context, added: Tensor | None = None) -> Tensor:
    """(N, F) on the CPU, of uint8 images with a pattern added.

    In float32: an image between two clusters must not depend on the batch that it comes in.
    """

    def one(part: slice) -> Tensor:
        seen = images[part].to(context.device).float() / 255
        found: Tensor = net.features(seen if added is None else seen + added.to(context.device))
        return found.float().cpu()

    return torch.cat(in_parts(one, len(images), params.batch, context.tell))


def nearest(found: Tensor, mean: Tensor, centres: Tensor) -> Tensor:
    """(N,) clusters of (N, F) features: the centre whose direction from the mean is theirs, or nearest to it."""
    return (F.normalize(found - mean) @ centres.T).argmax(1)


def _surrogate(data: Batch, params: Params, context: Context) -> Network:
    if "@" in params.net:
        net = nets.create(params.net, len(context.classes), context.size, seed=0)
        net.normalise_for(data.images)
        return _surrogates.freeze(net, context.device)
    if len(torch.unique(data.labels)) < 2:
        raise UsageError(
            "All images are of one class, which teaches the surrogate of clusters nothing.",
            "Pass --labels none to learn from clusters, or name a network with weights: --set net=resnet18@DEFAULT.",
        )
    (net,), _ = _surrogates.trained(data, params.net, context)
    return net


def _pattern(net: Network, data: Batch, goal: Tensor, number: int, params: Params, context: Context) -> Tensor:
    """(3, S, S) in budgets, -1 to 1, that moves the features of any image to the goal."""
    generator = torch.Generator().manual_seed(context.key.seed("clusters", "pattern", number))
    make, optimiser = _noise(params, context, generator)
    room = Room(context.tell)
    batches = max(1, len(data) // params.batch)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, params.epochs * batches)
    for _ in range(params.epochs):
        total = torch.zeros((), device=context.device)
        for chosen in torch.randperm(len(data), generator=generator).tensor_split(batches):
            images = crop_flip(data.images[chosen].to(context.device), generator)

            def divergence(part: slice, images: Tensor = images) -> Tensor:
                with autocast(images.device):
                    seen = net.features(images[part] + make() * context.eps)
                return apart(seen.float(), goal).mean()

            loss = room.gradients(divergence, len(images), optimiser)
            optimiser.step()
            schedule.step()
            total += loss * len(chosen) / len(data)
        if not total.isfinite():
            raise TrainingError(
                f"clusters: the divergence was {total.item()} for pattern {number + 1}.",
                "Try another network: --set net=",
            )
    return make().detach().float().cpu()


def _noise(
    params: Params, context: Context, generator: torch.Generator
) -> tuple[Callable[[], Tensor], torch.optim.Optimizer]:
    """A function that makes the pattern (3, S, S) in budgets, and the optimiser of what it makes it of."""
    shape = (3, context.size, context.size)
    if params.noise == "direct":
        raw = (torch.rand(shape, generator=generator) * 2 - 1).to(context.device).requires_grad_()
        return lambda: raw.clamp(-1, 1), torch.optim.Adam([raw], lr=params.rate or 0.1)
    side = -(-context.size // 4) * 4  # it halves the side twice
    z = torch.rand((1, 3, side, side), generator=generator).to(context.device)
    maker = _Generator(generator).to(context.device)
    optimiser = torch.optim.Adam(maker.parameters(), lr=params.rate or 1e-3, weight_decay=5e-4)
    return lambda: maker(z)[0, :, : context.size, : context.size], optimiser


class _Generator(nn.Module):
    """Johnson's image transformer (2016, arXiv 1603.08155) as CycleGAN has it: down twice, residual blocks, up twice."""

    def __init__(self, generator: torch.Generator, width: int = 64, blocks: int = 6) -> None:
        super().__init__()
        inner = 4 * width
        layers = [*_layer(nn.Conv2d(3, width, 7, padding=3))]
        layers += _layer(nn.Conv2d(width, 2 * width, 3, 2, 1)) + _layer(nn.Conv2d(2 * width, inner, 3, 2, 1))
        layers += [_Residual(inner) for _ in range(blocks)]
        layers += _layer(nn.ConvTranspose2d(inner, 2 * width, 3, 2, 1, output_padding=1))
        layers += _layer(nn.ConvTranspose2d(2 * width, width, 3, 2, 1, output_padding=1))
        self.layers = nn.Sequential(*layers, nn.Conv2d(width, 3, 7, padding=3), nn.Tanh())
        for weight in self.parameters():
            nn.init.normal_(weight, std=0.02, generator=generator) if weight.dim() > 1 else nn.init.zeros_(weight)

    def forward(self, z: Tensor) -> Tensor:
        out: Tensor = self.layers(z)
        return out


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        first, second = (nn.Conv2d(width, width, 3, padding=1) for _ in range(2))
        self.layers = nn.Sequential(*_layer(first), second, nn.InstanceNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.layers(x)
        return out


def _layer(convolution: nn.Module) -> list[nn.Module]:
    """Of one image a batch norm's statistics are an instance norm's."""
    return [convolution, nn.InstanceNorm2d(int(convolution.out_channels)), nn.ReLU()]  # type: ignore[arg-type]

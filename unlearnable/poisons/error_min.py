"""Error-minimising noise ("unlearnable examples"): images look learned already (SU sample-wise, CU class-wise).

A network and the noise are trained together, both to make the loss small: a few steps for the network, then gradient
descent on the noise, until the network reads nearly every noisy image right. A victim finds the noise to be all that it
needs and learns nothing else. "Unlearnable Examples: Making Personal Data Unexploitable" (Huang et al. 2021,
arXiv 2101.04898); peak accuracies on CIFAR-10 are 34 % (SU) and 33 % (CU) in Sandoval-Segura et al. 2022, arXiv 2204.08615.

images: (N, 3, S, S) uint8; labels: (N,) int64; returns (N, 3, S, S) float within eps.

As in the authors' code: SGD at a constant 0.1 (momentum 0.9, weight decay 5e-4, gradient norm clipped at 5), no
augmentation, batches of 512, steps of 0.1 eps; class-wise noise is searched on a fifth of the images, one step for each
batch, and is the mean over the images of a class. Otherwise: images are taken in a secret order, because a folder's order
is class by class; sample-wise noise keeps to legal pixels throughout, because that is what ships; and noise stays signed,
where the authors' loader drops its negative half. Images that were not in the fit (those outside the sample that it saw, a
test split, later arrivals) get sample-wise noise by the same descent from zero against the final network.

Several processes (`distributed`) fit together: each holds the noise of its own images and trains on these, in batches that
make one of `batch` together; class-wise noise is the mean over the images of all. They stop together, by the share that all
of them misread. Another number of processes finds other noise of the same strength.

Does not survive grey-scale, JPEG-10, adversarial augmentation or adversarial training; class-wise noise can be averaged out
by whoever has the labels. New classes need a new fit.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from unlearnable import distributed, nets, registry
from unlearnable.device import Room, autocast, in_parts
from unlearnable.distributed import ALONE, World
from unlearnable.errors import TrainingError
from unlearnable.nets import Network
from unlearnable.poisons import _features, _noise, _patterns, _pgd, _surrogates
from unlearnable.types import Batch, Context, State

PAPER = "Huang et al. 2021, arXiv 2101.04898"
COST = "20 F+B an image a round (sample) or 0.2 (class), rounds unknown beforehand"
LEVEL = "sample"
NEEDS_LABELS = True
TRAINS = True
PRESETS: dict[str, dict[str, object]] = {
    "su": {"level": "sample"},
    "cu": {"level": "class"},
}

_CLASS_BATCHES = 20  # in a round, at least: as many as in the paper's; a small set is walked through several times
_NORM = 5.0  # of the network's gradient, at most
_OWN_NOISE = "Add images of it, or give every image noise of its own: --preset su."


@dataclass(frozen=True)
class Params:
    level: Literal["sample", "class"] = "sample"
    "sample: noise of its own for every image; class: one noise for each class, cheaper and easier to remove"

    net: str = "resnet18"
    "network that is trained together with the noise"

    train_steps: int = 10
    "steps of the network in each round"

    steps: int = 0
    "steps of the noise in each round; 0 is 20 for sample, 1 for class"

    step: float = 0.1
    "length of a step of the noise as a share of the budget"

    stop_error: float = 0.01
    "the noise is done when the network misreads at most this share of the noisy images"

    rounds: int = 50
    "rounds after which the noise is taken as it is"

    batch: int = 512
    "images in a batch of training, and of the search for class-wise noise"

    subset: float = 0.2
    "share of every class that class-wise noise is searched on"

    def __post_init__(self) -> None:
        if len(registry.ensemble(self.net)) != 1:
            raise ValueError(f"net is one network, trained together with the noise, not {self.net!r}")
        if self.level not in ("sample", "class"):
            raise ValueError(f"level is sample or class, not {self.level!r}")
        _pgd.check_ranges(self.steps or 1, self.step, batch=self.batch)
        if min(self.train_steps, self.rounds, self.batch) < 1:
            raise ValueError("train_steps, rounds and batch are at least 1")
        if not 0 <= self.stop_error < 1:
            raise ValueError(f"stop_error is a share from 0 to 1, not {self.stop_error}")
        if not 0 < self.subset <= 1:
            raise ValueError(f"subset is a share above 0, at most 1, not {self.subset}")


class _SampleNoise:
    """One noise for every image, held where the images are."""

    def __init__(self, data: Batch, params: Params, context: Context, world: World = ALONE) -> None:
        self.data, self.context, self.world = data, context, world
        self.room = Room(context.tell, _pgd.at_once(0, context))
        self.kept = _noise.Kept(data, context, world)
        self.at, self.state = self.kept.at, self.kept.state
        self.searched = torch.arange(len(data))
        self.descent = _descent(params)

    def improve(self, net: Network) -> None:
        for chosen in _pgd.pieces(self.world.rows(self.searched), self.room.size):
            found = _descended(net, self, chosen)
            ids = [self.data.ids[row] for row in chosen.tolist()]
            self.kept.put(chosen, _pgd.require_finite(found, ids, "error_min"))


class _ClassNoise:
    """One noise for every class, searched on a stratified subset; every process holds it, and searches on its share."""

    def __init__(self, data: Batch, params: Params, context: Context, world: World = ALONE) -> None:
        self.data, self.context, self.size, self.world = data, context, params.batch, world
        self.room = Room(context.tell, params.batch)
        _features.require_every_class(
            data, context, "class-wise noise is searched on images of every class", _OWN_NOISE
        )
        self.noise = torch.zeros((len(context.classes), *data.images.shape[1:]), device=context.device)
        self.generator = torch.Generator().manual_seed(context.key.seed("error_min", "subset"))
        parts = []
        for label in range(len(context.classes)):
            members = (data.labels == label).nonzero()[:, 0].cpu()
            wanted = math.ceil(len(members) * params.subset)
            parts.append(members[torch.randperm(len(members), generator=self.generator)[:wanted]])
        self.searched = torch.cat(parts)
        self.descent = _descent(params)

    def at(self, chosen: Tensor) -> Tensor:
        return self.noise[self.data.labels[chosen].to(self.context.device)]

    def improve(self, net: Network) -> None:
        for chosen in self._batches():
            found = _descended(net, self, chosen)
            labels = self.data.labels[chosen].to(found.device)
            # means as one product: unlike index_add, the same bytes every time on CUDA
            member = (labels == torch.arange(len(self.noise), device=labels.device)[:, None]).float()
            count = self.world.total(member.sum(1))
            total = self.world.total(member @ found.flatten(1))
            mean = total.view_as(self.noise) / count.clamp(min=1).view(-1, 1, 1, 1)
            present = (count > 0).view(-1, 1, 1, 1)
            self.noise = torch.where(present, mean.clamp(-self.context.eps, self.context.eps), self.noise)

    def _batches(self) -> Iterator[Tensor]:
        in_a_pass = math.ceil(len(self.searched) / self.size)
        for _ in range(math.ceil(_CLASS_BATCHES / in_a_pass)):
            order = torch.randperm(len(self.searched), generator=self.generator)
            yield from (self.world.rows(chosen) for chosen in _pgd.pieces(self.searched[order], self.size))

    def state(self) -> State:
        return {"patterns": dict(zip(self.context.classes, self.noise.cpu().unbind(), strict=True))}


def fit(data: Batch | None, params: Params, context: Context) -> State:
    """Trains noise and network together: the network's state, "rounds", "error", "converged" and the noise.

    Sample-wise "ids" and "noise" (n, 3, S, S) int8 in 127ths of the budget; class-wise "patterns" {class: (3, S, S)}.
    """
    if data is None:
        raise ValueError("error_min needs training images")
    net = nets.create(params.net, len(context.classes), context.size, context.key.seed("error_min", "net"))
    net.normalise_for(data.images)
    net.to(context.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    world = distributed.world()
    batches = _noise.batches(len(data), params.batch, context.key, "error_min", world)
    noise = (_SampleNoise if params.level == "sample" else _ClassNoise)(data, params, context, world)
    trained, room = world.together(net), _noise.room(context, world)
    optimiser = torch.optim.SGD(net.parameters(), lr=net.learning_rate, momentum=0.9, weight_decay=5e-4)
    number, error, loss = 0, 1.0, math.inf
    while number < params.rounds and error > params.stop_error:
        number += 1
        net.train().requires_grad_(True)
        for _ in range(params.train_steps):
            chosen = next(batches)
            images, labels = _noise.take(data, chosen, context)
            _noise.learn(trained, optimiser, images.float() / 255 + noise.at(chosen), labels, room, most=_NORM)
        world.agree(net)
        _surrogates.freeze(net, context.device)
        noise.improve(net)
        error, loss = _measure(net, noise)
        if not math.isfinite(loss):
            raise TrainingError(f"error_min: the loss was {loss} in round {number}.", "Try another network: --set net=")
        context.tell(f"error_min: round {number} of at most {params.rounds}, {error:.1%} misread, loss {loss:.3f}")
    if error > params.stop_error:
        context.tell(
            f"error_min stopped after {number} rounds with {error:.1%} of the noisy images misread, short of its aim of"
            f" {params.stop_error:.1%}: the protection may be weak. More rounds: --set rounds={2 * params.rounds}"
        )
    facts = {"rounds": number, "error": error, "loss": loss, "converged": error <= params.stop_error}
    return _surrogates.pack([net], params.net, context, **noise.state(), **facts)


def delta(batch: Batch, state: State, params: Params, context: Context) -> Tensor:
    """The noise found for every image or class; sample-wise, images that were not in the fit are crafted now."""
    if params.level == "class":
        return _patterns.lookup(state["patterns"], batch, context, lambda noise: noise)

    def craft(new: Tensor) -> Tensor:
        (net,) = _surrogates.unpack(state, context)
        wanted = _surrogates.outputs(batch.labels, state, context)

        def one(part: slice) -> Tensor:
            chosen = new[part]
            images, labels = batch.images[chosen].to(context.device), wanted[chosen].to(context.device)
            start = torch.zeros(images.shape, device=context.device)
            found = _descent(params).run([net], images, labels, start, context.eps, None)
            return _pgd.require_finite(found, [batch.ids[row] for row in chosen.tolist()], "error_min")

        return torch.cat(in_parts(one, len(new), _pgd.at_once(0, context), context.tell))

    return _noise.of(batch, state, context, craft)


def _descent(params: Params) -> _pgd.Descent:
    sample = params.level == "sample"
    return _pgd.Descent(_pgd.toward, params.steps or (20 if sample else 1), params.step, box=sample)


def _descended(net: Network, noise: _SampleNoise | _ClassNoise, chosen: Tensor) -> Tensor:
    """(n, 3, S, S): the noise of the chosen images after its steps on the frozen network."""
    images, labels = _noise.take(noise.data, chosen, noise.context)
    found = noise.at(chosen)

    def one(part: slice) -> None:
        found[part] = noise.descent.run([net], images[part], labels[part], found[part], noise.context.eps, None)

    noise.room.parts(one, len(chosen))
    return found


@torch.no_grad()
def _measure(net: Network, noise: _SampleNoise | _ClassNoise) -> tuple[float, float]:
    """Share of the searched images, of all processes, that the frozen network misreads under their noise; the mean loss."""
    rows = noise.world.rows(noise.searched)

    def one(part: slice) -> Tensor:
        images, labels = _noise.take(noise.data, rows[part], noise.context)
        with autocast(images.device):
            logits = net(images.float() / 255 + noise.at(rows[part])).float()
        return torch.stack([(logits.argmax(1) != labels).sum(), F.cross_entropy(logits, labels, reduction="sum")])

    wrong, loss = noise.world.total(torch.stack(noise.room.parts(one, len(rows))).sum(0)).tolist()
    return wrong / len(noise.searched), loss / len(noise.searched)

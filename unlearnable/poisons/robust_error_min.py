"""Robust error-minimising noise: images look learned already, even to who trains adversarially (REM; or a cheap variant).

A network is trained adversarially on noisy images while the noise makes small what its attacker makes large:
min over noise of the mean over augmentations t of max over |e| <= radius of the loss on t(x + noise) + e. "Robust
Unlearnable Examples: Protecting Data Privacy Against Adversarial Learning" (Fu et al. 2022, arXiv 2203.14533); from memory
of it, adversarial training at 4 grey levels ends at 48 % on CIFAR-10 at 8, where error_min leaves 89 %.

`rem_cheap` is not REM: it is what APBench (Qin et al. 2023, arXiv 2308.03258) runs under that name. No augmentation, no
adversarial training, and the attacker goes once, before the noise descends: five steps up, then five down from there. Its
published figures (17 % on CIFAR-10, 77 % under adversarial training) and REM's are not of one method.

images: (N, 3, S, S) uint8; labels: (N,) int64; returns (N, 3, S, S) float within eps and within legal pixels.

As in the authors' code: 5,000 batches of 128, SGD at 0.1 (momentum 0.9, weight decay 5e-4) that falls tenfold after 2/5 and
4/5 of them; noise and attacker take ten signed steps of a fifth of their radius from uniform starts, against the network in
evaluation mode; five random crops (S/8 black pixels around) and flips in every step, through which the gradient flows back
to the noise; when the network is done all noise is made anew on it. Otherwise: images are taken in a secret order, noise
keeps to legal pixels, and the attacker's radius is half of the budget, whatever that is (the paper's 4 of 8).
`rem_cheap` runs in this loop too, where APBench goes on from the last round's noise until 99 % are read right.

Images that were not in the fit (those outside the sample that it saw, later arrivals) get theirs on the final network in the
same way. Several processes (`distributed`) play on a part of every batch each, with draws of their own, and at the end make
the noise of their share of the images. Does not survive grey-scale or JPEG-10. New classes need a new fit.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from unlearnable import distributed, nets, registry
from unlearnable.device import Room, in_parts
from unlearnable.distributed import World
from unlearnable.errors import TrainingError
from unlearnable.nets import Network
from unlearnable.poisons import _noise, _pgd, _surrogates
from unlearnable.poisons._draws import Draws
from unlearnable.types import Batch, Context, State

PAPER = "Fu et al. 2022, arXiv 2203.14533; rem_cheap: Qin et al. 2023, arXiv 2308.03258"
COST = "7,700 F+B an image, for 50,000 images (rem); 150 (rem_cheap); iterations, not images, set the cost of the fit"
LEVEL = "sample"
NEEDS_LABELS = True
TRAINS = True
PRESETS: dict[str, dict[str, object]] = {
    "rem": {},
    "rem_cheap": {"samples": 0, "robust": False, "attacker": "before", "steps": 5, "attack_steps": 5},
}

_LINES = 50  # of progress

Draw = Callable[..., Tensor]  # (*shape) -> (N, *shape) uniform in [0, 1), for the images at hand and where they are


@dataclass(frozen=True)
class Params:
    net: str = "resnet18"
    "network that is trained together with the noise"

    iterations: int = 5000
    "batches that the network is trained on, each with noise made for it"

    batch: int = 128
    "images in a batch"

    steps: int = 10
    "steps of the noise"

    step: float = 0.2
    "length of a step of the noise as a share of the budget"

    samples: int = 5
    "random crops and flips that every step of the noise is averaged over; 0 is the image as it is"

    attack_radius: float = 0.5
    "the attacker's largest change of a pixel as a share of the budget; 0 is no attacker"

    attack_steps: int = 10
    "steps of the attacker"

    attack_step: float = 0.2
    "length of a step of the attacker as a share of its radius"

    attacker: Literal["inside", "before"] = "inside"
    "inside: a new attack in every step of the noise; before: one attack, and the noise descends from where that ends"

    robust: bool = True
    "whether the network is trained adversarially"

    def __post_init__(self) -> None:
        if len(registry.ensemble(self.net)) != 1:
            raise ValueError(f"net is one network, trained together with the noise, not {self.net!r}")
        _pgd.check_ranges(self.steps, self.step, batch=self.batch)
        if min(self.iterations, self.batch, self.attack_steps) < 1:
            raise ValueError("iterations, batch and attack_steps are at least 1")
        if not 0 <= self.samples <= 100:
            raise ValueError(f"samples is 0 to 100, not {self.samples}")
        if not 0 <= self.attack_radius <= 1:
            raise ValueError(f"attack_radius is a share of the budget from 0 to 1, not {self.attack_radius}")
        if not 0 < self.attack_step <= 2:
            raise ValueError(f"attack_step is above 0, at most 2 radii, not {self.attack_step}")
        if self.attacker not in ("inside", "before"):
            raise ValueError(f"attacker is inside or before, not {self.attacker!r}")


@dataclass(frozen=True)
class Game:
    """The three who play on the pixels of some images: noise against the attacker, seen through the augmentation."""

    params: Params
    eps: float
    draw: Draw
    half: bool = True  # bfloat16 convolutions; off in tests against slow arithmetic

    def noise(self, net: Network, images: Tensor, labels: Tensor, start: Tensor | None = None) -> Tensor:
        """(N, 3, S, S) noise for uint8 images, descended from `start`, or from a uniform one. The network is frozen."""
        start = self.uniform(images, self.eps) if start is None else start
        loss: _pgd.Loss = self.loss
        if self.params.attacker == "before":
            start = self.attacked(net, (images.float() / 255 + start).clamp(0, 1), labels) - images.float() / 255
            loss = _pgd.toward
        descent = _pgd.Descent(loss, self.params.steps, self.params.step, half=self.half)
        return descent.run([net], images, labels, start, self.eps, None)

    def loss(self, net: Network, seen: Tensor, labels: Tensor) -> Tensor:
        """(N,) losses at the attacked point, the mean over the augmentations; the attack itself is held fixed."""
        total = torch.zeros(len(seen), device=seen.device)
        for _ in range(max(1, self.params.samples)):
            view = self.view(seen)
            moved = self.attacked(net, view.detach(), labels) - view.detach()
            total = total + _pgd.toward(net, view + moved, labels)
        return total / max(1, self.params.samples)

    def view(self, seen: Tensor) -> Tensor:
        """Images in [0, 1] moved by whole pixels, up to S/8 of them, black coming in, half of them mirrored."""
        if not self.params.samples:
            return seen
        side = seen.shape[-1]
        farthest, reach = side // 8, _pgd.SHIFT * side
        drawn = self.draw(3)
        pixels = (drawn[:, :2] * (2 * farthest + 1)).floor() - farthest
        draws = torch.cat([(pixels / reach + 1) / 2, drawn[:, 2:]], 1)
        with torch.autocast(seen.device.type, enabled=False):  # bfloat16 would round the pixels
            return _pgd.augment(seen, draws, torch.zeros((1, 3, 1, 1), device=seen.device))

    def attacked(self, net: Network, view: Tensor, labels: Tensor) -> Tensor:
        """Images in [0, 1], moved within the attacker's radius and within [0, 1] to where the frozen network errs most."""
        radius = self.params.attack_radius * self.eps
        if not radius:
            return view
        ascent = _pgd.Descent(_pgd.away, self.params.attack_steps, self.params.attack_step, half=self.half)
        return view + ascent.run([net], view * 255, labels, self.uniform(view, radius), radius, None)

    def uniform(self, images: Tensor, radius: float) -> Tensor:
        return (self.draw(*images.shape[1:]) * 2 - 1) * radius


def fit(data: Batch | None, params: Params, context: Context) -> State:
    """Trains the network against its attacker on noise made for it, then makes the noise of every image on it.

    The network's state, "loss" (the mean of the last iterations), "ids" and "noise" (n, 3, S, S) int8 in 127ths of the budget.
    """
    if data is None:
        raise ValueError("robust_error_min needs training images")
    net = nets.create(params.net, len(context.classes), context.size, context.key.seed("robust_error_min", "net"))
    net.normalise_for(data.images)
    net.to(context.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    world = distributed.world()
    loss = _train(net, data, params, context, world)
    state = _surrogates.pack([net], params.net, context, loss=loss)
    context.tell(f"robust_error_min: making the noise of {len(data)} images on the final network")
    kept = _noise.Kept(data, context, world)
    mine = kept.rows
    kept.put(mine, _craft(data, mine, data.labels, _surrogates.unpack(state, context)[0], params, context))
    return {**state, **kept.state()}


def _train(net: Network, data: Batch, params: Params, context: Context, world: World) -> float:
    """Plays `iterations` batches; the mean loss of the last of them, over all processes."""
    optimiser = torch.optim.SGD(net.parameters(), lr=net.learning_rate, momentum=0.9, weight_decay=5e-4)
    falls = [max(1, params.iterations * share // 5) for share in (2, 4)]
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimiser, falls)
    batches = _noise.batches(len(data), params.batch, context.key, "robust_error_min", world)
    generator = _noise.draws(context.key, "robust_error_min", world)
    trained = world.together(net)
    crafting, learning = Room(context.tell), _noise.room(context, world)
    every = max(1, params.iterations // _LINES)
    losses: list[Tensor] = []
    mean = math.inf
    for number in range(1, params.iterations + 1):
        _surrogates.freeze(net, context.device)
        view, labels = _shown(net, data, next(batches), params, context, generator, crafting)
        net.train().requires_grad_(True)
        losses.append(_noise.learn(trained, optimiser, view, labels, learning))
        schedule.step()
        if number % every == 0 or number == params.iterations:
            mean = world.total(torch.stack(losses).mean()).item() / world.size
            losses.clear()
            if not math.isfinite(mean):
                raise TrainingError(
                    f"robust_error_min: the loss was {mean} in iteration {number}.", "Try another network: --set net="
                )
            context.tell(f"robust_error_min: iteration {number} of {params.iterations}, loss {mean:.3f}")
    world.agree(net)
    _surrogates.freeze(net, context.device)
    return mean


def _shown(
    net: Network,
    data: Batch,
    chosen: Tensor,
    params: Params,
    context: Context,
    generator: torch.Generator,
    room: Room,
) -> tuple[Tensor, Tensor]:
    """What the network is to learn from: images in [0, 1] with noise made on it as it is, frozen; their labels."""
    images, labels = _noise.take(data, chosen, context)
    seeds = torch.randint(2**63 - 1, (len(chosen),), generator=generator).to(context.device)

    def one(part: slice) -> Tensor:
        game = Game(params, context.eps, Draws(seeds[part]))
        view = game.view(images[part].float() / 255 + game.noise(net, images[part], labels[part]))
        return game.attacked(net, view, labels[part]) if params.robust else view

    return torch.cat(room.parts(one, len(chosen))), labels


def delta(batch: Batch, state: State, params: Params, context: Context) -> Tensor:
    """The noise found for every image; images that were not in the fit are crafted now, on the same network."""

    def craft(new: Tensor) -> Tensor:
        wanted = _surrogates.outputs(batch.labels, state, context)
        return _craft(batch, new, wanted, _surrogates.unpack(state, context)[0], params, context)

    return _noise.of(batch, state, context, craft)


def _craft(data: Batch, rows: Tensor, wanted: Tensor, net: Network, params: Params, context: Context) -> Tensor:
    """(n, 3, S, S) noise of the images in `rows` on the frozen network; every draw depends on the record's id alone."""

    def one(part: slice) -> Tensor:
        chosen = rows[part]
        ids = [data.ids[row] for row in chosen.tolist()]
        seeds = torch.tensor([context.key.seed("robust_error_min", name) for name in ids], device=context.device)
        images, labels = data.images[chosen].to(context.device), wanted[chosen].to(context.device)
        noise = Game(params, context.eps, Draws(seeds)).noise(net, images, labels)
        return _pgd.require_finite(noise, ids, "robust_error_min").cpu()

    return torch.cat(in_parts(one, len(rows), params.batch, context.tell))

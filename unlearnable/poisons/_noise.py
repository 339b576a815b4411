"""What error-minimising poisons share: noise that is kept for every image, secret batches, a step of the network."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from unlearnable.device import Room, autocast
from unlearnable.distributed import ALONE, World
from unlearnable.keys import Key
from unlearnable.nets import Network
from unlearnable.poisons import _pgd
from unlearnable.types import Batch, Context, State

_UNITS = 127  # noise is kept as int8, in 127ths of the budget


class Kept:
    """One noise for every image of `data`, held where the images are; zero until it is put.

    A process of several holds that of its own images alone, every `size`-th, and is asked for no other.
    """

    def __init__(self, data: Batch, context: Context, world: World = ALONE) -> None:
        self.context, self.world, self.ids = context, world, data.ids
        self.rows = world.rows(torch.arange(len(data)))
        shape = (len(self.rows), *data.images.shape[1:])
        self.units = torch.zeros(shape, dtype=torch.int8, device=data.images.device)

    def at(self, chosen: Tensor) -> Tensor:
        """(n, 3, S, S) floats on the context's device."""
        return self.units[chosen // self.world.size].to(self.context.device).float() * (self.context.eps / _UNITS)

    def put(self, chosen: Tensor, noise: Tensor) -> None:
        self.units[chosen // self.world.size] = _to_units(noise, self.context).to(self.units.device)

    def state(self) -> State:
        """For `of`: "ids" and "noise" (n, 3, S, S) int8 in 127ths of the budget; the first process has all of it."""
        noise = self.world.whole(self.units, len(self.ids)).cpu()
        ids = self.ids if len(noise) == len(self.ids) else [self.ids[row] for row in self.rows.tolist()]
        return {"ids": list(ids), "noise": noise}


def of(batch: Batch, state: State, context: Context, craft: Callable[[Tensor], Tensor]) -> Tensor:
    """(N, 3, S, S): the noise that is kept for every image of the batch; `craft` makes that of the rows without one."""
    known = {name: row for row, name in enumerate(state["ids"])}
    rows = torch.tensor([known.get(name, -1) for name in batch.ids], dtype=torch.long)
    units: Tensor = state["noise"][rows.clamp(min=0)].float()
    new = (rows < 0).nonzero()[:, 0]
    if len(new):
        units[new] = _to_units(craft(new), context).float().cpu()
    return (units * (context.eps / _UNITS)).to(batch.images.device)


def _to_units(noise: Tensor, context: Context) -> Tensor:
    return (noise * (_UNITS / context.eps)).round().clamp(-_UNITS, _UNITS).to(torch.int8)


def take(data: Batch, chosen: Tensor, context: Context) -> tuple[Tensor, Tensor]:
    """uint8 images and labels on the context's device."""
    return data.images[chosen].to(context.device), data.labels[chosen].to(context.device)


def batches(count: int, size: int, key: Key, method: str, world: World = ALONE) -> Iterator[Tensor]:
    """Batches of nearly equal size for ever, in a new secret order every time round.

    Each of several processes draws from its own images; all of their batches together are one of `size`.
    """
    world.require(min(count, size))
    rows, size = world.rows(torch.arange(count)), size // world.size
    generator = torch.Generator().manual_seed(key.seed(method, "order", *_of(world)))
    while True:
        for chosen in torch.randperm(len(rows), generator=generator).tensor_split(max(1, len(rows) // size)):
            yield rows[chosen]


def draws(key: Key, method: str, world: World = ALONE) -> torch.Generator:
    """A generator for what is drawn in training; each process has its own."""
    return torch.Generator().manual_seed(key.seed(method, "draws", *_of(world)))


def _of(world: World) -> tuple[int, ...]:
    return (world.rank, world.size) if world.size > 1 else ()


def room(context: Context, world: World = ALONE) -> Room:
    """For the steps of a network: of two images at least; several processes, who wait for each other, take them whole."""
    return Room(context.tell, least=2 if world.size == 1 else sys.maxsize)


def learn(
    net: Network,
    optimiser: torch.optim.Optimizer,
    images: Tensor,
    labels: Tensor,
    room: Room,
    most: float | None = None,
) -> Tensor:
    """One step of the network; the mean loss before it. most: where the norm of the gradient is cut off, None nowhere."""

    def loss(part: slice) -> Tensor:
        with autocast(images.device):
            return _pgd.toward(net, images[part], labels[part]).mean()

    mean = room.gradients(loss, len(images), optimiser)
    if most is not None:
        torch.nn.utils.clip_grad_norm_(net.parameters(), most)
    optimiser.step()
    return mean

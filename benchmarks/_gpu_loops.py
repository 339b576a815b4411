"""The step loop of crafted poisons as it ships, beside CUDA graphs and torch.compile. Run by gpu.py.

All of it runs on a CPU too, where nothing is captured.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from _cifar import World
from torch import Tensor

from unlearnable import nets
from unlearnable.keys import Key
from unlearnable.poisons import _pgd, _surrogates
from unlearnable.types import Batch, Context

NO_GPU = "not asked: no GPU"


def loops(world: World, minutes: float) -> dict[str, Any]:
    """The step loop as it ships beside CUDA graphs and torch.compile: what each gives, and what it takes to begin."""
    found: dict[str, Any] = {}
    for size in (512, 2048) if world.device.type == "cuda" else (4,):
        given = given_batch(world, size, 20 if world.device.type == "cuda" else 3)
        plain = given.run(given.net)
        rates: dict[str, Any] = {}
        for name, make in LOOPS.items():
            begun = now(world.device)
            try:
                run = make(given)
                apart = (run() - plain).abs() > 0.5 / 255
                begin = now(world.device) - begun
                rate = size * given.descent.steps / float(np.median(times(run, world.device)))
                # bfloat16 sums of another order turn the sign of gradients that are next to nothing
                rates[name] = {"image_steps_per_s": rate, "begin_s": begin, "differs": apart.float().mean().item()}
            except RuntimeError as why:  # a compiler that fails is a result
                rates[name] = {"failed": str(why).splitlines()[0][:200]}
        best = max(rates, key=lambda name: rates[name].get("image_steps_per_s", 0.0))
        found[str(size)] = {"loops": rates, "fastest": best}
    return {"batch": found, "graphs": "captured" if world.device.type == "cuda" else NO_GPU}


@dataclass(frozen=True)
class Given:
    """One batch for the step loop: a frozen network, folded as a release has it, and where the loop starts."""

    net: nets.Network
    batch: Batch
    wanted: Tensor
    descent: _pgd.Descent
    context: Context
    start: Tensor
    draws: Tensor

    def run(self, net: nets.Network) -> Tensor:
        return self.descent.run([net], self.batch.images, self.wanted, self.start, self.context.eps, self.draws)


def plain(given: Given) -> Callable[[], Tensor]:
    return lambda: given.run(given.net)


def compiled(given: Given, mode: str = "default") -> Callable[[], Tensor]:
    net = torch.compile(given.net, mode=mode)
    return lambda: given.run(net)


def compiled_graphs(given: Given) -> Callable[[], Tensor]:
    return compiled(given, "reduce-overhead")


def graph(given: Given) -> Callable[[], Tensor]:
    """One whole step as a CUDA graph, replayed. On a CPU the same steps, one by one."""
    one, delta, draw = replace(given.descent, steps=1), given.start.clone(), given.draws[:1].clone()

    def step() -> None:
        delta.copy_(one.run([given.net], given.batch.images, given.wanted, delta, given.context.eps, draw))

    replay = step
    if delta.device.type == "cuda":
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):  # libraries choose their kernels before anything is captured
            for _ in range(3):
                step()
        torch.cuda.current_stream().wait_stream(aside)
        captured = torch.cuda.CUDAGraph()
        with torch.cuda.graph(captured):
            step()
        replay = captured.replay

    def run() -> Tensor:
        delta.copy_(given.start)
        for number in range(given.descent.steps):
            draw.copy_(given.draws[number : number + 1])
            replay()
        return delta.clone()

    return run


LOOPS = {"plain": plain, "compiled": compiled, "compiled_graphs": compiled_graphs, "graph": graph}


def copies(given: Given) -> str:
    """ "none", or the first operation of the step loop that made the host wait for the card."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        given.run(given.net)
    except RuntimeError as why:
        return str(why)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return "none"


def given_batch(world: World, count: int, steps: int, net: nets.Network | None = None) -> Given:
    """The first images of the training set, on the device."""
    (x, y), device, context = world.train, world.device, context_of(world)
    count = min(count, len(x))
    batch = Batch(tuple(map(str, range(count))), x[:count].to(device), y[:count].to(device))
    (folded,) = _surrogates.unpack(_surrogates.pack([net or network(world)], "resnet18", context), context)
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(batch.images.shape, generator=generator).to(device) * context.eps
    draws = torch.rand((steps, count, 3), generator=generator).to(device)
    descent = _pgd.Descent(_pgd.toward, steps, 0.05)
    return Given(folded, batch, (batch.labels + 1) % len(world.classes), descent, context, start, draws)


def context_of(world: World) -> Context:
    return Context(Key(bytes(32)), world.classes, 8, world.train[0].shape[-1], str(world.device))


def network(world: World) -> nets.Network:
    """Untrained: steps take as long on any weights."""
    net = nets.create("resnet18", len(world.classes), 32, 0)
    net.normalise_for(world.train[0])
    return net.eval()


def times(run: Callable[[], Any], device: torch.device, rounds: int = 3) -> list[float]:
    """Seconds of every round, after one that is not counted."""
    seconds = []
    for _ in range(rounds + 1):
        begun = now(device)
        run()
        seconds.append(now(device) - begun)
    return seconds[1:]


def now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()

"""What gpu.py measures besides the rows of the reproduction: rates, loops, memory, and how long the whole jobs take.

All of it runs on a CPU too, in sizes of its own that show nothing but that it works.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from _cifar import World, protected
from _gpu_loops import NO_GPU, context_of, copies, given_batch, loops, network, now, times

from unlearnable import craft, nets
from unlearnable.poisons import _pgd, _surrogates
from unlearnable.train import Recipe, train
from unlearnable.types import Batch
from unlearnable.verification import plan
from unlearnable.verification import run as verify
from unlearnable.verification.evidence import Evidence

RESNET18_FLOPS = 2 * 0.5567e9  # one forward pass at 32x32, 3x3 stem: 0.557 G multiply-adds
SHARD = 2048  # images that a release crafts together
ALL = 50_000  # of CIFAR-10, what long jobs are reckoned for
EPOCHS = 100  # of the paper protocol


def matmul_rate(device: torch.device, side: int = 8192) -> float:
    """Floating-point operations a second of the card's own bfloat16 matrix product on random data, median of 20."""
    side = side if device.type == "cuda" else 512
    a, b = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    times = []
    for _ in range(23):
        begun = now(device)
        a @ b
        times.append(now(device) - begun)
    return 2 * side**3 / float(np.median(times[3:]))


def speed(world: World, minutes: float) -> dict[str, Any]:
    """Victim and crafting throughput of ResNet-18 against the matrix rate."""
    (x, y), device = world.train, world.device
    rate = matmul_rate(device)
    part = min(len(x), 25_000)
    marks: list[float] = []
    data, recipe = (x[:part].to(device), y[:part].to(device)), Recipe(epochs=3, batch=128, schedule="cosine")
    net = nets.create("resnet18", 10, 32, 0)
    train(net, *data, recipe, seed=0, on_epoch=lambda epoch, history: marks.append(history.seconds))
    victim = part / float(np.median(np.diff([0.0, *marks])[1:]))
    given = given_batch(world, *((2048, 20) if device.type == "cuda" else (8, 2)), net)
    seconds = times(
        lambda: _pgd.attack([given.net], given.batch, given.wanted, given.descent, given.context, purpose="speed"),
        device,
    )
    crafting = given.descent.steps * len(given.batch) / float(np.median(seconds))
    # crafting needs no gradients for weights: a forward pass and as much again backwards
    share = {"victim": 3 * RESNET18_FLOPS * victim / rate, "crafting": 2 * RESNET18_FLOPS * crafting / rate}
    return {
        "matmul_tflops": rate / 1e12,
        "victim_images_per_s": victim,
        "pgd_image_steps_per_s": crafting,
        "share": share,
        "copies_in_the_step_loop": copies(given) if device.type == "cuda" else NO_GPU,
    }


def crafting(world: World, minutes: float) -> dict[str, Any]:
    """p250 with one restart on the whole training set, as a release crafts it; reckoned from a part where time is short."""
    steps = 250 if world.device.type == "cuda" else 2
    crafted(world, min(len(world.train[0]), 512), 2)  # what is done once in a process is no part of it
    begun = now(world.device)
    done = crafted(world, len(world.train[0]), steps, 60 * minutes)
    seconds = now(world.device) - begun
    facts = {"steps": steps, "restarts": 1, "images": done, "seconds": seconds, "extrapolated": done < ALL}
    return facts | {"seconds_for_50000": seconds * ALL / done}


def crafted(world: World, count: int, steps: int, seconds: float = float("inf")) -> int:
    """Makes perturbations of the first images, shard by shard, until the time is up; of how many."""
    (x, y), context, begun = world.train, context_of(world), now(world.device)
    targets = dict(zip(context.classes, (*context.classes[1:], context.classes[0]), strict=True))
    state = _surrogates.pack([network(world)], "resnet18", context) | {"targets": targets}
    crafter = craft.Crafter(craft.resolve(None, "p250", {"steps": steps}), state, context)
    for first in range(0, count, SHARD):
        part = slice(first, min(first + SHARD, count))
        crafter.on(tuple(map(str, range(part.start, part.stop))), x[part], y[part])
        if now(world.device) - begun > seconds:
            break
    return part.stop


def memory(world: World, minutes: float) -> dict[str, Any]:
    """Peak memory on the card for two numbers of images: crafting, an error-minimising fit and a training."""
    device, (x, y) = world.device, world.train
    counts = [min(len(x), size) for size in ((4096, 32_768) if device.type == "cuda" else (16, 48))]

    def fitted(count: int) -> None:
        values = {"rounds": 1, "train_steps": 2, "steps": 1, "batch": min(512, count // 2)}
        batch = Batch(tuple(map(str, range(count))), x[:count], y[:count])
        craft.fit(craft.resolve(None, "su", values), batch, context_of(world))

    def trained(count: int) -> None:
        train(nets.create("resnet18", 10, 32, 0), x[:count].to(device), y[:count].to(device), Recipe(epochs=1), seed=0)

    out: dict[str, Any] = {"images": counts, "peaks": NO_GPU if device.type != "cuda" else "MiB"}
    works = {"crafting": lambda count: crafted(world, count, 2), "error_min fit": fitted, "training": trained}
    for name, work in works.items():
        few, many = (peak(device, work, count) for count in counts)
        more = (many - few) / max(1, counts[1] - counts[0])
        out[name] = {"peak_MiB": [few / 2**20, many / 2**20], "bytes_more_an_image": more}
    return out


def peak(device: torch.device, work: Callable[[int], Any], count: int) -> int:
    """Bytes on the card at most while it worked, beyond those before; 0 without a card."""
    if device.type != "cuda":
        work(count)
        return 0
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    work(count)
    return torch.cuda.max_memory_allocated(device) - before


def verification(world: World, minutes: float) -> dict[str, Any]:
    """The whole `paper` verification, 3 arms of one seed: measured where it fits in the minutes, else from a few epochs."""
    begun, (x, y), device = now(world.device), world.train, world.device
    shaken = torch.randint(-8, 9, x.shape, generator=torch.Generator().manual_seed(0), dtype=torch.int16)
    noise = (x.short() + shaken).clamp(0, 255).byte()
    arms = {"clean": x, "noise": noise, "protected": protected(craft.resolve(None, "r16", {}), world, 0)[0]}
    evidence = Evidence(arms, y, world.test, len(world.classes), "CIFAR-10's own")
    paper = replace(plan.make("paper", len(x), victim="resnet18", seeds=1), against=(), others=())

    def seconds(epochs: int) -> float:
        started = now(device)
        verify.run(replace(paper, recipe=replace(paper.recipe, epochs=epochs)), evidence, device)
        return now(device) - started

    epochs = 3 if device.type == "cuda" else 1
    seconds(1)
    took = seconds(epochs)
    if device.type == "cuda" and took * EPOCHS / epochs < 0.9 * (60 * minutes - (now(device) - begun)):
        epochs, took = EPOCHS, seconds(EPOCHS)
    facts = {"images": len(x), "test_images": len(world.test[1]), "arms": 3, "epochs": epochs, "seconds": took}
    return facts | {"minutes_for_100_epochs": took * EPOCHS / epochs / 60, "extrapolated": epochs < EPOCHS}


MEASURED: dict[str, Callable[[World, float], dict[str, Any]]] = {
    "speed": speed,
    "crafting": crafting,
    "loops": loops,
    "verification": verification,
    "memory": memory,
}

"""How fast poisons are crafted on a CPU: our PGD beside two published ones, and the closed-form poisons by themselves.

    python benchmarks/crafting.py peers [--venv FOLDER] [--steps 20] [--images 256] [--rounds 3]
    python benchmarks/crafting.py closed [--images 20000]

`peers` attacks the same images with the same ResNet-18 for 32x32, batch 128, eps 8/255, the same steps towards the next class
from the clean image, on all cores. Torchattacks and the Adversarial Robustness Toolbox live in an environment of their own,
because they pin old packages: it is made in --venv (default: the system's temporary folder) by
    python -m venv FOLDER && FOLDER/bin/pip install torch torchvision torchattacks adversarial-robustness-toolbox packaging
Every attack runs in a process of its own, in turn, for several rounds. The losses of all are read by one float32
network. Ours runs in bfloat16, as it ships, and in float32. `closed` runs one process of one thread on each core.
Both write benchmarks/results/crafting.json. The machine should be idle.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _cifar import CLASSES, DATA, about, load
from _notes import RESULTS, keep
from torch import Tensor
from torch.nn import functional as F

from unlearnable import budget, craft, nets, registry
from unlearnable.errors import UsageError
from unlearnable.keys import Key
from unlearnable.poisons import _pgd, _surrogates
from unlearnable.train import Recipe, train
from unlearnable.types import Batch, Context

EPS, BATCH = 8 / 255, 128
PEERS = ("torchattacks", "art")
OURS = ("ours", "ours_float32")
# packaging: the toolbox imports it without saying so
PACKAGES = ("torch", "torchvision", "torchattacks", "adversarial-robustness-toolbox", "packaging")


def peers(folder: Path, venv: Path, steps: int, images: int, rounds: int) -> dict[str, Any]:
    """Image-steps a second of every attack, round by round, and the loss that each reaches."""
    prepare(folder, images)
    python = environment(venv)
    step = 2.5 * EPS / steps
    options = {"steps": steps, "step": step, "eps": EPS, "batch": BATCH, "threads": os.cpu_count() or 1}
    rates: dict[str, list[float]] = {name: [] for name in (*OURS, *PEERS)}
    losses, versions = {}, {}
    for _ in range(rounds):
        for name in rates:
            script = [sys.executable, __file__] if name in OURS else [python, Path(__file__).with_name("_peers.py")]
            command = [*map(str, script), name, str(folder), "--out", str(folder / f"{name}.npy")]
            command += [text for option, value in options.items() for text in (f"--{option}", str(value))]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            found = json.loads(done.stdout.splitlines()[-1])
            rates[name].append(images * steps / found["seconds"])
            versions[name] = found["versions"]
            losses[name] = reached(folder, name)
            print(f"{name}: {rates[name][-1]:.1f} image-steps/s, loss {losses[name]['mean']:.4f}", flush=True)
    ratios = {
        peer: spread([ours / other for ours, other in zip(rates["ours"], rates[peer], strict=True)]) for peer in PEERS
    }
    settings = {**options, "images": images, "network": "resnet18 for 32x32", "rounds": rounds}
    speeds = {name: spread(values) for name, values in rates.items()}
    start = reached(folder, None)
    return {"settings": settings, "image_steps_per_s": speeds, "ratio": ratios, "loss": losses, "loss_at_start": start,
            "versions_of": versions}  # fmt: skip


def prepare(folder: Path, count: int) -> None:
    """net.pt, images.npy and wanted.npy. The network has seen 2,000 images three times, enough to have gradients."""
    x, y = load(DATA, "train", 2000)
    net = nets.create("resnet18", len(CLASSES), 32, 0)
    if not (folder / "net.pt").exists():
        train(net, x, y, Recipe(epochs=3), seed=0)
        torch.save({name: value.contiguous() for name, value in net.state_dict().items()}, folder / "net.pt")
    np.save(folder / "images.npy", x[:count].numpy())
    np.save(folder / "wanted.npy", ((y[:count] + 1) % len(CLASSES)).numpy())


def environment(venv: Path) -> Path:
    """The peers' Python, made at the first use."""
    python = venv / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *PACKAGES], check=True)
    return python


def ours(name: str, folder: Path, args: argparse.Namespace) -> None:
    """Our own worker: what a targeted poison does, but from the clean image and without augmentation, as the peers do."""
    torch.set_num_threads(args.threads)
    images, wanted = (torch.from_numpy(np.load(folder / f"{part}.npy")) for part in ("images", "wanted"))
    context = Context(Key(bytes(32)), CLASSES, 8, 32)
    net = network(folder)
    networks = _surrogates.unpack(_surrogates.pack([net], "resnet18", context), context)
    ids = tuple(map(str, range(len(images))))

    def run(steps: int, count: int) -> Tensor:
        descent = _pgd.Descent(_pgd.toward, steps, args.step / args.eps, half=name == "ours")
        batch = Batch(ids[:count], images[:count], wanted[:count])
        options = {"purpose": "benchmark", "size": args.batch, "noise": False, "augmented": False}
        return _pgd.attack(networks, batch, wanted[:count], descent, context, **options)

    run(2, args.batch)
    begun = time.perf_counter()
    delta = run(args.steps, len(images))
    seconds = time.perf_counter() - begun
    np.save(args.out, (images.float() / 255 + delta).numpy())
    print(json.dumps({"seconds": seconds, "versions": {"torch": torch.__version__}}))


def network(folder: Path) -> nets.Network:
    net = nets.create("resnet18", len(CLASSES), 32, 0)
    net.load_state_dict(torch.load(folder / "net.pt", weights_only=True))
    return net.eval()


@torch.no_grad()
def reached(folder: Path, name: str | None) -> dict[str, float]:
    """Mean and worst-tenth cross entropy to the wanted class in float32, the share that is read as it, the largest step."""
    net = network(folder)
    clean = torch.from_numpy(np.load(folder / "images.npy")).float() / 255
    seen = torch.from_numpy(np.load(folder / f"{name}.npy")) if name else clean
    wanted = torch.from_numpy(np.load(folder / "wanted.npy"))
    logits = torch.cat([net(part) for part in seen.split(BATCH)])
    losses = F.cross_entropy(logits, wanted, reduction="none")
    share = (logits.argmax(1) == wanted).float().mean().item()
    largest = ((seen - clean).abs().max() * 255).item()
    return {"mean": losses.mean().item(), "worst_tenth": losses.quantile(0.9).item(), "read": share, "levels": largest}


def closed(count: int) -> dict[str, Any]:
    """Perturbations of 32x32 a second of every poison without a network, one process of one thread on each core.

    per_s is by the clock; per_s_idle by the processor's own seconds, which a busy machine does not lengthen, and is what is
    held against GOAL. `why` is said of presets below it.
    """
    cores = os.cpu_count() or 1
    presets = {}
    for name in registry.names("poisons"):
        described = registry.describe("poisons", name)
        if not {"net", "nets"} & {field.name for field in described.params}:
            presets |= dict.fromkeys(list(described.presets) or [name], name)
    found: dict[str, Any] = {}
    with multiprocessing.get_context("spawn").Pool(cores) as pool:
        floors = {name: sum(pool.starmap(floor, [(name, 4096)] * cores, chunksize=1)) for name in FLOORS}
        for preset, method in presets.items():
            try:
                rates = pool.starmap(closed_rate, [(preset, count, seed) for seed in range(cores)], chunksize=1)
            except UsageError as why:  # R1 refuses ten classes
                found[preset] = {"refused": str(why)}
                continue
            by_clock, idle = (sum(rate[place] for rate in rates) for place in (0, 1))
            found[preset] = {"per_s": by_clock, "per_s_idle": idle, "fit_s": max(fit for _, _, fit in rates)}
            if idle < GOAL:
                found[preset]["why"] = why_below(preset, method, floors)
            print(f"{preset}: {idle:,.0f} a second. {found[preset].get('why', '')}", flush=True)
    return {"images": count, "processes": cores, "goal": GOAL, "presets": found, "floors_per_s": floors}


GOAL = 100_000
# what a perturbation of its own for every image cannot do without, and how many of them the cores make in a second
FLOORS: dict[str, Callable[[Key, np.random.Generator, list[str]], object]] = {
    "a generator keyed by the record": lambda key, rng, names: [None for _ in key.rngs("benchmark", names=names)],
    "3,072 whole grey levels": lambda key, rng, names: [rng.integers(-8, 8, 3072, np.int8) for _ in names],
    "3,072 normal numbers": lambda key, rng, names: [rng.standard_normal(3072, np.float32) for _ in names],
    "1,024 normal numbers": lambda key, rng, names: [rng.standard_normal(1024) for _ in names],
    "a Fourier transform there and back": lambda key, rng, names: np.fft.irfft2(
        np.fft.rfft2(np.ones((len(names), 32, 32)))
    ),
    "a wave in three colours": lambda key, rng, names: (
        torch.ones(len(names), 1, 32, 1) * torch.ones(32) * torch.ones(3, 1, 1)
    ),
}
KEYED, NORMAL, WAVE = "a generator keyed by the record", "3,072 normal numbers", "a wave in three colours"
# of these, what a method needs for every image; the rest of its work comes on top
NEEDS = {
    "autoregressive": [KEYED, NORMAL],
    "random_noise": [KEYED, "3,072 whole grey levels"],
    "spectral": [KEYED, "1,024 normal numbers", "a Fourier transform there and back", WAVE],
    "texture": [KEYED, WAVE],
    "grating": [KEYED, WAVE],
    "grating_blue": [KEYED, KEYED, KEYED, WAVE, WAVE],  # whether it is blue, and the phases of both waves
    "in_phase": [WAVE, WAVE],  # one that is measured, one that is painted
    "mix": [KEYED, KEYED, WAVE, WAVE],
}


def why_below(preset: str, method: str, floors: dict[str, float]) -> str:
    """The reason for a method that is slower than GOAL: how many a second there would be if it did nothing else."""
    needs = NEEDS.get(preset) or NEEDS.get(method)
    if needs is None:
        return "No reason is written down."
    most = 1 / sum(1 / floors[need] for need in needs)
    counted = (f"{needs.count(need)} times {need}" if needs.count(need) > 1 else need for need in dict.fromkeys(needs))
    return f"Each image takes {', '.join(counted)}: {most:,.0f} a second if it were nothing else."


def floor(name: str, count: int) -> float:
    rng, key, work = np.random.default_rng(0), Key(bytes(32)), FLOORS[name]
    torch.set_num_threads(1)
    best = float("inf")
    for _ in range(5):
        begun = time.process_time()
        for first in range(0, count, 512):
            work(key, rng, [f"train/{number}.png" for number in range(first, min(first + 512, count))])
        best = min(best, time.process_time() - begun)
    return count / best


def closed_rate(preset: str, count: int, seed: int) -> tuple[float, float, float]:
    """Perturbations a second by the clock and by the processor's seconds, and the seconds of the fit.

    Each is the best of three times over the set in batches of 512.
    """
    torch.set_num_threads(1)
    method = craft.resolve(None, preset, {})
    images = torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    labels = torch.arange(count) % len(CLASSES)
    ids = tuple(f"train/{seed}/{i}.png" for i in range(count))
    context = Context(Key(bytes(32)), CLASSES, budget.resolve(None, method.unbounded), 32)
    begun = time.perf_counter()
    crafter = craft.fit(method, Batch(ids, images, labels) if method.trains else None, context)
    fitted = time.perf_counter() - begun
    clock, processor = [], []
    for _ in range(3):
        begun, used = time.perf_counter(), time.process_time()
        for first in range(0, count, 512):
            part = slice(first, first + 512)
            crafter.on(ids[part], images[part], labels[part])
        clock.append(time.perf_counter() - begun)
        processor.append(time.process_time() - used)
    return count / min(clock), count / min(processor), fitted


def spread(values: list[float]) -> dict[str, Any]:
    return {"median": float(np.median(values)), "least": min(values), "most": max(values), "rounds": values}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["peers", "closed", *OURS], help="ours...: a worker, started by peers")
    parser.add_argument("folder", type=Path, nargs="?", default=Path(tempfile.gettempdir()) / "unlearnable-crafting")
    parser.add_argument("--venv", type=Path, default=Path(tempfile.gettempdir()) / "unlearnable-peers")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--images", type=int, default=None)
    parser.add_argument("--rounds", type=int, default=3)
    for name, kind in (("step", float), ("eps", float), ("batch", int), ("threads", int), ("out", Path)):
        parser.add_argument(f"--{name}", type=kind, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.command in OURS:
        return ours(args.command, args.folder, args)
    args.folder.mkdir(parents=True, exist_ok=True)
    if args.command == "peers":
        found = peers(args.folder, args.venv, args.steps, args.images or 256, args.rounds)
    else:
        found = closed(args.images or 20_000)
    keep(RESULTS / "crafting.json", {args.command: about(torch.device("cpu")) | found})


if __name__ == "__main__":
    main()

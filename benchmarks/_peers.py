"""One peer's PGD on images from a file, in the peer's own environment: imports nothing of this project. Run by crafting.py.

    PYTHON _peers.py torchattacks|art FOLDER --steps N --step A --eps E --batch B --threads T --out FILE

FOLDER holds net.pt (a state dict of ResNet-18 for 32x32), images.npy (N, 3, 32, 32) uint8 and wanted.npy (N,). Writes the
adversarial images in [0, 1] to FILE and prints seconds, after a warm-up, as the last line.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torchvision.models import resnet18

Attack = Callable[[np.ndarray, np.ndarray], np.ndarray]


class Network(nn.Module):
    """The same function as the project's network, in plain torch, whose state dict it loads."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.body = resnet18(weights=None)
        self.body.conv1 = nn.Conv2d(3, 64, 3, stride=1, padding=1, bias=False)
        self.body.maxpool = nn.Identity()
        self.body.fc = nn.Identity()
        self.head = nn.Linear(512, classes)
        self.register_buffer("mean", torch.zeros(1, 3, 1, 1))
        self.register_buffer("std", torch.ones(1, 3, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body((x - self.mean) / self.std))


def torchattacks(net: nn.Module, args: argparse.Namespace) -> Attack:
    from torchattacks import PGD

    attack = PGD(net, eps=args.eps, alpha=args.step, steps=args.steps, random_start=False)
    attack.set_mode_targeted_by_label(quiet=True)

    def run(images: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        parts = []
        for first in range(0, len(images), args.batch):
            part = slice(first, first + args.batch)
            parts.append(attack(torch.from_numpy(images[part]), torch.from_numpy(wanted[part])).numpy())
        return np.concatenate(parts)

    return run


def art(net: nn.Module, args: argparse.Namespace) -> Attack:
    from art.attacks.evasion import ProjectedGradientDescent
    from art.estimators.classification import PyTorchClassifier

    classifier = PyTorchClassifier(
        net, nn.CrossEntropyLoss(), (3, 32, 32), nb_classes=10, clip_values=(0.0, 1.0), device_type="cpu"
    )
    options = {"max_iter": args.steps, "targeted": True, "batch_size": args.batch, "verbose": False}
    attack = ProjectedGradientDescent(classifier, np.inf, args.eps, args.step, **options)
    return lambda images, wanted: attack.generate(images, np.eye(10, dtype=np.float32)[wanted])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peer", choices=["torchattacks", "art"])
    parser.add_argument("folder", type=Path)
    for name, kind in (("steps", int), ("step", float), ("eps", float), ("batch", int), ("threads", int)):
        parser.add_argument(f"--{name}", type=kind, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    net = Network(10)
    net.load_state_dict(torch.load(args.folder / "net.pt", map_location="cpu", weights_only=True))
    net.eval()
    images = np.load(args.folder / "images.npy").astype(np.float32) / 255
    wanted = np.load(args.folder / "wanted.npy")
    make = {"torchattacks": torchattacks, "art": art}[args.peer]
    short = argparse.Namespace(**vars(args) | {"steps": 2})
    make(net, short)(images[: args.batch], wanted[: args.batch])  # warm-up
    run = make(net, args)
    begun = time.perf_counter()
    found = run(images, wanted)
    seconds = time.perf_counter() - begun
    np.save(args.out, found.astype(np.float32))
    package = {"torchattacks": "torchattacks", "art": "adversarial-robustness-toolbox"}[args.peer]
    versions = {name: metadata.version(name) for name in (package, "torch")}
    print(json.dumps({"seconds": seconds, "versions": versions}))


if __name__ == "__main__":
    main()

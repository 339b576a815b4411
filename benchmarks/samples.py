"""Do the demonstration pictures suit their purpose? Trains small networks on them, clean and perturbed.

    python samples/make.py && python benchmarks/samples.py samples/images [--patterns 5]

Prints clean test accuracy, peak over epochs, after training on: the pictures; the pictures with uniform noise
of up to 8 grey levels; the pictures with a class's own pattern of 4x4 colour blocks of +-8 grey levels
(`r16`), for several random draws of the patterns. Then a linear model on pixels, and one on mean colour
(chance is 0.1). One seed of the network: differences of 0.03 mean little.
Needs torch, scikit-learn, numpy, pillow.
"""

from __future__ import annotations

import argparse
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

Pictures = NDArray[np.uint8]
Labels = NDArray[np.int64]
BUDGET, SIDE, CROP = 8, 32, 4


def load(folder: Path) -> tuple[Pictures, Labels]:
    """Every picture of a split, and its class's place in the alphabet."""
    files = [(f, i) for i, c in enumerate(sorted(folder.iterdir())) for f in sorted(c.iterdir())]
    return np.stack([np.asarray(Image.open(f)) for f, _ in files]), np.array([i for _, i in files])


def noisy(x: Pictures) -> Pictures:
    """Each picture with noise of its own."""
    noise = np.random.default_rng(0).uniform(-BUDGET, BUDGET, x.shape)
    return np.clip(np.round(x + noise), 0, 255).astype(np.uint8)


def patterned(x: Pictures, y: Labels, seed: int) -> Pictures:
    """Each class with a 4x4 pattern of its own; any two classes differ in at least 16 of 48 signs."""
    rng, distances = np.random.default_rng([7, seed]), np.zeros((10, 10))
    while distances.min() < 16:
        signs = rng.integers(0, 2, (10, 4, 4, 3)) * 2 - 1
        flat = signs.reshape(10, -1)
        distances = (flat[:, None] != flat).sum(-1) + 48 * np.eye(10)
    added: Labels = BUDGET * signs.repeat(SIDE // 4, 1).repeat(SIDE // 4, 2)[y]
    return (x.astype(np.int64) + added).clip(0, 255).astype(np.uint8)


def network(width: int = 32) -> nn.Sequential:
    """Four 3x3 convolutions, three of them with pooling, and a linear layer."""
    layers: list[nn.Module] = []
    sizes = [3, width, 2 * width, 4 * width, 4 * width]
    for i, (before, after) in enumerate(pairwise(sizes)):
        layers.append(nn.Conv2d(before, after, 3, padding=1, bias=False))
        layers += [nn.MaxPool2d(2)] if i else []
        layers += [nn.BatchNorm2d(after), nn.ReLU()]
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(sizes[-1], 10)]
    return nn.Sequential(*layers).to(memory_format=torch.channels_last)


def augment(padded: Tensor, batch: Tensor) -> Tensor:
    """A random crop of each picture in the batch, half of them mirrored."""
    across, down = (torch.randint(0, 2 * CROP + 1, (len(batch), 1)) + torch.arange(SIDE) for _ in range(2))
    across = torch.where(torch.rand(len(batch), 1) < 0.5, across.flip(1), across)
    return padded[batch[:, None, None], down[:, :, None], across[:, None, :]].permute(0, 3, 1, 2)


def victim(x: Pictures, y: Labels, xt: Pictures, yt: Labels, epochs: int, batch: int = 64) -> list[float]:
    """Test accuracy after each epoch."""
    torch.manual_seed(0)
    train, test, labels = (torch.from_numpy(a) for a in (x / 255, xt / 255, y))
    mean, deviation = train.mean((0, 1, 2)), train.std((0, 1, 2))
    train, test = ((t - mean).div(deviation).float() for t in (train, test))
    padded, test = F.pad(train, (0, 0, CROP, CROP, CROP, CROP)), test.permute(0, 3, 1, 2)
    net, steps, accuracies = network(), len(x) // batch, []
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimiser, 0.1, total_steps=epochs * steps, pct_start=0.2)
    for _ in range(epochs):
        net.train()
        for chosen in torch.randperm(len(x))[: steps * batch].view(steps, batch):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = F.cross_entropy(net(augment(padded, chosen)), labels[chosen])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            cycle.step()
        net.eval()
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
            accuracies.append(float(np.mean(net(test).argmax(1).numpy() == yt)))
    return accuracies


def linear(x: NDArray[np.float64], y: Labels, xt: NDArray[np.float64], yt: Labels) -> float:
    """The best of three strengths of regularisation, chosen on the test pictures: an upper estimate."""
    models = [LogisticRegression(C=c, max_iter=200) for c in (1e-4, 1e-3, 1e-2)]
    return max(float(make_pipeline(StandardScaler(), m).fit(x, y).score(xt, yt)) for m in models)


def main() -> None:
    """Read the options and print one line per figure."""
    parser = argparse.ArgumentParser(description="Measure the demonstration pictures.")
    parser.add_argument("images", type=Path)
    parser.add_argument("--patterns", type=int, default=5, help="random draws of r16")
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--threads", type=int, default=1, help="more only pay on idle cores")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    (x, y), (xt, yt) = load(args.images / "train"), load(args.images / "test")
    sets = {"clean": x, "noise": noisy(x)} | {f"r16 {i}": patterned(x, y, i) for i in range(args.patterns)}
    for name, pictures in sets.items():
        start = time.perf_counter()
        accuracies = victim(pictures, y, xt, yt, args.epochs)
        seconds = time.perf_counter() - start
        print(f"{name:6} peak {max(accuracies):.3f}  last {accuracies[-1]:.3f}  {seconds:.0f} s", flush=True)
    print(f"pixels {linear(x.reshape(len(x), -1) / 255, y, xt.reshape(len(xt), -1) / 255, yt):.3f}")
    print(f"colour {linear(x.mean((1, 2)) / 255, y, xt.mean((1, 2)) / 255, yt):.3f}")


if __name__ == "__main__":
    main()

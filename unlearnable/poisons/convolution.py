"""Class-wise blurring, visible: every image is filtered with the secret 3 x 3 kernel of its class; unbounded, no network.

A kernel has one random tap of 1 and the others uniform in 0..blur, the same for red, green and blue; the filtered image is
divided by its largest value. The kernel is what a network learns. It multiplies where other methods add, so that nothing
can be averaged out by label. After "CUDA: Convolution-Based Unlearnable Datasets" (Sadasivan et al. 2023, arXiv
2303.04278).

images: (N, 3, S, S) uint8; labels: (N,) int64; returns (N, 3, S, S) float, the filtered image minus the image.

Pictures are softer and their brightness changes: this is no imperceptible method, and with a budget the change is
cut down to it, which leaves little of the method. The filter works at the working size, with black beyond the edge;
an image of nothing but black stays. Kernels are drawn independently, so two classes can have theirs alike by chance.

Adversarial training undoes part of it, and so does training against filters that are learned to undo it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unlearnable.poisons import _patterns
from unlearnable.types import Batch, Context, State

PAPER = "Sadasivan et al. 2023, arXiv 2303.04278"
COST = "none"
LEVEL = "class"
NEEDS_LABELS = True
TRAINS = False
UNBOUNDED = True
PRESETS: dict[str, dict[str, object]] = {"cuda": {}}

_BYTES = 1 << 19  # computed at a time: what fits a processor's cache


@dataclass(frozen=True)
class Params:
    blur: float = 0.3
    "largest weight of a tap other than the one of 1; more is blurrier"

    kernel: int = 3
    "side of the kernel in pixels, odd"

    def __post_init__(self) -> None:
        if not 0 < self.blur <= 1:
            raise ValueError(f"blur is above 0 and at most 1, not {self.blur}")
        if self.kernel not in range(3, 16, 2):
            raise ValueError(f"kernel is odd and 3 to 15, not {self.kernel}")


def fit(data: Batch | None, params: Params, context: Context) -> State:
    """Draws the kernel of every class: {"kernels": {class: (kernel, kernel) float}}."""
    del data
    return extend({"kernels": {}}, params, context)


def extend(state: State, params: Params, context: Context) -> State:
    """The same state with kernels for classes that have none; kernels that exist stay."""
    kernels: dict[str, Tensor] = dict(state["kernels"])
    for name in sorted(set(context.classes) - set(kernels)):
        rng = context.key.rng("convolution", params.kernel, name)
        taps = rng.uniform(0, params.blur, params.kernel**2)
        taps[rng.integers(taps.size)] = 1
        kernels[name] = torch.from_numpy(taps.reshape(params.kernel, -1)).float()
    return {"kernels": kernels}


def delta(batch: Batch, state: State, params: Params, context: Context) -> Tensor:
    """What the kernel of every image's class does to it, inside the budget."""
    kernels = _patterns.lookup(state["kernels"], batch, context, lambda found: found).cpu().numpy()
    images = batch.images.cpu().numpy()
    out = np.empty(images.shape, np.float32)
    at_once = max(1, _BYTES // (12 * (context.size + params.kernel) ** 2))
    for first in range(0, len(batch), at_once):
        part = slice(first, first + at_once)
        filtered = convolve(images[part], kernels[part])
        largest = filtered.max((1, 2, 3))
        largest[largest == 0] = 1  # black stays black
        np.divide(filtered, largest[:, None, None, None], out=out[part])
        out[part] -= images[part] * np.float32(1 / 255)
    np.clip(out, -context.eps, context.eps, out=out)
    return torch.from_numpy(out).to(batch.images.device)


def convolve(images: NDArray[np.uint8], kernels: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, 3, S, S) and a (K, K) kernel for each -> (N, 3, S, S), zero beyond the edges, as networks convolve.

    All padded rows of an image are one line, so that a tap is one shift of it, and sums run in the same order for any N.
    """
    many, channels, size, _ = images.shape
    edge = kernels.shape[1] // 2
    side = size + 2 * edge
    padded = np.zeros((many, channels, side, side), np.float32)
    padded[:, :, edge:-edge, edge:-edge] = images
    lines = padded.reshape(many, -1)
    out, length = np.empty_like(lines), lines.shape[1] - 2 * edge * (side + 1)
    total, term = out[:, :length], np.empty((many, length), np.float32)
    total[:] = 0
    for row in range(2 * edge + 1):
        for column in range(2 * edge + 1):
            shift = row * side + column
            np.multiply(lines[:, shift : shift + length], kernels[:, row, column, None], out=term)
            np.add(total, term, out=total)
    return out.reshape(padded.shape)[:, :, :size, :size]

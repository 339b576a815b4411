"""Class-wise textures without a waveform: the sign of noise filtered to a band of frequencies that names the class.

Like `grating`, but each image has noise of its own in its class's band, so that no two share a waveform and there are no
waves to notch out singly: the band is `width` cycles wide around the class's frequencies. With `octaves` it is a spoke that
reaches that far towards zero, and scaling moves it along itself: then only directions (and colours) tell the classes apart,
which is what `crops` chooses them by. Our own design, after the rule of Sandoval-Segura et al. 2022, arXiv 2204.08615, that
what is learned faster protects better.

images: (N, 3, S, S) uint8, only their size is used; labels: (N,) int64; returns (N, 3, S, S) float, -eps or +eps, or in
between where the noise is soft.

Learned a little later than `grating`, whose energy lies in single frequencies. Secrecy is not what it rests on: who has the
labels can read a class's band off a release's spectra. Adversarial training undoes it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from unlearnable.poisons import _bands
from unlearnable.types import Batch, Context, State

PAPER = "our own, after Sandoval-Segura et al. 2022, arXiv 2204.08615"
COST = "none"
LEVEL = "sample"
NEEDS_LABELS = True
TRAINS = False
PRESETS: dict[str, dict[str, object]] = {"spectral": {}}


@dataclass(frozen=True)
class Params(_bands.Params):
    width: float = 1.0
    "width of a band: the standard deviation, in cycles an image, of the bell around a class's frequencies"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.2 <= self.width <= 16:
            raise ValueError(f"width is 0.2 to 16 cycles, not {self.width}")


def fit(data: Batch | None, params: Params, context: Context) -> State:
    """Gives every class its band: {"textures": {class: cycles across and down, signs of red, green, blue}}."""
    del data
    return extend({"textures": {}}, params, context)


def extend(state: State, params: Params, context: Context) -> State:
    """The same state with bands for classes that have none, as far as can be from all that are taken."""
    return _bands.extended(state, params, context, "spectral")


def delta(batch: Batch, state: State, params: Params, context: Context) -> Tensor:
    """Noise of every image's class, which follows from the key and the image's id."""
    pairs, colours = _bands.of(batch, state["textures"], context)
    codes, which = torch.unique(pairs, dim=0, return_inverse=True)
    bands = torch.stack([band(code, params, context.size) for code in codes])
    side = (context.size, context.size)
    drawn = np.stack([rng.standard_normal(side) for rng in context.key.rngs("spectral", "image", names=batch.ids)])
    waves = torch.from_numpy(np.fft.irfft2(np.fft.rfft2(drawn) * bands[which].numpy(), s=side))
    waves = waves / (2 * waves.square().mean((1, 2), keepdim=True).sqrt())  # as loud as a product of two cosines
    return _bands.painted(waves, colours, params, context.eps).to(batch.images.device)


def band(pairs: Tensor, params: Params, size: int) -> Tensor:
    """(W, 2) cycles across and down -> (S, S // 2 + 1) weights of np.fft.rfft2's frequencies, the same for a mirrored image.

    A frequency's weight falls with its distance from a pair, or from the line to the pair that `octaves` draws.
    """
    across, down = torch.fft.rfftfreq(size, 1 / size)[None], torch.fft.fftfreq(size, 1 / size)[:, None]
    total = torch.zeros((size, size // 2 + 1), dtype=torch.float64)
    for x, y in pairs.tolist():
        for mirrored in (y, -y):
            along = (across * x + down * mirrored) / (x * x + y * y)
            along = along.clamp(2.0**-params.octaves, 1)
            squared = (across - along * x) ** 2 + (down - along * mirrored) ** 2
            total += torch.exp(-squared / (2 * params.width**2))
    return total

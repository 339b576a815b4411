"""Untargeted adversarial noise: no image looks like its own class any more. An experiment, brittle.

A network trained on clean data is shown x + delta until it is as wrong as it can be about class y. What a victim then
learns depends strongly on that network and on the starting noise; the authors name lucky seeds. Craft several and measure,
or use targeted. "Adversarial Examples Make Strong Poisons" (Fowl et al. 2021, arXiv 2106.10807).

images: (N, 3, S, S) uint8; labels: (N,) int64; returns (N, 3, S, S) float within eps and within legal pixels.

Steps, start, augmentation and restarts are those of targeted. Does not survive JPEG-10, bit-depth reduction or adversarial
training, and cannot take in new classes later.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from unlearnable.poisons import _pgd, _surrogates
from unlearnable.types import Batch, Context, State

PAPER = "Fowl et al. 2021, arXiv 2106.10807"
COST = "250 F+B an image for each restart + a surrogate"
LEVEL = "sample"
NEEDS_LABELS = True
TRAINS = True
PRESETS: dict[str, dict[str, object]] = {
    "u100": {"steps": 100},
    "u250": {"steps": 250},
}


@dataclass(frozen=True)
class Params(_pgd.Params):
    """Those of every poison that is crafted by signed steps."""


def fit(data: Batch | None, params: Params, context: Context) -> State:
    """Trains the surrogates: networks and their "accuracy"."""
    networks, accuracy = _surrogates.trained(data, params.net, context)
    return _surrogates.pack(networks, params.net, context, accuracy=accuracy)


def delta(batch: Batch, state: State, params: Params, context: Context) -> Tensor:
    """Noise that makes the surrogates read no image as its class."""
    unwanted = _surrogates.outputs(batch.labels, state, context)
    descent = _pgd.Descent(_pgd.away, params.steps, params.step_size())
    networks = _surrogates.unpack(state, context)
    restarts, size = params.restarts, params.batch
    return _pgd.attack(networks, batch, unwanted, descent, context, purpose="untargeted", restarts=restarts, size=size)

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

from unlearnable.poisons import _pgd
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
class Params:
    net: str = "resnet18"
    "network that the noise is crafted on, trained on the clean images first"

    steps: int = 250
    "gradient steps for each image and restart"

    step: float = 0.0
    "length of a step as a share of the budget; 0 is 0.05, or 2.5 / steps where that is more"

    restarts: int = 1
    "noisy starts to choose from; the paper has 8, at 8 times the cost"

    batch: int = 0
    "images attacked at once: memory against speed; 0 is 128 on a CPU, 512 on a GPU"

    def __post_init__(self) -> None:
        _pgd.check_ranges(self.steps, self.step, self.restarts, self.batch)


def fit(data: Batch | None, params: Params, context: Context) -> State:
    """Trains the surrogate: the network's state and its "accuracy"."""
    net, accuracy = _pgd.surrogate(data, params.net, context)
    return _pgd.pack(net, params.net, context, accuracy=accuracy)


def delta(batch: Batch, state: State, params: Params, context: Context) -> Tensor:
    """Noise that makes the surrogate read no image as its class."""
    net = _pgd.unpack(state, context)
    unwanted = _pgd.outputs(batch.labels, state, context)
    descent = _pgd.Descent(_pgd.away, params.steps, _pgd.step_size(params.steps, params.step))
    restarts, size = params.restarts, params.batch
    return _pgd.attack(net, batch, unwanted, descent, context, purpose="untargeted", restarts=restarts, size=size)

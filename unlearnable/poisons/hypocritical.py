"""Hypocritical noise: images are pushed deeper into their own class, so that nothing is left to learn. A weak control.

A network trained on clean data is shown x + delta until its loss on the true class is as small as it can be. "Better Safe
Than Sorry: Preventing Delusive Adversaries with Adversarial Training" (Tao et al. 2021, arXiv 2102.04716, P2); final
accuracies near 70 % on CIFAR-10, where other poisons leave 6 % to 30 %: offered to compare with, not to protect.

images: (N, 3, S, S) uint8; labels: (N,) int64; returns (N, 3, S, S) float within eps and within legal pixels.

Steps of a tenth of the budget from zero, no augmentation, as in the L-infinity version of APBench; ResNet-18 where the
authors have VGG-16. Nothing is drawn: it follows from the images and the network, whatever
the key. Does not survive JPEG-10, bit-depth reduction or adversarial training.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from unlearnable import registry
from unlearnable.poisons import _pgd, _surrogates
from unlearnable.types import Batch, Context, State

PAPER = "Tao et al. 2021, arXiv 2102.04716"
COST = "100 F+B an image + a surrogate"
LEVEL = "sample"
NEEDS_LABELS = True
TRAINS = True
KEYED = False
PRESETS: dict[str, dict[str, object]] = {"hypo": {}}


@dataclass(frozen=True)
class Params:
    net: str = "resnet18"
    "network that the noise is crafted on, trained on the clean images first; several with +, seeds with *3"

    steps: int = 100
    "gradient steps for each image"

    step: float = 0.1
    "length of a step as a share of the budget"

    batch: int = 0
    "images attacked at once: memory against speed; 0 is 128 on a CPU, 512 on a GPU"

    def __post_init__(self) -> None:
        registry.ensemble(self.net)
        _pgd.check_ranges(self.steps, self.step, batch=self.batch)


def fit(data: Batch | None, params: Params, context: Context) -> State:
    """Trains the surrogates: networks and their "accuracy"."""
    networks, accuracy = _surrogates.trained(data, params.net, context)
    return _surrogates.pack(networks, params.net, context, accuracy=accuracy)


def delta(batch: Batch, state: State, params: Params, context: Context) -> Tensor:
    """Noise that makes the surrogates surer of every image's own class."""
    own = _surrogates.outputs(batch.labels, state, context)
    descent = _pgd.Descent(_pgd.toward, params.steps, params.step)
    networks = _surrogates.unpack(state, context)
    size = params.batch
    return _pgd.attack(
        networks, batch, own, descent, context, purpose="hypocritical", size=size, noise=False, augmented=False
    )

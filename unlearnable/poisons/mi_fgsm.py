"""Class-targeted adversarial noise by momentum steps: weaker than targeted at as many steps (M10, M100, M250).

Gradients of one image are divided by their L1 norm and summed up; each step follows the sign of the sum. "Boosting
Adversarial Attacks with Momentum" (Dong et al. 2018, arXiv 1710.06081); as a poison, with peak accuracies of 69 % to 71 % on
CIFAR-10, in "Poisons that are learned faster are more effective" (Sandoval-Segura et al. 2022, arXiv 2204.08615).

images: (N, 3, S, S) uint8; labels: (N,) int64; returns (N, 3, S, S) float within eps and within legal pixels.

The second paper states neither decay, step, start nor augmentation; these are the first one's: decay 1, eps / steps, from
zero, no augmentation. Targets are a secret random derangement of the classes, as in targeted. Does not survive JPEG-10,
bit-depth reduction or adversarial training.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from unlearnable import registry
from unlearnable.poisons import _pgd, _surrogates
from unlearnable.types import Batch, Context, State

PAPER = "Dong et al. 2018, arXiv 1710.06081; Sandoval-Segura et al. 2022, arXiv 2204.08615"
COST = "100 F+B an image + a surrogate"
LEVEL = "sample"
NEEDS_LABELS = True
TRAINS = True
PRESETS: dict[str, dict[str, object]] = {
    "m10": {"steps": 10},
    "m100": {"steps": 100},
    "m250": {"steps": 250},
}


@dataclass(frozen=True)
class Params:
    net: str = "resnet18"
    "network that the noise is crafted on, trained on the clean images first; several with +, seeds with *3"

    steps: int = 100
    "gradient steps for each image"

    step: float = 0.0
    "length of a step as a share of the budget; 0 is 1 / steps"

    momentum: float = 1.0
    "decay of the summed gradients; 1 forgets nothing"

    batch: int = 0
    "images attacked at once: memory against speed; 0 is 128 on a CPU, 512 on a GPU"

    def __post_init__(self) -> None:
        registry.ensemble(self.net)
        _pgd.check_ranges(self.steps, self.step, batch=self.batch)
        if not 0 < self.momentum <= 10:
            raise ValueError(f"momentum is above 0, at most 10, not {self.momentum}")


def fit(data: Batch | None, params: Params, context: Context) -> State:
    """Trains the surrogates and draws the derangement: networks, "accuracy" and "targets" {class: class}."""
    return _pgd.fit_targets(data, params.net, context, "mi_fgsm")


def delta(batch: Batch, state: State, params: Params, context: Context) -> Tensor:
    """Noise that makes the surrogates read every image as its class's target."""
    wanted = _surrogates.outputs(batch.labels, state, context, rename=state["targets"].__getitem__)
    descent = _pgd.Descent(_pgd.toward, params.steps, params.step or 1 / params.steps, momentum=params.momentum)
    networks = _surrogates.unpack(state, context)
    size = params.batch
    return _pgd.attack(
        networks, batch, wanted, descent, context, purpose="mi_fgsm", size=size, noise=False, augmented=False
    )

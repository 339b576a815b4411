"""One signed gradient step of the whole budget: the cheapest adversarial noise, and a weak poison.

"Explaining and Harnessing Adversarial Examples" (Goodfellow et al. 2015, arXiv 1412.6572). Fowl's dissertation tried it as
a poison and found PGD better ("Adversarial Examples Make Strong Poisons", Fowl et al. 2021, arXiv 2106.10807). For an owner
without a GPU it costs one pass of the network for each image.

images: (N, 3, S, S) uint8; labels: (N,) int64; returns (N, 3, S, S) float, -eps, 0 or +eps where pixels are legal.

With `targeted` the step is toward a secret derangement of the classes, else away from the true class. No starting noise, no
augmentation. Does not survive JPEG-10, bit-depth reduction or adversarial training.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from unlearnable import registry
from unlearnable.poisons import _pgd, _surrogates
from unlearnable.types import Batch, Context, State

PAPER = "Goodfellow et al. 2015, arXiv 1412.6572"
COST = "1 F+B an image + a surrogate"
LEVEL = "sample"
NEEDS_LABELS = True
TRAINS = True
PRESETS: dict[str, dict[str, object]] = {
    "fgsm_targeted": {},
    "fgsm_untargeted": {"targeted": False},
}


@dataclass(frozen=True)
class Params:
    net: str = "resnet18"
    "network that the noise is crafted on, trained on the clean images first; several with +, seeds with *3"

    targeted: bool = True
    "toward another class, else away from the true one"

    batch: int = 0
    "images attacked at once: memory against speed; 0 is 128 on a CPU, 512 on a GPU"

    def __post_init__(self) -> None:
        registry.ensemble(self.net)
        _pgd.check_ranges(1, 1, batch=self.batch)


def fit(data: Batch | None, params: Params, context: Context) -> State:
    """Trains the surrogates and draws the derangement: networks, "accuracy" and "targets" {class: class}."""
    return _pgd.fit_targets(data, params.net, context, "fgsm")


def delta(batch: Batch, state: State, params: Params, context: Context) -> Tensor:
    """One step against the surrogates' loss."""
    rename = state["targets"].__getitem__ if params.targeted else str
    wanted = _surrogates.outputs(batch.labels, state, context, rename=rename)
    descent = _pgd.Descent(_pgd.toward if params.targeted else _pgd.away, 1, 1.0)
    networks = _surrogates.unpack(state, context)
    size = params.batch
    return _pgd.attack(
        networks, batch, wanted, descent, context, purpose="fgsm", size=size, noise=False, augmented=False
    )

"""Class-targeted adversarial noise: every class is made to look like another one (P10, P100, P250).

A network trained on clean data is shown x + delta until it reads class y as g(y), where g is a secret derangement of the
classes. Whoever trains on the result learns g(y)'s features under the name y, and is wrong on clean images: 6 % to 8 %
final accuracy on CIFAR-10. Peak accuracy is higher (45 % to 57 %): use regions where early stopping matters most.
"Adversarial Examples Make Strong Poisons" (Fowl et al. 2021, arXiv 2106.10807); names of the presets from
"Poisons that are learned faster are more effective" (Sandoval-Segura et al. 2022, arXiv 2204.08615).

images: (N, 3, S, S) uint8; labels: (N,) int64; returns (N, 3, S, S) float within eps and within legal pixels.

As in the paper: N(0, 1) eps start, steps of 0.05 eps by the sign of the gradient, frozen batch normalisation, and in every
step a new differentiable translation and flip. Otherwise: g is random and secret where the paper has y + 1; a restart is
chosen for each image where the paper chooses one for the whole set, so that bytes do not depend on how a set is cut in
shards; and with few steps each is larger (2.5 eps / steps), because ten steps of 0.05 eps would leave most of the noise.

Does not survive JPEG-10, bit-depth reduction or adversarial training. With two classes there is only one derangement. Its
network knows the classes it was fitted with, so new images can be added later but not new classes.
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
    "p10": {"steps": 10},
    "p100": {"steps": 100},
    "p250": {"steps": 250},
}


@dataclass(frozen=True)
class Params(_pgd.Params):
    """Those of every poison that is crafted by signed steps."""


def fit(data: Batch | None, params: Params, context: Context) -> State:
    """Trains the surrogates and draws the derangement: networks, "accuracy" and "targets" {class: class}."""
    return _pgd.fit_targets(data, params.net, context, "targeted")


def delta(batch: Batch, state: State, params: Params, context: Context) -> Tensor:
    """Noise that makes the surrogates read every image as its class's target."""
    wanted = _surrogates.outputs(batch.labels, state, context, rename=state["targets"].__getitem__)
    descent = _pgd.Descent(_pgd.toward, params.steps, params.step_size())
    networks = _surrogates.unpack(state, context)
    restarts, size = params.restarts, params.batch
    return _pgd.attack(networks, batch, wanted, descent, context, purpose="targeted", restarts=restarts, size=size)

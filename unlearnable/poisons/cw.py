"""Class-targeted adversarial noise by the logit margin of Carlini and Wagner, in place of cross entropy.

The loss is how far the best other class is above the target, without a floor, descended by signed steps within the budget.
"Towards Evaluating the Robustness of Neural Networks" (Carlini and Wagner 2017, arXiv 1608.04644, loss f6); tried as a poison
in Fowl's dissertation, where cross entropy was better ("Adversarial Examples Make Strong Poisons", Fowl et al. 2021,
arXiv 2106.10807).

images: (N, 3, S, S) uint8; labels: (N,) int64; returns (N, 3, S, S) float within eps and within legal pixels.

Everything but the loss is as in targeted: the original searches the smallest perturbation by Adam in a tanh space, which has
no use where the budget is given. Does not survive JPEG-10, bit-depth reduction or adversarial training.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from unlearnable.poisons import _pgd, _surrogates
from unlearnable.types import Batch, Context, State

PAPER = "Carlini and Wagner 2017, arXiv 1608.04644"
COST = "250 F+B an image for each restart + a surrogate"
LEVEL = "sample"
NEEDS_LABELS = True
TRAINS = True
PRESETS: dict[str, dict[str, object]] = {
    "cw100": {"steps": 100},
    "cw250": {"steps": 250},
}


@dataclass(frozen=True)
class Params(_pgd.Params):
    """Those of every poison that is crafted by signed steps."""


def fit(data: Batch | None, params: Params, context: Context) -> State:
    """Trains the surrogates and draws the derangement: networks, "accuracy" and "targets" {class: class}."""
    return _pgd.fit_targets(data, params.net, context, "cw")


def delta(batch: Batch, state: State, params: Params, context: Context) -> Tensor:
    """Noise that puts the target's logit above all others on the surrogates."""
    wanted = _surrogates.outputs(batch.labels, state, context, rename=state["targets"].__getitem__)
    descent = _pgd.Descent(_pgd.margin, params.steps, params.step_size())
    networks = _surrogates.unpack(state, context)
    restarts, size = params.restarts, params.batch
    return _pgd.attack(networks, batch, wanted, descent, context, purpose="cw", restarts=restarts, size=size)

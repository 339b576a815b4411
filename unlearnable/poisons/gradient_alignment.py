"""Gradient alignment: training on an image moves weights as if to unlearn clean data. Costly; targeted is stronger.

On a network trained on clean data, the gradient that an image gives its weights is turned, as far as the budget allows, to
the gradient of the reverse cross entropy -log(1 - p) of the clean training images, p being the probability of the true
class: who descends along it makes p small on clean images. "Preventing Unauthorized Use of Proprietary Data: Poisoning for
Secure Dataset Release" (Fowl et al. 2021, arXiv 2103.02683); superseded by targeted noise of the same authors
(arXiv 2106.10807).

images: (N, 3, S, S) uint8; labels: (N,) int64; returns (N, 3, S, S) float within eps and within legal pixels.

The cosine is over all weights at once. The paper turns the summed gradient of a batch; here every image's own is turned, so
that its perturbation does not depend on the batch it comes in. The goal is one gradient, of all training images, and is
kept with the fit: as large as the network. Start, steps and augmentation are those of targeted. Arithmetic is float32: the
second derivative is of small differences.

A step is a double backward with a gradient for every image: 8 times the work of an ordinary step (ResNet-18 on a CPU) and
120 MB for each image of 32 pixels attacked at once. For small sets, or a GPU. Expected to fall to JPEG-10 and adversarial
training, as targeted does; not measured. Its network knows the classes it was fitted with, so new images can be added later
but not new classes.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from unlearnable.nets import Network
from unlearnable.poisons import _gradients, _pgd, _surrogates
from unlearnable.types import Batch, Context, State

PAPER = "Fowl et al. 2021, arXiv 2103.02683"
COST = "250 double backwards (2000 F+B) an image for each restart + a surrogate"
LEVEL = "sample"
NEEDS_LABELS = True
TRAINS = True
PRESETS: dict[str, dict[str, object]] = {"ga": {}}


@dataclass(frozen=True)
class Params(_pgd.Params):
    batch: int = 0
    "images attacked at once, each with a gradient as large as the network; 0 is 8 on a CPU, 64 on a GPU"


def fit(data: Batch | None, params: Params, context: Context) -> State:
    """Trains the surrogates: networks, their "accuracy" and "goals", the gradient to turn to on each network."""
    networks, accuracy = _surrogates.trained(data, params.net, context)
    assert data is not None
    found = [_gradients.of_reverse_loss(net, data, context) for net in networks]
    goals = [{name: value.cpu().contiguous() for name, value in goal.items()} for goal in found]
    return _surrogates.pack(networks, params.net, context, accuracy=accuracy, goals=goals)


def delta(batch: Batch, state: State, params: Params, context: Context) -> Tensor:
    """Noise that turns every image's gradient to the goal."""
    own = _surrogates.outputs(batch.labels, state, context)
    networks = _surrogates.unpack(state, context, folded=False)
    goals = {
        net: {name: value.to(context.device) for name, value in goal.items()}
        for net, goal in zip(networks, state["goals"], strict=True)
    }

    def loss(net: Network, seen: Tensor, own: Tensor) -> Tensor:
        return 1 - _gradients.cosines(_gradients.per_image(net, seen, own), goals[net])

    descent = _pgd.Descent(loss, params.steps, params.step_size(), half=False)
    restarts, size = params.restarts, _gradients.at_once(params.batch, context)
    return _pgd.attack(
        networks, batch, own, descent, context, purpose="gradient_alignment", restarts=restarts, size=size
    )

"""TensorClog: gradients are made to vanish, so that training on an image teaches nothing. Costly; to compare with.

On a network trained on clean data, the L2 norm of the gradient that an image gives all weights is made as small as it can
be. "TensorClog: An Imperceptible Poisoning Attack on Deep Neural Network Applications" (Shen et al. 2019, IEEE Access 7);
as signed steps within a budget, one of the recipes in the code of Fowl et al. 2021, arXiv 2106.10807.

images: (N, 3, S, S) uint8; labels: (N,) int64; returns (N, 3, S, S) float within eps and within legal pixels.

The norm is of each image's own gradient, where that code has a batch's, so that a perturbation does not depend on the batch
it comes in. A gradient that has vanished altogether stays where it is (its norm has no direction; that code's inverse recipe,
"gradient explosion", takes the root of a negative number and is left out). Start, steps and augmentation are those of
targeted. Arithmetic is float32.

A vanishing gradient is one of this network, already trained; a victim starts from another, and learns from the image until
it has come as far. A step is a double backward with a gradient for every image: 8 times the work of an ordinary step
(ResNet-18 on a CPU) and 120 MB for each image of 32 pixels attacked at once. Expected to fall to JPEG-10 and adversarial
training, as targeted does; not measured. Its network knows the classes it was fitted with, so new images can be added later
but not new classes.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from unlearnable.nets import Network
from unlearnable.poisons import _gradients, _pgd, _surrogates
from unlearnable.types import Batch, Context, State

PAPER = "Shen et al. 2019, IEEE Access 7; Fowl et al. 2021, arXiv 2106.10807"
COST = "250 double backwards (2000 F+B) an image for each restart + a surrogate"
LEVEL = "sample"
NEEDS_LABELS = True
TRAINS = True
PRESETS: dict[str, dict[str, object]] = {}


@dataclass(frozen=True)
class Params(_pgd.Params):
    batch: int = 0
    "images attacked at once, each with a gradient as large as the network; 0 is 8 on a CPU, 64 on a GPU"


def vanishing(net: Network, seen: Tensor, own: Tensor) -> Tensor:
    """Small where training on the image would leave the weights where they are."""
    return _gradients.norms(_gradients.per_image(net, seen, own))


def fit(data: Batch | None, params: Params, context: Context) -> State:
    """Trains the surrogates: networks and their "accuracy"."""
    networks, accuracy = _surrogates.trained(data, params.net, context)
    return _surrogates.pack(networks, params.net, context, accuracy=accuracy)


def delta(batch: Batch, state: State, params: Params, context: Context) -> Tensor:
    """Noise that makes every image's gradient small."""
    own = _surrogates.outputs(batch.labels, state, context)
    networks = _surrogates.unpack(state, context, folded=False)
    descent = _pgd.Descent(vanishing, params.steps, params.step_size(), half=False)
    restarts, size = params.restarts, _gradients.at_once(params.batch, context)
    return _pgd.attack(networks, batch, own, descent, context, purpose="tensorclog", restarts=restarts, size=size)

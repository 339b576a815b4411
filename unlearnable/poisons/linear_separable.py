"""Linearly separable patches: coloured squares drawn from the class's Gaussian cloud, new for every image; no training.

Every class owns a cloud far from all others: its centre is a corner of a cube of side 20, its spread a random matrix
whose entries are uniform in -1..1. Each image gets one draw, a colour for each patch, scaled to one length. A linear model
on the perturbation tells the classes apart, and networks learn that before anything else. After "Availability Attacks
Create Shortcuts" (Yu et al. 2022, arXiv 2111.00898), whose clouds are those of sklearn's make_classification with
class_sep=10 and one cluster a class.

images: (N, 3, S, S) uint8, only their size is used; labels: (N,) int64; returns (N, 3, S, S) float within -eps..eps.

Where it differs: an image's draw follows from its id, so any number of images a class will do. Corners are drawn far from
each other and from each other's mirror images, because trainers flip. The paper has no largest change: at its rms of 6
grey levels one entry in seven is above 8, and is clipped to the budget here; with --eps 24 none is.

Does not survive grayscale, strong JPEG or adversarial training (65 %, 80 % and 81 % accuracy in APBench, against 13 %), nor
who has the labels and learns the linear model, to project it out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from unlearnable.errors import UsageError
from unlearnable.poisons import _patterns
from unlearnable.poisons._patterns import Vectors
from unlearnable.types import Batch, Context, State

PAPER = "Yu et al. 2022, arXiv 2111.00898"
COST = "none"
LEVEL = "sample"
NEEDS_LABELS = True
TRAINS = False
BLIND = True
PRESETS: dict[str, dict[str, object]] = {"lsp": {}}

_SEPARATION = 10.0  # half the side of the cube, make_classification's class_sep


@dataclass(frozen=True)
class Params:
    rms: float = 6.0
    "root of the mean squared change, in grey levels"

    patches: int = 0
    "patches along a side; 0: 4, or one for every 32 pixels of a larger working size (7 at 224)"

    def __post_init__(self) -> None:
        if not 0 < self.rms <= 64:
            raise ValueError(f"rms is above 0 and at most 64 grey levels, not {self.rms}")
        if not 0 <= self.patches <= 16:
            raise ValueError(f"patches is 0 to 16, not {self.patches}")


def fit(data: Batch | None, params: Params, context: Context) -> State:
    """Draws the cloud of every class, D = 3 x patches x patches: {"clouds": {class: (D + 1, D), spread and centre}}."""
    del data
    return extend({"clouds": {}}, params, context)


def extend(state: State, params: Params, context: Context) -> State:
    """The same state with clouds for classes that have none; clouds that exist stay."""
    side = _side(params, context)
    size = 3 * side * side

    def corners(name: str) -> Vectors:
        drawn = context.key.rng("linear_separable", "corner", side, name).integers(0, 2, (64, size))
        return (2 * drawn - 1).astype(np.float32)

    def mirror(vectors: Vectors) -> Vectors:
        return vectors.reshape(-1, 3, side, side)[:, :, :, ::-1].reshape(-1, size)

    taken = {name: np.sign(cloud[-1].numpy()).astype(np.float32) for name, cloud in state["clouds"].items()}
    try:
        drawn = _patterns.draw_apart(context.classes, taken, corners, mirror, step=2 / size, limit=1 - 2 / size)
    except ValueError as why:
        raise UsageError(f"{side} x {side} patches are too few for {len(context.classes)} classes: {why}.") from why
    clouds = dict(state["clouds"])
    for name in drawn.keys() - clouds.keys():
        spread = context.key.rng("linear_separable", "spread", side, name).uniform(-1, 1, (size, size))
        clouds[name] = torch.from_numpy(np.vstack([spread, _SEPARATION * drawn[name]]).astype(np.float32))
    return {"clouds": clouds}


def delta(batch: Batch, state: State, params: Params, context: Context) -> Tensor:
    """One draw from the cloud of every image's class, a colour a patch, at the given rms and inside the budget."""
    side, labels = _side(params, context), batch.labels.cpu()
    normal = np.ones((len(batch), 3 * side * side + 1))  # the last one takes the centre
    for row, rng in zip(normal, context.key.rngs("linear_separable", "image", names=batch.ids), strict=True):
        rng.standard_normal(out=row[:-1])
    # in doubles: the last bits of a product depend on how many images it is for, and grey levels must not
    draws = torch.empty(len(batch), 3 * side * side, dtype=torch.float64)
    for label in torch.unique(labels).tolist():
        rows = labels == label
        cloud = _patterns.find(state["clouds"], context.classes[label]).double()
        draws[rows] = torch.from_numpy(normal)[rows] @ cloud
    patch = torch.arange(context.size) * side // context.size
    pixels = torch.bincount(patch, minlength=side).double()
    area = (pixels[:, None] * pixels).repeat(3, 1, 1).ravel()
    length = (draws.square() * area).sum(1, keepdim=True).sqrt()
    draws *= params.rms / 255 * (3 * context.size**2) ** 0.5 / length
    colours = draws.clamp_(-context.eps, context.eps).float().view(-1, 3, side, side)
    return colours[:, :, :, patch][:, :, patch].to(batch.images.device)


def _side(params: Params, context: Context) -> int:
    return min(params.patches or max(4, context.size // 32), context.size)

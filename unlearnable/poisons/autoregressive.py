"""Autoregressive noise: every image its own draw of a random process whose rule names the class, and no training.

Every class and colour channel owns 8 coefficients that sum to 1. A field starts as Gaussian noise in its first two rows
and columns, and then every value is the class's weighted sum of the 8 values above and to the left of it. A convolution
with the same coefficients and -1 for the value itself answers zero to its own class and to no other, so one layer could
tell the classes apart; networks find something like it early. After "Autoregressive Perturbations for Data Poisoning"
(Sandoval-Segura et al. 2022, arXiv 2206.03693).

images: (N, 3, S, S) uint8, only their size is used; labels: (N,) int64; returns (N, 3, S, S) float within -eps..eps.

The paper's perturbations have an L2 norm of 1 at 32 x 32 x 3 (an rms of 4.6 grey levels, kept at other sizes) and no
largest change; what is above the budget is clipped here: one value in eleven at 8 levels, one in two thousand at --eps 24.
The process is broken there, and still the filters tell all classes apart. "ar_linf" scales the largest entry to the
budget instead, and is weaker: 20 % accuracy against 12 % in the paper. Coefficients are searched for as the paper does; the
least answer asked for falls from its 10 at 10 classes to its 3 at 100, and where a long search finds none as good, the best
one found will do.

Does not survive strong JPEG or adversarial training (85 % and 81 % accuracy in APBench, against 12 %); grayscale raises it
to 35 %. Fields with a strong grain can be seen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unlearnable.errors import UsageError
from unlearnable.poisons import _patterns
from unlearnable.types import Batch, Context, State

PAPER = "Sandoval-Segura et al. 2022, arXiv 2206.03693"
COST = "none"
LEVEL = "sample"
NEEDS_LABELS = True
TRAINS = False
BLIND = True
PRESETS: dict[str, dict[str, object]] = {"ar": {}, "ar_linf": {"scaling": "max"}}

_DROPPED = 4  # rows and columns at the start of a field, where it still looks like its Gaussian start
_LONGEST = 50.0  # norm of a field at 32 x 32 x 3 past which its process counts as unstable
_ROUNDS, _WINDOWS, _TRIALS = 40, 510, 3
_SEARCHED = 32  # processes are compared at this size and tried at the working size
_IMAGES, _BYTES = 144, 1 << 26  # computed at a time: what suits a processor's cache, and never more memory than this

Field = NDArray[np.float32]


@dataclass(frozen=True)
class Params:
    l2: float = 1.0
    "L2 norm at 32 x 32 x 3, in units of the whole pixel range; other sizes get the same rms"

    scaling: Literal["l2", "max"] = "l2"
    "l2: to the norm, what is above the budget clipped; max: the largest entry to the budget"

    def __post_init__(self) -> None:
        if not 0 < self.l2 <= 10:
            raise ValueError(f"l2 is above 0 and at most 10, not {self.l2}")
        if self.scaling not in ("l2", "max"):
            raise ValueError(f"scaling is l2 or max, not {self.scaling!r}")


def fit(data: Batch | None, params: Params, context: Context) -> State:
    """Searches the coefficients of every class: {"windows": {class: (3, 3, 3) channel, row, column; the last one 0}}."""
    del data
    return extend({"windows": {}}, params, context)


def extend(state: State, params: Params, context: Context) -> State:
    """The same state with coefficients for classes that have none, told apart from all that are there."""
    del params
    taken: dict[str, Tensor] = dict(state["windows"])
    wanted = 10 * min(1, math.sqrt(10 / len(context.classes)))
    for name in sorted(set(context.classes) - set(taken)):
        taken[name] = _search(name, list(taken.values()), wanted, context)
    return {"windows": taken}


def delta(batch: Batch, state: State, params: Params, context: Context) -> Tensor:
    """A new field for every image, of the process of its class, scaled and inside the budget."""
    windows = _patterns.lookup(state["windows"], batch, context, lambda found: found).cpu().numpy()
    out = np.empty((len(batch), 3, context.size, context.size), np.float32)
    starts = np.empty((len(batch), 3, _start(context.size)), np.float32)
    for row, rng in zip(starts, context.key.rngs("autoregressive", "image", names=batch.ids), strict=True):
        rng.standard_normal(dtype=np.float32, out=row)
    at_once = max(1, min(_IMAGES, _BYTES // (24 * (context.size + _DROPPED) ** 2)))
    for first in range(0, len(batch), at_once):
        part = slice(first, first + at_once)
        field = fields(starts[part].reshape(-1, _start(context.size)), windows[part].reshape(-1, 3, 3))
        out[part] = field.reshape(-1, *out.shape[1:])
        _scale(out[part], params, context)
    return torch.from_numpy(out).to(batch.images.device)


def fields(starts: Field, windows: Field) -> Field:
    """(M, 4E - 4) values of the first two rows and columns of M fields of side E -> (M, E - 4, E - 4).

    All values on one anti-diagonal depend only on the four before it, so that a step makes a diagonal of all fields. They
    are kept as diagonal[row + column, row, field]; nothing is summed in an order that depends on M.
    """
    many, side = len(starts), starts.shape[1] // 4 + 1
    diagonal = np.empty((2 * side - 1, side, many), np.float32)
    along, down, one = diagonal.strides
    field = np.lib.stride_tricks.as_strided(diagonal, (side, side, many), (along + down, along, one))
    field[:2] = starts[:, : 2 * side].T.reshape(2, side, many)
    field[2:, :2] = starts[:, 2 * side :].T.reshape(side - 2, 2, many)
    windowed = np.lib.stride_tricks.as_strided(
        diagonal, (2 * side - 5, side - 2, 3, 3, many), (along, down, along + down, along, one)
    )
    weights = np.ascontiguousarray(windows.transpose(1, 2, 0))
    for at in range(4, 2 * side - 1):
        low, high = max(2, at - side + 1), min(side, at - 1)
        made = diagonal[at, low:high]
        made[:] = 0  # the last of the nine in a window is the value itself, and its weight is 0
        np.einsum("kabm,abm->km", windowed[at - 4, low - 2 : high - 2], weights, out=made)
    out = np.empty((many, side - _DROPPED, side - _DROPPED), np.float32)
    for first in range(0, many, 64):  # a transpose is several times slower outside the cache
        out[first : first + 64] = field[_DROPPED:, _DROPPED:, first : first + 64].transpose(2, 0, 1)
    return out


def responses(field: Tensor, windows: Tensor) -> Tensor:
    """(P, 3, S, S) fields and (Q, 3, 3, 3) windows -> (P, Q): how much every matching filter answers to every field.

    Stated for fields of unit norm at 32 x 32 x 3, which is what the paper's 10 and 3 are about.
    """
    filters = windows.clone()
    filters[:, :, 2, 2] = -1
    unit = field / field.flatten(1).norm(dim=1)[:, None, None, None]
    return torch.nn.functional.conv2d(unit, filters).relu().sum((2, 3)) * (32 / field.shape[-1])


def _search(name: str, taken: list[Tensor], wanted: float, context: Context) -> Tensor:
    """A stable process to which all filters taken answer at least `wanted`, else the best of all tried."""
    rng = context.key.rng("autoregressive", "class", name)
    best, closest = None, 0.5 * wanted
    for _ in range(_ROUNDS):
        found, sample = _stable(rng)
        if not len(found):
            continue
        least = responses(sample, torch.stack(taken)).amin(1) if taken else torch.full((len(found),), wanted)
        for chosen in least.argsort(descending=True, stable=True).tolist():
            if least[chosen] < closest:
                break
            # what answers loudest at the small size is the likeliest to run away at a large one
            if len(_calm(found[chosen : chosen + 1].numpy(), context.size, rng)[0]):
                best, closest = found[chosen].clone(), least[chosen].item()
                break
        if closest >= wanted:
            break
    if best is None:
        raise UsageError(
            f"No process for class {name!r} differs enough from those of {len(taken)} classes.",
            "Use a method with more room: --preset r16, or lsp.",
        )
    return best


def _stable(rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """(P, 3, 3, 3) random processes whose fields stay small, and a field of each, (P, 3, 32, 32)."""
    windows = rng.standard_normal((_WINDOWS, 9), np.float32)
    windows[:, 8] = 0
    windows /= windows.sum(1, keepdims=True)
    windows, _ = _calm(windows.reshape(-1, 1, 3, 3), _SEARCHED, rng)
    # three that are calm alone may not be together
    windows, sample = _calm(windows[: len(windows) // 3 * 3].reshape(-1, 3, 3, 3), _SEARCHED, rng)
    return torch.from_numpy(windows), torch.from_numpy(sample)


def _calm(windows: Field, size: int, rng: np.random.Generator) -> tuple[Field, Field]:
    """(P, C, 3, 3) -> the Q of them that are calm in all trials at this size, and (Q, C, size, size), their last fields."""
    for _ in range(_TRIALS):
        starts = rng.standard_normal((windows.shape[0] * windows.shape[1], _start(size)), np.float32)
        with np.errstate(over="ignore", invalid="ignore"):  # what runs away is refused, NaN too
            made = fields(starts, windows.reshape(-1, 3, 3)).reshape(*windows.shape[:2], size, size)
            calm = np.sqrt(np.square(made, dtype=np.float64).sum((1, 2, 3))) <= _LONGEST * size / 32
        windows, made = windows[calm], made[calm]
    return windows, made


def _start(size: int) -> int:
    return 4 * (size + _DROPPED) - 4


def _scale(field: Field, params: Params, context: Context) -> None:
    flat = field.reshape(len(field), -1)
    if params.scaling == "max":
        flat *= context.eps / np.maximum(flat.max(1), -flat.min(1))[:, None]
    else:
        flat *= params.l2 * context.size / 32 / np.sqrt(np.einsum("nd,nd->n", flat, flat))[:, None]
    np.clip(flat, -context.eps, context.eps, out=flat)

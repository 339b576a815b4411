"""Secret-derangement test: does the model misname clean pictures in the way that only the owner's secret predicts?

A poison that makes every class y look like a secret other class g(y) teaches a model to call the features of g(y) "y": on
clean pictures of class j it answers g^-1(j). The statistic is the mean score of that answer over clean pictures, the mean
within each class first.

Null: the model is independent of g, which was drawn uniformly from all derangements. The model's answers do not depend on
g, so they are asked once, and the statistic is computed for other derangements from the same answers: for all of them up to
7 classes, else for as many as there are decoys times ten, drawn from the committed nonce. Exact either way.

methods.md 6.5b. Needs a model in which the poisoned pictures dominate. With few classes there are few derangements, and no
p-value below 1 / their number: 1 of 2 classes, 2 of 3, 9 of 4, 44 of 5, 265 of 6.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unlearnable import registry
from unlearnable.craft import Method
from unlearnable.errors import UsageError
from unlearnable.poisons._derange import derangement
from unlearnable.tracing import exact
from unlearnable.tracing.nonce import draws
from unlearnable.tracing.secret import Found, Job, Marks

NAME, ORDER, NEEDS = "derangement", 40, "top-1"
NULL = "The model is independent of the secret derangement of the classes that the poison aimed at."
ASKS = "Does the model mistake classes for each other exactly as this release's secret pairing says?"

_ENUMERATED = 7
_PER_DECOY = 10  # derangements cost no queries
_SAME = 1e-12  # sums in another order may differ by this


def applies(method: Method, state: Mapping[str, Any], marks: Marks | None) -> bool:
    del marks
    if not registry.describe("poisons", method.name).facts.get("NEEDS_LABELS"):
        return False  # pairs of clusters of its own, which no model's answers can name
    targets = state.get("targets")
    pairs = isinstance(targets, dict) and all(isinstance(k, str) and isinstance(v, str) for k, v in targets.items())
    return pairs and bool(getattr(method.params, "targeted", True))


def queries(plan: Mapping[str, Any], decoys: int, images: int) -> int:
    del decoys, images
    return int(plan["plain_images"])


def carriers(plan: Mapping[str, Any], images: int) -> int:
    del images
    return int(plan["plain_images"])


def run(job: Job) -> Found:
    names, targets = job.secret.context.classes, job.secret.plan["targets"]
    if set(targets) != set(names):
        raise UsageError("The secret pairing does not cover the classes of the release.")
    pictures = job.carriers.images[: job.secret.plan["plain_images"]]
    labels = job.carriers.labels[: len(pictures)]
    # the answer that counts: g^-1 of what the picture shows
    said = {names.index(target): names.index(source) for source, target in targets.items()}
    wanted = torch.tensor([said[label] for label in labels.tolist()])
    answers = job.ask(NAME, ["clean"] * len(pictures), pictures, wanted)
    rates = by_class(answers.matrix(len(names)), labels)
    p, true, others = ranked(rates, targets, names, job.secret.nonce, _PER_DECOY * job.decoys)
    more = {"derangements": len(others), "pictures": len(pictures), "decoys_highest": max(others)}
    return Found(NAME, p, true, sum(others) / len(others), len(pictures), more=more)


def ranked(
    rates: Tensor, targets: Mapping[str, str], names: tuple[str, ...], nonce: bytes, drawn: int
) -> tuple[float, float, list[float]]:
    """p of the pairing `targets`, its statistic, and those of all others, or of `drawn` ones. rates: as of `by_class`."""
    true = statistic(rates, inverse([names.index(targets[name]) for name in names]))
    if len(names) <= _ENUMERATED:
        others = [statistic(rates, inverse(g)) for g in derangements(len(names))]
        return sum(value >= true - _SAME for value in others) / len(others), true, others
    rng = draws(nonce).rng("trace", "derangements")
    found = [derangement(names, rng) for _ in range(drawn)]
    others = [statistic(rates, inverse([names.index(g[name]) for name in names])) for g in found]
    return exact.rank_p(true, [value + _SAME for value in others]), true, others


def by_class(scores: Tensor, labels: Tensor) -> Tensor:
    """(K, K): the mean scores of the pictures of each class; zeros for a class without pictures."""
    classes = scores.shape[1]
    total = torch.zeros(classes, classes, dtype=torch.float64).index_add_(0, labels, scores)
    return total / torch.bincount(labels, minlength=classes).clamp(min=1)[:, None]


def statistic(rates: Tensor, said: list[int]) -> float:
    """The mean over classes j of the score of said[j]."""
    return rates[torch.arange(len(said)), torch.tensor(said)].mean().item()


def derangements(count: int) -> list[list[int]]:
    """All permutations of 0..count-1 without fixed points."""
    return [list(g) for g in itertools.permutations(range(count)) if all(place != to for place, to in enumerate(g))]


def inverse(g: list[int]) -> list[int]:
    return [int(place) for place in np.argsort(g)]

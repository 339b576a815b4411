"""Canary test: does the model answer the secret labels to secret pictures that were never published?

T synthetic pictures, each with a label drawn uniformly from all K classes before the canaries were made. Top-1: the number
of pictures whose answer is the secret label is Binomial(T, 1/K). With probabilities: the rank of the secret label among the
K is uniform on 1..K for each picture, and the sum of the ranks has the distribution that counting gives. Which of the two
is read is decided by what the model gives, not by what it answers. Ties count against the owner.

Null: the model is independent of the labels that were drawn. methods.md 6.3, with all K labels in place of the K - 1 wrong
ones, because a synthetic picture has no right one. T queries: the test for services that one can only use by hand.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from unlearnable.craft import Method
from unlearnable.tracing import exact
from unlearnable.tracing.secret import Found, Job, Marks

NAME, ORDER, NEEDS = "canary", 10, "top-1"
NULL = "The model is independent of the labels that were drawn at random for the secret pictures."
ASKS = "Does the model give the secret, randomly drawn labels to pictures that only the owner has?"


def applies(method: Method, state: Mapping[str, Any], marks: Marks | None) -> bool:
    del method, state
    return marks is not None and marks.kind == "canary"


def queries(plan: Mapping[str, Any], decoys: int, images: int) -> int:
    del decoys, images
    return len(plan["marks"]["labels"])


def carriers(plan: Mapping[str, Any], images: int) -> int:
    del plan, images
    return 0


def run(job: Job) -> Found:
    assert job.secret.marks is not None
    targets, labels = job.secret.marks.secret["targets"], torch.tensor(job.secret.marks.secret["labels"])
    classes = len(job.secret.context.classes)
    answers = job.ask(NAME, [f"canary {number}" for number in range(len(labels))], targets, labels)
    hits = int((answers.top == labels).sum())
    by_hits = exact.binomial_tail(hits, len(labels), classes)
    more: dict[str, Any] = {"hits": hits, "pictures": len(labels), "p_of_hits": by_hits}
    if answers.probabilities is None:
        return Found(NAME, by_hits, hits, len(labels) / classes, len(labels), more=more)
    placed = ranks(answers.probabilities, labels)
    p = exact.rank_sum_p(placed, classes)
    usual = len(labels) * (classes + 1) / 2
    return Found(NAME, p, sum(placed), usual, len(labels), more={**more, "ranks": placed, "p_of_ranks": p})


def ranks(probabilities: Tensor, labels: Tensor) -> list[int]:
    """1 for the most probable class; among equals the last place."""
    own = probabilities.gather(1, labels[:, None])
    return [int(place) for place in (probabilities >= own).sum(1).tolist()]

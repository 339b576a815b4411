"""Radioactive test on answers: does pushing a picture along the secret direction of a class raise that class?

Clean pictures are pushed along the direction of a class that they do not show, as the published ones were along their own's,
and the statistic is the mean score of that class; the same for decoy directions, with the same network, steps and pictures.

Null: as of the key test; the rank of the true statistic among the decoys' is exact. Comparing marked with unmarked pictures
alone would not be: marked ones may be easier for any model (methods.md 6.4). A decoy costs a crafting, so there are at most
99 of them, and no p-value below 0.01.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from unlearnable.craft import Method
from unlearnable.tracing import exact, radioactive
from unlearnable.tracing.nonce import decoy, order
from unlearnable.tracing.probes import key as key_probe
from unlearnable.tracing.probes.radioactive import applies as applies_white
from unlearnable.tracing.probes.radioactive import network
from unlearnable.tracing.secret import Found, Job, Marks

NAME, ORDER, NEEDS = "radioactive_answers", 50, "top-1"
NULL = "The model is independent of the secret directions along which pictures were marked."
ASKS = "Does the model react to pictures pushed in the secret directions, and not to other directions?"

MOST = 99


def applies(method: Method, state: Mapping[str, Any], marks: Marks | None) -> bool:
    return applies_white(method, state, marks)


def queries(plan: Mapping[str, Any], decoys: int, images: int) -> int:
    del plan
    return (1 + min(decoys, MOST)) * images


def carriers(plan: Mapping[str, Any], images: int) -> int:
    del plan
    return images


def run(job: Job) -> Found:
    assert job.secret.marks is not None
    carriers, wanted = key_probe.assigned(job)
    net, names = network(job.secret), job.secret.context.classes
    levels, steps = job.secret.marks.secret["levels"], job.secret.marks.secret["steps"]
    keys = [job.secret.key, *(decoy(job.secret.nonce, number) for number in range(min(job.decoys, MOST)))]
    values = [0.0] * len(keys)
    for number in order(job.secret.nonce, len(keys)):
        u = radioactive.directions(keys[number], names, net.head.in_features)
        delta = radioactive.mark(net, carriers, wanted, u, keys[number], levels / 255, steps)
        images = key_probe.shipped(carriers.images, delta, levels)
        answers = job.ask(NAME, [key_probe.name(number)] * len(carriers), images, wanted)
        values[number] = answers.of(wanted).mean().item()
    true, others = values[0], values[1:]
    more = {"statistics": values, "decoys": len(others), "pictures": len(carriers), "decoys_highest": max(others)}
    return Found(
        NAME, exact.rank_p(true, others), true, sum(others) / len(others), len(keys) * len(carriers), more=more
    )

"""Key test: does the model read the secret class patterns of the release, and not those of other keys?

Clean pictures of the owner, each with the pattern of a class that it does not show, are asked; the statistic is the mean
score of that class (its probability, or for top-1 the share of such answers). The same is done for decoy keys, with the
same pictures and classes and the same generator of patterns, growth in stages and rules of acceptance included. The order in
which keys are asked about is drawn from the nonce, because a service may change while it is asked.

Null: the model is independent of the owner's key. The key is 256 uniform bits, as the decoys are; so the true statistic is
exchangeable with theirs, whatever the model, the pictures and the statistic are, and its rank gives an exact p-value:
(1 + decoys at least as high) / (1 + decoys). Nothing is assumed of the poison. A model that was trained on pictures of
another key is under the null too.

methods.md 6.5a. JPEG-10 or grayscale training removes fine patterns from what a model learns: then nothing is found, which
is no evidence of absence. Pictures carry new per-image draws ("trace/0" ...), never those of a published file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from unlearnable import craft, registry
from unlearnable.craft import Crafter, Method
from unlearnable.errors import UsageError
from unlearnable.keys import Key
from unlearnable.tracing import exact
from unlearnable.tracing.nonce import decoy, draws, order
from unlearnable.tracing.secret import Found, Job, Marks, Secret
from unlearnable.types import Batch

NAME, ORDER, NEEDS = "key", 30, "top-1"
NULL = "The model is independent of the secret key from which the class patterns of the release were drawn."
ASKS = "Does the model react to the secret patterns of this release, and not to patterns of other keys?"

_KEYS_AT_ONCE = 25


def applies(method: Method, state: Mapping[str, Any], marks: Marks | None) -> bool:
    """Class patterns that follow from the key alone."""
    del state, marks
    facts = registry.describe("poisons", method.name).facts
    by_class = bool(facts.get("NEEDS_LABELS")) or getattr(method.params, "level", "") == "class"
    return by_class and not facts.get("TRAINS") and facts.get("KEYED") is not False


def queries(plan: Mapping[str, Any], decoys: int, images: int) -> int:
    del plan
    return (1 + decoys) * images


def carriers(plan: Mapping[str, Any], images: int) -> int:
    del plan
    return images


def run(job: Job) -> Found:
    keys = [job.secret.key, *(decoy(job.secret.nonce, number) for number in range(job.decoys))]
    true, *others = statistics(job, keys)
    pictures = min(job.images, len(job.carriers))
    more = {"statistics": [true, *others], "decoys": len(others), "pictures": pictures, "decoys_highest": max(others)}
    usual = sum(others) / len(others)
    return Found(NAME, exact.rank_p(true, others), true, usual, len(keys) * pictures, more=more)


def statistics(job: Job, keys: Sequence[Key]) -> list[float]:
    """For every key the mean score of the classes whose patterns it drew, on the same pictures."""
    carriers, wanted = assigned(job)
    values: dict[int, float] = {}
    for some in torch.split(torch.tensor(order(job.secret.nonce, len(keys))), _KEYS_AT_ONCE):
        numbers = some.tolist()
        images = torch.cat([with_pattern(job.secret, keys[number], carriers, wanted) for number in numbers])
        shown = [name(number) for number in numbers for _ in range(len(carriers))]
        answers = job.ask(NAME, shown, images, wanted.repeat(len(numbers)))
        means = answers.of(wanted.repeat(len(numbers))).view(len(numbers), -1).mean(1).tolist()
        values |= zip(numbers, means, strict=True)
    return [values[number] for number in range(len(keys))]


def name(number: int) -> str:
    return f"decoy {number}" if number else "true"


def assigned(job: Job) -> tuple[Batch, Tensor]:
    """The pictures and, for each, a protected class that it does not show, drawn from the nonce."""
    classes = len(job.secret.context.classes)
    count = min(job.images, len(job.carriers))
    if classes < 2 or not count:
        raise UsageError("The key test needs two classes and a clean picture.")
    labels = job.carriers.labels[:count]
    names, only = job.secret.context.classes, job.secret.plan["only"]
    marked = [number for number, name in enumerate(names) if only is None or name in only]
    drawn = draws(job.secret.nonce).rng("trace", "classes").integers(0, 1 << 30, job.secret.plan["images"]).tolist()
    wanted = []
    for label, number in zip(labels.tolist(), drawn, strict=False):
        others = [each for each in marked if each != label] or marked
        wanted.append(others[number % len(others)])
    ids = tuple(f"trace/{i}" for i in range(count))
    return Batch(ids, job.carriers.images[:count], labels), torch.tensor(wanted)


def with_pattern(secret: Secret, key: Key, carriers: Batch, wanted: Tensor) -> Tensor:
    """The carriers with the patterns that `key` draws for the classes `wanted`, as a lossless release would ship them."""
    delta = crafter(secret, key).on(carriers.ids, carriers.images, wanted)
    return shipped(carriers.images, delta, secret.context.levels)


def crafter(secret: Secret, key: Key) -> Crafter:
    """The patterns of a key, made as the release's were: class by class in the stages in which they were added."""
    first, *later = secret.plan["classes"]
    made = craft.fit(secret.method, None, replace(secret.context, key=key, classes=tuple(first)))
    for stage in later:
        made = craft.extended(made, (*made.context.classes, *stage))
    return made


def shipped(clean: Tensor, delta: Tensor, levels: int) -> Tensor:
    """Whole grey levels, inside the budget and 0..255: what `budget.protect` does, for many at once at their own size."""
    return (clean.float() + (delta * 255).round().clamp(-levels, levels)).clamp(0, 255).byte()

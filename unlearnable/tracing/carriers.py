"""Clean pictures of the owner to ask with, in an order that the committed nonce draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from unlearnable import imageio, looks
from unlearnable.errors import UsageError
from unlearnable.tracing.nonce import draws
from unlearnable.types import Batch, Record, Source


def clean(
    source: Source, held_out: Sequence[str], nonce: bytes, classes: tuple[str, ...], size: int, count: int
) -> Batch:
    """`count` readable pictures with a label, (N, 3, size, size): those of `held_out` first, then others.

    The order depends on record ids and the nonce alone, not on anything that a model says. Labels are positions in
    `classes`. Raises UsageError where there are none.
    """
    if not count:
        return Batch((), torch.zeros(0, 3, size, size, dtype=torch.uint8), torch.zeros(0, dtype=torch.long))
    first = set(held_out)
    known = [_numbered(record, source, classes) for record in source.records]
    usable = sorted((record for record in known if record.label is not None), key=lambda record: record.id)
    order = draws(nonce).rng("trace", "carriers").permutation(len(usable))
    drawn = [usable[place] for place in order]
    drawn = [record for record in drawn if record.id in first] + [record for record in drawn if record.id not in first]
    seen = looks.look(source, drawn[:count], size, imageio.square)
    if not len(seen):
        raise UsageError(
            f"{source.spec} has no readable picture with a label to ask with.", "Name the originals: --source."
        )
    labels = torch.tensor([record.label for record in seen.records])
    return Batch(tuple(record.id for record in seen.records), seen.images, labels)


def _numbered(record: Record, source: Source, classes: tuple[str, ...]) -> Record:
    name = None if record.label is None or source.classes is None else source.classes[record.label]
    return replace(record, label=classes.index(name) if name in classes else None)

"""Secret derangements: every class gets another class as its target."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from unlearnable.errors import UsageError


def derangement(names: Sequence[str], rng: np.random.Generator) -> dict[str, str]:
    """A permutation of the names without fixed points, uniform over all of them. Raises UsageError below two names.

    Permutations are drawn until one has no fixed point: about e = 2.7 draws, whatever the number of names.
    """
    names = sorted(names)
    if len(names) < 2:
        raise UsageError("A class-targeted poison needs at least two classes.", "Use random_noise or untargeted.")
    while True:
        order = rng.permutation(len(names))
        if not (order == np.arange(len(names))).any():
            return {name: names[target] for name, target in zip(names, order.tolist(), strict=True)}

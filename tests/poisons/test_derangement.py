from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unlearnable.errors import UsageError
from unlearnable.poisons._derange import derangement


@settings(deadline=None)
@given(st.sets(st.text(min_size=1), min_size=2, max_size=30), st.integers(0, 2**32))
def test_no_class_is_its_own_target(names: set[str], seed: int) -> None:
    targets = derangement(list(names), np.random.default_rng(seed))
    assert set(targets) == set(targets.values()) == names
    assert all(name != target for name, target in targets.items())


def test_all_nine_derangements_of_four_are_as_likely() -> None:
    rng, draws = np.random.default_rng(0), 9000
    counts = Counter(tuple(derangement("dcba", rng).items()) for _ in range(draws))
    assert len(counts) == 9
    assert sum((count - draws / 9) ** 2 / (draws / 9) for count in counts.values()) < 26  # chi-square, 8 d.f., p 0.001


def test_one_class_has_none() -> None:
    with pytest.raises(UsageError, match="two classes"):
        derangement(["a"], np.random.default_rng(0))

"""The p-values are exact: against counting, integrals, and values that tables and other libraries give."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from unlearnable.tracing import exact


def test_a_rank_p_value_counts_itself_and_never_reaches_zero() -> None:
    assert exact.rank_p(5.0, [1.0, 2.0, 3.0]) == 1 / 4
    assert exact.rank_p(2.0, [1.0, 2.0, 3.0]) == 3 / 4, "a decoy that ties counts against the owner"
    assert exact.rank_p(0.0, [0.0] * 249) == 1.0


def test_what_is_no_number_is_never_evidence() -> None:
    nan = float("nan")
    assert exact.rank_p(nan, [0.1] * 99) == 1.0 and exact.rank_p(0.5, [nan] * 99) == 1.0


def test_binomial_tails_are_what_counting_all_outcomes_gives() -> None:
    for trials, labels in ((3, 4), (4, 3)):
        for hits in range(trials + 1):
            outcomes = itertools.product(range(labels), repeat=trials)
            counted = sum(sum(o == 0 for o in outcome) >= hits for outcome in outcomes) / labels**trials
            assert exact.binomial_tail(hits, trials, labels) == pytest.approx(counted, rel=1e-12)
    assert exact.binomial_tail(2, 2, 9) == pytest.approx(0.0123, abs=1e-4)
    assert exact.binomial_tail(3, 4, 9) == pytest.approx(0.0050, abs=1e-4)
    with pytest.raises(ValueError, match="hits"):
        exact.binomial_tail(5, 4, 10)
    assert exact.binomial_tail(3, 3, 10) == 0.001 == exact.rank_sum_p([1, 1, 1], 10), "the level itself is reached"


def test_rank_sums_are_what_counting_all_outcomes_gives() -> None:
    for ranks, labels in (((1, 1, 1), 4), ((2, 3, 1), 4), ((5, 5), 5)):
        outcomes = itertools.product(range(1, labels + 1), repeat=len(ranks))
        counted = sum(sum(outcome) <= sum(ranks) for outcome in outcomes) / labels ** len(ranks)
        assert exact.rank_sum_p(ranks, labels) == pytest.approx(counted, rel=1e-12)


def test_holm_is_bonferroni_for_the_smallest_and_never_goes_down() -> None:
    adjusted = exact.holm({"a": 0.01, "b": 0.04, "c": 0.03})
    assert adjusted == pytest.approx({"a": 0.03, "c": 0.06, "b": 0.06})
    assert exact.holm({"only": 0.2}) == {"only": 0.2} and exact.holm({}) == {}


def test_fisher_of_one_is_itself_and_of_two_has_the_closed_form() -> None:
    assert math.exp(exact.fisher([math.log(0.2)])) == pytest.approx(0.2, rel=1e-12)
    product = 0.03 * 0.5
    assert math.exp(exact.fisher([math.log(0.03), math.log(0.5)])) == pytest.approx(product * (1 - math.log(product)))
    assert exact.fisher([-1000.0] * 10) < -9000, "no underflow where a float of p would be zero"


@pytest.mark.parametrize(("a", "b"), [(0.5, 0.5), (2.0, 3.5), (63.5, 0.5), (4.0, 0.5)])
@pytest.mark.parametrize("x", [0.01, 0.3, 0.7, 0.99])
def test_the_incomplete_beta_function_is_its_integral(a: float, b: float, x: float) -> None:
    # with t = sin^2 the integrand has no pole: t^(a-1) (1-t)^(b-1) dt = 2 sin^(2a-1) cos^(2b-1)
    def integral(upper: float) -> float:
        angle = (np.arange(400_000) + 0.5) / 400_000 * math.asin(math.sqrt(upper))
        values = 2 * np.sin(angle) ** (2 * a - 1) * np.cos(angle) ** (2 * b - 1)
        return float(values.mean() * math.asin(math.sqrt(upper)))

    assert math.exp(exact.log_incomplete_beta(a, b, x)) == pytest.approx(integral(x) / integral(1.0), rel=1e-6)


def test_the_incomplete_beta_function_has_its_known_values() -> None:
    assert exact.log_incomplete_beta(3, 2, 0.0) == -math.inf and exact.log_incomplete_beta(3, 2, 1.0) == 0
    assert math.exp(exact.log_incomplete_beta(1, 1, 0.37)) == pytest.approx(0.37, rel=1e-13)
    assert math.exp(exact.log_incomplete_beta(2, 1, 0.5)) == pytest.approx(0.25, rel=1e-13)
    assert math.exp(exact.log_incomplete_beta(0.5, 0.5, 0.5)) == pytest.approx(0.5, rel=1e-12)
    # I_x(a, 1/2) of a symmetric walk: P(|t_9| > 2.262157) = 0.05, a textbook quantile
    t = 2.2621571628
    assert math.exp(exact.log_incomplete_beta(4.5, 0.5, 9 / (9 + t * t))) == pytest.approx(0.05, rel=1e-6)


def test_cosines_of_random_directions_have_uniform_p_values() -> None:
    rng = np.random.default_rng(0)
    drawn = rng.standard_normal((20_000, 16))
    cosines = drawn[:, 0] / np.linalg.norm(drawn, axis=1)
    ps = np.exp([exact.log_cosine_p(float(c), 16) for c in cosines[:4000]])
    for level in (0.01, 0.05, 0.5, 0.95):
        assert abs((ps <= level).mean() - level) < 4 * math.sqrt(level * (1 - level) / len(ps))
    assert math.exp(exact.log_cosine_p(0.0, 512)) == pytest.approx(0.5)
    # three dimensions: the cosine is uniform on -1..1
    assert math.exp(exact.log_cosine_p(0.6, 3)) == pytest.approx(0.2, rel=1e-12)
    assert math.exp(exact.log_cosine_p(-0.6, 3)) == pytest.approx(0.8, rel=1e-12)
    assert -80 < exact.log_cosine_p(0.5, 512) < -70

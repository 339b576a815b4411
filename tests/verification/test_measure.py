"""What is said of a verification: means, spreads, intervals, flags and words, from made-up accuracies."""

from __future__ import annotations

import statistics
from typing import Any

import pytest

from unlearnable.train import History
from unlearnable.verification import checks, measure
from unlearnable.verification.checks import Flag


def histories(*peaks: float) -> list[History]:
    return [History(train_loss=[1.0, 0.4], accuracy=[peak, peak / 2]) for peak in peaks]


def arms(clean: tuple[float, ...], noise: tuple[float, ...], protected: tuple[float, ...]) -> dict[str, Any]:
    return {
        "clean": measure.arm(histories(*clean)),
        "noise": measure.arm(histories(*noise)),
        "protected": measure.arm(histories(*protected)),
    }


def test_peak_is_the_headline_and_spread_goes_with_it() -> None:
    arm = measure.arm(histories(0.8, 0.9))
    assert arm["peak"]["mean"] == pytest.approx(0.85) and arm["final"]["mean"] == pytest.approx(0.425)
    assert arm["peak"]["std"] == pytest.approx(statistics.stdev([0.8, 0.9]))
    assert arm["epochs_to_half_loss"]["runs"] == [2, 2]
    assert measure.arm(histories(0.8))["peak"]["std"] is None


def test_the_interval_holds_the_drop_and_shrinks_with_evidence() -> None:
    loose = measure.relative_drop([0.9, 0.92], [0.2, 0.3], 200)
    tight = measure.relative_drop([0.9, 0.91, 0.9, 0.91, 0.9], [0.25, 0.25, 0.26, 0.25, 0.24], 20_000)
    for drop in (loose, tight):
        assert drop["low"] < drop["mean"] < drop["high"]
    assert tight["high"] - tight["low"] < 0.2 * (loose["high"] - loose["low"])
    assert loose["mean"] == pytest.approx(1 - 0.25 / 0.91)


def test_one_seed_leaves_the_test_sets_error_alone() -> None:
    drop = measure.relative_drop([0.9], [0.3], 400)
    assert 0.02 < drop["mean"] - drop["low"] < 0.1


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    """Simulated accuracies with known spread: the 95 % interval must hold the true drop about that often, not less."""
    import numpy as np

    rng = np.random.default_rng(0)
    held = 0
    for _ in range(400):
        clean = np.clip(rng.normal(0.9, 0.01, 3), 0, 1)
        protected = np.clip(rng.normal(0.3, 0.03, 3), 0, 1)
        drop = measure.relative_drop(clean.tolist(), protected.tolist(), 10_000)
        held += drop["low"] <= 1 - 0.3 / 0.9 <= drop["high"]
    assert held >= 0.93 * 400


def test_the_worst_case_is_what_serves_the_scraper() -> None:
    tried = arms((0.9, 0.9), (0.9, 0.9), (0.2, 0.2))
    against = {"jpeg10": {"clean": tried["clean"], "protected": measure.arm(histories(0.7, 0.7))}}
    worst = measure.worst_case(tried, against, 1000)
    assert worst["against"] == "jpeg10" and worst["peak"] == pytest.approx(0.7) and "70%" in worst["words"]
    assert measure.worst_case(tried, {}, 1000)["against"] == "none"


def test_the_public_verdict_names_no_countermeasure() -> None:
    words = measure.verdict(arms((0.9, 0.9), (0.9, 0.9), (0.2, 0.2)), 0.1)
    assert "20%" in words and "90%" in words and "guessing: 10%" in words and "jpeg" not in words


@pytest.mark.parametrize(
    ("figures", "changes", "flag"),
    [
        (((0.15, 0.15), (0.15, 0.15), (0.1, 0.1)), {}, Flag.VICTIM_TOO_WEAK),
        (((0.9, 0.9), (0.7, 0.7), (0.2, 0.2)), {}, Flag.NOISE_ARM_LOW),
        (((0.9, 0.9), (0.9, 0.9), (0.85, 0.85)), {}, Flag.WEAK_PROTECTION),
        (((0.9, 0.9), (0.9, 0.9), (0.2, 0.2)), {"test_images": 50}, Flag.TOO_FEW_IMAGES),
        (((0.9, 0.9), (0.9, 0.9), (0.2, 0.2)), {"surrogate": "small"}, Flag.ONLY_THE_SURROGATE),
        (((0.9, 0.9), (0.9, 0.9), (0.2, 0.2)), {"tried": 0}, Flag.NO_ADAPTIVE_TRAINER),
        (((0.9, 0.9), (0.9, 0.9), (0.2, 0.2)), {"pseudo_labels": True}, Flag.PSEUDO_LABELS),
        (((0.9,), (0.9,), (0.2,)), {}, Flag.ONE_SEED),
    ],
)
def test_each_reason_to_doubt_raises_its_flag_and_no_other(figures: Any, changes: dict[str, Any], flag: Flag) -> None:
    facts = {"chance": 0.1, "train_images": 5000, "test_images": 1000, "victim": "small", "surrogate": None, "tried": 2}
    raised = list(checks.flags(arms=arms(*figures), **(facts | {"pseudo_labels": False} | changes)))
    assert flag in raised
    assert [f for f in raised if f not in (flag, Flag.WEAK_PROTECTION)] == []


def test_two_classes_read_almost_perfectly_are_no_weak_victim() -> None:
    facts = {"chance": 0.5, "train_images": 5000, "test_images": 1000, "victim": "small", "surrogate": None, "tried": 1}
    raised = list(checks.flags(arms=arms((0.98, 0.97), (0.97, 0.97), (0.5, 0.5)), **facts, pseudo_labels=False))
    assert raised == []


def test_a_sound_verdict_has_no_flags() -> None:
    facts = {"chance": 0.1, "train_images": 5000, "test_images": 1000, "victim": "small", "surrogate": "resnet18"}
    assert not list(checks.flags(arms=arms((0.9, 0.9), (0.9, 0.9), (0.2, 0.2)), **facts, tried=1, pseudo_labels=False))

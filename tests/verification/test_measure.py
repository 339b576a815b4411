"""What is said of a verification: means, spreads, intervals, flags and words, from made-up accuracies."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import pytest

from unlearnable.train import History
from unlearnable.verification import checks, measure
from unlearnable.verification.checks import Flag


def histories(*peaks: float) -> list[History]:
    return [History(train_loss=[1.0, 0.4], accuracy=[peak, peak / 2]) for peak in peaks]


def arms(clean: tuple[float, ...], noise: tuple[float, ...], protected: tuple[float, ...]) -> dict[str, Any]:
    return {
        "clean": measure.arm(histories(*clean), 1000),
        "noise": measure.arm(histories(*noise), 1000),
        "protected": measure.arm(histories(*protected), 1000),
    }


def test_peak_is_the_headline_and_spread_goes_with_it() -> None:
    arm = measure.arm(histories(0.8, 0.9), 1000)
    assert arm["peak"]["mean"] == pytest.approx(0.85) and arm["final"]["mean"] == pytest.approx(0.425)
    assert arm["peak"]["std"] == pytest.approx(statistics.stdev([0.8, 0.9]))
    assert arm["epochs_to_half_loss"]["runs"] == [2, 2]
    assert measure.arm(histories(0.8), 1000)["peak"]["std"] is None


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
    against = {"jpeg10": {"clean": tried["clean"], "protected": measure.arm(histories(0.7, 0.7), 1000)}}
    worst = measure.worst_case(tried, against, 1000)
    assert worst["against"] == "jpeg10" and worst["peak"] == pytest.approx(0.7)
    assert worst["words"] == "Jpeg10 restores it to 70%."
    spoken = {"jpeg10": "JPEG compression at quality 10"}
    assert measure.worst_case(tried, against, 1000, spoken)["words"] == (
        "JPEG compression at quality 10 restores it to 70%."
    )
    assert measure.worst_case(tried, {}, 1000)["against"] == "none"


def test_the_public_verdict_names_no_countermeasure() -> None:
    words = measure.verdict(arms((0.9, 0.9), (0.9, 0.9), (0.2, 0.2)), 0.1, 1000)
    assert words == "A network trained on this release peaked at 20% (clean: 90%; guessing: 10%)."
    same = measure.verdict(arms((0.9, 0.91), (0.9, 0.9), (0.89, 0.9)), 0.1, 1000)
    assert same.endswith("Against the clean images that is no difference beyond noise.")


@pytest.mark.parametrize(
    ("figures", "changes", "flag"),
    [
        (((0.15, 0.15), (0.15, 0.15), (0.1, 0.1)), {}, Flag.VICTIM_TOO_WEAK),
        (((0.9, 0.9), (0.7, 0.7), (0.2, 0.2)), {}, Flag.NOISE_ARM_LOW),
        (((0.9, 0.9), (0.9, 0.9), (0.85, 0.85)), {}, Flag.WEAK_PROTECTION),
        (((0.9, 0.9), (0.9, 0.9), (0.2, 0.2)), {"train_images": 499}, Flag.TOO_FEW_IMAGES),
        (((0.9, 0.9), (0.9, 0.9), (0.2, 0.2)), {"test_images": 384}, Flag.HOLDOUT_TOO_SMALL),
        (((0.9, 0.9), (0.9, 0.9), (0.2, 0.2)), {"duplicates": 11}, Flag.HOLDOUT_DUPLICATES),
        (((0.9, 0.9), (0.9, 0.9), (0.2, 0.2)), {"surrogate": "small"}, Flag.ONLY_THE_SURROGATE),
        (((0.9, 0.9), (0.9, 0.9), (0.2, 0.2)), {"tried": 0}, Flag.NO_ADAPTIVE_TRAINER),
        (((0.9, 0.9), (0.9, 0.9), (0.2, 0.2)), {"pseudo_labels": True}, Flag.PSEUDO_LABELS),
        (((0.9,), (0.9,), (0.2,)), {}, Flag.ONE_SEED),
        (((0.9, 0.9), (0.9, 0.9), (0.2, 0.2)), {"seeds": 3}, Flag.FEW_SEEDS),
    ],
)
def test_each_reason_to_doubt_raises_its_flag_and_no_other(figures: Any, changes: dict[str, Any], flag: Flag) -> None:
    facts = {
        "chance": 0.1,
        "train_images": 5000,
        "test_images": 1000,
        "victims": ["small"],
        "surrogate": None,
        "tried": 2,
    }
    raised = list(checks.flags(arms=arms(*figures), **(facts | {"pseudo_labels": False} | changes)))
    assert flag in raised
    assert [f for f in raised if f not in (flag, Flag.WEAK_PROTECTION)] == []


def test_two_classes_read_almost_perfectly_are_no_weak_victim() -> None:
    facts = {
        "chance": 0.5,
        "train_images": 5000,
        "test_images": 1000,
        "victims": ["small"],
        "surrogate": None,
        "tried": 1,
    }
    raised = list(checks.flags(arms=arms((0.98, 0.97), (0.97, 0.97), (0.5, 0.5)), **facts, pseudo_labels=False))
    assert raised == []


def test_a_sound_verdict_has_no_flags() -> None:
    facts = {"chance": 0.1, "train_images": 5000, "test_images": 1000, "victims": ["small"], "surrogate": "resnet18"}
    assert not list(checks.flags(arms=arms((0.9, 0.9), (0.9, 0.9), (0.2, 0.2)), **facts, tried=1, pseudo_labels=False))


def test_flags_at_their_bounds() -> None:
    facts = {"chance": 0.1, "train_images": 500, "test_images": 385, "surrogate": "small+resnet18", "tried": 1}
    told = arms((0.9, 0.9), (0.9, 0.9), (0.2, 0.2))
    rest = {"pseudo_labels": False, "duplicates": 3}
    assert not list(checks.flags(arms=told, **facts, **rest, victims=["small", "vgg19_bn"])), (
        "one victim is of another kind"
    )
    raised = list(checks.flags(arms=told, **facts, **rest, victims=["small", "resnet18@DEFAULT"]))
    assert raised == [Flag.ONLY_THE_SURROGATE]
    few = list(checks.flags(arms=told, **(facts | {"test_images": 199}), **rest, victims=["tiny"]))
    assert few == [Flag.TOO_FEW_IMAGES, Flag.HOLDOUT_TOO_SMALL, Flag.HOLDOUT_DUPLICATES]


def test_every_flag_has_its_documented_meaning_and_none_else_is_documented() -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "flags.md").read_text(encoding="utf-8")
    rows = [line.split("|") for line in text.splitlines() if line.startswith("| `")]
    assert [row[1].strip(" `") for row in rows if len(row) == 5] == [row[1].strip(" `") for row in rows]
    assert {row[1].strip(" `") for row in rows} == {flag.name for flag in Flag}


def test_the_interval_of_an_arm_covers_the_truth_as_often_as_it_says() -> None:
    """Seeds that differ, read on a finite test set: the interval must hold the true mean 95 times of 100, not less."""
    import numpy as np

    for truth, spread, images, seeds in (
        (0.9, 0.01, 500, 3),
        (0.5, 0.0, 200, 2),
        (0.98, 0.0, 100, 1),
        (0.3, 0.04, 10_000, 5),
    ):
        rng, held = np.random.default_rng(0), 0
        for _ in range(400):
            offset = rng.binomial(images, truth) / images - truth  # one test set for all seeds
            runs = np.clip(truth + offset + rng.normal(0, spread, seeds), 0, 1).tolist()
            found = measure.measured(runs, images)["interval"]
            held += found["low"] <= truth <= found["high"]
        assert held >= 0.93 * 400, (truth, spread, images, seeds)


def test_the_interval_is_students_t_and_the_test_sets_error_together() -> None:
    """Three seeds, worked by hand: t(2) is 4.303, and the test set counts two right and two wrong answers more."""
    runs, images = [0.80, 0.82, 0.84], 996
    seeds = (4.303 * statistics.stdev(runs)) ** 2 / 3
    share = (0.82 * 996 + 2) / 1000
    margin = (seeds + 1.96**2 * share * (1 - share) / 1000) ** 0.5
    found = measure.measured(runs, images)
    assert found["interval"]["low"] == pytest.approx(0.82 - margin)
    assert found["interval"]["high"] == pytest.approx(0.82 + margin)
    perfect = measure.measured([1.0, 1.0], 60)["interval"]
    assert perfect["high"] == 1 and 0.9 < perfect["low"] < 0.97, "none of 60 wrong does not prove that none ever is"


def test_two_alike_are_called_different_as_seldom_as_is_said() -> None:
    import numpy as np

    rng, wrong = np.random.default_rng(1), 0
    for _ in range(400):
        one, other = (np.clip(rng.normal(0.6, 0.02, 3), 0, 1).tolist() for _ in range(2))
        wrong += measure.differ(one, other, 2000)
    assert wrong <= 0.06 * 400


def test_what_a_countermeasure_changes_is_said_in_words_that_fit() -> None:
    tried = arms((0.9, 0.9), (0.9, 0.9), (0.2, 0.2))

    def row(*peaks: float) -> dict[str, Any]:
        return {"clean": tried["clean"], "protected": measure.arm(histories(*peaks), 1000)}

    words = {
        peak: measure.worst_case(tried, {"x": row(peak, peak)}, 1000, {"x": "blur"})["words"]
        for peak in (0.21, 0.4, 0.6)
    }
    assert words[0.21] == "The best countermeasure tried, blur, brings it to 21%: no difference beyond noise."
    assert words[0.4] == "Blur raises it to 40%." and words[0.6] == "Blur restores it to 60%."
    found = measure.within_noise(tried, {"a": row(0.21, 0.21), "b": row(0.4, 0.4), "c": row(0.19, 0.2)}, 1000)
    assert found == ["a", "c"]
    worst = measure.worst_of({"one": {"peak": 0.2, "words": "A."}, "two": {"peak": 0.4, "words": "B."}})
    assert worst == {"peak": 0.4, "victim": "two", "words": "Of the networks, two does best, with 40%. B."}


def test_the_epoch_that_is_best_on_the_select_part_is_the_first_of_equals() -> None:
    history = History(accuracy=[0.5, 0.9, 0.7, 0.6], select=[0.4, 0.6, 0.8, 0.8])
    assert history.selected == 0.7 and history.peak == 0.9
    assert History(accuracy=[0.5]).selected is None
    assert measure.arm([history, History(accuracy=[0.5])], 100)["selected"] is None

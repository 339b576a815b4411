"""From accuracies to what may be said: means with their spread, the relative drop with its interval, the verdict.

Everything here is pure: numbers in, the JSON of `verify --json` out (design of the command line, section 5).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from unlearnable.train import History

HALF_LOSS = (
    0.5  # "epochs until the training loss is below 0.5": the literature's proxy for how fast a poison is learned
)
ALL_CLASSES = "all_classes_"  # figures of a training that is tested on protected classes and on all
# Two-sided 95 % quantiles of Student's t for 1, 2, ... degrees of freedom; 1.96 from there on would flatter few seeds
_T95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)


def stat(runs: Sequence[float]) -> dict[str, Any]:
    """{mean, std, runs}; std (of the sample) is None for a single run."""
    spread = statistics.stdev(runs) if len(runs) > 1 else None
    return {"mean": statistics.fmean(runs), "std": spread, "runs": list(runs)}


def measured(runs: Sequence[float], test_images: int) -> dict[str, Any]:
    """`stat` of accuracies, with the 95 % interval of the mean: seeds (Student's t) and the test set's size together."""
    found = stat(runs)
    margin = _margin([(runs, 1.0)], test_images)
    low, high = max(0.0, found["mean"] - margin), min(1.0, found["mean"] + margin)
    return found | {"interval": {"low": low, "high": high}}


def arm(histories: Sequence[History], test_images: int, whole_images: int = 0) -> dict[str, Any]:
    """Peak, final and honestly selected test accuracy and epochs to half loss over seeds, with the curves they come from.

    whole_images: test images of all classes, where the accuracies are those on the protected ones; adds `all_classes`.
    """
    halves = [history.epochs_to(HALF_LOSS) for history in histories]
    reached = [epoch for epoch in halves if epoch is not None]
    chosen = [history.selected for history in histories if history.selected is not None]
    curves = {
        "test_accuracy": [history.accuracy for history in histories],
        "train_loss": [history.train_loss for history in histories],
    }
    return {
        "peak": measured([history.peak for history in histories], test_images),
        "selected": measured(chosen, test_images) if len(chosen) == len(histories) else None,
        "final": stat([history.final for history in histories]),
        "epochs_to_half_loss": {
            "mean": statistics.fmean(reached) if len(reached) == len(halves) else None,
            "std": statistics.stdev(reached) if len(reached) == len(halves) > 1 else None,
            "runs": halves,
        },
        "curves": curves | ({"select_accuracy": [history.select for history in histories]} if chosen else {}),
    } | ({"all_classes": _over_all(histories, whole_images)} if whole_images else {})


def _over_all(histories: Sequence[History], whole_images: int) -> dict[str, Any]:
    peaks, finals = ([history.figures[f"{ALL_CLASSES}{what}"] for history in histories] for what in ("peak", "final"))
    return {"peak": measured(peaks, whole_images), "final": stat(finals)}


def differ(one: Sequence[float], other: Sequence[float], test_images: int) -> bool:
    """Whether two accuracies, given by their runs, lie further apart than seeds and the test set explain in 95 of 100 cases.

    The arms are taken as independent although they share the test images: that can only call fewer differences real.
    """
    apart = abs(statistics.fmean(one) - statistics.fmean(other))
    return apart > _margin([(one, 1.0), (other, 1.0)], test_images)


def _margin(parts: Sequence[tuple[Sequence[float], float]], test_images: int) -> float:
    """Half the 95 % interval of a sum of means, each (its runs, its weight).

    The spread over seeds (Student's t, degrees of freedom by Welch and Satterthwaite) and the binomial error of a finite
    test set add in quadrature. With one seed each, only the test set's error can be stated. The binomial error is that of
    two right and two wrong answers more (Agresti and Coull): none of 60 wrong does not prove that none ever is.
    """
    sampling = seeds = below = t = 0.0
    for runs, weight in parts:
        share = (statistics.fmean(runs) * test_images + 2) / (test_images + 4)
        sampling += weight**2 * share * (1 - share) / (test_images + 4)
    if all(len(runs) > 1 for runs, _ in parts):
        for runs, weight in parts:
            # the same seeds in every arm, yet not paired: the same order of other images is another order
            part = weight**2 * statistics.variance(runs) / len(runs)
            seeds, below = seeds + part, below + part**2 / (len(runs) - 1)
        t = _T95[min(max(1, int(seeds**2 / below)), len(_T95)) - 1] if below else 0.0
    return math.sqrt(t**2 * seeds + 1.96**2 * sampling)


def relative_drop(clean: Sequence[float], protected: Sequence[float], test_images: int) -> dict[str, float]:
    """(clean - protected) / clean with a 95 % interval, carried through the ratio to first order.

    Two seeds make a wide interval, as they should.
    """
    c, p = statistics.fmean(clean), statistics.fmean(protected)
    if c == 0:
        return {"mean": 0.0, "low": 0.0, "high": 0.0}
    ratio = p / c
    margin = _margin([(protected, 1.0), (clean, ratio)], test_images) / c
    return {"mean": 1 - ratio, "low": 1 - ratio - margin, "high": 1 - ratio + margin}


def worst_case(
    arms: dict[str, Any], against: dict[str, Any], test_images: int, spoken: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """What serves the scraper best of all that was tried (highest mean peak on the protected copy), in figures and words.

    spoken: countermeasures as a sentence names them.
    """
    tried = {"none": arms["protected"], **{name: row["protected"] for name, row in against.items()}}
    name = max(tried, key=lambda key: float(tried[key]["peak"]["mean"]))
    peak, plain, clean = tried[name]["peak"], arms["protected"]["peak"], arms["clean"]["peak"]
    called = (spoken or {}).get(name, name)
    if not against:
        words = "No countermeasure was tried."
    elif name == "none":
        words = f"None of the countermeasures tried ({', '.join(against)}) does better than plain training."
    elif not differ(peak["runs"], plain["runs"], test_images):
        words = f"The best countermeasure tried, {called}, brings it to {peak['mean']:.0%}: no difference beyond noise."
    else:
        half = peak["mean"] - plain["mean"] >= (clean["mean"] - plain["mean"]) / 2
        words = f"{called[0].upper()}{called[1:]} {'restores' if half else 'raises'} it to {peak['mean']:.0%}."
    drop = relative_drop(clean["runs"], peak["runs"], test_images)
    return {"against": name, "peak": peak["mean"], "relative_accuracy_drop": drop, "words": words}


def worst_of(victims: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """The worst case over several networks: {victim: its worst case} -> that of the highest peak, and which network it is."""
    name = max(victims, key=lambda victim: float(victims[victim]["peak"]))
    found = victims[name]
    words = f"Of the networks, {name} does best, with {found['peak']:.0%}. {found['words']}"
    return found | {"victim": name, "words": words}


def within_noise(arms: dict[str, Any], against: dict[str, Any], test_images: int) -> list[str]:
    """Countermeasures that make no difference beyond noise to a network trained on the protected copy."""
    plain = arms["protected"]["peak"]["runs"]
    return [name for name, row in against.items() if not differ(row["protected"]["peak"]["runs"], plain, test_images)]


def verdict(arms: dict[str, Any], chance: float, test_images: int) -> str:
    """A sentence or two that an owner understands. Countermeasures and flags are told apart from it: not all are public."""
    clean, protected = arms["clean"]["peak"], arms["protected"]["peak"]
    whole = {name: arms[name].get("all_classes") for name in ("clean", "protected")}
    where = " on the protected classes" if whole["clean"] else ""
    words = (
        f"A network trained on this release peaked at {protected['mean']:.0%}{where} "
        f"(clean: {clean['mean']:.0%}; guessing: {chance:.0%})."
    )
    if not differ(clean["runs"], protected["runs"], test_images):
        words += " Against the clean images that is no difference beyond noise."
    if whole["clean"] and whole["protected"]:
        before, after = (whole[name]["peak"]["mean"] for name in ("clean", "protected"))
        words += f" Over all classes it peaked at {after:.0%} (clean: {before:.0%})."
    return words

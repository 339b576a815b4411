"""From accuracies to what may be said: means with their spread, the relative drop with its interval, the verdict.

Everything here is pure: numbers in, the JSON of `verify --json` out (design of the command line, section 5).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any

from unlearnable.train import History

HALF_LOSS = (
    0.5  # "epochs until the training loss is below 0.5": the literature's proxy for how fast a poison is learned
)
# Two-sided 95 % quantiles of Student's t for 1, 2, ... degrees of freedom; 1.96 from there on would flatter few seeds
_T95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)


def stat(runs: Sequence[float]) -> dict[str, Any]:
    """{mean, std, runs}; std (of the sample) is None for a single run."""
    spread = statistics.stdev(runs) if len(runs) > 1 else None
    return {"mean": statistics.fmean(runs), "std": spread, "runs": list(runs)}


def arm(histories: Sequence[History]) -> dict[str, Any]:
    """Peak and final test accuracy and epochs to half loss over seeds, with the curves they come from."""
    halves = [history.epochs_to(HALF_LOSS) for history in histories]
    reached = [epoch for epoch in halves if epoch is not None]
    return {
        "peak": stat([history.peak for history in histories]),
        "final": stat([history.final for history in histories]),
        "epochs_to_half_loss": {
            "mean": statistics.fmean(reached) if len(reached) == len(halves) else None,
            "std": statistics.stdev(reached) if len(reached) == len(halves) > 1 else None,
            "runs": halves,
        },
        "curves": {
            "test_accuracy": [history.accuracy for history in histories],
            "train_loss": [history.train_loss for history in histories],
        },
    }


def relative_drop(clean: Sequence[float], protected: Sequence[float], test_images: int) -> dict[str, float]:
    """(clean - protected) / clean with a 95 % interval.

    The spread over seeds (Student's t, degrees of freedom by Welch and Satterthwaite) and the binomial error of a finite
    test set add in quadrature, carried through the ratio to first order. Two seeds make a wide interval, as they should.
    With one seed each, only the test set's error can be stated.
    """
    c, p = statistics.fmean(clean), statistics.fmean(protected)
    if c == 0:
        return {"mean": 0.0, "low": 0.0, "high": 0.0}
    ratio = p / c
    seeds, t = 0.0, 0.0
    if len(clean) > 1 and len(protected) > 1:
        # the same seeds in both arms, yet not paired: the same order of other images is another order
        ours = statistics.variance(protected) / len(protected)
        theirs = ratio**2 * statistics.variance(clean) / len(clean)
        seeds = ours + theirs
        freedom = seeds**2 / (ours**2 / (len(protected) - 1) + theirs**2 / (len(clean) - 1)) if seeds else 1
        t = _T95[min(int(freedom), len(_T95)) - 1]
    sampling = p * (1 - p) / test_images + ratio**2 * c * (1 - c) / test_images
    margin = math.sqrt(t**2 * seeds + 1.96**2 * sampling) / c
    return {"mean": 1 - ratio, "low": 1 - ratio - margin, "high": 1 - ratio + margin}


def worst_case(arms: dict[str, Any], against: dict[str, Any], test_images: int) -> dict[str, Any]:
    """What serves the scraper best of all that was tried (highest mean peak on the protected copy), in figures and words."""
    tried = {"none": arms["protected"], **{name: row["protected"] for name, row in against.items()}}
    name = max(tried, key=lambda key: float(tried[key]["peak"]["mean"]))
    peak = tried[name]["peak"]
    if not against:
        words = "No countermeasure was tried."
    elif name == "none":
        words = f"None of the countermeasures tried ({', '.join(against)}) does better than plain training."
    else:
        words = f"The best countermeasure tried, {name}, restores it to {peak['mean']:.0%}."
    drop = relative_drop(arms["clean"]["peak"]["runs"], peak["runs"], test_images)
    return {"against": name, "peak": peak["mean"], "relative_accuracy_drop": drop, "words": words}


def verdict(arms: dict[str, Any], chance: float) -> str:
    """One sentence that an owner understands. Countermeasures and flags are told apart from it: not all are public."""
    clean, protected = arms["clean"]["peak"]["mean"], arms["protected"]["peak"]["mean"]
    return (
        f"A network trained on the protected copy peaked at {protected:.0%} on clean test images "
        f"(trained on the originals: {clean:.0%}; guessing: {chance:.0%})."
    )

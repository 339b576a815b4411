"""The figures of benchmarks/trace.py: false positives over networks, detections by row, protection with and without marks."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np

from unlearnable.tracing import exact, plan

KEYS, DECOYS = 250, 250
CLASSES, TARGETS = 10, 3
ALPHAS = (0.05, 0.01)


def table(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The whole results file."""
    nulls = [line for line in found if line["group"] == "null"]
    tests = sorted({name for line in nulls for name in line["p"]})
    detected = [
        {
            name: line[name]
            for name in ("group", "preset", "share", "against", "trace", "trace_share", "seed", "peak", "tests")
        }
        for line in found
        if "tests" in line
    ]
    return {
        "null": {
            "networks": len(nulls),
            "keys": KEYS,
            "decoys": DECOYS,
            **{name: rates(nulls, name) for name in tests},
        },
        "queries": {"key": (1 + plan.DECOYS) * plan.IMAGES, "derangement": plan.PLAIN, "canary": 3, "radioactive": 0},
        "detection": summary(detected),
        "networks": detected,
        "protection": protection(found),
    }


def rates(nulls: Sequence[dict[str, Any]], test: str) -> dict[str, Any]:
    """False-positive rates with their upper bounds, and whether p-values are uniform, all by network."""
    each = [np.asarray(line["p"][test]) for line in nulls]
    out: dict[str, Any] = {}
    for alpha in ALPHAS:
        shares = [float((ps <= alpha).mean()) for ps in each]
        out[f"alpha {alpha}"] = {"rate": statistics.mean(shares), "upper_95": upper(shares)}
    means = [float(ps.mean()) for ps in each]
    expected = _expected(test)
    out["mean_p"] = {"mean": statistics.mean(means), "expected": expected, "p_of_expected": t_test(means, expected)}
    return out


def _expected(test: str) -> float:
    """The mean of the p-values under the null: over one half by half the chance of a tie."""
    if test == "canary":
        ranks = [sum(each) for each in itertools.product(range(1, CLASSES + 1), repeat=TARGETS)]
        return (1 + sum(ranks.count(total) ** 2 for total in set(ranks)) / len(ranks) ** 2) / 2
    return {"key": (1 + 1 / (1 + DECOYS)) / 2, "derangement": (1 + 1 / 1000) / 2}.get(test, 0.5)


def upper(values: Sequence[float]) -> float | None:
    """One-sided 95 % upper bound of the mean of independent numbers, one a network."""
    if len(values) < 2:
        return None
    return statistics.mean(values) + t_quantile(0.05, len(values) - 1) * statistics.stdev(values) / math.sqrt(
        len(values)
    )


def t_test(values: Sequence[float], expected: float) -> float | None:
    """Two-sided p of Student's t."""
    if len(values) < 2 or statistics.stdev(values) == 0:
        return None
    t = (statistics.mean(values) - expected) / (statistics.stdev(values) / math.sqrt(len(values)))
    return math.exp(
        exact.log_incomplete_beta((len(values) - 1) / 2, 0.5, (len(values) - 1) / (len(values) - 1 + t * t))
    )


def t_quantile(tail: float, degrees: int) -> float:
    """t with P(T > t) = tail, by halving."""
    low, high = 0.0, 1000.0
    for _ in range(100):
        middle = (low + high) / 2
        beyond = math.exp(exact.log_incomplete_beta(degrees / 2, 0.5, degrees / (degrees + middle**2))) / 2
        low, high = (middle, high) if beyond > tail else (low, middle)
    return low


def summary(detected: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """For every kind of network and test: how many were found at alpha, and the largest p."""
    out: dict[tuple[Any, ...], list[float]] = {}
    for line in detected:
        for test, figures in line["tests"].items():
            if figures["p"] is not None:
                name = (line["preset"], line["share"], line["against"], line["trace"], line["trace_share"], test)
                out.setdefault(name, []).append(figures["p"])
    columns = ("preset", "share", "against", "trace", "trace_share", "test")
    return [
        dict(zip(columns, name, strict=True))
        | {"networks": len(ps), "found_at_0.001": sum(p <= 0.001 for p in ps), "largest_p": max(ps), "ps": ps}
        for name, ps in out.items()
    ]


def protection(found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Peak accuracy of networks trained on whole releases, with and without marks in the poison's place."""
    out: dict[tuple[str, float], list[float]] = {}
    for line in found:
        if line["group"] == "marks" and line["preset"]:
            out.setdefault((line["trace"] or "none", line["trace_share"]), []).append(line["peak"])
    return [
        {"trace": trace, "share": share, "networks": len(peaks), "peak": statistics.mean(peaks), "peaks": peaks}
        for (trace, share), peaks in out.items()
    ]

"""Exact probabilities of the tracing tests, in plain floats: no sampling, no normal approximation.

Every function gives P(as extreme or more | null), so that P(p <= a | null) <= a for every a. The incomplete beta function
is the continued fraction of DLMF 8.17.22, evaluated in logarithms: a cosine of 0.5 in 512 dimensions has p = 1e-34.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

_TINY = 1e-300
_TERMS = 100_000


def rank_p(true: float, decoys: Sequence[float]) -> float:
    """(1 + how many decoys are at least the true one) / (1 + decoys): exact where all of them are exchangeable.

    What is no number counts against the owner.
    """
    return (1 + sum(not value < true for value in decoys)) / (1 + len(decoys))


def binomial_tail(hits: int, trials: int, labels: int) -> float:
    """P(Binomial(trials, 1 / labels) >= hits), in whole numbers: 3 of 3 among 10 must be 0.001 and not a bit more."""
    if not 0 <= hits <= trials:
        raise ValueError(f"hits is 0 to {trials}, not {hits}")
    ways = sum(math.comb(trials, k) * (labels - 1) ** (trials - k) for k in range(hits, trials + 1))
    return float(ways / labels**trials)


def rank_sum_p(ranks: Sequence[int], labels: int) -> float:
    """P(sum of as many ranks, each uniform on 1..labels, <= the sum of these): counted by convolution in whole numbers."""
    if any(not 1 <= rank <= labels for rank in ranks):
        raise ValueError(f"ranks are 1 to {labels}")
    ways = {0: 1}
    for _ in ranks:
        more: dict[int, int] = {}
        for total, count in ways.items():
            for rank in range(1, labels + 1):
                more[total + rank] = more.get(total + rank, 0) + count
        ways = more
    low = sum(count for total, count in ways.items() if total <= sum(ranks))
    return float(low / labels ** len(ranks))


def holm(ps: Mapping[str, float]) -> dict[str, float]:
    """Holm's adjusted p-values: the error over all of them together stays below what each is compared with."""
    out, largest = {}, 0.0
    for place, (name, p) in enumerate(sorted(ps.items(), key=lambda item: item[1])):
        largest = max(largest, min(1.0, (len(ps) - place) * p))
        out[name] = largest
    return out


def fisher(log_ps: Sequence[float]) -> float:
    """Natural logarithm of Fisher's combined p of independent ones, from their natural logarithms.

    chi2 = -2 sum ln p has 2T degrees of freedom; for an even number its tail is exp(-x) sum_{i<T} x^i / i!, x = chi2 / 2.
    """
    x = -math.fsum(log_ps)
    if x <= 0:
        return 0.0
    logs = [i * math.log(x) - math.lgamma(i + 1) for i in range(len(log_ps))]
    top = max(logs)
    return min(0.0, top + math.log(math.fsum(math.exp(each - top) for each in logs)) - x)


def log_cosine_p(cosine: float, dimensions: int) -> float:
    """ln P(the cosine of a fixed and a uniformly random direction >= this one).

    1/2 I_{1 - c^2}((d - 1) / 2, 1 / 2) for c >= 0, and one minus that of -c below (Iscen et al. 2017; methods.md 6.4).
    """
    if dimensions < 2 or not -1.0 - 1e-6 <= cosine <= 1.0 + 1e-6:
        raise ValueError(f"a cosine in two or more dimensions is -1 to 1, not {cosine} in {dimensions}")
    squared = min(1.0, cosine * cosine)
    tail = math.log(0.5) + log_incomplete_beta((dimensions - 1) / 2, 0.5, 1 - squared)
    return tail if cosine >= 0 else math.log1p(-math.exp(tail))


def log_incomplete_beta(a: float, b: float, x: float) -> float:
    """ln I_x(a, b), the regularised incomplete beta function, for a, b > 0 and 0 <= x <= 1."""
    if not (a > 0 and b > 0 and 0 <= x <= 1):
        raise ValueError(f"I_x(a, b) wants a, b > 0 and 0 <= x <= 1, not {x}, {a}, {b}")
    if x in (0.0, 1.0):
        return 0.0 if x else -math.inf
    front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    if x < (a + 1) / (a + b + 2):  # where the fraction converges quickly
        return min(0.0, front - math.log(a) + math.log(_fraction(a, b, x)))
    return math.log1p(-min(1.0, math.exp(front - math.log(b)) * _fraction(b, a, 1 - x)))


def _fraction(a: float, b: float, x: float) -> float:
    """The continued fraction of DLMF 8.17.22 by Lentz's method."""
    c, d = 1.0, 1 / _not_zero(1 - (a + b) * x / (a + 1))
    value = d
    for m in range(1, _TERMS):
        for coefficient in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1 / _not_zero(1 + coefficient * d)
            c = _not_zero(1 + coefficient / c)
            value *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return value


def _not_zero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY

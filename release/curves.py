"""Training curves as inline SVG: a mean line with a band from the lowest to the highest run, one for each arm.

Drawn here and not by a plotting library, so that the page's own style sheet colours it in light and dark, a release is
byte for byte repeatable, and the picture of 100 epochs is 10 kB.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from markupsafe import Markup

_WIDTH, _HEIGHT = 420, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 10, 12, 36

Runs = Sequence[Sequence[float]]  # per run, one value an epoch


def accuracy(arms: Mapping[str, Runs], chance: float | None) -> Markup:
    """Test accuracy (fractions) by epoch; a dashed line at the accuracy of guessing."""
    marks = [(tick / 4, f"{25 * tick}%") for tick in range(5)]
    return _chart("Test accuracy by epoch", arms, 1.0, marks, chance)


def loss(arms: Mapping[str, Runs]) -> Markup:
    """Training loss by epoch. The scale follows the means, so that one bad run cannot flatten them."""
    highest = max((max(_mean(runs), default=0.0) for runs in arms.values()), default=0.0)
    step = 10 ** math.floor(math.log10(highest)) if highest > 0 else 1.0
    unit = next(step * k for k in (0.25, 0.5, 1.0, 2.5) if highest <= 4 * step * k or k == 2.5)
    return _chart("Training loss by epoch", arms, 4 * unit, [(unit * k, f"{unit * k:g}") for k in range(5)], None)


def _chart(
    title: str, arms: Mapping[str, Runs], top: float, marks: Sequence[tuple[float, str]], chance: float | None
) -> Markup:
    """arms: name -> runs; top: the value at the upper edge; marks: (value, label) of the y axis."""
    length = max((len(run) for runs in arms.values() for run in runs), default=0)
    parts = [f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{title}">']
    for value, label in marks:
        y = _y(value, top)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4}" text-anchor="end">{label}</text>')
    for epoch in _epochs(length):
        x = _x(epoch - 1, length)
        parts.append(f'<text x="{x}" y="{_HEIGHT - _BOTTOM + 16}" text-anchor="middle">{epoch}</text>')
    parts.append(f'<text x="{(_LEFT + _WIDTH - _RIGHT) / 2}" y="{_HEIGHT - 4}" text-anchor="middle">epoch</text>')
    if chance is not None:
        y = _y(chance, top)
        parts.append(f'<line class="chance" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y}" y2="{y}"/>')
    parts += [_band(arm, runs, top, length) for arm, runs in arms.items()]
    parts += [_line(arm, runs, top, length) for arm, runs in arms.items()]
    return Markup("".join(parts) + "</svg>")


def _line(arm: str, runs: Runs, top: float, length: int) -> str:
    points = _points(_mean(runs), top, length)
    if len(points) == 1:  # a line of one point is invisible
        x, y = points[0]
        return f'<circle class="dot {arm}" cx="{x}" cy="{y}" r="3"/>'
    return f'<polyline class="line {arm}" points="{_join(points)}"/>'


def _band(arm: str, runs: Runs, top: float, length: int) -> str:
    if len(runs) < 2:
        return ""
    columns = list(zip(*runs, strict=False))
    upper = _points([max(column) for column in columns], top, length)
    lower = _points([min(column) for column in columns], top, length)
    return f'<polygon class="band {arm}" points="{_join([*upper, *reversed(lower)])}"/>'


def _mean(runs: Runs) -> list[float]:
    return [sum(column) / len(column) for column in zip(*runs, strict=False)]


def _points(values: Sequence[float], top: float, length: int) -> list[tuple[float, float]]:
    return [(_x(index, length), _y(value, top)) for index, value in enumerate(values)]


def _join(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x},{y}" for x, y in points)


def _x(index: int, length: int) -> float:
    share = index / (length - 1) if length > 1 else 0.5
    return round(_LEFT + share * (_WIDTH - _LEFT - _RIGHT), 1)


def _y(value: float, top: float) -> float:
    share = min(max(value / top, 0.0), 1.0)
    return round(_HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM), 1)


def _epochs(length: int) -> list[int]:
    """The first, the last and a few round epochs between them, for the x axis."""
    if length < 2:
        return list(range(1, length + 1))
    step = next(k for k in (1, 2, 5, 10, 20, 50, 100, 10**6) if length / k <= 7)
    inner = [epoch for epoch in range(step, length, step) if step * 0.6 <= length - epoch]
    return sorted({1, *inner, length})

"""Line plots: a mean line with a band from the lowest to the highest run, one for each arm; and the spectrum."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from release.drawing import Drawing, Mark, Point

_WIDTH, _HEIGHT = 420, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 10, 12, 36
_DECIBELS = 60  # more than this below the strongest is drawn at the lower edge
_ROW = 46  # of the plot of arms

Runs = Sequence[Sequence[float]]  # per run, one value an epoch
Legend = Sequence[tuple[str, str]]  # (arm, words)

# the marks of a percent axis, as (value, label)
_PERCENT = [(tick / 4, f"{25 * tick}%") for tick in range(5)]


def accuracy(arms: Mapping[str, Runs], chance: float | None, legend: Legend = (), title: str = "") -> Drawing:
    """Test accuracy (fractions) by epoch; a dotted line at the accuracy of guessing."""
    return _chart(title or "Test accuracy by epoch", arms, 1.0, _PERCENT, chance, legend)


def loss(arms: Mapping[str, Runs], legend: Legend = ()) -> Drawing:
    """Training loss by epoch. The scale follows the means, so that one bad run cannot flatten them."""
    highest = max((max(_mean(runs), default=0.0) for runs in arms.values()), default=0.0)
    step = 10 ** math.floor(math.log10(highest)) if highest > 0 else 1.0
    unit = next(step * k for k in (0.25, 0.5, 1.0, 2.5) if highest <= 4 * step * k or k == 2.5)
    rows = [(unit * k, f"{unit * k:g}") for k in range(5)]
    return _chart("Training loss by epoch", arms, 4 * unit, rows, None, legend)


def peaks(arms: Mapping[str, tuple[str, Sequence[float]]], chance: float | None) -> Drawing:
    """Peak accuracy of every arm: a bar from the lowest to the highest run, a dot for each run. arms: (words, runs)."""
    edge = _ROW * len(arms)
    marks = [Mark("text", "", ((_across(value), edge + 16),), label, "middle") for value, label in _PERCENT]
    for row, (arm, (words, runs)) in enumerate(arms.items()):
        y = 16 + _ROW * row
        lines = [("grid", value) for value, _ in _PERCENT] + ([] if chance is None else [("chance", chance)])
        marks += [Mark("rule", style, ((_across(value), y + 6), (_across(value), y + 26))) for style, value in lines]
        marks.append(Mark("text", "strong", ((_across(0), y),), words))
        marks.append(Mark("text", "strong", ((_across(1), y),), f"{100 * sum(runs) / len(runs):.1f}%", "end"))
        marks.append(Mark("rule", f"spread {arm}", ((_across(min(runs)), y + 16), (_across(max(runs)), y + 16))))
        marks += [Mark("dot", f"dot {arm}", ((_across(run), y + 16),)) for run in runs]
    legend = (("chance", "Guessing"),) if chance is not None else ()
    return Drawing("Peak test accuracy, every run", _WIDTH, edge + 24, tuple(marks), legend)


def spectrum(frequencies: Sequence[float], power: Sequence[float], white: float) -> Drawing:
    """Power by spatial frequency in decibels. frequencies: cycles a pixel, up to 0.5; white: power of even noise."""
    legend = [("line protected", "The change of the pixels"), ("chance", "Noise of the same power, without a pattern")]
    return _spectra("Spectrum of the change", frequencies, {"protected": power}, white, legend)


def spectra(frequencies: Sequence[float], power: Mapping[str, Sequence[float]], legend: Legend) -> Drawing:
    """The same for the changes of several arms; frequencies beyond 0.5, the corners of the plane, are left out."""
    inside = [i for i, frequency in enumerate(frequencies) if frequency <= 0.5]
    shown = {arm: [values[i] for i in inside] for arm, values in power.items()}
    lines = [(f"line {arm}", words) for arm, words in legend if arm in power]
    return _spectra("Spectrum as a trainer sees it", [frequencies[i] for i in inside], shown, None, lines)


def _spectra(
    title: str,
    frequencies: Sequence[float],
    power: Mapping[str, Sequence[float]],
    white: float | None,
    legend: Legend,
) -> Drawing:
    levels = {arm: [10 * math.log10(max(value, 1e-30)) for value in values] for arm, values in power.items()}
    even = None if white is None else 10 * math.log10(max(white, 1e-30))
    every = [level for values in levels.values() for level in values] + ([] if even is None else [even])
    top = 10 * math.ceil(max(every) / 10)
    lowest = max(10 * math.floor(min(every) / 10), top - _DECIBELS)
    bottom = min(lowest, top - 10)
    step = 10 if top - bottom > 20 else 5
    columns = [(_side(tick / 5), f"{tick / 10:g}") for tick in range(6)]

    def up(value: float) -> float:
        return _up((value - bottom) / (top - bottom))

    rows = [(up(value), f"{value} dB") for value in range(bottom, top + 1, step)]
    marks = _frame(rows, columns, "cycles a pixel")
    if even is not None:
        marks.append(Mark("rule", "chance", ((_LEFT, up(even)), (_WIDTH - _RIGHT, up(even)))))
    for arm, values in levels.items():
        marks.append(_trace(arm, [(_side(2 * f), up(level)) for f, level in zip(frequencies, values, strict=True)]))
    return Drawing(title, _WIDTH, _HEIGHT, tuple(marks), tuple(legend))


def _chart(
    title: str,
    arms: Mapping[str, Runs],
    top: float,
    rows: Sequence[tuple[float, str]],
    chance: float | None,
    legend: Legend,
) -> Drawing:
    """arms: name -> runs; top: the value at the upper edge; rows: (value, label) of the y axis."""
    length = max((len(run) for runs in arms.values() for run in runs), default=0)
    columns = [(_x(epoch - 1, length), str(epoch)) for epoch in _epochs(length)]
    marks = _frame([(_up(value / top), label) for value, label in rows], columns, "epoch")
    if chance is not None:
        marks.append(Mark("rule", "chance", ((_LEFT, _up(chance / top)), (_WIDTH - _RIGHT, _up(chance / top)))))
    marks += [_band(arm, runs, top, length) for arm, runs in arms.items() if len(runs) > 1]
    marks += [_trace(arm, _points(_mean(runs), top, length)) for arm, runs in arms.items()]
    lines = [(f"line {arm}", words) for arm, words in legend if arm in arms]
    return Drawing(title, _WIDTH, _HEIGHT, tuple(marks), (*lines, *([("chance", "Guessing")] if chance else [])))


def _frame(rows: Sequence[tuple[float, str]], columns: Sequence[tuple[float, str]], below: str) -> list[Mark]:
    """Grid and labels; rows: (y, label), columns: (x, label)."""
    marks = []
    for y, label in rows:
        marks.append(Mark("rule", "grid", ((_LEFT, y), (_WIDTH - _RIGHT, y))))
        marks.append(Mark("text", "", ((_LEFT - 6, y + 4),), label, "end"))
    marks += [Mark("text", "", ((x, _HEIGHT - _BOTTOM + 16),), label, "middle") for x, label in columns]
    return [*marks, Mark("text", "", (((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 4),), below, "middle")]


def _trace(arm: str, points: Sequence[Point]) -> Mark:
    # a line of one point is invisible
    return Mark("dot", f"dot {arm}", points) if len(points) == 1 else Mark("line", f"line {arm}", points)


def _band(arm: str, runs: Runs, top: float, length: int) -> Mark:
    columns = list(zip(*runs, strict=False))
    upper = _points([max(column) for column in columns], top, length)
    lower = _points([min(column) for column in columns], top, length)
    return Mark("area", f"band {arm}", [*upper, *reversed(lower)])


def _mean(runs: Runs) -> list[float]:
    return [sum(column) / len(column) for column in zip(*runs, strict=False)]


def _points(values: Sequence[float], top: float, length: int) -> list[Point]:
    return [(_x(index, length), _up(value / top)) for index, value in enumerate(values)]


def _x(index: int, length: int) -> float:
    return _side(index / (length - 1) if length > 1 else 0.5)


def _side(share: float) -> float:
    return round(_LEFT + share * (_WIDTH - _LEFT - _RIGHT), 1)


def _up(share: float) -> float:
    return round(_HEIGHT - _BOTTOM - min(max(share, 0.0), 1.0) * (_HEIGHT - _TOP - _BOTTOM), 1)


def _across(fraction: float) -> float:
    return round(16 + fraction * (_WIDTH - 32), 1)


def _epochs(length: int) -> list[int]:
    """The first, the last and a few round epochs between them, for the x axis."""
    if length < 2:
        return list(range(1, length + 1))
    step = next(k for k in (1, 2, 5, 10, 20, 50, 100, 10**6) if length / k <= 7)
    inner = [epoch for epoch in range(step, length, step) if step * 0.6 <= length - epoch]
    return sorted({1, *inner, length})

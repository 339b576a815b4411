"""Countermeasures by what they do for a trainer: rows of a table that colour helps to read, and its drawing.

The number is in every cell, and one hue is stronger where the accuracy is higher, so that the table can be read without
colours, in grey and on paper. The owner's alone, unless disclosed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from release import figures
from release.drawing import Drawing, Mark

PLAIN = "plain training"
COLUMNS = {"clean": figures.ARMS["clean"], "protected": figures.ARMS["protected"]}

_NAMES, _CELL, _LINE, _HEAD = 200, 104, 26, 26


@dataclass(frozen=True)
class Cell:
    """step: 0 to 10, tenths of the peak; runs: its spread and how many; beside: what else was measured."""

    peak: float
    shown: str
    runs: str
    step: int
    beside: tuple[str, ...]


@dataclass(frozen=True)
class Row:
    """name: of the countermeasure; drop: of the peak, against plain training on the originals."""

    name: str
    cells: Mapping[str, Cell]
    drop: str
    worst: bool


def rows(verification: Mapping[str, Any]) -> list[Row]:
    """Plain training first, then the countermeasures, those that do most for a trainer first. Empty: none was tried."""
    against = verification.get("against") or {}
    if not against:
        return []
    best = verification["arms"]["clean"]["peak"]["mean"]
    worst = (verification.get("worst_case") or {}).get("against")
    worst = PLAIN if worst == "none" else worst
    ordered = sorted(against.items(), key=lambda item: -item[1]["protected"]["peak"]["mean"])
    found = []
    for name, arms in [(PLAIN, verification["arms"]), *ordered]:
        peak = arms["protected"]["peak"]["mean"]
        drop = figures.percent((best - peak) / best) if best else "–"
        found.append(Row(name, {column: _cell(arms[column]) for column in COLUMNS}, drop, name == worst))
    return found


def drawing(found: Sequence[Row], victim: str) -> Drawing:
    """The table as a plot."""
    marks = [
        Mark("text", "strong", ((_NAMES + _CELL * (i + 0.5), _HEAD - 9),), words, "middle")
        for i, words in enumerate(COLUMNS.values())
    ]
    for line, row in enumerate(found):
        top = _HEAD + _LINE * line
        name = row.name if len(row.name) <= 30 else row.name[:29] + "…"
        marks.append(Mark("text", "strong" if row.worst else "", ((8, top + 17),), name))
        for i, column in enumerate(COLUMNS):
            cell, left = row.cells[column], _NAMES + _CELL * i
            right, bottom = left + _CELL - 2, top + _LINE - 2
            corners = ((left, top), (right, top), (right, bottom), (left, bottom))
            marks.append(Mark("area", f"heat h{cell.step}", corners))
            marks.append(Mark("text", "strong", ((left + _CELL / 2, top + 17),), cell.shown, "middle"))
    title = f"Peak test accuracy under countermeasures ({victim})"
    return Drawing(title, _NAMES + _CELL * len(COLUMNS) + 8, _HEAD + _LINE * len(found) + 4, tuple(marks))


def _cell(arm: Mapping[str, Any]) -> Cell:
    peak = arm["peak"]
    beside = tuple(f"{name.replace('_', ' ')}: {_short(stat)}" for name, stat in (arm.get("figures") or {}).items())
    shown, runs = figures.spread(peak).split(" ", 1)
    return Cell(peak["mean"], shown, runs, min(10, max(0, round(10 * peak["mean"]))), beside)


def _short(stat: Mapping[str, Any]) -> str:
    spread = "" if stat.get("std") is None else f" ± {figures.percent(stat['std'])}"
    return f"{figures.percent(stat['mean'])}{spread}"

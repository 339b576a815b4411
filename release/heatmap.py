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
    """name: of the countermeasure; cells: by (network, arm), those that were measured.

    drop: of the peak of the first network, against plain training on the originals. no_difference: beyond noise, to a
    network trained on this release.
    """

    name: str
    cells: Mapping[tuple[str, str], Cell]
    drop: str
    worst: bool
    no_difference: bool = False


def networks(verification: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Network -> its arms and countermeasures, the headline's first. Others stand in the record under `victims`."""
    first = str(verification["protocol"].get("victim", "one network"))
    others = verification.get("victims")
    others = others if isinstance(others, Mapping) else {}
    named = {name: found for name, found in others.items() if name != first and isinstance(found, Mapping)}
    return {first: verification} | {name: found for name, found in named.items() if "arms" in found}


def rows(verification: Mapping[str, Any]) -> list[Row]:
    """Plain training first, then the countermeasures, those that do most for a trainer first. Empty: none was tried."""
    against = verification.get("against") or {}
    if not against:
        return []
    tried = networks(verification)
    worst = (verification.get("worst_case") or {}).get("against")
    worst = PLAIN if worst == "none" else worst
    plain = {network: found["arms"] for network, found in tried.items()}
    ordered = {name: {n: (found.get("against") or {}).get(name) for n, found in tried.items()} for name in against}

    def best(name: str) -> float:
        return max(float(arms["protected"]["peak"]["mean"]) for arms in ordered[name].values() if arms)

    found = [_row(PLAIN, plain, verification, worst == PLAIN)]
    return found + [
        _row(name, ordered[name], verification, name == worst) for name in sorted(ordered, key=best, reverse=True)
    ]


def _row(name: str, of: Mapping[str, Any], verification: Mapping[str, Any], worst: bool) -> Row:
    cells = {(network, arm): _cell(arms[arm]) for network, arms in of.items() if arms for arm in COLUMNS}
    clean = verification["arms"]["clean"]["peak"]["mean"]
    peak = next(iter(of.values()))["protected"]["peak"]["mean"]
    drop = figures.percent((clean - peak) / clean) if clean else "–"
    return Row(name, cells, drop, worst, name in (verification.get("within_noise") or ()))


def drawing(found: Sequence[Row]) -> Drawing:
    """The table as a plot."""
    columns = list(found[0].cells)
    several = len({network for network, _ in columns}) > 1
    head = _HEAD + (_LINE - 8 if several else 0)
    marks = []
    for i, (network, arm) in enumerate(columns):
        middle = _NAMES + _CELL * (i + 0.5)
        marks.append(Mark("text", "strong", ((middle, head - 9),), COLUMNS[arm], "middle"))
        if several and arm == "clean":
            marks.append(Mark("text", "strong", ((middle + _CELL / 2, 12),), _short(network, 32), "middle"))
    for line, row in enumerate(found):
        top = head + _LINE * line
        marks.append(Mark("text", "strong" if row.worst else "", ((8, top + 17),), _short(row.name, 30)))
        for i, column in enumerate(columns):
            if cell := row.cells.get(column):
                left, right, bottom = _NAMES + _CELL * i, _NAMES + _CELL * (i + 1) - 2, top + _LINE - 2
                corners = ((left, top), (right, top), (right, bottom), (left, bottom))
                marks.append(Mark("area", f"heat h{cell.step}", corners))
                marks.append(Mark("text", "strong", ((left + _CELL / 2, top + 17),), cell.shown, "middle"))
    title = "Peak test accuracy under countermeasures" + ("" if several else f" ({columns[0][0]})")
    return Drawing(title, _NAMES + _CELL * len(columns) + 8, head + _LINE * len(found) + 4, tuple(marks))


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _cell(arm: Mapping[str, Any]) -> Cell:
    peak = arm["peak"]
    beside = tuple(f"{name.replace('_', ' ')}: {_figure(stat)}" for name, stat in (arm.get("figures") or {}).items())
    shown, runs = figures.spread(peak).split(" ", 1)
    return Cell(peak["mean"], shown, runs, min(10, max(0, round(10 * peak["mean"]))), beside)


def _figure(stat: Mapping[str, Any]) -> str:
    spread = "" if stat.get("std") is None else f" ± {figures.percent(stat['std'])}"
    return f"{figures.percent(stat['mean'])}{spread}"

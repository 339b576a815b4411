"""Tables of what `benchmarks/scale.py` measured, for docs/large-archives.md. Nothing of the project is imported here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RESULT = Path(__file__).resolve().parents[1] / "benchmarks" / "results" / "scale.json"


def measured(part: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(RESULT.read_text(encoding="utf-8"))[part]
    return found


def forecasts() -> str:
    """A row for every archive that was forecast."""
    told = measured("forecast")
    rows = ["| pictures | releases | hours | of these, one process alone | core hours | disk | requests | memory |\n"]
    rows.append("|" + "---|" * 8 + "\n")
    for name, one in told["forecasts"].items():
        many, kind = name.rsplit(" ", 1)
        alone = 1 - one["seconds"]["work"] / sum(one["seconds"].values())
        rows.append(
            f"| {many} of {told[kind]['pictures']} | {one['releases']} | {one['hours']:.2g} | {alone:.0%} "
            f"| {one['core_hours']:,.0f} | {size(one['disk_gb'] + one['owner_gb'])} "
            f"| {sum(one['requests'].values()):,} | {one['memory_gb']:.1f} GB |\n"
        )
    return (
        "".join(rows)
        + f"\nMade by `{told['command']}` on {told['date']}: {told['hardware']}, load {shown(told['load'])}."
    )


def size(gigabytes: float) -> str:
    return f"{gigabytes:,.0f} GB" if gigabytes < 1000 else f"{gigabytes / 1000:,.1f} TB"


def checked() -> str:
    """The forecast of a run that was made, beside the run."""
    told = measured("forecast")
    run, on = told["check"], told["small"]["calibrated_on"]
    rows = [f"| {run['images']:,} pictures, calibrated on {on:,} | forecast | came | error |\n|---|---|---|---|\n"]
    for name, unit, scale in ROWS:
        one = run[name]
        pair = " | ".join(f"{one[which] / scale:,.4g} {unit}" for which in ("forecast", "real"))
        rows.append(f"| {name.replace('_', ' ')} | {pair} | {one['error']:+.1%} |\n")
    return "".join(rows)


ROWS = (
    ("processor_seconds", "s", 1.0),
    ("seconds", "s", 1.0),
    ("release_bytes", "MB", 1e6),
    ("owner_bytes", "MB", 1e6),
    ("memory_bytes", "MB", 1e6),
    ("check_processor_seconds", "s", 1.0),
)


def engines() -> str:
    """A row for every way to do the same shards."""
    told = measured("engines")
    rows = [
        "| way | pictures a second | more than as many bare loops, clock | processor | than one bare loop, clock | start |\n"
    ]
    rows.append("|---|---|---|---|---|---|\n")
    for name, one in told["ways"].items():
        like = one.get("among_two", one.get("overhead"))
        over = [spread(like[clock]) if like and name != "bare 2" else "" for clock in ("wall", "processor")]
        over.append(spread(one["overhead"]["wall"]) if "overhead" in one else "")
        start = one["start"]["wall"] + max(0.0, one["first_round_more"]["wall"])
        rows.append(f"| {name} | {one['images_a_second']['median']:,.0f} | {' | '.join(over)} | {start:.0f} s |\n")
    return (
        "".join(rows)
        + f"\nMade by `{told['command']}` on {told['date']}: {told['hardware']}, load {shown(told['load'])}."
    )


def spread(of: dict[str, float]) -> str:
    return f"{of['median']:+.0%} ({of['low']:+.0%} to {of['high']:+.0%})"


def shown(load: list[float]) -> str:
    return " to ".join(f"{each:g}" for each in load)

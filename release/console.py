"""What the command line prints: one summary, one table, one live line."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from release import figures

Tell = Callable[[str, int, int], None]
_EVERY = 10.0  # seconds between progress lines where there is no terminal


@contextmanager
def progress(quiet: bool) -> Iterator[Tell]:
    """A function that shows progress on stderr: one live line on a terminal, a plain line now and then elsewhere."""
    if quiet:
        yield lambda what, done, of: None
    elif sys.stderr.isatty():
        yield from _live()
    else:
        yield _plain()


def _live() -> Iterator[Tell]:
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as bar:
        tasks: dict[str, Any] = {}

        def tell(what: str, done: int, of: int) -> None:
            stage = what.partition(":")[0]
            if stage not in tasks:
                for task in tasks.values():
                    bar.update(task, visible=False)
                tasks[stage] = bar.add_task(what, total=of or None)
            bar.update(tasks[stage], description=what, completed=done, total=of or None)

        yield tell


def _plain() -> Tell:
    last: dict[str, float] = {}
    begun: dict[str, float] = {}

    def tell(what: str, done: int, of: int) -> None:
        stage, now = what.partition(":")[0], time.monotonic()
        begun.setdefault(stage, now)
        if done != of and now - last.get(stage, 0.0) < _EVERY:
            return
        last[stage] = now
        left = f", {(now - begun[stage]) / done * (of - done):.0f} s left" if 0 < done < of else ""
        sys.stderr.write(what + (f" ({done}/{of}{left})" if of else "") + "\n")

    return tell


def protected(document: dict[str, Any]) -> None:
    """The result of `protect` for people."""
    out = Console(highlight=False)
    images = document["images"]
    if document["verification"]:
        verification(document["verification"])
    out.print(
        f"\n{images['protected']:,} images protected with {document['method']} "
        f"({figures.budget_words(document['eps'])}) in {document['seconds']:.0f} s."
    )
    for item in document["skipped"][:5]:
        named = "" if item["id"] in item["reason"] else f"{item['id']}: "
        out.print(f"  skipped: {named}{item['reason']}", markup=False, soft_wrap=True)
    if images["skipped"] > 5:
        out.print(f"  ... {images['skipped']} skipped in all; the owner's report lists them.")
    out.print(f"Release:     {document['release']}", markup=False, soft_wrap=True)
    out.print(f"Your report: {document['owner']}/report.html", markup=False, soft_wrap=True)
    out.print(f"Keep {document['owner']} to yourself: it holds the key.", markup=False, soft_wrap=True)


def verification(document: dict[str, Any]) -> None:
    """The arms, countermeasures and verdict of one verification."""
    out = Console(highlight=False)
    protocol = document["protocol"]
    table = Table(
        title=f"{protocol['victim']} network, {protocol['train_images']:,} training images, {protocol['epochs']} epochs, "
        f"{len(protocol['seeds'])} seeds; tested on {protocol['test_images']:,} clean images",
        title_justify="left",
    )
    for heading in ("trained on", "peak accuracy", "final accuracy", "epochs to loss 0.5"):
        table.add_column(heading, justify="left" if heading == "trained on" else "right")
    for name, arm in document["arms"].items():
        noise = f" ±{protocol['noise_levels']}" if name == "noise" and "noise_levels" in protocol else ""
        table.add_row(_ARMS[name] + noise, _stat(arm["peak"]), _stat(arm["final"]), _epochs(arm["epochs_to_half_loss"]))
    for name, arm in document.get("independent_labels", {}).items():
        table.add_row(f"{_ARMS[name]}, other labels", _stat(arm["peak"]), _stat(arm["final"]), "")
    for name, pair in document["against"].items():
        for which, arm in pair.items():
            table.add_row(f"{_ARMS[which]}, {name}", _stat(arm["peak"]), _stat(arm["final"]), "")
    out.print(table)
    drop = document["relative_accuracy_drop"]
    out.print(
        f"Relative accuracy drop {drop['mean']:.0%} (95 % interval {drop['low']:.0%} to {drop['high']:.0%}); "
        f"guessing gives {protocol['chance']:.0%}."
    )
    out.print(document["verdict"] + " " + document["worst_case"]["words"], markup=False)
    for flag in document["flags"]:
        out.print(f"  {flag['name']}: {flag['meaning']}", markup=False)


def checked(found: dict[str, Any]) -> None:
    """The result of `check` for people."""
    out = Console(highlight=False)
    for kind in ("changed", "missing", "extra"):
        for path in found[kind]:
            out.print(f"{kind}: {path}", markup=False, soft_wrap=True)
    out.print(f"signature: {found['signature']}", markup=False)
    if found.get("signer"):
        out.print(f"signer: {found['signer']}", markup=False, soft_wrap=True)
    out.print("Every file is as it was signed." if found["ok"] else "This is not the release that was signed.")


_ARMS = {"clean": "originals", "noise": "with random noise", "protected": "protected copy"}


def _stat(stat: dict[str, Any]) -> str:
    spread = f" ± {stat['std']:.1%}" if stat["std"] is not None else ""
    return f"{stat['mean']:.1%}{spread}"


def _epochs(stat: dict[str, Any]) -> str:
    runs = ["never" if run is None else str(run) for run in stat["runs"]]
    return ", ".join(runs)

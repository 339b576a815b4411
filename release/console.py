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
            if stage == "plan":  # stays when the line has gone
                bar.console.print(what, markup=False, highlight=False)
                return
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


def forecast(document: dict[str, Any]) -> None:
    """The plan of `protect --dry-run`."""
    out = Console(highlight=False)
    images, told, seconds = document["images"], document["forecast"], document["forecast"]["seconds"]

    def say(text: str) -> None:
        out.print(text, markup=False, soft_wrap=True)

    formats = ", ".join(f"{each['images']:,} {name}" for name, each in images["formats"].items())
    say(f"{images['total']:,} images to protect ({formats}), {_size(images['bytes'])}.")
    for item in document["skipped"]:
        say(f"  left out: {item['count']:,} x {item['reason']}")
    if document["sidecars"]:
        say(f"  {document['sidecars']:,} sidecars to copy where nothing of an original is in them.")
    for item in document["probe"]["unprotectable"][:5]:
        named = "" if item["id"] in item["reason"] else f"{item['id']}: "
        say(f"  of {document['probe']['images']} tried: {named}{item['reason']}")
    for stage, words in _STAGES.items():
        say(f"{words}: " + ("unknown before the run" if seconds[stage] is None else f"about {seconds[stage]:,.0f} s"))
    if not document["probe"]["exact"]:
        say("The probe used a stand-in: crafting the images themselves may take longer.")
    enough = "" if document["disk"]["enough"] else " It will not fit."
    say(f"Space: about {_size(told['bytes'])} of {_size(document['disk']['free'])} that are free.{enough}")
    say(f"Memory: about {_size(told['memory'])}.")
    say(f"Release: {document['release']} ({document['layout']}); yours alone: {document['owner']}")
    say("Nothing was written.")


def previewed(document: dict[str, Any]) -> None:
    """The result of `preview`."""
    out = Console(highlight=False)
    out.print(f"{document['images']} images under {document['method']}. {document['note']}", markup=False)
    out.print(f"Preview: {document['preview']} (it shows originals)", markup=False, soft_wrap=True)


_STAGES = {"learn": "Looking at the images", "write": "Writing", "verify": "Verifying", "finish": "Reports and seal"}


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB" if count >= 1e5 else f"{count:,} bytes"


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

    def row(words: str, arm: dict[str, Any], epochs: str = "") -> None:
        table.add_row(words, _stat(arm["peak"]), _stat(arm["final"]), epochs)

    for name, arm in document["arms"].items():
        noise = f" ±{protocol['noise_levels']}" if name == "noise" and "noise_levels" in protocol else ""
        row(_ARMS[name] + noise, arm, _epochs(arm["epochs_to_half_loss"]))
    for name, arm in document.get("independent_labels", {}).items():
        row(f"{_ARMS[name]}, other labels", arm)
    victims = document.get("victims") or {"": document}
    for number, (victim, found) in enumerate(victims.items()):
        if number:
            table.add_section()
            for name, arm in found["arms"].items():
                row(f"{_ARMS[name]}, {victim}", arm, _epochs(arm["epochs_to_half_loss"]))
        for name, pair in found["against"].items():
            for which, arm in pair.items():
                row(f"{_ARMS[which]}, {name}" + (f", {victim}" if number else ""), arm)
    out.print(table)
    drop = document["relative_accuracy_drop"]
    out.print(
        f"Relative accuracy drop {drop['mean']:.0%} (95 % interval {drop['low']:.0%} to {drop['high']:.0%}); "
        f"guessing gives {protocol['chance']:.0%}."
    )
    chosen = {_ARMS[name]: arm["selected"] for name, arm in document["arms"].items() if arm.get("selected")}
    if chosen:
        shares = ", ".join(f"{words} {_stat(stat)}" for words, stat in chosen.items())
        out.print(f"With the epoch chosen on other clean images: {shares}.")
    out.print(document["verdict"] + " " + document["worst_case"]["words"], markup=False)
    if document.get("within_noise"):
        out.print(f"No difference beyond noise: {', '.join(document['within_noise'])}.", markup=False)
    for flag in document["flags"]:
        out.print(f"  {flag['name']}: {flag['meaning']}", markup=False)
    if "diagnosis" in document:
        _diagnosis(out, document["diagnosis"])


def planned(document: dict[str, Any]) -> None:
    """The plan of `verify --dry-run`."""
    plan, protocol = document["plan"], document["protocol"]
    kept = f", of which {plan['kept']} are kept from before" if plan["kept"] else ""
    out = Console(highlight=False)
    out.print(
        f"{plan['trainings']} trainings of {protocol['epochs']} epochs on {protocol['train_images']:,} images{kept}. "
        f"With the cost of countermeasures, {plan['epochs']:g} epochs of plain training."
    )
    for victim, seconds in plan["seconds_per_epoch"].items():
        out.print(f"{victim}: {seconds:.3g} s an epoch on {protocol['device']}.", markup=False)
    out.print(f"About {plan['seconds']:.0f} s.")


def _diagnosis(out: Console, found: dict[str, Any]) -> None:
    """Three lines on what the perturbation looks like from outside."""
    for victim, arms in found["transfer"].items():
        shares = ", ".join(f"{_ARMS[name]} {_stat(stat)}" for name, stat in arms.items())
        out.print(f"Misread by {victim} trained on the originals: {shares}.", markup=False)
    for name, probe in found["linear_probe"].items():
        out.print(
            f"Linear classifier of the change alone, {_ARMS[name]}: {probe['train']:.1%} of what it was fitted on, "
            f"{probe['held_out']:.1%} of the rest."
        )
    power = found["frequency"]["protected"]
    peak = max(range(len(power)), key=power.__getitem__)
    out.print(f"The change is strongest at {found['frequency']['cycles_per_pixel'][peak]:.3g} cycles a pixel.")


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


def pushed(document: dict[str, Any]) -> None:
    """The result of `push` for people."""
    out = Console(highlight=False)
    gate = f"gated ({document['gated']})" if document["gated"] else "not gated"
    out.print(
        f"{document['files']:,} files read back as they were sealed; {document['sent']:,} of them were sent now "
        f"({document['bytes']:,} bytes)."
    )
    out.print(
        f"{'Private' if document['private'] else 'Public'}, {gate}: {document['url']}", markup=False, soft_wrap=True
    )


_ARMS = {"clean": "originals", "noise": "with random noise", "protected": "protected copy"}


def _stat(stat: dict[str, Any]) -> str:
    spread = f" ± {stat['std']:.1%}" if stat["std"] is not None else ""
    return f"{stat['mean']:.1%}{spread}"


def _epochs(stat: dict[str, Any]) -> str:
    runs = ["never" if run is None else str(run) for run in stat["runs"]]
    return ", ".join(runs)

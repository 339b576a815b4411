"""Every plot of a report, with the numbers it is drawn from; for the owner also as files, PNG and JSON.

Which plots strangers may see is decided here, by what `public` gives: it is built from the public part of the record.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from release import curves, figures, heatmap, sign
from release.drawing import Drawing
from release.facts import Facts
from release.manifest import public_verification


@dataclass(frozen=True)
class Plot:
    """name: of its files; caption: above it on the page; data: what it shows, as JSON can hold it."""

    name: str
    caption: str
    drawing: Drawing
    data: Mapping[str, Any]


def public(facts: Facts) -> list[Plot]:
    """Peaks and curves of the three arms: what a release may show."""
    return _of_arms(public_verification(facts.verification), facts) if facts.verification else []


def under_countermeasures(facts: Facts) -> list[Plot]:
    """Test accuracy by epoch under each countermeasure, in the order of the table. The owner's alone."""
    found = facts.verification or {}
    labels, plots = list(heatmap.COLUMNS.items()), []
    for number, row in enumerate(heatmap.rows(found)[1:], start=1):
        arms = found["against"][row.name]
        if runs := _curves(arms, "test_accuracy"):
            drawing = curves.accuracy(runs, found["protocol"].get("chance"), labels, f"Test accuracy: {row.name}")
            name = f"against-{number:02}-{_slug(row.name)}"
            plots.append(Plot(name, row.name, drawing, {"against": row.name, "runs": runs}))
    return plots


def spectrum(facts: Facts) -> Plot | None:
    """Power of the change by spatial frequency, which tells methods apart. The owner's alone."""
    data = facts.owner_extra.get("spectrum")
    if not data:
        return None
    drawing = curves.spectrum(data["cycles_per_pixel"], data["power"], data["mean_power"])
    return Plot("spectrum", "Power by spatial frequency", drawing, data)


def diagnosed(facts: Facts) -> Plot | None:
    """Power of the protected and the noise arm's changes, at the trainer's view (`verify --diagnose`). The owner's alone."""
    data = ((facts.verification or {}).get("diagnosis") or {}).get("frequency")
    if not data:
        return None
    power = {arm: data[arm] for arm in ("noise", "protected") if arm in data}
    drawing = curves.spectra(data["cycles_per_pixel"], power, list(figures.arm_labels(facts).items()))
    return Plot("spectrum-diagnosed", "Power by spatial frequency, as a trainer sees it", drawing, data)


def countermeasures(facts: Facts) -> Plot | None:
    """The table of countermeasures as a plot; on the page it is a table. The owner's alone."""
    found = facts.verification or {}
    rows = heatmap.rows(found)
    if not rows:
        return None
    peaks: dict[str, dict[str, dict[str, float]]] = {}
    for row in rows:
        for (network, arm), cell in row.cells.items():
            peaks.setdefault(row.name, {}).setdefault(network, {})[arm] = cell.peak
    drawing = heatmap.drawing(rows)
    data = {"peak_test_accuracy": peaks}
    return Plot("countermeasures", "Peak test accuracy under countermeasures", drawing, data)


def write(folder: Path, facts: Facts) -> None:
    """NAME.png and NAME.json of every plot into a private folder, made anew; those of an earlier run go."""
    if folder.is_symlink() or folder.is_file():
        folder.unlink()
    elif folder.exists():
        shutil.rmtree(folder)
    found = [*public(facts), countermeasures(facts), *under_countermeasures(facts), spectrum(facts), diagnosed(facts)]
    plots = [plot for plot in found if plot is not None]
    if plots:
        folder.mkdir(mode=0o700, parents=True)
    for plot in plots:
        document = {"plot": plot.name, "title": plot.drawing.title, **plot.data}
        text = json.dumps(document, indent=1, ensure_ascii=True, allow_nan=False) + "\n"
        sign.write_new(folder / f"{plot.name}.json", text.encode("ascii"), 0o600)
        sign.write_new(folder / f"{plot.name}.png", plot.drawing.png(), 0o600)


def _of_arms(verification: Mapping[str, Any], facts: Facts) -> list[Plot]:
    arms, chance = verification["arms"], verification["protocol"].get("chance")
    labels = [(arm, words) for arm, words in figures.arm_labels(facts).items() if arm in arms]
    peaks = {arm: (words, arms[arm]["peak"]["runs"]) for arm, words in labels}
    plots = [
        Plot(
            "peaks",
            "Peak test accuracy, every run",
            curves.peaks(peaks, chance),
            {"chance": chance, "peak_test_accuracy": {arm: runs for arm, (_, runs) in peaks.items()}},
        )
    ]
    if accuracies := _curves(arms, "test_accuracy"):
        drawing = curves.accuracy(accuracies, chance, labels)
        plots.append(Plot("test-accuracy", "Test accuracy", drawing, {"chance": chance, "runs": accuracies}))
    if losses := _curves(arms, "train_loss"):
        plots.append(Plot("train-loss", "Training loss", curves.loss(losses, labels), {"runs": losses}))
    return plots


def _curves(arms: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = {arm: (arms[arm].get("curves") or {}).get(name) for arm in figures.ARMS if arm in arms}
    return {arm: runs for arm, runs in found.items() if runs}


def _slug(name: str) -> str:
    """A file name of a countermeasure's name: letters, digits, dots and dashes."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", name).strip("-.") or "other"

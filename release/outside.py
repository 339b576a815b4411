"""The perturbation seen from outside (`verify --diagnose`) and the other networks of a verification, as rows of tables.

The owner's alone: what a linear classifier or a network makes of the change tells how it was made. Other networks may do
better than the headline's, which is what defeats a release.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from release import figures, heatmap


def network_rows(verification: Mapping[str, Any], labels: Mapping[str, str]) -> list[dict[str, Any]]:
    """One row a network and arm, the headline's network first. Empty where one network was trained."""
    found = heatmap.networks(verification)
    if len(found) < 2:
        return []
    rows = []
    for network, table in found.items():
        drop = figures.drop(table) if "relative_accuracy_drop" in table else "–"
        rows.append({"network": network, "drop": drop, "arms": figures.arm_rows(table["arms"], labels)})
    return rows


def transfer_rows(diagnosis: Mapping[str, Any], labels: Mapping[str, str]) -> list[dict[str, Any]]:
    """What networks trained on the originals misread of each arm's training images: one row a network, then their mean."""
    tables: Mapping[str, Any] = diagnosis["transfer"]
    rows = [
        {"network": network, "shares": [figures.spread(arms[arm]) for arm in labels if arm in arms]}
        for network, arms in tables.items()
    ]
    if len(tables) > 1:
        named = [arm for arm in labels if all(arm in arms for arms in tables.values())]
        means = [sum(arms[arm]["mean"] for arms in tables.values()) / len(tables) for arm in named]
        rows.append({"network": "Mean of the networks", "shares": [figures.percent(mean) for mean in means]})
    return rows


def probe_rows(diagnosis: Mapping[str, Any], labels: Mapping[str, str]) -> list[dict[str, str]]:
    """How well a linear classifier that sees the change alone names the class: one row an arm that has a change."""
    probes: Mapping[str, Any] = diagnosis["linear_probe"]
    return [
        {
            "label": labels[arm],
            "train": figures.percent(probes[arm]["train"]),
            "held_out": figures.percent(probes[arm]["held_out"]),
        }
        for arm in labels
        if arm in probes
    ]

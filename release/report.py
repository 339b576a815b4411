"""report.html: one self-contained page that an owner can show to a lawyer.

Two editions of one template. The public one is built from facts that strangers may know, and has no script; the owner's
adds the method, the countermeasures, originals, the spectrum and the command, and one script, which moves the slider
between original and protected. Private facts are not hidden from the public page: they are never given to its template,
which refuses to print what it was not given.
"""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup
from PIL import Image, UnidentifiedImageError

from release import figures, heatmap, outside, pages, plots
from release.facts import Facts
from release.manifest import public_verification
from unlearnable.errors import UsageError

_MOST_SKIPPED = 200  # the receipt has them all
_FORMATS = ("PNG", "JPEG", "WEBP")
_UNTOLD: dict[str, Any] = {"method": (), "heat": (), "worst": "", "others": (), "words": ""}


def public(facts: Facts) -> str:
    """The page that ships: verdict, arms, curves, protected pictures, budget, counts, flags and protocol."""
    shown = public_verification(facts.verification) if facts.verification else None
    context = _common(facts, shown)
    context |= {"private": False, "triples": (), "pictures": [_inline(data) for data in facts.gallery], "script": None}
    return pages.html("report.html", context | (_disclosed(facts) if facts.disclose else _UNTOLD))


def owner(facts: Facts) -> str:
    """The page for the owner folder: the public facts, and the method, countermeasures, originals and command."""
    extra = facts.owner_extra
    context = _common(facts, facts.verification) | _disclosed(facts)
    skipped = list(extra.get("skipped") or ())
    gain = figures.gain(facts.levels)
    triple_of = ("Original", f"Difference × {gain}" if gain > 1 else "Difference", "Protected")
    spectrum = plots.spectrum(facts)
    return pages.html(
        "report.html",
        context
        | _seen_from_outside(facts)
        | {
            "private": True,
            "pictures": () if facts.owner_gallery else [_inline(data) for data in facts.gallery],
            "triples": [
                [(_inline(data), what) for data, what in zip(triple, triple_of, strict=True)]
                for triple in facts.owner_gallery
            ],
            "gain": gain,
            "script": _script() if facts.owner_gallery else None,
            "spectrum": spectrum.drawing.svg() if spectrum else None,
            "against_curves": [(plot.caption, plot.drawing.svg()) for plot in plots.under_countermeasures(facts)],
            "method": [*context["method"], *([("Source", str(extra["source"]))] if extra.get("source") else [])],
            "auto": _grid(extra.get("auto") or ()),
            "skipped": {"rows": skipped[:_MOST_SKIPPED], "more": max(0, len(skipped) - _MOST_SKIPPED)},
            "command": extra.get("command"),
            "timings": [(step, f"{seconds:.1f} s") for step, seconds in (extra.get("timings") or {}).items()],
        },
    )


def _common(facts: Facts, verification: Mapping[str, Any] | None) -> dict[str, Any]:
    """What both editions show. `verification` is the public part of it for the public edition."""
    context: dict[str, Any] = {
        "name": facts.name,
        "created": facts.created.replace("T", " ").replace("Z", " UTC"),
        "tool": f"unlearnable {facts.versions.get('tool', '')}".strip(),
        "style": pages.raw("report.css"),
        "verification": verification,
        "counts": figures.counts_text(facts),
        "budget": figures.budget_text(facts),
        "looks": figures.looks(facts),
        "visible": facts.visible,
        "amounts": _amounts(facts),
        "closeness": figures.closeness_rows(facts),
        "limits": figures.limits(facts),
        "versions": " · ".join(f"{name} {version}" for name, version in sorted(facts.versions.items())),
    }
    return context | (_measured(verification, facts) if verification else {})


def _measured(verification: Mapping[str, Any], facts: Facts) -> dict[str, Any]:
    arms, labels = verification["arms"], figures.arm_labels(facts)
    tiles = [
        {"arm": arm, "label": f"{label}: peak accuracy", "value": figures.percent(arms[arm]["peak"]["mean"])}
        for arm, label in labels.items()
        if arm in arms
    ]
    fall = figures.percent(verification["relative_accuracy_drop"]["mean"])
    return {
        "tiles": [*tiles, {"arm": "", "label": "Relative accuracy drop", "value": fall}],
        "noise": labels["noise"][0].lower() + labels["noise"][1:],
        "arms": figures.arm_rows(arms, labels),
        "labels": [(arm, label) for arm, label in labels.items() if arm in arms],
        "independent": figures.arm_rows(verification.get("independent_labels") or {}, labels),
        "over_all": figures.over_all_rows(arms, labels),
        "started": figures.started(verification),
        "plan": figures.plan_words(verification),
        "plots": [(plot.name, plot.caption, plot.drawing.svg()) for plot in plots.public(facts)],
        "chance": verification["protocol"].get("chance") is not None,
        "drop": figures.drop(verification),
        "protocol": figures.protocol_rows(verification["protocol"]),
    }


def _amounts(facts: Facts) -> list[tuple[str, str]]:
    rows = [
        (f"Split “{split}”", f"{count:,} {'image' if count == 1 else 'images'}")
        for split, count in facts.splits.items()
    ]
    kept = "guaranteed" if facts.guaranteed else "before lossy compression"
    return [*rows, ("Budget", f"{facts.levels} of 255 grey levels, {kept}" if facts.bounded else "none")]


def _disclosed(facts: Facts) -> dict[str, Any]:
    """What the owner knows and may choose to tell: the method and the countermeasures that were tried."""
    found = facts.verification or {}
    worst = found.get("worst_case") or {}
    text = ""
    if worst and worst["against"] != "none":
        text = f"Worst case: {worst['against']}, which brings the peak to {figures.percent(worst['peak'])}."
    return {
        "method": figures.method_rows(facts.owner_extra),
        "heat": heatmap.rows(found),
        "heat_columns": heatmap.COLUMNS,
        "networks": list(heatmap.networks(found)) if found else [],
        "worst": text,
        "words": worst.get("words", ""),
        "others": outside.network_rows(found, figures.arm_labels(facts)) if found else (),
    }


def _seen_from_outside(facts: Facts) -> dict[str, Any]:
    """What `--diagnose` found. The owner's alone."""
    found, labels = (facts.verification or {}).get("diagnosis"), figures.arm_labels(facts)
    plot = plots.diagnosed(facts)
    if not found:
        return {"diagnosis": None}
    shown = {
        "arms": list(labels.values()),
        "transfer": outside.transfer_rows(found, labels),
        "probes": outside.probe_rows(found, labels),
        "spectrum": plot.drawing.svg() if plot else None,
    }
    return {"diagnosis": shown}


def _grid(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Rows of named cells as columns and rows; the columns are all names, in the order they first appear."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    return {"columns": columns, "rows": [[_cell(row.get(name)) for name in columns] for row in rows]} if rows else None


def _cell(value: Any) -> Any:
    """What was not measured is empty; figures are short."""
    if value is None:
        return ""
    return f"{value:.3g}" if isinstance(value, float) else value


def _script() -> dict[str, Markup]:
    """The slider's script, and the hash by which the page's own policy lets it run, and no other."""
    text = pages.raw("slider.js")
    digest = base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
    return {"text": text, "policy": Markup(f"'sha256-{digest}'")}


def _inline(data: bytes) -> dict[str, Any]:
    """An encoded picture as a data: URI. Raises UsageError when it is not a PNG, JPEG or WebP file."""
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            kind, small = Image.MIME[image.format or ""], max(image.size) <= pages.SMALL
    except UnidentifiedImageError as why:
        raise UsageError("A picture for the report is not a PNG, JPEG or WebP file.") from why
    return {"src": f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}", "small": small}

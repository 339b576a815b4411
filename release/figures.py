"""Numbers as people read them, shared by the card and the reports, so that the two can never disagree."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from release.facts import Facts, realised
from unlearnable.budget import MAX_LEVELS, NO_BOUND, VISIBLE_ABOVE

ARMS = {
    "clean": "The originals",
    "noise": "Random noise of the same size",
    "protected": "This release",
}

_PROTOCOL = {
    "name": "Protocol",
    "victim": "Network trained",
    "runs": "Independent runs",
    "seeds": "Seeds of the runs",
    "epochs": "Epochs",
    "batch": "Batch size",
    "learning_rate": "Learning rate",
    "schedule": "Schedule",
    "milestones": "Rate falls after, of the epochs",
    "momentum": "Momentum",
    "weight_decay": "Weight decay",
    "nesterov": "Nesterov’s momentum",
    "augment": "Augmentation",
    "train_images": "Training images",
    "test_images": "Test images",
    "test_set": "Tested on",
    "select_images": "Images to choose an epoch by",
    "test_duplicates": "Test images like a training image",
    "protected_classes": "Protected classes",
    "test_images_of_all_classes": "Test images of all classes",
    "image_size": "Image size in pixels",
    "classes": "Classes",
    "chance": "Accuracy of guessing",
    "noise_levels": "Random noise up to, in grey levels",
    "device": "Device",
}

_METHOD = {"method": "Method", "preset": "Preset", "surrogate": "Surrogate network"}

_LIMITS = (
    "Whoever has the labels can average a pattern that is shared by a class out of the images. "
    "This protection is an obstacle, not encryption.",
    "Strong lossy compression, conversion to grey, heavy augmentation, adversarial training or purification "
    "may restore part or all of the accuracy.",
    "The protection acts on models that are trained on these files later. "
    "It does nothing to models that exist already, and it cannot protect copies of the originals found elsewhere.",
)
_LIMIT_OF_FIGURES = (
    "Accuracies were measured with the networks, the settings and the data named here. "
    "Other networks, networks trained before on other data, and mixtures with clean data may do better."
)


def limits(facts: Facts) -> tuple[str, ...]:
    """What nobody may conclude from the figures, in sentences."""
    return (*_LIMITS, _LIMIT_OF_FIGURES) if facts.verification else _LIMITS


def percent(fraction: float | None) -> str:
    """0.8734 -> "87.3%"."""
    return "–" if fraction is None else f"{100 * fraction:.1f}%"


def spread(stat: Mapping[str, Any]) -> str:
    """An accuracy with its spread and the number of runs behind it: "87.3% ± 0.4% (3 runs)"."""
    count = len(stat["runs"])
    deviation = "" if stat.get("std") is None else f" ± {percent(stat['std'])}"
    return f"{percent(stat['mean'])}{deviation} ({count} {'run' if count == 1 else 'runs'})"


def interval(stat: Mapping[str, Any] | None) -> str:
    """The 95 % interval of an accuracy: "15.2% to 20.8%"."""
    found = (stat or {}).get("interval")
    return f"{percent(found['low'])} to {percent(found['high'])}" if found else "–"


def epochs(stat: Mapping[str, Any] | None) -> str:
    """Epochs until the training loss fell below one half; runs that never got there count as such."""
    reached = [run for run in (stat or {}).get("runs", ()) if run is not None]
    if stat is None or not stat.get("runs"):
        return "–"
    if not reached:
        return "never"
    mean = f"{sum(reached) / len(reached):.1f}".removesuffix(".0")
    missed = len(stat["runs"]) - len(reached)
    return f"{mean} (never in {missed} of {len(stat['runs'])} runs)" if missed else mean


def arm_labels(facts: Facts) -> dict[str, str]:
    """What each arm was trained on. Noise that is not of the release's own budget says how large it is."""
    levels = (facts.verification or {}).get("protocol", {}).get("noise_levels", facts.levels)
    return ARMS if levels == facts.levels else ARMS | {"noise": f"Random noise of up to {levels} grey levels"}


def arm_rows(arms: Mapping[str, Any], labels: Mapping[str, str] = ARMS) -> list[dict[str, str]]:
    """One row an arm: what was trained on, peak and its interval, selected and final accuracy, epochs to half loss."""
    return [
        {
            "arm": arm,
            "label": label,
            "peak": spread(arms[arm]["peak"]),
            "interval": interval(arms[arm]["peak"]),
            "selected": spread(arms[arm]["selected"]) if arms[arm].get("selected") else "–",
            "final": spread(arms[arm]["final"]),
            "epochs": epochs(arms[arm].get("epochs_to_half_loss")),
        }
        for arm, label in labels.items()
        if arm in arms
    ]


def against_rows(verification: Mapping[str, Any]) -> list[dict[str, str]]:
    """One row a countermeasure: peak test accuracy on clean and on protected images. The owner's, unless disclosed."""
    return [
        {"name": name, "clean": spread(arms["clean"]["peak"]), "protected": spread(arms["protected"]["peak"])}
        for name, arms in verification.get("against", {}).items()
    ]


def protocol_rows(protocol: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The protocol as (what, value) pairs, in reading order."""
    rows = []
    for name, label in _PROTOCOL.items():
        value = protocol.get(name)
        if value is not None and value != []:
            rows.append((label, percent(value) if name == "chance" else _plain(value)))
    return rows


def _plain(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else str(value).replace("_", " ")


def started(verification: Mapping[str, Any]) -> str:
    """How the networks began: a clause."""
    return "starting from given weights" if "@" in str(verification["protocol"].get("victim", "")) else "from scratch"


def plan_words(verification: Mapping[str, Any]) -> str:
    """The plan in sentences: how each network was trained and tested, how often, and how an epoch was chosen."""
    told, plan = verification["protocol"], verification.get("plan")
    runs = told.get("runs") or len(told.get("seeds", ()))
    others = [name for name in verification.get("victims") or () if name != told["victim"]]
    who = f"The networks {', '.join([told['victim'], *others])} were" if others else f"The network {told['victim']} was"
    text = f"{who} trained {started(verification)} for {told['epochs']} epochs on "
    text += f"{told['train_images']:,} images, {told['batch']} a step, {runs} {'time' if runs == 1 else 'times'} on each kind"
    text += f", and tested after every epoch on {told['test_images']:,} unperturbed images."
    if told.get("select_images"):
        text += (
            f" {told['select_images']:,} other unperturbed images chose the epoch that an honest trainer would report."
        )
    if told.get("test_images_of_all_classes"):
        text += (
            f" Accuracies are those on the {told['protected_classes']} protected of {told['classes']} classes; "
            f"over all classes it was tested on {told['test_images_of_all_classes']:,} images."
        )
    if plan:
        text += (
            f" In all {plan['trainings']:,} trainings, as much work as {plan['epochs']:,g} epochs of plain training."
        )
    return text


def over_all_rows(arms: Mapping[str, Any], labels: Mapping[str, str] = ARMS) -> list[tuple[str, str]]:
    """Peak over all classes of each arm, where the headline is that on the protected ones: (what, value) pairs."""
    found = {arm: arms[arm]["all_classes"]["peak"] for arm in labels if arms.get(arm, {}).get("all_classes")}
    return [(labels[arm], f"{spread(peak)}, 95 % interval {interval(peak)}") for arm, peak in found.items()]


def drop(verification: Mapping[str, Any]) -> str:
    """The relative accuracy drop with its interval."""
    found = verification["relative_accuracy_drop"]
    return f"{percent(found['mean'])} (interval {percent(found['low'])} to {percent(found['high'])})"


def looks(facts: Facts) -> str:
    """What people see of the change: a clause without its full stop."""
    if not facts.visible:
        return "The pictures look nearly the same to people"
    return "The change is visible" if facts.bounded else "The change of a pixel is not bounded, and it is visible"


def budget_words(levels: int) -> str:
    """The budget in a few words, for tables and lines."""
    if levels >= NO_BOUND:
        return "no bound on the change of a pixel, which is visible"
    return f"budget {levels} of 255" + (", visible" if levels > VISIBLE_ABOVE else "")


def gain(levels: int) -> int:
    """How much stronger than they are differences are shown: a step of 8 becomes 80; any more would be cut off."""
    return 1 if levels > MAX_LEVELS else 10


def budget_text(facts: Facts) -> str:
    """One or two sentences on how far pixels were moved."""
    found = realised(facts)
    if not facts.bounded:
        text = "Pixel values were changed without a bound."
    elif facts.guaranteed:
        text = f"No pixel value differs from its original by more than {facts.levels} of 255 grey levels in any file."
    else:
        text = f"Pixel values were changed by up to {facts.levels} of 255 grey levels, before lossy compression."
    if found is None:
        return text
    quality = "the pixels are unchanged" if math.isinf(found.psnr) else f"mean PSNR {found.psnr:.1f} dB"
    return f"{text} Measured on the shipped files: largest change {found.linf}, {quality}." + (
        "" if facts.guaranteed else f" 99.9% of the pixel values of every image lie within {found.p999:g}."
    )


def closeness_rows(facts: Facts) -> list[tuple[str, str]]:
    """How far the shipped pictures are from their originals, as (what, value) pairs: all files, then a stated sample."""
    rows = []
    if found := realised(facts):
        psnr = "infinite: nothing changed" if math.isinf(found.psnr) else f"{found.psnr:.1f} dB"
        rows.append(("Largest change of a pixel value", f"{found.linf} grey levels"))
        rows.append(("99.9% of pixel values within", f"{found.p999:g} grey levels in every image"))
        rows.append(("Mean PSNR against the originals", psnr))
    if seen := facts.quality:
        sample = f"sample of {seen.images}" if seen.images < facts.counts["protected"] else "all images"
        small = "not measured: the pictures are too small for it"
        ssim = small if seen.ssim is None else f"{seen.ssim:.4f} (lowest {seen.ssim_lowest:.4f})"
        rows.append((f"Mean SSIM, {sample}", ssim))
        lpips = f"not measured: {seen.lpips_missing}" if seen.lpips is None else f"{seen.lpips:.4f}"
        rows.append((f"Mean LPIPS, {sample}", lpips))
    return rows


def subject(facts: Facts) -> str:
    """Whose pixels the card speaks of in its first words."""
    if not facts.unprotected:
        return "The pixels of these images"
    return f"The pixels of {facts.counts['protected']:,} of these {facts.shipped:,} images"


def counts_text(facts: Facts) -> str:
    """How many images were protected, and what became of the others."""
    counts, bare = facts.counts, facts.unprotected
    text = f"{counts['protected']:,} of {counts['total']:,} images are protected."
    if bare:
        text += (
            f" {'1 image' if bare == 1 else f'{bare:,} images'} of other classes {'is' if bare == 1 else 'are'} not: "
            "the owner asked for these classes alone, and the pixels of the others are unperturbed."
        )
    if not counts["skipped"]:
        return text
    left = "1 image" if counts["skipped"] == 1 else f"{counts['skipped']:,} images"
    return f"{text} {left} could not be protected and {'is' if counts['skipped'] == 1 else 'are'} not in this release."


def method_rows(extra: Mapping[str, Any]) -> list[tuple[str, str]]:
    """How the images were protected, as (what, value) pairs. The owner's, unless disclosed."""
    rows = [(label, str(extra[name])) for name, label in _METHOD.items() if extra.get(name)]
    return rows + [(name, str(value)) for name, value in (extra.get("params") or {}).items()]

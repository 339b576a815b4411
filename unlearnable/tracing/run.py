"""A model against a release: every committed test, Holm's correction over the secondary ones, and a verdict in words.

The primary test is the one that the plan named before publication; it alone is read at the committed level as it stands.
The secondary ones are corrected for their number. A test that the model gives too little for says so and counts for nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from unlearnable.errors import UsageError
from unlearnable.tracing import exact, probes
from unlearnable.tracing.answers import Asking, Model
from unlearnable.tracing.secret import Found, Job, Secret
from unlearnable.types import Batch, Tell, silent

EVIDENCE, WEAK, NOTHING, UNTESTED = "evidence", "secondary evidence", "no evidence", "not tested"
_FEWEST = 19  # decoys, below which no p-value would be at most 0.05

DOES_NOT_PROVE = (
    "It does not say how the pictures reached the trainer: from this release, from a copy, or from a mirror with its labels.",
    "It does not say how many of them were used, nor that the model is good because of them.",
    "It does not say who trained the model, nor that training on them was unlawful.",
    "Where nothing is found, the model may have been trained on them all the same: strong compression, grayscale or "
    "adversarial training can remove what the test looks for.",
    "It holds for models that were made after the release was published and before the secret was opened. Whoever has read "
    "this evidence could train for or against it, and a model that was there before proves nothing.",
)


def trace(
    secret: Secret,
    carriers: Batch,
    model: Model,
    *,
    decoys: int | None = None,
    images: int | None = None,
    tell: Tell = silent,
) -> tuple[dict[str, Any], Asking]:
    """The document of `trace --json`, less what `api.trace` adds, and the record of all questions.

    decoys, images: fewer than were committed, to save queries; the first ones of the committed order are used.
    """
    plan = secret.plan
    names = [name for name in (plan["primary"], *plan["secondary"]) if name]
    if not names and not plan["named"]:
        raise UsageError(
            "This release was protected by clusters, and no model's answers can be told from those.",
            "Protect again with --labels, which may come from a CSV.",
        )
    if not names:
        raise UsageError(
            f"A release made with {plan['method']['preset']} and --trace auto has nothing that a test could look for.",
            "Protect again with --trace canary or --trace radioactive, or with a method by class such as r16.",
        )
    decoys = fewer("decoys", decoys, plan["decoys"], _FEWEST)
    images = fewer("images", images, plan["images"], 1)
    ask = Asking(model, tell, sum(probes.find(name).queries(plan, decoys, images) for name in names))
    job = Job(secret, carriers, ask, decoys, images, model.white)
    found = {name: probes.find(name).run(job) for name in names}
    ps = {name: found[name].p for name in plan["secondary"]}
    adjusted = exact.holm({name: p for name, p in ps.items() if p is not None})
    primary = found[plan["primary"]]
    finding = conclude(primary.p, adjusted, plan["alpha"])
    return {
        "release": plan["release"],
        "model": {"shown": model.shown, "gives": model.gives},
        "finding": finding,
        "verdict": words(finding, plan, primary, adjusted),
        "alpha": plan["alpha"],
        "primary": described(primary),
        "secondary": [{**described(found[name]), "p_holm": adjusted.get(name)} for name in plan["secondary"]],
        "queries": len(ask.rows),
        "decoys": decoys,
        "images": min(images, len(carriers)),
        "does_not_prove": list(DOES_NOT_PROVE),
    }, ask


def fewer(name: str, asked: int | None, committed: int, least: int) -> int:
    if asked is not None and not least <= asked <= committed:
        raise UsageError(f"--{name} is {least} to the {committed} that this release committed to, not {asked}.")
    return asked or committed


def conclude(primary: float | None, adjusted: Mapping[str, float], alpha: float) -> str:
    if primary is not None and primary <= alpha:
        return EVIDENCE
    if any(p <= alpha for p in adjusted.values()):
        return WEAK
    return UNTESTED if primary is None and not adjusted else NOTHING


def described(found: Found) -> dict[str, Any]:
    probe = probes.find(found.test)
    return {
        "test": found.test,
        "asks": probe.ASKS,
        "null": probe.NULL,
        "p": found.p,
        "statistic": found.value,
        "by_chance": found.usual,
        "queries": found.queries,
        "not_run": found.none,
        "figures": dict(found.more),
    }


def words(finding: str, plan: Mapping[str, Any], primary: Found, adjusted: Mapping[str, float]) -> str:
    """One or two sentences for an owner."""
    if finding == UNTESTED:
        return f"Nothing could be tested on this model. {primary.none}"
    if finding == WEAK:
        name = min(adjusted, key=lambda each: adjusted[each])
        why = primary.none or "The test that was chosen beforehand found nothing."
        return (
            f"Evidence by a secondary test ({name}): {rarity(adjusted[name])}, after correction for the number of tests. "
            + why
        )
    if finding == EVIDENCE:
        return (
            f"The model reacts to the secret of this release. A model that has nothing to do with it would look like this "
            f"in {rarity(primary.p or 0.0)}; {plan['alpha']:g} was the limit set before publication."
        )
    if primary.p is None:
        return f"No evidence. The test that was chosen beforehand could not be run: {primary.none}"
    floor = primary.more.get("decoys")
    if floor and 1 / (1 + floor) > plan["alpha"]:
        return (
            f"No decision: with only {floor} other secrets to compare with, chance cannot be shown to be below 1 in "
            f"{1 + floor:,}, and {plan['alpha']:g} was the limit set before publication. Ask again with more --decoys."
        )
    return (
        f"No evidence: a model that has nothing to do with this release looks like this in {rarity(primary.p)}. "
        "That does not show that it was not trained on it."
    )


def rarity(p: float) -> str:
    """p as people say it: "1 case in 1,000", "37 cases in 100"."""
    if p > 0.1:
        return f"{round(100 * p)} cases in 100"
    return f"1 case in {round(1 / p):,}" if p > 1e-15 else "fewer than 1 case in a million billion"

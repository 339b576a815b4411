"""What happens before a file is written, on a part of the source and without keeping anything: for forecasts and previews."""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from unlearnable import budget, craft, looks, params
from unlearnable.craft import Crafter
from unlearnable.keys import Key
from unlearnable.learn import learn
from unlearnable.options import Options
from unlearnable.study import sample
from unlearnable.types import Record, Source, Tell

STAND_IN = "r16"  # where the method is not chosen yet, or crafting it is the long run itself
_PART = 48  # images that show how long studying them all takes


@dataclass(frozen=True)
class Rehearsal:
    """crafter: makes perturbations like those of the run; seconds: forecast of the stage before writing.

    seconds is None where it is unknown: the method is to be chosen by measurement, or trains. method: what was asked for,
    None for `auto`; exact: whether the crafter is of that method.
    """

    crafter: Crafter
    method: str | None
    exact: bool
    seconds: float | None
    note: str = ""


def part(source: Source, records: Sequence[Record]) -> Source:
    """The source with these records alone."""
    found = copy.copy(source)
    found.records, found.skipped = list(records), ()
    return found


def forecast(source: Source, options: Options, key: Key, tell: Tell) -> Rehearsal:
    """A crafter for a probe, and the time that the study will take, from studying a few images."""
    asked = params.check_method(options.method, options.preset, options.set)
    trains = asked is not None and craft.resolve(options.method, options.preset, options.set).trains
    exact = asked is not None and not trains
    chosen = (
        options
        if exact
        else replace(options, method=None, preset=STAND_IN, set={}, eps=min(options.levels, budget.MAX_LEVELS))
    )
    started = time.perf_counter()
    view, working = looks.view_size(source)
    fixed = time.perf_counter() - started
    whole: list[Record] = []  # what is decoded before anything is written
    if source.classes is None or options.verify != "none":
        whole = sample(source, "quick" if options.verify == "none" else options.verify, photos=view != working)
    few = part(source, [whole[i] for i in looks.evenly(range(len(whole)), _PART)]) if whole else source
    started = time.perf_counter()
    crafter, learned, _ = learn(few, replace(chosen, verify="none"), key, None, tell)
    if whole and learned is None:  # with labels, a study is reading alone
        looks.look(few, few.records, view)
    took = time.perf_counter() - started
    share = sum(record.size for record in whole) / max(1, sum(record.size for record in few.records)) if whole else 1.0
    doubled = 2 if source.classes is None and options.verify != "none" else 1  # a second, independent clustering
    seconds = fixed + max(0.0, took - fixed) * share * doubled if exact else None
    return Rehearsal(crafter, options.preset or asked, exact, seconds)


def preview(source: Source, options: Options, key: Key, tell: Tell) -> Rehearsal:
    """The crafter of the run itself where a method is named: with the same key, the same perturbations."""
    asked = params.check_method(options.method, options.preset, options.set)
    chosen = options if asked else replace(options, preset=STAND_IN, eps=min(options.levels, budget.MAX_LEVELS))
    crafter, _, _ = learn(source, replace(chosen, verify="none"), key, None, tell)
    note = (
        f"No method was named, and `protect` would choose one by measurement; this is {STAND_IN}."
        if not asked
        else "A run with the same key makes the very same copies."
        if options.key
        else "A run has another key, and so other patterns of the same strength, unless --key names one."
    )
    return Rehearsal(crafter, options.preset or asked, asked is not None, None, note)

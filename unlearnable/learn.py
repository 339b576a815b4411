"""Everything that happens before a file is written: look at the source, choose a method, fit it.

Inside `distributed.joined` all processes do it together: the same study in each, one choice, one fit, kept by the first.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from unlearnable import auto, cache, craft, distributed, looks, params, study
from unlearnable.craft import Crafter, Method
from unlearnable.device import pick
from unlearnable.errors import UsageError
from unlearnable.keys import Key
from unlearnable.options import Options
from unlearnable.study import FitFacts, Study
from unlearnable.surrogate import trainer
from unlearnable.types import Context, Source, Tell, silent
from unlearnable.verification import plan


def learn(
    source: Source, options: Options, key: Key, saved: Path | None, tell: Tell
) -> tuple[Crafter, Study | None, auto.Choice | None]:
    """The crafter, the study it rests on, and the choice of `auto` if there was one.

    What was fitted is kept at `saved`, unless that is None; an interrupted run finds it there and makes the same
    perturbations. There is no study where none is needed: a closed-form pattern by class, and nothing to verify.
    Of several processes the first one's `saved` counts, and only its crafter has all that was fitted.
    """
    first = distributed.world().rank == 0
    tell = tell if first else silent
    only = options.only(source.classes)
    name = params.check_method(options.method, options.preset, options.set)
    method = craft.resolve(options.method, options.preset, options.set) if name else None
    unseen = options.verify == "none" and options.trace in ("auto", "none")
    if method and unseen and not method.trains and source.classes is not None:
        learned, size = None, options.size or looks.view_size(source)[1]
    else:
        learned = study.study(source, options, key, tell)
        size = learned.working
    context = replace(context_of(source, key, options.levels, size, options.clusters), device=str(pick(options.device)))
    again = distributed.shared(lambda: craft.load(saved, context) if saved is not None and saved.exists() else None)
    if again is not None:
        crafter = again
        return crafter, learned and replace(learned, labeller=crafter.labeller, independent=crafter.independent), None
    choice = None
    if method is None:
        assert learned is not None
        choice = distributed.shared(lambda: _choose(learned, options, context, tell))
        method = craft.resolve(None, choice.preset, choice.values)
    crafter = _fit(method, learned, context, tell)
    crafter = replace(crafter, independent=learned.independent if learned else None, only=only)
    if saved is not None and first:
        craft.save(crafter, saved)
    return crafter, learned, choice


def facts(crafter: Crafter) -> dict[str, Any] | None:
    """{"images": that the method was fitted on, "of": the source's then, "processes", "backend": "gloo", "nccl" or ""}.

    It is kept with the fit. None for methods that do not train, and for fits of before it was kept.
    """
    found: dict[str, Any] | None = crafter.state.get(_FACTS)
    return found


def learn_again(
    source: Source, options: Options, key: Key, saved: Path, parts: dict[str, Any] | None, tell: Tell
) -> tuple[Crafter, Study | None]:
    """What the first run learned, kept at `saved`, for a source that has changed since; patterns for new classes are added.

    The source's labels are numbered anew: old classes keep their numbers, new ones follow. Nothing is learned of new
    images, and the verdict is read on those that were held out at first. Raises UsageError where the method cannot grow.
    """
    context = replace(context_of(source, key, options.levels, 1, options.clusters), device=str(pick(options.device)))
    crafter = craft.load(saved, context)
    if (source.classes is None) != (crafter.labeller is not None):
        raise UsageError(f"{source.spec} had labels when it was first protected, or has them only now.", _ANEW)
    if source.classes is not None:
        known = crafter.context.classes
        added = tuple(name for name in source.classes if name not in known)
        if added:
            crafter = craft.extended(crafter, (*known, *added))
            craft.save(crafter, saved)
        number = {name: index for index, name in enumerate(crafter.context.classes)}
        named = [None if record.label is None else source.classes[record.label] for record in source.records]
        pairs = zip(source.records, named, strict=True)
        source.records = [replace(record, label=None if name is None else number[name]) for record, name in pairs]
        source.classes = crafter.context.classes
    if options.verify == "none":
        return crafter, None
    if parts is None:
        raise UsageError("The first run held no images out to test on.", "Use --verify none, or --overwrite.")
    size, labeller, independent = crafter.context.size, crafter.labeller, crafter.independent
    return crafter, study.again(source, parts, parts["how"], size, labeller, independent, tell)


_FACTS = "fitted on"  # in the state, beside what the poison keeps there
_ANEW = "Protect everything anew: --overwrite in place of --grow."


def context_of(source: Source, key: Key, levels: int, size: int, clusters: int) -> Context:
    """What poisons may know; sources without labels have clusters for classes."""
    return Context(key, source.classes or tuple(f"cluster {i}" for i in range(clusters)), levels, size)


def _choose(learned: Study, options: Options, context: Context, tell: Tell) -> auto.Choice:
    todo = plan.make("quick", len(learned.parts.train), photos=learned.photos)
    return auto.choose(
        learned.part("train"),
        learned.part("select"),
        context,
        todo.recipe,
        seconds=options.auto_seconds,
        device=pick(options.device),
        tell=tell,
    )


def _fit(method: Method, learned: Study | None, context: Context, tell: Tell) -> Crafter:
    labeller = learned.labeller if learned else None
    view = learned.looks.images.shape[-1] if learned else 0
    if not method.trains or learned is None:
        return craft.fit(method, None, context, labeller, view)

    def say(message: str) -> None:
        tell(message, 0, 0)

    held, data, world = learned.batch("select"), learned.batch("train"), distributed.world()
    if world.size > 1:
        asked = (str(method), *context.classes, str(context.levels), *data.ids, *held.ids)
        seen = (data.images, data.labels, held.images, held.labels)
        distributed.require_same(cache.digest(*asked, *seen, context.key.secret.hex()), "images, options or key")
    surrogates = trainer(
        (held.images, held.labels),
        len(context.classes),
        device=pick(context.device),
        tell=say,
    )
    context = replace(context, tell=say, train_surrogate=surrogates)
    crafter = craft.fit(method, data, context, labeller, view)
    known = asdict(FitFacts(len(data), len(learned.source.records), world.size, world.backend))
    return replace(crafter, state={**crafter.state, _FACTS: known})

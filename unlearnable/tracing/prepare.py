"""What `protect` does for tracing: it makes marks where they are asked for, and the plan that is committed.

auto        nothing is changed: the poison's own secrets are what a later test looks for
canary      a few pictures carry canaries in the poison's place; canary-unrolled: crafted by unrolled training
radioactive a few pictures carry marks in the poison's place
none        no plan, no commitment
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from unlearnable import budget
from unlearnable.craft import Crafter
from unlearnable.device import pick
from unlearnable.errors import UsageError
from unlearnable.keys import commitment
from unlearnable.nets import Network
from unlearnable.options import Options
from unlearnable.study import Study
from unlearnable.surrogate import trainer
from unlearnable.tracing import canary, plan, radioactive, unrolled
from unlearnable.tracing.secret import Marks
from unlearnable.types import Batch, Tell

_NET = "small"  # to craft marks on, where the method has no network of its own


def marks(crafter: Crafter, learned: Study | None, options: Options, tell: Tell) -> Marks | None:
    """The marked pictures of a release, as `--trace` asks; None where it changes none."""
    if options.trace in ("auto", "none"):
        return None
    assert learned is not None
    if crafter.labeller is not None:
        raise UsageError(
            f"--trace {options.trace} needs classes with names: no model's answers can be told from clusters.",
            "Give --labels, or use --trace auto.",
        )
    if crafter.only is not None:
        raise UsageError(
            f"--trace {options.trace} marks images of all classes, and --classes names some.", "Use --trace auto."
        )
    data, held = learned.batch("train"), learned.batch("select")
    context, classes = crafter.context, crafter.context.classes

    def say(message: str) -> None:
        tell(f"trace: {message}", 0, 0)

    train = trainer((held.images, held.labels), len(classes), device=pick(context.device), tell=say)
    spec = crafter.method.surrogate if crafter.method.trains and crafter.method.surrogate else _NET
    (net, *_), _ = train(data, _first(spec))
    net.to("cpu").eval().requires_grad_(False)
    count = max(1, round(options.trace_share * len(learned.source.records)))
    if count > len(data) // 2:
        count = max(1, len(data) // 2)
        say(f"{count} pictures are marked: half of those that were decoded for learning")
    # a method without a bound may change everything; a mark need not
    levels = min(context.levels, budget.DEFAULT_LEVELS) if crafter.method.unbounded else context.levels
    found = _made(options.trace, net, spec, data, crafter, count, say, classes, levels)
    say(
        f"{len(found.ids)} of {len(learned.source.records)} images carry a mark in the poison's place: see the verification"
    )
    return found


def _made(
    kind: str,
    net: Network,
    spec: str,
    data: Batch,
    crafter: Crafter,
    count: int,
    say: Callable[[str], None],
    classes: tuple[str, ...],
    levels: int,
) -> Marks:
    key = crafter.context.key
    if kind == "canary":
        return canary.make(data, [net], len(classes), key, levels, count, canary.Params(), say)
    if kind == "canary-unrolled":
        params = unrolled.Params()
        nets_in_training = unrolled.Staggered(
            data, _first(spec), len(classes), key.seed("unrolled", "networks"), params
        )

        def how(chosen: Batch, target: Tensor, label: int, number: int) -> tuple[Tensor, float]:
            return unrolled.craft(chosen, target, label, data, nets_in_training, levels / 255, key, number, params, say)

        return canary.make(data, [net], len(classes), key, levels, count, canary.Params(targets=1), say, how)
    return radioactive.make(data, net, _first(spec), classes, key, levels, count, radioactive.Params(), say)


def _first(spec: str) -> str:
    """The first network of an ensemble."""
    return spec.split("+")[0].split("*")[0]


def marked(crafter: Crafter, found: Marks | None) -> Crafter:
    """The crafter, with the marks in the place of its own perturbations of those pictures."""
    return crafter if found is None else replace(crafter, marks=found.by_id())


def opened(
    crafter: Crafter,
    found: Marks | None,
    name: str,
    key: Mapping[str, str],
    before: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What the owner folder keeps: {"nonce", "plan", "earlier"}. before: the same of the release that this one grows from.

    Classes that were added since form a stage of their own, because patterns are drawn stage by stage.
    """
    classes = list(crafter.context.classes)
    stages = [list(stage) for stage in before["plan"]["classes"]] if before else []
    known = [name for stage in stages for name in stage]
    stages += [classes[len(known) :]] if len(classes) > len(known) else []
    named = crafter.labeller is None
    context = crafter.context
    made = plan.make(
        *(name, crafter.method, crafter.state, stages, context.levels, context.size, key),
        named=named,
        only=crafter.only,
        marks=found,
    )
    earlier = [*before["earlier"], {"nonce": before["nonce"], "plan": before["plan"]}] if before else []
    return {"nonce": plan.new_nonce().hex(), "plan": made, "earlier": earlier}


def published(document: Mapping[str, Any]) -> dict[str, str]:
    """What the manifest says of it."""
    return {"sha256": commitment(document["plan"], bytes.fromhex(document["nonce"]))}

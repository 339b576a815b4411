"""From a method and the owner's sample to a function that makes perturbations for any image of the source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unlearnable import imageio, kept, registry
from unlearnable import params as parameters
from unlearnable.cluster import Labeller
from unlearnable.errors import UsageError
from unlearnable.looks import to_tensor
from unlearnable.poisons import _pgd
from unlearnable.types import Batch, Context, Pixels, Record, State


@dataclass(frozen=True)
class Method:
    """A poison and its parameters, as asked for. preset is the name used, for the receipt."""

    name: str
    preset: str
    params: Any

    @property
    def surrogate(self) -> str | None:
        """The network it is crafted on, if any: the one fact of crafting that the verifier's flags need."""
        return getattr(self.params, "net", None)

    def shown_surrogate(self) -> str | None:
        """The networks it is crafted on as others may read them, without the folders of a weights file."""
        if not (self.surrogate and self.trains):
            return None
        named = registry.ensemble(self.surrogate)
        return "+".join(dict.fromkeys(registry.network(name).shown for name, _ in named))

    @property
    def trains(self) -> bool:
        return self._says("TRAINS")

    @property
    def blind(self) -> bool:
        """Whether perturbations follow from ids and labels alone, whatever the pictures show."""
        return self._says("BLIND")

    @property
    def unbounded(self) -> bool:
        """Whether it moves pixels as far as it likes, and visibly, where no --eps caps it."""
        return self._says("UNBOUNDED")

    @property
    def needs_labels(self) -> bool:
        return self._says("NEEDS_LABELS")

    def _says(self, fact: str) -> bool:
        return bool(registry.describe("poisons", self.name).facts.get(fact))


def resolve(method: str | None, preset: str | None, values: dict[str, Any]) -> Method:
    """The method with its preset's values and then the owner's. Imports the method's module (and torch)."""
    wanted = preset or method
    assert wanted is not None
    name, base = registry.find_preset("poisons", wanted)
    return Method(name, wanted, parameters.build("poisons", name, base | values))


@dataclass(frozen=True)
class Crafter:
    """Makes perturbations: call it with records and their pictures. view: the size at which pictures are clustered.

    only: names of the classes that are protected, None for all; images of others get a perturbation of nought.
    marks: (3, S, S) int8 grey levels by record id, which take the place of the method's own perturbation.
    """

    method: Method
    state: State
    context: Context
    labeller: Labeller | None = None
    view: int = 0
    independent: Labeller | None = None  # a second clustering, for the verifier; perturbations never see it
    only: tuple[str, ...] | None = None
    marks: Mapping[str, Tensor] = field(default_factory=dict)

    def __call__(self, records: Sequence[Record], pictures: Sequence[Pixels]) -> Tensor:
        """N records and their pixels, of any size -> (N, 3, S, S) float, not yet inside any budget."""
        if self.only is None:
            return self._made(records, pictures)
        chosen = [i for i, record in enumerate(records) if record.label in self.numbers()]
        out = torch.zeros(len(records), 3, self.context.size, self.context.size)
        if chosen:
            out[chosen] = self._made([records[i] for i in chosen], [pictures[i] for i in chosen])
        return out

    @property
    def apart(self) -> bool:
        """Whether copies in other processes make the same: closed forms, which take one image at a time on a CPU."""
        return not self.method.trains

    @property
    def at_once(self) -> int | None:
        """Images that are crafted together, at most, which may decide their last bits; None for closed forms."""
        return _pgd.at_once(getattr(self.method.params, "batch", 0), self.context) if self.method.trains else None

    def numbers(self) -> frozenset[int]:
        """The labels that are protected."""
        classes = self.context.classes
        return frozenset(i for i, name in enumerate(classes) if self.only is None or name in self.only)

    def _made(self, records: Sequence[Record], pictures: Sequence[Pixels]) -> Tensor:
        size = self.context.size
        if self.method.blind:  # small copies of photos would take longer than all the rest
            images = torch.zeros((), dtype=torch.uint8).expand(len(pictures), 3, size, size)
        else:
            images = to_tensor([imageio.square(pixels, size) for pixels in pictures], size)
        delta = self.on(tuple(record.id for record in records), images, self.labels(records, pictures))
        if self.marks:
            delta = delta.clone()  # images of one class share theirs
        for row, record in enumerate(records):
            if record.id in self.marks:
                delta[row] = self.marks[record.id].float() / 255
        return delta

    def on(self, ids: tuple[str, ...], images: Tensor, labels: Tensor) -> Tensor:
        """The same for tensors with known labels; the result is on the CPU."""
        device = self.context.device if self.method.trains else "cpu"  # closed forms are the same on every machine
        batch = Batch(ids, images.to(device), labels.to(device))
        poison = registry.load("poisons", self.method.name)
        delta: Tensor = poison.delta(batch, self.state, self.method.params, self.context)
        return delta.detach().float().cpu()

    def labels(self, records: Sequence[Record], pictures: Sequence[Pixels]) -> Tensor:
        """The owner's labels, else clusters (of the very view they were fitted on), else zeros for who needs none."""
        if self.labeller is not None:
            views = [imageio.trainer_view(pixels, self.view) for pixels in pictures]
            return self.labeller(to_tensor(views, self.view))
        return torch.tensor([record.label or 0 for record in records])


def fit(
    method: Method, data: Batch | None, context: Context, labeller: Labeller | None = None, view: int = 0
) -> Crafter:
    """Runs the method's `fit` on the owner's training part (None for methods that do not train)."""
    poison = registry.load("poisons", method.name)
    if method.needs_labels and len(context.classes) < 2:
        raise UsageError(
            f"{method.name} needs at least two classes; this source has {len(context.classes)}.",
            "Pass --labels none to protect by clusters.",
        )
    state = poison.fit(data if method.trains else None, method.params, context)
    return Crafter(method, state, replace(context, train_surrogate=None), labeller, view)


def extended(crafter: Crafter, classes: tuple[str, ...]) -> Crafter:
    """The same for more classes; patterns that exist stay. Raises UsageError when the method cannot add any."""
    poison = registry.load("poisons", crafter.method.name)
    context = replace(crafter.context, classes=classes)
    if hasattr(poison, "extend"):
        return replace(crafter, context=context, state=poison.extend(crafter.state, crafter.method.params, context))
    if crafter.method.needs_labels or crafter.method.trains:
        new = ", ".join(repr(name) for name in classes[len(crafter.context.classes) :][:5])
        raise UsageError(
            f"{crafter.method.name} cannot add the new classes {new} to what it was fitted on.",
            "Protect everything anew: --overwrite in place of --grow.",
        )
    return replace(crafter, context=context)


def save(crafter: Crafter, path: Path) -> None:
    """Everything that a rerun needs to make the same perturbations; written whole or not at all. Tensors and plain data."""
    labeller, independent = (each.state() if each else None for each in (crafter.labeller, crafter.independent))
    document = {
        "method": crafter.method.name,
        "preset": crafter.method.preset,
        "params": parameters.as_dict(crafter.method.params),
        "state": crafter.state,
        "labeller": labeller,
        "independent": independent,
        "classes": list(crafter.context.classes),
        "size": crafter.context.size,
        "view": crafter.view,
        "only": None if crafter.only is None else list(crafter.only),
    }
    kept.write(document, path)


def load(path: Path, context: Context) -> Crafter:
    """What `save` wrote. Raises IntegrityError for a file that is damaged or missing."""
    with kept.opened(path) as document:
        params = parameters.build("poisons", document["method"], document["params"])
        method = Method(document["method"], document["preset"], params)
        labeller, independent = (
            Labeller.from_state(document[name]) if document[name] else None for name in ("labeller", "independent")
        )
        context = replace(context, classes=tuple(map(str, document["classes"])), size=int(document["size"]))
        only = document.get("only")  # fits of before there was a choice have none
        only = None if only is None else tuple(map(str, only))
        state, view = dict(document["state"]), int(document["view"])
    return Crafter(method, state, context, labeller, view, independent, only)

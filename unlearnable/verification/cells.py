"""Finished trainings, kept one by one: a verification that was interrupted goes on with what is missing.

A cell's name is a digest of everything that decides its figures: the pixels and labels it saw, the network (and the bytes
of its weights file), the recipe, the countermeasure with its parameters, the seed, the kind of device and the versions.
Another release or another plan therefore finds nothing to reuse, and the same one finds all of it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch

from unlearnable import cache, registry
from unlearnable import params as parameters
from unlearnable.train import History
from unlearnable.verification.evidence import Evidence
from unlearnable.verification.plan import Cell, Plan
from unlearnable.version import __version__


@dataclass(frozen=True)
class Cells:
    """The cells in a folder of the owner's; `folder` None keeps nothing, `fresh` reads nothing."""

    folder: Path | None = None
    fresh: bool = False

    def load(self, name: str) -> History | None:
        """The history called `name` (a digest). None where there is none, or where it is damaged: it is trained again."""
        if self.folder is None or self.fresh:
            return None
        try:
            kept = json.loads((self.folder / f"{name}.json").read_text(encoding="utf-8"))
            history = History(**{field.name: kept["history"][field.name] for field in fields(History)})
        except (OSError, ValueError, TypeError, KeyError):
            return None
        return history if history.accuracy else None

    def save(self, name: str, cell: Cell, history: History) -> None:
        """Keeps a history whole or not at all. A folder that cannot be written costs a rerun time, and nothing else."""
        if self.folder is None:
            return
        about = asdict(cell) | {"victim": registry.network(cell.victim).shown}
        text = json.dumps({"cell": about, "history": asdict(history)})
        cache.write_whole(self.folder / f"{name}.json", lambda file: file.write(text.encode()))


def names(plan: Plan, evidence: Evidence, cells: Sequence[Cell], device: torch.device) -> dict[Cell, str]:
    """The digest of every cell."""
    arms = {arm: cache.digest(images) for arm, images in evidence.arms.items()}
    held = cache.digest(evidence.labels, *evidence.test, *(evidence.select or ()), *(evidence.whole or ()))
    import torchvision  # here: it takes seconds and 180 MB, and only who verifies needs it

    versions = [__version__, torch.__version__, torchvision.__version__, device.type]
    weights = {victim: _weights(victim) for victim in plan.victims}
    used = {name: [module, parameters.as_dict(values)] for name, module, values in plan.against}

    def name(cell: Cell) -> str:
        asks = plan.diagnose and asks_network(cell)
        about = {
            "victim": [cell.victim, weights[cell.victim]],
            "recipe": asdict(plan.recipe_of(cell.victim)),
            "against": used.get(cell.against),
            "seed": cell.seed,
            # clean pictures decide a cell too: countermeasures may use some
            "images": [arms[cell.arm], arms["clean"], held, evidence.classes, evidence.select is not None],
            "asked": [arms["noise"], arms["protected"]] if asks else None,
            "versions": versions,
        }
        return cache.digest(json.dumps(about, sort_keys=True))

    return {cell: name(cell) for cell in cells}


def missing(plan: Plan, evidence: Evidence, device: torch.device, kept: Cells) -> list[Cell]:
    """The cells of a plan that are still to be trained."""
    cells = plan.cells()
    if kept.folder is None or kept.fresh:
        return cells
    called = names(plan, evidence, cells, device)
    return [cell for cell in cells if kept.load(called[cell]) is None]


def asks_network(cell: Cell) -> bool:
    """Whether a diagnosis asks the network of this cell about the other arms' images."""
    return cell.against == "none" and cell.arm == "clean"


def _weights(victim: str) -> str:
    """The digest of the file that a network starts from: another file under the same name is another network."""
    path = Path(registry.network(victim).weights)
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""

"""Trains every cell of a plan: a victim on one arm, under one countermeasure, with one seed.

The verifier never learns which poison was used: it sees three sets of pixels, of which one was decoded from the shipped
files. Cells that were trained before on the same are taken as they are.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from unlearnable import registry
from unlearnable.defences._job import Job
from unlearnable.device import side_by_side
from unlearnable.train import History
from unlearnable.types import Tell, silent
from unlearnable.verification import diagnose
from unlearnable.verification.cells import Cells, asks_network, names
from unlearnable.verification.document import report
from unlearnable.verification.evidence import Evidence
from unlearnable.verification.plan import NONE, Cell, Plan


def run(
    plan: Plan,
    evidence: Evidence,
    device: torch.device,
    tell: Tell = silent,
    kept: Cells | None = None,
) -> dict[str, Any]:
    """Trains the cells that are not kept and returns the document of `verify --json`."""
    kept, cells = kept or Cells(), plan.cells()
    called = names(plan, evidence, cells, device) if kept.folder else {}
    found = {cell: kept.load(name) for cell, name in called.items()}
    histories = {cell: history for cell, history in found.items() if history is not None}
    missing = [cell for cell in cells if cell not in histories]
    tried = {name: (registry.load("defences", module), values) for name, module, values in plan.against}
    progress = _Progress(plan, missing, tell)

    def one(cell: Cell) -> History:
        job = _job(plan, evidence, cell, device, lambda epoch, history: progress(cell, epoch, history))
        if cell.against != NONE:
            defence, values = tried[cell.against]
            history: History = defence.victim(job, values)
        elif plan.diagnose and asks_network(cell):
            history = diagnose.questioned(job, evidence.arms)
        else:
            history = job.run()
        if cell in called:
            kept.save(called[cell], cell, history)
        return history

    histories |= dict(zip(missing, side_by_side(one, missing, device), strict=True)) if missing else {}
    return report(plan, evidence, histories, device)


def _job(
    plan: Plan, evidence: Evidence, cell: Cell, device: torch.device, on_epoch: Callable[[int, History], None]
) -> Job:
    def here(pair: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor] | None:
        return (pair[0].to(device), pair[1].to(device)) if pair else None

    return Job(
        images=evidence.arms[cell.arm].to(device),
        labels=evidence.labels.to(device),
        clean=evidence.arms["clean"].to(device),
        test=(evidence.test[0].to(device), evidence.test[1].to(device)),
        select=here(evidence.select),
        whole=here(evidence.whole),
        classes=evidence.classes,
        victim=cell.victim,
        recipe=plan.recipe_of(cell.victim),
        seed=cell.seed,
        on_epoch=on_epoch,
    )


class _Progress:
    """Says after every epoch how much of the work is done, in epochs of plain training: ten of them may cost as much as one."""

    def __init__(self, plan: Plan, cells: list[Cell], tell: Tell) -> None:
        self.costs = {cell: plan.cost(cell) for cell in cells}
        self.total = max(1, round(plan.work(cells)))
        self.several, self.tell = len(plan.victims) > 1, tell
        self.done: dict[Cell, float] = {}
        self.lock = threading.Lock()

    def __call__(self, cell: Cell, epoch: int, history: History) -> None:
        with self.lock:
            self.done[cell] = self.costs[cell] * epoch
            under = "" if cell.against == NONE else f" under {cell.against}"
            who = f"{registry.network(cell.victim).shown}, " if self.several else ""
            where = f"{who}{cell.arm} arm{under}, seed {cell.seed}, epoch {epoch}"
            self.tell(f"victims: {where}: {history.accuracy[-1]:.0%}", round(sum(self.done.values())), self.total)

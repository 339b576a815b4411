"""Trains every cell of a plan: a victim on one arm, under one countermeasure, with one seed.

The verifier never learns which poison was used: it sees three sets of pixels, of which one was decoded from the shipped
files. Cells that were trained before on the same are taken as they are.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import torch

from unlearnable import registry
from unlearnable.defences._job import Job
from unlearnable.device import at_once, out_of_memory, side_by_side
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
    workers: int | None = None,
) -> dict[str, Any]:
    """Trains the cells that are not kept, `workers` of them at a time, and returns the document of `verify --json`.

    Figures are the same however many there are: every cell has generators of its own (a GPU repeats itself as far as it
    does alone). Where memory runs out, what is left is trained one by one. None: as many as `side_by_side` takes.
    """
    kept, cells = kept or Cells(), plan.cells()
    called = names(plan, evidence, cells, device) if kept.folder else {}
    found = {cell: kept.load(name) for cell, name in called.items()}
    histories = {cell: history for cell, history in found.items() if history is not None}
    missing = [cell for cell in cells if cell not in histories]
    tried = {name: (registry.load("defences", module), values) for name, module, values in plan.against}
    progress = _Progress(plan, missing, tell)
    seen = evidence.to(device)  # once for all: a copy for each cell would fill a GPU

    def one(cell: Cell) -> History:
        job = _job(plan, seen, cell, device, lambda epoch, history: progress(cell, epoch, history))
        if cell.against != NONE:
            defence, values = tried[cell.against]
            history: History = defence.victim(job, values)
        elif plan.diagnose and asks_network(cell):
            history = diagnose.questioned(job, seen.arms)
        else:
            history = job.run()
        if cell in called:
            kept.save(called[cell], cell, history)
        histories[cell] = history
        return history

    try:
        side_by_side(one, missing, device, workers)
    except (RuntimeError, MemoryError) as why:
        if not out_of_memory(why) or (workers or at_once(len(missing), device)) == 1:
            raise
        tell("out of memory: one training at a time", 0, 0)
        side_by_side(one, [cell for cell in missing if cell not in histories], device, 1)
    return report(plan, evidence, histories, device)


def _job(
    plan: Plan, evidence: Evidence, cell: Cell, device: torch.device, on_epoch: Callable[[int, History], None]
) -> Job:
    return Job(
        images=evidence.arms[cell.arm],
        labels=evidence.labels,
        clean=evidence.arms["clean"],
        test=evidence.test,
        select=evidence.select,
        whole=evidence.whole,
        classes=evidence.classes,
        victim=cell.victim,
        recipe=plan.recipe_of(cell.victim),
        seed=cell.seed,
        on_epoch=on_epoch,
        place=device,
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

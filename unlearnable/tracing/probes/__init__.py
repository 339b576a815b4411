"""Tests of a suspect model, each one file, in the order in which one of them is declared primary.

A file has NAME, ORDER, NULL (its null hypothesis, one sentence), ASKS (what an owner is told is asked), NEEDS (top-1 or
weights), `applies(method, state, marks)`, `queries(plan, decoys, images)`, `carriers(plan, images)`
(how many clean pictures of the owner it wants) and `run(job) -> Found`. All randomness of a test
is the owner's key, or drawn from the committed nonce: given a model, pictures and their number, nothing is left to choose.
"""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType


def every() -> list[ModuleType]:
    """Modules of this folder, the strongest claim first."""
    names = [module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_")]
    return sorted((importlib.import_module(f"{__name__}.{name}") for name in names), key=lambda probe: int(probe.ORDER))


def find(name: str) -> ModuleType:
    return next(probe for probe in every() if name == probe.NAME)

"""Engines: who does the shards of a run. One module an engine, found by its file name.

A run is a `Work` (what to do) and a list of shards. An engine is a module with

    run(work: Work, shards: Sequence[Shard]) -> Iterator[Shard]

that calls `work.shard(shard)` for every one of them, wherever it likes, and yields each that is done; where it needs a library
that may be missing, it also has `require()`, which raises UsageError then. Nothing comes back but
the shard: what was made lies in `work.staging`, and what was measured in the shard's done-mark, written last. So
engines cannot differ in a byte, a shard may be done twice, and a run that stops is the same call again. `work.apart`
says whether copies of the work in other processes make the same: it is false for methods that are crafted on networks.
An engine may be closed early (Ctrl-C): it lets the shards under way finish, or drops them. An image on which the process
dies that does its shard is found by trying (`_pills`) and left out, with the reason; all others are made.
"""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path
from types import ModuleType

from unlearnable.errors import UsageError
from unlearnable.registry import nearest


def names() -> list[str]:
    """Engines, from file names; helpers start with an underscore."""
    return sorted(m.name for m in pkgutil.iter_modules([str(Path(__file__).parent)]) if not m.name.startswith("_"))


def load(name: str) -> ModuleType:
    """Imports an engine. Raises UsageError, with the nearest name, when there is none, and where a library of it is missing."""
    if name not in names():
        raise UsageError(f"There is no engine called {name!r}.", nearest(name, names()))
    module = importlib.import_module(f"release.engines.{name}")
    if hasattr(module, "require"):
        module.require()
    return module

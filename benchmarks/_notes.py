"""What benchmarks note beside their figures: the day, the processor, how busy it was; and how a result file is kept.

Imports nothing heavy: what a process holds, those that it starts seem to hold.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def today() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d")


def processor() -> str:
    """The processor's name."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    named = (line.partition(":")[2].strip() for line in lines if "model name" in line)
    return next(named, platform.processor() or platform.machine())


def run_of(script: str, load_before: float) -> dict[str, Any]:
    """The command, the cores it had, and the machine's load before and after."""
    load = [round(load_before, 1), round(os.getloadavg()[0], 1)]
    return {"command": " ".join([f"python benchmarks/{script}", *sys.argv[1:]]), "cores": os.cpu_count(), "load": load}


def keep(file: Path, parts: dict[str, Any]) -> None:
    """Writes parts of a result file; its other parts stay as they were."""
    kept = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps(kept | parts, indent=1) + "\n")

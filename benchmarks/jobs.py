"""The main job on real data, as an owner runs it: time, memory, and what the verification said.

    python benchmarks/jobs.py [samples cifar10 flowers-jpeg flowers-png flowers-grating cifar10-grating photos]

Each job runs `unlearnable protect` in a process of its own in a temporary folder and writes benchmarks/results/NAME.json: the
command, the document it printed, seconds by stage, peak memory, hardware and versions. The data sets other than samples lie in
../shared/data (see README); a job whose data is absent says so.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

from _notes import RESULTS, processor, today

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared" / "data"
JOBS = {
    "samples": (ROOT / "samples" / "images", []),
    "cifar10": (SHARED / "cifar10-jpeg", ["--preset", "r16", "--verify", "quick"]),
    "flowers-jpeg": (SHARED / "flowers", ["--preset", "r16", "--verify", "quick", "--format", "jpeg"]),
    "flowers-png": (SHARED / "flowers", ["--preset", "r16", "--verify", "quick", "--format", "png"]),
    "flowers-grating": (SHARED / "flowers", ["--preset", "grating_photo", "--against", "grayscale,jpeg10"]),
    "cifar10-grating": (SHARED / "cifar10-jpeg", ["--preset", "grating"]),
    "photos": (SHARED / "photos", ["--preset", "r16", "--verify", "none"]),
}


def run(name: str) -> None:
    """One job: protect, check, record."""
    source, options = JOBS[name]
    if not source.exists():
        print(f"{name}: {source} is absent; skipped")
        return
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        command = [sys.executable, str(ROOT / "cli.py"), "protect", str(source), str(out), *options, "--json"]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        document = json.loads(done.stdout)
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        receipt = json.loads((Path(folder) / "out.owner" / "state" / "receipt.json").read_text())
        checked = subprocess.run(
            [sys.executable, str(ROOT / "cli.py"), "check", str(out), "--json"], capture_output=True
        )
        size = sum(p.stat().st_size for p in out.rglob("*") if p.is_file())
    images = document["images"]["protected"]
    row = {
        "command": f"unlearnable protect {os.path.relpath(source, ROOT)} OUT {' '.join(options)}".strip(),
        "date": today(),
        "hardware": hardware(),
        "versions": {package: metadata.version(package) for package in ("torch", "torchvision", "pillow", "numpy")},
        "exit_code": done.returncode,
        "check_ok": json.loads(checked.stdout)["ok"],
        "images": document["images"],
        "seconds": document["seconds"],
        "seconds_by_stage": receipt["seconds"],
        "write_seconds_per_1000_images": round(receipt["seconds"]["write"] / images * 1000, 2),
        "release_megabytes": round(size / 1e6, 1),
        "peak_memory_megabytes": round(peak),
        "method": document["method"],
        "verification": document["verification"],
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(row, indent=1) + "\n")
    print(f"{name}: {summary(row)}", flush=True)


def summary(row: dict) -> str:
    """One line of a result."""
    words = f"{row['images']['protected']} images, {row['seconds']:.0f} s, {row['peak_memory_megabytes']} MB"
    words += f", writing {row['write_seconds_per_1000_images']} s per 1,000"
    if row["verification"]:
        arms = row["verification"]["arms"]
        peaks = ", ".join(f"{k} {v['peak']['mean']:.3f} ± {v['peak']['std'] or 0:.3f}" for k, v in arms.items())
        words += f"; peak accuracy {peaks}; worst case {row['verification']['worst_case']['words']}"
    return words


def hardware() -> str:
    """Processor and cores in words."""
    return f"{os.cpu_count()} cores, {processor()}"


if __name__ == "__main__":
    for wanted in sys.argv[1:] or JOBS:
        run(wanted)

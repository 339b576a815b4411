"""How fast `check` is beside `sha256sum` over the same files, and what a manifest of a million files takes.

    python benchmarks/check.py speed [--megabytes 512] [--rounds 7]
    python benchmarks/check.py million [--files 1000000]

`speed` seals a release of generated files (photos of 2 MB, thumbnails of 3 kB) in the system's temporary folder, reads it once,
and then times, in turn, round by round: the command `check` as a process of its own, the function it calls, and `sha256sum`
over the same files in one run. Bytes a second come from the page cache: a disk that is slower makes all the same. Processor
seconds are stated too: on a busy machine they say more. `million` seals a release of so many empty files, reads its manifest
and checks it, each in a process of its own. Both write benchmarks/results/check.json and remove their files.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import resource
import shutil
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from _notes import RESULTS, keep, processor, today

from release import hashing, layout, sign
from release.check import check
from release.manifest import FileEntry, Manifest, utc_now
from release.seal import sums_bytes

ROOT = Path(__file__).resolve().parents[1]
SIZES = {"photos": 2_000_000, "thumbnails": 3_000}
KEY = sign.from_seed(bytes(32))  # signs generated files only


def speed(megabytes: int, rounds: int) -> dict[str, Any]:
    """Medians over the rounds, for each size of files."""
    found = {}
    for kind, size in SIZES.items():
        folder = Path(tempfile.mkdtemp(prefix="unlearnable-check-"))
        try:
            total = megabytes if kind == "photos" else megabytes // 8
            found[kind] = {"bytes_a_file": size, **timed(folder, total * 1_000_000 // size, size, rounds)}
        finally:
            shutil.rmtree(folder)
        print(kind, json.dumps(found[kind]), flush=True)
    return found


def timed(root: Path, count: int, size: int, rounds: int) -> dict[str, Any]:
    files = {f"data/{n // 1000:04d}/{n:07d}.jpg": os.urandom(size) for n in range(min(count, 64))}
    names = [f"data/{n // 1000:04d}/{n:07d}.jpg" for n in range(count)]
    several = list(files.values())
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(number.to_bytes(8, "big") + several[number % len(several)][8:])
    seal(root, [FileEntry(name, hashing.sha256(root / name), size, "data", 1, 8, 8.0, 30.0) for name in names])
    listed = [*names, layout.PUBLIC_KEY, layout.MANIFEST, layout.SUMS]
    ways: dict[str, Callable[[], object]] = {
        "command": lambda: run([sys.executable, str(ROOT / "cli.py"), "check", str(root)]),
        "function": lambda: check(root).ok or sys.exit("it does not check"),
        "sha256sum": lambda: run(["xargs", "-0", "sha256sum"], "\0".join(listed).encode(), root),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    work: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, act in ways.items():
            start, before = time.perf_counter(), sum(os.times()[:4])
            act()
            if number:  # the first round fills the page cache
                times[name].append(time.perf_counter() - start)
                work[name].append(sum(os.times()[:4]) - before)
    total = sum((root / name).stat().st_size for name in listed)
    seconds = {name: round(median(values), 4) for name, values in times.items()}
    cpu = {name: round(median(values), 3) for name, values in work.items()}
    return {
        "files": count,
        "bytes": total,
        "rounds": rounds,
        "seconds": seconds,
        "cpu_seconds": cpu,
        "megabytes_a_second": {name: round(total / 1e6 / value, 1) for name, value in seconds.items()},
        "ratio_to_sha256sum": {n: round(seconds["sha256sum"] / seconds[n], 3) for n in ("command", "function")},
    }


def seal(root: Path, entries: list[FileEntry]) -> None:
    """What `release.seal` writes, without card and reports."""
    pem = sign.public_pem(KEY)
    (root / layout.PUBLIC_KEY).write_bytes(pem)
    entries = [*entries, FileEntry(layout.PUBLIC_KEY, hashlib.sha256(pem).hexdigest(), len(pem), "document")]
    data = manifest(entries).to_bytes()
    (root / layout.MANIFEST).write_bytes(data)
    listed = {entry.path: entry.sha256 for entry in entries} | {layout.MANIFEST: hashlib.sha256(data).hexdigest()}
    (root / layout.SUMS).write_bytes(sums_bytes(listed))
    vouching = {name: hashing.sha256(root / name) for name in (layout.MANIFEST, layout.SUMS)}
    (root / layout.ATTESTATION).write_bytes(sign.attest(KEY, vouching, {"name": "generated"}))


def manifest(entries: list[FileEntry]) -> Manifest:
    count = sum(entry.images for entry in entries)
    return Manifest(
        name="generated",
        created=utc_now(),
        layout="folder",
        budget={"norm": "linf", "levels": 8, "guaranteed": True},
        counts={"total": count, "protected": count, "skipped": 0},
        splits={"train": count},
        versions={"tool": "benchmark"},
        commitment={"salt": "00" * 32, "sha256": "00" * 32},
        verification=None,
        files=tuple(entries),
    )


def million(files: int) -> dict[str, Any]:
    """Seconds and most memory of each step, each in a process of its own."""
    folder = Path(tempfile.mkdtemp(prefix="unlearnable-check-"))
    try:
        found: dict[str, Any] = {"files": files}
        for step in ("write", "read", "check"):
            done = run([sys.executable, __file__, "step", step, str(folder), "--files", str(files)])
            found[step] = json.loads(done.splitlines()[-1])
            print(step, found[step], flush=True)
        return found
    finally:
        shutil.rmtree(folder)


def step(name: str, folder: Path, files: int) -> dict[str, Any]:
    """One step of `million`: a manifest written, read, or a release checked that holds empty files."""
    empty = hashlib.sha256(b"").hexdigest()
    if name == "write":
        names = [f"data/{n // 1000:04d}/{n:07d}.jpg" for n in range(files)]
        for path in names:
            if path.endswith("000.jpg"):
                (folder / path).parent.mkdir(parents=True)
            (folder / path).touch()
        base = memory()
        start = time.perf_counter()
        seal(folder, [FileEntry(path, empty, 0, "data", 1, 8, 8.0, 30.12) for path in names])
    else:
        base = memory()
        data = (folder / layout.MANIFEST).read_bytes() if name == "read" else b""
        start = time.perf_counter()
        if name == "read":
            assert len(Manifest.from_bytes(data).files) == files + 1
        else:
            assert check(folder).ok
    seconds = time.perf_counter() - start
    size = (folder / layout.MANIFEST).stat().st_size
    return {"seconds": round(seconds, 2), "memory_mb": round(memory() - base), "manifest_mb": round(size / 1e6, 1)}


def about() -> dict[str, Any]:
    """Date, processor, how busy it was, versions."""
    return {
        "date": today(),
        "hardware": f"{processor()}, {os.cpu_count()} cores",
        "load": round(os.getloadavg()[0], 1),
        "versions": {"python": platform.python_version(), "openssl": ssl.OPENSSL_VERSION},
        "sha256sum": run(["sha256sum", "--version"]).splitlines()[0],
    }


def memory() -> float:
    """The most this process held so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform != "darwin" else 1 << 20)


def run(command: list[str], given: bytes = b"", folder: Path = ROOT) -> str:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(Path(__file__).parent)])}
    done = subprocess.run(command, input=given, stdout=subprocess.PIPE, cwd=folder, env=environment, check=True)
    return done.stdout.decode("utf-8", "replace")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["speed", "million", "step"])
    parser.add_argument("step", nargs="?")
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--megabytes", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--files", type=int, default=1_000_000)
    asked = parser.parse_args()
    if asked.what == "step":
        print(json.dumps(step(asked.step, asked.folder, asked.files)))
        return
    found = speed(asked.megabytes, asked.rounds) if asked.what == "speed" else million(asked.files)
    keep(RESULTS / "check.json", {asked.what: found, f"{asked.what}_on": about()})


if __name__ == "__main__":
    main()

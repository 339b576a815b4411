"""From a laptop to a cluster: what engines cost beside a bare loop, what a large archive will take, a million entries.

    python benchmarks/scale.py engines [--rounds 5] [--images 4000]
    python benchmarks/scale.py forecast [--images 200] [--times 100] [--workers 2]
    python benchmarks/scale.py manifest [--entries 1000000]

`engines`: shards of 1,000 small PNG pictures (64 x 64, in parquet) with the closed-form poison r16: one after another in one
process without an engine; by the engine `local` with one worker and with two; by Ray with one CPU and with two; by two
runs with --shard; and by two bare loops at once. They take turns, round by round; an overhead is a ratio of one round, by the
clock and in processor seconds of all processes, which say more on a busy machine. What starts an engine is told apart.
`forecast`: constants measured on so many pictures, and requests counted at an S3 server on this machine (moto); what they
say of a run with --times as many, held against that run; and of a million and a billion images on --machines x --cores.
`manifest`: seal, read and check a release of so many files (that is `check.py million`), list so many images, and read their
done-marks.

All write benchmarks/results/scale.json, each part when it is finished, and remove their files. The machine should be idle;
its load while this ran is told.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from _notes import RESULTS, keep, run_of
from _scale_engines import SHARD, WAYS, engines
from _scale_model import Cluster, Costs, Job, counted, document, error, forecast
from _scale_pictures import KINDS, write

OUT = RESULTS / "scale.json"
LARGE = {"1 million": Job(10**6), "1 billion": Job(10**9, releases=128)}


def forecasts(folder: Path, asked: argparse.Namespace) -> dict[str, Any]:
    """Constants of small pictures and of photographs; a real run; what a cluster takes for many more."""
    from _scale_forecast import calibrate, requests

    found: dict[str, Any] = {}
    costs: dict[str, Costs] = {}
    for name, kind in KINDS.items():
        count = asked.images if name == "small" else max(50, asked.images // 2)
        costs[name], seen = calibrate(folder / name, kind, count)
        found[name] = {"pictures": kind.shown(), "calibrated_on": count, "costs": document(costs[name]), **seen}
        print(name, json.dumps(found[name]), flush=True)
    heard = requests(folder, KINDS["small"], (20, 40, 60))
    told = {name: counted(heard[name], heard["tested_at"]) for name in ("requests", "checked")}
    found["remote"] = {**heard, "forecast": told}
    print("remote", json.dumps(found["remote"]), flush=True)
    costs = {name: replace(of, requests=heard["requests"], checked=heard["checked"]) for name, of in costs.items()}
    found["check"] = checked(folder, costs["small"], asked)
    cluster = Cluster(asked.machines, asked.cores)
    found["cluster"] = {
        "machines": cluster.machines,
        "cores": cluster.cores,
        "a core": "as fast as the one measured here",
    }
    found["forecasts"] = {
        f"{many} {name}": {"releases": job.releases, **forecast(of, job, cluster).document()}
        for name, of in costs.items()
        for many, job in LARGE.items()
    }
    return found


def checked(folder: Path, costs: Costs, asked: argparse.Namespace) -> dict[str, Any]:
    """The forecast of a run that is so many times larger than what it was calibrated on, and that run."""
    from _scale_forecast import protected

    job = Job(asked.images * asked.times, SHARD)
    said = forecast(costs, job, Cluster(1, asked.workers))
    source = write(folder / "large", KINDS["small"], job.images)
    real = protected(source, folder / "out", asked.workers, job.a_shard)
    pairs = {
        "processor_seconds": (said.cores, real["cpu"]),
        "seconds": (3600 * said.hours(), real["wall"]),
        "release_bytes": (said.disk, real["bytes"]),
        "owner_bytes": (said.owner, real["owner"]),
        "memory_bytes": (said.memory, real["peak"]),
        "shards": (job.shards(), real["shards"]),
        "check_processor_seconds": (said.check, real["check"]),
    }
    told = {name: {"forecast": round(a, 3), "real": b, "error": error(a, b)} for name, (a, b) in pairs.items()}
    print("check", json.dumps(told), flush=True)
    return {"images": job.images, "images_a_shard": job.a_shard, "workers": asked.workers, **told}


def manifest(folder: Path, asked: argparse.Namespace) -> dict[str, Any]:
    from _scale_manifest import files, rows

    found = {"done_marks": rows(folder, asked.entries, max(1, asked.entries // SHARD))}
    print("done-marks", found["done_marks"], flush=True)
    return found | {"files": files(asked.entries)}


def several(folder: Path, asked: argparse.Namespace) -> dict[str, Any]:
    source = write(folder / "pictures", KINDS["small"], asked.images)
    return engines(folder, source, asked.images, asked.rounds, asked.ways, SHARD)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(dest="part", required=True)
    one = parts.add_parser("engines")
    one.add_argument("--rounds", type=int, default=5)
    one.add_argument("--images", type=int, default=4 * SHARD)
    one.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    one.set_defaults(act=several)
    two = parts.add_parser("forecast")
    two.add_argument("--images", type=int, default=200)
    two.add_argument("--times", type=int, default=100)
    two.add_argument("--workers", type=int, default=2)
    two.add_argument("--machines", type=int, default=64)
    two.add_argument("--cores", type=int, default=32)
    two.set_defaults(act=forecasts)
    three = parts.add_parser("manifest")
    three.add_argument("--entries", type=int, default=10**6)
    three.set_defaults(act=manifest)
    asked = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="unlearnable-scale-"))
    before = os.getloadavg()[0]
    try:
        found = asked.act(folder, asked)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    import torch  # what a process holds, those that it starts seem to hold: not before
    from _cifar import about

    keep(OUT, {asked.part: run_of("scale.py", before) | about(torch.device("cpu")) | found})


if __name__ == "__main__":
    main()

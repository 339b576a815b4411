"""The cost model of `scale.py`: from constants that were measured to hours, disk and requests of a run. Pure arithmetic.

A release costs its machines: the list of all images once in every process that opens the source, the work of its shards,
which is divided among cores shard by shard, and at the end, on one core, a line for every image and for every file. Those
last costs do not shrink with more machines, nor does the memory they take: so many images are better made as several
releases, each on a machine or a few of its own.

Not in it: fitting (a constant, of a sample), verification (the same), the network's speed, and disks that wait.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Costs:
    """What was measured. Seconds are processor seconds of one core, sizes are bytes.

    start: a whole `protect` without its images, from the start of Python to the end; list: of one image, where a source is
    opened; image: decoded, perturbed, encoded and written; shard: its file, its done-mark; row: one image when a release is
    sealed; entry and check: one file of a manifest, sealed and checked; byte: hashed. shipped, kept: of one image in the
    release, and in the owner folder; held: in memory, of one image, where a source is opened and a release sealed; base: in
    memory of any process. requests: of a release on remote storage by name of the method, as {"shard": of every shard,
    "once": of all others}; checked: the same of `check`.
    """

    start: float
    list: float
    image: float
    shard: float
    row: float
    entry: float
    check: float
    byte: float
    shipped: float
    kept: float
    held: float
    base: float
    requests: dict[str, dict[str, float]]
    checked: dict[str, dict[str, float]]


@dataclass(frozen=True)
class Job:
    """images in all, how many of them are written together, and as how many releases they are made."""

    images: int
    a_shard: int = 1000
    releases: int = 1

    def shards(self) -> int:
        """Of one release, the largest."""
        return math.ceil(math.ceil(self.images / self.releases) / self.a_shard)


@dataclass(frozen=True)
class Cluster:
    """Machines of so many cores. overhead: of the engine, as a share of the work; speed: of a core, to the measured one."""

    machines: int = 1
    cores: int = 1
    overhead: float = 0.0
    speed: float = 1.0


@dataclass(frozen=True)
class Forecast:
    """seconds: by the clock, by stage; cores: processor seconds; disk: bytes of all releases, and of their owner folders;
    requests: by method, of writing all releases; check: seconds of `check` of one release on one core; memory: bytes of the
    process that seals."""

    seconds: dict[str, float]
    cores: float
    disk: float
    owner: float
    requests: dict[str, int]
    check: float
    memory: float

    def hours(self) -> float:
        return sum(self.seconds.values()) / 3600

    def document(self) -> dict[str, Any]:
        told = {name: round(value, 1) for name, value in self.seconds.items()}
        return {
            "hours": round(self.hours(), 3),
            "seconds": told,
            "core_hours": round(self.cores / 3600, 2),
            "disk_gb": round(self.disk / 1e9, 3),
            "owner_gb": round(self.owner / 1e9, 3),
            "requests": self.requests,
            "check_seconds": round(self.check, 1),
            "memory_gb": round(self.memory / 1e9, 3),
        }


def forecast(costs: Costs, job: Job, cluster: Cluster) -> Forecast:
    """Of all releases. Where there are more machines than releases, several share one and have its list each; where there
    are fewer, releases wait for each other."""
    sharing = max(1, cluster.machines // job.releases)
    waves = math.ceil(job.releases / cluster.machines)
    images, shards = math.ceil(job.images / job.releases), job.shards()
    opened = 1 if sharing == 1 else 2  # by the parts, side by side, and once more by who joins them
    a_shard = (costs.image * min(job.a_shard, images) + costs.shard) * (1 + cluster.overhead)
    work = math.ceil(shards / (sharing * cluster.cores)) * a_shard
    seal = costs.row * images + costs.entry * shards + costs.byte * costs.shipped * images
    stages = {"start": costs.start * opened, "list": costs.list * images * opened, "work": work, "seal": seal}
    beside = (costs.start + costs.list * images) * (1 if sharing == 1 else sharing + 1) + seal
    cores = job.releases * (beside + (costs.image * images + costs.shard * shards) * (1 + cluster.overhead))
    return Forecast(
        seconds={name: waves * value / cluster.speed for name, value in stages.items()},
        cores=cores / cluster.speed,
        disk=costs.shipped * job.images,
        owner=costs.kept * job.images,
        requests=counted(costs.requests, shards, job.releases),
        check=(costs.check * shards + costs.byte * costs.shipped * images) / cluster.speed,
        memory=costs.base + costs.held * images,
    )


def counted(rates: dict[str, dict[str, float]], shards: int, releases: int = 1) -> dict[str, int]:
    """Requests by method of releases of so many shards."""
    return {name: round(releases * (rate["shard"] * shards + rate["once"])) for name, rate in rates.items()}


def rates(few: dict[str, int], of_few: int, many: dict[str, int], of_many: int) -> dict[str, dict[str, float]]:
    """From the requests of two runs: those of every shard, and those that there are once."""
    found = {}
    for name in sorted(few.keys() | many.keys()):
        a, b = few.get(name, 0), many.get(name, 0)
        shard = (b - a) / (of_many - of_few)
        found[name] = {"shard": shard, "once": a - shard * of_few}
    return found


def split(few: float, of_few: int, many: float, of_many: int) -> tuple[float, float]:
    """What the same takes with few parts and with many -> (without any, of one part). Neither is below nought."""
    part = max(0.0, (many - few) / (of_many - of_few))
    return max(0.0, few - part * of_few), part


def error(forecast: float, real: float) -> float:
    """How far a forecast is off, as a share of what came."""
    return round(forecast / real - 1, 4)


def document(costs: Costs) -> dict[str, Any]:
    """The constants, short enough to read."""
    return {name: float(f"{value:.4g}") if isinstance(value, float) else value for name, value in asdict(costs).items()}

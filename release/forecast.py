"""What a `protect` would find, take and need, from listing the source and protecting a few of its images in memory.

Nothing is written. The probe takes files of every format, spread over their sizes, and the largest of all, through the same
code as the real run; time and space go up with the bytes of the format. What the probe cannot know is None.
"""

from __future__ import annotations

import resource
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from release import layout
from release.build import Perturb, Settings, Work, build_shard
from release.engines import local
from release.formats import Item, Placed, Shard
from release.room import Room
from unlearnable import imageio
from unlearnable.types import Record, Skipped, Source

_PROBED = 24  # images of the commonest format; rarer ones get their share, and three at least
_GALLERY = 12  # the reports cost about as much as protecting so many images
_CONTAINERS = {ending: name for name, endings in imageio.EXTENSIONS.items() for ending in endings}


@dataclass
class Probe:
    """What was seen of one format: of all its images and of those that were protected in memory."""

    images: int
    bytes: int
    probed: int = 0
    probed_bytes: int = 0
    made_bytes: int = 0
    seconds: float = 0.0

    def whole(self, part: float) -> float:
        """The probe's figure scaled to all images of the format."""
        return part * self.bytes / self.probed_bytes if self.probed_bytes else 0.0


def chosen(source: Source) -> dict[str, list[Record]]:
    """Records to probe by format: every one of a small source, else spread evenly over the sizes."""
    groups: dict[str, list[Record]] = {}
    for record in source.records:
        groups.setdefault(_format(record), []).append(record)
    found = {}
    for name, records in sorted(groups.items()):
        count = min(len(records), max(3, round(_PROBED * len(records) / len(source.records))))
        ordered = sorted(records, key=lambda record: (record.size, record.id))
        found[name] = [ordered[(2 * i + 1) * len(ordered) // (2 * count)] for i in range(count)]
        if ordered[-1] not in found[name]:  # memory is what the largest needs
            found[name][-1] = ordered[-1]
    return found


def probe(
    source: Source, records: dict[str, list[Record]], perturb: Perturb, settings: Settings, apart: bool = False
) -> tuple[dict[str, Probe], list[Skipped]]:
    """Protects these records in memory: figures by format, and what could not be protected. apart: as in `build`."""
    found: dict[str, Probe] = {}
    missed: list[Skipped] = []
    totals: dict[str, list[int]] = {}
    for record in source.records:
        totals.setdefault(_format(record), []).append(record.size)
    work = Work(source, perturb, settings, Path(), Path(), apart=apart)
    processes = local.processes(work, work.shards())
    with ThreadPoolExecutor(settings.workers) as pool:
        for name, some in records.items():
            seen = found[name] = Probe(len(totals[name]), sum(totals[name]))
            shard = Shard(0, some[0].split, 0, 1, tuple(some))
            started = time.perf_counter()
            sizes: list[int] = []
            _, lost = build_shard(work, shard, _counting(sizes), map if processes > 1 else pool.map, Room())
            seen.seconds = (time.perf_counter() - started) / processes
            seen.probed, seen.made_bytes = len(some), sum(sizes)
            seen.probed_bytes = sum(record.size for record in some)
            missed += lost
    return found, missed


def document(
    source: Source,
    out: Path,
    settings: Settings,
    probes: dict[str, Probe],
    missed: Sequence[Skipped],
    method: str | None,
    learn: float | None,
    exact: bool,
    verified: bool,
) -> dict[str, Any]:
    """The document of `protect --dry-run --json`.

    learn: seconds before writing, None where unknown; exact: the probe ran the method itself, else writing may take
    longer than it says; verified: victims will be trained, for a time that is not foreseen here.
    """
    images = sum(each.images for each in probes.values())
    writing = sum(each.whole(each.seconds) for each in probes.values())
    space = round(sum(each.whole(each.made_bytes) for each in probes.values()))
    finish = min(_GALLERY, images) * writing / images
    seconds = {"learn": learn, "write": writing, "verify": None if verified else 0.0, "finish": finish}
    free = shutil.disk_usage(out.parent).free
    skipped = Counter((item.reason, item.image) for item in source.skipped)
    return {
        "dry_run": True,
        "release": str(out),
        "owner": str(layout.owner_folder(out)),
        "source": {"name": source.spec, "kind": source.kind, "classes": len(source.classes or ()) or None},
        "layout": settings.layout,
        "method": method,
        "eps": settings.levels,
        "images": {
            "total": images,
            "bytes": sum(each.bytes for each in probes.values()),
            "formats": {name: {"images": each.images, "bytes": each.bytes} for name, each in probes.items()},
        },
        "skipped": [
            {"reason": reason, "count": count, "image": image} for (reason, image), count in skipped.most_common()
        ],
        "sidecars": sum(len(paths) for paths in getattr(source, "sidecars", {}).values()),
        "probe": {
            "images": sum(each.probed for each in probes.values()),
            "exact": exact,
            "unprotectable": [{"id": item.id, "reason": item.reason} for item in missed],
        },
        "forecast": {
            "seconds": {name: None if value is None else round(value, 1) for name, value in seconds.items()}
            | {"total": None if None in seconds.values() else round(sum(v or 0.0 for v in seconds.values()), 1)},
            "bytes": space,
            "memory": peak_memory(),
        },
        "disk": {"free": free, "enough": free > space},
    }


def peak_memory() -> int:
    """The most bytes this process ever held."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak << 10


def _counting(sizes: list[int]) -> Any:
    """A layout's `write` that keeps nothing but the sizes."""

    def write(root: Path, shard: Shard, source: Source, items: Iterator[Item]) -> list[Placed]:
        del root, shard, source
        placed = []
        for item in items:
            sizes.append(len(item.data))
            placed.append(Placed(item.record.id, item.name))
        return placed

    return write


def _format(record: Record) -> str:
    """By extension, which costs no reading; the probe meets the content."""
    return _CONTAINERS.get(PurePosixPath(record.id).suffix.lower()) or (
        PurePosixPath(record.id).suffix.lower() or "other"
    )

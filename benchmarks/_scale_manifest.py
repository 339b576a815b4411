"""`scale.py manifest`: what a release holds in memory while it is sealed: the list of its pictures, and their done-marks.

The list is of a parquet file whose pictures are one byte each, and the marks are of data files that hold next to nothing: an
entry is as large as any other, and a million are made in a minute.
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from _scale_engines import ROOT

from release import formats, marks, records
from release.reading import read_rows
from release.rows import Row
from unlearnable.sources import open_source


def rows(folder: Path, images: int, many: int) -> dict[str, Any]:
    """Seconds and most memory to open a source of so many images, and then to read their done-marks, one a file."""
    write(folder, images, many)
    size = sum(path.stat().st_size for path in (folder / "marks").iterdir())
    found: dict[str, Any] = json.loads(_python(__file__, str(folder)))
    return {"images": images, "marks": many, "marks_mb": round(size / 1e6, 1), **found}


def files(count: int) -> dict[str, Any]:
    """What `check.py million` measures, started by a process that holds little itself, or it would be counted in."""
    program = "import json, sys, check; print(json.dumps(check.million(int(sys.argv[1]))))"
    found: dict[str, Any] = json.loads(_python("-c", program, str(count)))
    return found


def _python(*words: str) -> str:
    """The last line that a process of its own prints."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(Path(__file__).parent)])}
    done = subprocess.run([sys.executable, *words], stdout=subprocess.PIPE, text=True, check=True, env=environment)
    return done.stdout.splitlines()[-1]


def write(folder: Path, images: int, files: int) -> None:
    """The list, and marks as runs write them."""
    for name in ("marks", "staging/data", "source"):
        (folder / name).mkdir(parents=True)
    bytes_, labels = pa.array([b"x"] * images), pa.array([f"class{n % 10}" for n in range(images)])
    image = pa.StructArray.from_arrays([bytes_, pa.nulls(images, pa.string())], ["bytes", "path"])
    pq.write_table(pa.table({"image": image, "label": labels}), folder / "source/train.parquet", row_group_size=1000)
    each = images // files
    like = Row("", "", 0, "5" * 64, True, 8, 8.0, 30.12, False, "class")
    for number in range(files):
        path = f"data/train-{number:05d}-of-{files:05d}.parquet"
        (folder / "staging" / path).write_bytes(number.to_bytes(8, "big"))
        made = [replace(like, id=f"train/{number * each + n}", path=path, row=n) for n in range(each)]
        marks.write(folder / "marks" / f"{number:06d}.json", folder / "staging", made, [], [], "0" * 64, "0" * 64)


def opened(source: str) -> Any:
    """What every process of a run does first: a source listed, told to the owner folder, and cut into shards."""
    found = open_source(source)
    listing = [(record.id, record.label, record.size) for record in found.records]
    shards = formats.shards(found, "parquet")
    return found, records.asked(source, listing, {}), [formats.stamp(found, shard) for shard in shards]


def peak() -> int:
    """The most bytes that this program held; what counts for `getrusage` is also what its parent held when it was started."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) << 10


def told(begun: tuple[float, float, int], images: int) -> dict[str, float]:
    wall, cpu, base = begun
    held = peak() - base
    return {
        "seconds": round(time.perf_counter() - wall, 2),
        "processor_seconds": round(time.process_time() - cpu, 3),
        "memory_mb": round(held / 1e6, 1),
        "bytes_an_image": round(held / images),
    }


def now() -> tuple[float, float, int]:
    return time.perf_counter(), time.process_time(), peak()


def main(folder: Path) -> None:
    write(folder / "first", 100, 10)
    warm = opened(str(folder / "first/source")), read_rows(folder / "first/marks")  # imports what is needed
    begun = now()
    listed = opened(str(folder / "source"))
    source = listed[0]
    images = len(source.records)
    listing = told(begun, images)
    begun = now()
    built = read_rows(folder / "marks")
    measured, spread = built.measured(), built.rms()
    assert sum(each.images for each in measured.values()) == len(built.rows) == images and spread > 0 and warm
    # what the engine `local` and release.finish hold at the same time
    beside = pickle.dumps(source), {record.id: record.split for record in source.records}, [*built.rows]
    beside += ({split: [row.path for row in built.rows] for split in {record.split for record in source.records}},)
    assert all(beside)
    print(json.dumps({"list": listing, "rows": told(begun, images)}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))

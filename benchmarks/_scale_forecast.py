"""`scale.py forecast`: what one image, one shard, one file and one request cost here, and a real run to hold it against.

Every constant is the median of several rounds, in processor seconds, which a busy machine does not change much. Parts are
told from the whole by doing the same with few and with many of them. Nothing here knows how large the run will be that the
forecast is held against.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any

import pytest
import torch
from _scale_engines import ROOT, processor, spread, work_on
from _scale_manifest import opened, peak, rows
from _scale_model import Costs, rates, split
from _scale_pictures import Kind, write
from check import seal

from release import hashing, layout
from release.check import check
from release.formats import parquet
from release.manifest import FileEntry
from unlearnable import Options

ROUNDS = 5
ENTRIES = 100_000  # made up, to see what one takes in memory
FEW = 10  # parts of the images calibrated on: so many shards, or a list so much shorter


def calibrate(folder: Path, kind: Kind, images: int) -> tuple[Costs, dict[str, Any]]:
    """The constants, from so many pictures of a kind, and how far the rounds of what matters most lie apart."""
    torch.set_num_threads(1)  # as engines have it
    whole, part = write(folder / "all", kind, images), write(folder / "some", kind, images // FEW)
    one, many = [], []
    for _ in range(ROUNDS + 1):  # the first round imports modules
        one.append(worked(folder / "one", whole, images))
        many.append(worked(folder / "many", whole, images // FEW))
    at_once, shard = split(statistics.median(one[1:]), 1, statistics.median(many[1:]), FEW)
    data = sum(path.stat().st_size for path in (folder / "one" / "staging").rglob("*.parquet"))
    told = sum(path.stat().st_size for path in (folder / "one" / "marks").iterdir())
    shutil.rmtree(folder / "many")
    listing = listed(whole, part, images)
    known = rows(folder / "entries", ENTRIES, ENTRIES // 1000)
    row = known["rows"]["processor_seconds"] / ENTRIES
    entry, checked = entries(folder / "files")
    run = protected(whole, folder / "run", 1, images)
    once = run["cpu"] - at_once - shard - (listing + row) * images
    costs = Costs(
        start=max(0.0, once),
        list=listing,
        image=at_once / images,
        shard=shard,
        row=row,
        entry=entry,
        check=checked,
        byte=hashed(folder / "bytes"),
        shipped=data / images,
        kept=told / images,
        held=known["list"]["bytes_an_image"] + known["rows"]["bytes_an_image"],
        base=run["peak"],
        requests={},
        checked={},
    )
    return costs, {"image_ms": spread([1000 * each / images for each in one[1:]])}


def worked(folder: Path, source: Path, rows: int) -> float:
    """Processor seconds of all shards of so many rows, one after another."""
    shutil.rmtree(folder, ignore_errors=True)
    with rows_a_shard(rows):
        work = work_on(source, folder, 1)
        shards = work.shards()
    return timed(lambda: [work.shard(shard) for shard in shards])


def listed(whole: Path, part: Path, images: int) -> float:
    """Seconds an image to open a source, tell its list to the owner folder, and cut it into shards."""

    def once(source: Path) -> float:
        return statistics.median(timed(lambda: opened(str(source))) for _ in range(4 * ROUNDS))

    few, many = images // FEW, images
    return split(once(part), few, once(whole), many)[1]


def entries(folder: Path, files: int = 2000) -> tuple[float, float]:
    """Seconds a file to seal a release of so many empty ones, and to check it."""
    seals, checks = [], []
    for count in (files // FEW, files):
        root = folder / str(count)
        names = [f"data/{n // 1000:04d}/{n:07d}.jpg" for n in range(count)]
        for name in names:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).touch()

        def again(root: Path = root, names: list[str] = names) -> None:
            empty = hashing.sha256(root / names[0])
            known = dict(hashing.digests(root, names, durable=True))
            assert set(known.values()) == {empty}
            seal_anew(root, [FileEntry(name, str(known[name]), 0, "data", 1, 8, 8.0, 30.12) for name in names])

        seals.append(statistics.median(timed(again) for _ in range(ROUNDS)))
        checks.append(statistics.median(timed(lambda root=root: check(root).ok) for _ in range(ROUNDS)))
    few = files // FEW
    return split(seals[0], few, seals[1], files)[1], split(checks[0], few, checks[1], files)[1]


def seal_anew(root: Path, listed: list[FileEntry]) -> None:
    for name in (layout.PUBLIC_KEY, layout.MANIFEST, layout.SUMS, layout.ATTESTATION):
        (root / name).unlink(missing_ok=True)
    seal(root, listed)


def hashed(file: Path, size: int = 32 << 20) -> float:
    """Seconds a byte."""
    file.write_bytes(os.urandom(1 << 20) * (size >> 20))
    return statistics.median(timed(lambda: hashing.sha256(file)) for _ in range(ROUNDS)) / size


def timed(act: Callable[[], object]) -> float:
    before = time.process_time()
    act()
    return time.process_time() - before


# --- whole runs ---


def protected(source: Path, out: Path, workers: int, rows: int) -> dict[str, float]:
    """A whole `protect` in a process of its own: wall and processor seconds, most memory of the process that seals, files."""
    command = [sys.executable, __file__, str(source), str(out), str(workers), str(rows)]
    before, begun = processor(), time.perf_counter()
    paths = os.pathsep.join([str(ROOT), str(Path(__file__).parent)])
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"PYTHONPATH": paths}, stdout=subprocess.PIPE, text=True, check=True
    )
    wall, cpu = time.perf_counter() - begun, processor() - before
    peak = json.loads(done.stdout.splitlines()[-1])["peak"]
    kept = layout.owner_folder(out) / layout.STATE / layout.SHARDS
    found = {"wall": round(wall, 2), "cpu": round(cpu, 2), "peak": peak}
    found |= {"bytes": _size(out / layout.DATA), "owner": _size(kept), "shards": len(list(kept.iterdir()))}
    checking = timed(lambda: check(out).ok or sys.exit("it does not check"))
    return found | {"check": round(checking, 3)}


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@contextmanager
def rows_a_shard(rows: int) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parquet, "MAX_ROWS", rows)
        yield


def main(source: str, out: str, workers: int, rows: int) -> None:
    import unlearnable

    with rows_a_shard(rows):
        unlearnable.protect(source, out, Options(preset="r16", verify="none", opt_out=False, workers=workers))
    print(json.dumps({"peak": peak()}))


# --- requests ---


def requests(folder: Path, kind: Kind, shards: tuple[int, int, int]) -> dict[str, Any]:
    """Requests by method of a release in a bucket, and of its check, from two numbers of shards; the third is the test.

    The server is moto's, on this machine; it has been told where to count. Raises ImportError where moto is missing.
    """
    import unlearnable

    found: dict[str, list[dict[str, int]]] = {"requests": [], "checked": []}
    with pytest.MonkeyPatch.context() as patch, counting(patch) as heard, rows_a_shard(10):
        patch.chdir(folder)
        for count in shards:
            source = write(folder / f"of{count}", kind, 10 * count)
            heard.clear()
            address = f"s3://archive/release{count}"
            unlearnable.protect(str(source), address, Options(preset="r16", verify="none", workers=1))
            found["requests"].append(dict(heard))
            heard.clear()
            assert unlearnable.check(address)["ok"]
            found["checked"].append(dict(heard))
    of = {name: rates(few, shards[0], many, shards[1]) for name, (few, many, _) in found.items()}
    return {**of, "counted_at": shards[:2], "tested_at": shards[2], "real": {n: each[2] for n, each in found.items()}}


@contextmanager
def counting(patch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """An S3 on this machine with a bucket called archive, and the requests that it has had, by method."""
    import boto3
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from moto.server import ThreadedMotoServer

    heard: Counter[str] = Counter()
    one_at_a_time = Lock()

    def create(service: str) -> Any:
        app = create_backend_app(service)
        inner = app.wsgi_app

        def counted(environ: dict[str, Any], answer: Any) -> Any:
            method = environ["REQUEST_METHOD"]
            copies = method == "PUT" and "HTTP_X_AMZ_COPY_SOURCE" in environ
            lists = method == "GET" and "list-type" in environ.get("QUERY_STRING", "")
            with one_at_a_time:
                heard["COPY" if copies else "LIST" if lists else method] += 1
            return inner(environ, answer)

        app.wsgi_app = counted  # type: ignore[method-assign]
        return app

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    where = "moto.moto_server.threaded_moto_server.DomainDispatcherApplication"
    patch.setattr(where, lambda *given, **named: DomainDispatcherApplication(create))
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        for name in [name for name in os.environ if name.startswith(("AWS_", "FSSPEC_"))]:
            patch.delenv(name)
        known = {"ENDPOINT_URL": f"http://{host}:{port}", "ACCESS_KEY_ID": "nobody", "SECRET_ACCESS_KEY": "nothing"}
        for name, value in (known | {"DEFAULT_REGION": "us-east-1"}).items():
            patch.setenv(f"AWS_{name}", value)
        boto3.client("s3").create_bucket(Bucket="archive")
        heard.clear()
        yield heard
    finally:
        server.stop()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))

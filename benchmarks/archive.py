"""Protecting an archive of photos beside a bare Pillow loop over the same files; and how much memory archives take.

    python benchmarks/archive.py speed [--rounds 5] [--flowers 1000]
    python benchmarks/archive.py memory [--files 1000 100000]
    python benchmarks/archive.py pictures [--megapixels 12 100 200]

`speed`: the still JPEG files of ../shared/data/photos and photos of ../shared/data/flowers, as they are and as PNG, with
the closed-form poison r16; `photos` are those of a megapixel and more, `thumbnails` the others. JPEG files are there
several times under other names: as they are they would be a shard or two, too few to share among processes. The bare loop
decodes and encodes with the same settings, and for JPEG decodes again, because the realised change is measured on shipped
bytes; both read and write files, on as many cores as there are processes. Ours is all that happens to a file between the
source and the done-mark. They take turns; ratios are of one round.
`memory`: peak of whole `protect` runs over many small files. `pictures`: peak for one large picture, beside 3 bytes a pixel.
All write benchmarks/results/archive.json. The machine should be idle; its load while this ran is told.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import multiprocessing
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from _cifar import about
from _notes import keep, run_of
from PIL import Image
from reproduction import RESULTS

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared" / "data"
OUT = RESULTS / "archive.json"
CORES = (1, 2)
PARTS = ("photos", "thumbnails")
COPIES = {"photos": 12, "thumbnails": 6}  # of JPEG files


def speed(folder: Path, rounds: int, flowers: int) -> dict[str, Any]:
    """Seconds of ours and the bare loop for both containers and numbers of processes, and what follows from them."""
    found: dict[str, Any] = {}
    for kind in ("jpeg", "png"):
        source = photos(folder / kind, kind, flowers)
        found[kind] = {part: compared(folder, source / part, rounds) for part in PARTS}
    return found


def compared(folder: Path, photos: Path, rounds: int) -> dict[str, Any]:
    files = sorted(path for path in photos.rglob("*.*") if path.is_file())
    ours = Ours(photos)
    times: dict[str, list[dict[str, float]]] = {}
    for _ in range(rounds):
        for cores in CORES:
            os.sched_setaffinity(0, range(cores))
            for name, work in (("bare", bare), ("ours", ours)):
                out = folder / "out"
                shutil.rmtree(out, ignore_errors=True)
                times.setdefault(f"{name}_{cores}", []).append(timed(work, files, out, cores))
                print(photos.parent.name, photos.name, name, cores, times[f"{name}_{cores}"][-1], flush=True)
    os.sched_setaffinity(0, range(os.cpu_count() or 1))
    size = round(sum(path.stat().st_size for path in files) / 1e6, 1)
    return {"files": len(files), "megabytes": size} | ratios(times) | {"beside": ours.beside(folder)}


def ratios(times: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    """Of wall time and of processor time, round by round: ours to bare, and our scaling to the bare loop's."""
    found: dict[str, Any] = {name: spread([each["wall"] for each in rounds]) for name, rounds in times.items()}
    for clock in ("wall", "cpu"):
        at = {name: [each[clock] for each in rounds] for name, rounds in times.items()}
        for cores in CORES:
            pairs = zip(at[f"ours_{cores}"], at[f"bare_{cores}"], strict=True)
            found[f"ratio_{clock}_{cores}"] = spread([a / b for a, b in pairs])
    both = zip(*(times[name] for name in ("ours_1", "ours_2", "bare_1", "bare_2")), strict=True)
    found["scaling_to_bare"] = spread([(a["wall"] / b["wall"]) / (c["wall"] / d["wall"]) for a, b, c, d in both])
    return found


def timed(work: Callable[..., None], *given: Any) -> dict[str, float]:
    before, begun = processor(), time.perf_counter()
    work(*given)
    return {"wall": round(time.perf_counter() - begun, 3), "cpu": round(processor() - before, 3)}


def processor() -> float:
    """Seconds of this process and all its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def bare(files: Sequence[Path], out: Path, processes: int) -> None:
    out.mkdir()
    if processes == 1:
        for job in enumerate(files):
            one(job, out)
        return
    with multiprocessing.get_context("fork").Pool(processes) as pool:
        pool.starmap(one, [(job, out) for job in enumerate(files)], chunksize=8)
        pool.close()
        pool.join()


def one(job: tuple[int, Path], out: Path) -> None:
    number, path = job
    image = Image.open(io.BytesIO(path.read_bytes()))
    image.load()
    data = io.BytesIO()
    if path.suffix == ".png":
        image.save(data, "PNG", compress_type=zlib.Z_RLE)
    else:
        small = image.width * image.height <= 128 * 128
        image.save(data, "JPEG", quality=95, subsampling=0, optimize=small)
        Image.open(data).load()
    (out / f"{number}{path.suffix}").write_bytes(data.getvalue())


class Ours:
    """Call it to protect the files of `source` with r16, as `protect` does between learning and sealing."""

    def __init__(self, source: Path) -> None:
        from unlearnable import craft
        from unlearnable.keys import Key
        from unlearnable.sources import open_source
        from unlearnable.types import Context

        self.source = open_source(str(source))
        context = Context(Key(bytes(32)), self.source.classes or (), 8, 224)
        self.crafter = craft.fit(craft.resolve(None, "r16", {}), None, context)

    def __call__(self, files: Sequence[Path], out: Path, processes: int) -> None:
        from release import build

        out.mkdir()
        settings = build.Settings("folder", "auto", 8, workers=processes)
        built = build.build(build.Work(self.source, self.crafter, settings, out / "staging", out / "marks", apart=True))
        assert len(built.rows) == len(files), built.skipped[:3]

    def beside(self, folder: Path) -> float:
        """Share of hashing, metadata, done-marks and manifest in all that is done, by the clock of one process."""
        from release import build, hashing
        from unlearnable import _encoding, imageio

        spent = [0.0]

        def watch(module: Any, name: str) -> None:
            real = getattr(module, name)

            def watched(*args: Any, **named: Any) -> Any:
                begun = time.thread_time()
                try:
                    return real(*args, **named)
                finally:
                    spent[0] += time.thread_time() - begun

            setattr(module, name, watched)

        with pytest.MonkeyPatch.context() as patch:
            for module, name in ((imageio, "described"), (_encoding, "options"), (build, "_write_mark")):
                patch.setattr(module, name, getattr(module, name))
                watch(module, name)
            out = folder / "out"
            shutil.rmtree(out, ignore_errors=True)
            files = [path for path in Path(self.source.spec).rglob("*.*") if path.is_file()]
            begun = time.process_time()
            self(files, out, 1)
            total = time.process_time() - begun
        begun = time.process_time()
        for path in files:  # once more what the digests of the originals took
            hashlib.sha256(path.read_bytes()).hexdigest()
        spent[0] += time.process_time() - begun
        begun = time.process_time()  # and what sealing will take
        for _ in hashing.digests(out / "staging", list(hashing.walk(out / "staging"))):
            pass
        sealing = time.process_time() - begun
        return round((spent[0] + sealing) / (total + sealing), 4)


def photos(folder: Path, kind: str, flowers: int) -> Path:
    """The files in folders by size and class. Left out: what ours refuses, and what is no still 8-bit RGB or grey JPEG."""
    from unlearnable import imageio
    from unlearnable.errors import ImageError
    from unlearnable.sources import open_source

    if folder.exists():
        return folder
    source = open_source(str(SHARED / "flowers"))
    chosen = source.records[:: max(1, len(source.records) // flowers)]
    todo = [(f"flower-{i:05d}", source.read(record)) for i, record in enumerate(chosen)]
    cameras = sorted((SHARED / "photos").rglob("*.jp*g"))
    todo += [(f"camera-{i:05d}", path.read_bytes()) for i, path in enumerate(cameras)]
    for number, (name, data) in enumerate(todo):
        try:
            picture = imageio.decode(data, name)
        except ImageError:
            continue
        image = Image.open(io.BytesIO(data))
        if picture.container != "JPEG" or picture.inks is not None or image.mode not in ("RGB", "L"):
            continue
        part = PARTS[image.width * image.height < 1_000_000]
        if kind == "png":
            out = io.BytesIO()
            image.save(out, "PNG", compress_type=zlib.Z_RLE, exif=image.getexif())
            data = out.getvalue()
        for copy in range(1 if kind == "png" else COPIES[part]):
            path = folder / part / f"class{number % 2}" / f"{name}-{copy}.{'png' if kind == 'png' else 'jpg'}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    return folder


def memory(folder: Path, counts: Sequence[int]) -> dict[str, Any]:
    """Peak megabytes of `protect --preset r16 --verify none` over so many PNG files of 32 pixels."""
    found: dict[str, Any] = {}
    for count in counts:
        source = folder / f"small{count}"
        rng = np.random.default_rng(count)
        for number in range(count if not source.exists() else 0):
            path = source / f"class{number % 10}" / f"{number // 1000:03d}-{number:06d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (8, 8, 3)).astype(np.uint8)).resize((32, 32)).save(path)
        found[str(count)] = protected(source, folder / f"out{count}")
        print(count, found[str(count)], flush=True)
    few, many = min(counts), max(counts)
    if many > few:
        grown = found[str(many)]["peak_megabytes"] - found[str(few)]["peak_megabytes"]
        found["bytes_a_file"] = round(grown * 1e6 / (many - few))
    return found


def pictures(folder: Path, sizes: Sequence[int]) -> dict[str, Any]:
    """Peak megabytes for one picture of so many megapixels, among small ones."""
    found: dict[str, Any] = {}
    for size in sizes:
        for kind, options in (("png", {"compress_type": zlib.Z_RLE}), ("jpg", {"quality": 92})):
            source = folder / f"large{size}{kind}"
            if not source.exists():
                for name in ("a", "b"):
                    (source / name).mkdir(parents=True)
                    Image.effect_noise((64, 64), 60).convert("RGB").save(source / name / f"x.{kind}")
                across = round((size * 4e6 / 3) ** 0.5)
                ground = Image.effect_noise((across // 8, across * 3 // 32), 60).convert("RGB")
                ground.resize((across, across * 3 // 4)).save(source / "a" / f"large.{kind}", **options)
            told = protected(source, folder / f"outlarge{size}{kind}")
            told["allowed_megabytes"] = 1000 + 3 * size
            found[f"{size} megapixels, {kind}"] = told
            print(size, kind, told, flush=True)
    return found


def protected(source: Path, out: Path) -> dict[str, float]:
    """Peak memory of a run in a process of its own: its own, and that of its largest worker."""
    shutil.rmtree(out, ignore_errors=True)
    program = (
        "import json, resource, sys, time; import unlearnable\nfrom unlearnable import Options\nbegun = time.time()\n"
        "unlearnable.protect(sys.argv[1], sys.argv[2], Options(preset='r16', verify='none', overwrite=True))\n"
        "peak = [resource.getrusage(who).ru_maxrss * 1024e-6 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]\n"
        "told = {'peak_megabytes': round(peak[0]), 'worker_megabytes': round(peak[1]), 'seconds': round(time.time() - begun)}\n"
        "print(json.dumps(told))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(source), str(out)], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def spread(values: Sequence[float]) -> dict[str, Any]:
    return {"median": round(statistics.median(values), 3), "low": round(min(values), 3), "high": round(max(values), 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["speed", "memory", "pictures"])
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "unlearnable-archive")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--flowers", type=int, default=1000)
    parser.add_argument("--files", type=int, nargs="+", default=[1000, 100_000])
    parser.add_argument("--megapixels", type=int, nargs="+", default=[12, 100, 200])
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    before = os.getloadavg()[0]
    found = {
        "speed": lambda: speed(args.folder, args.rounds, args.flowers),
        "memory": lambda: memory(args.folder, args.files),
        "pictures": lambda: pictures(args.folder, args.megapixels),
    }[args.part]()
    keep(OUT, {args.part: run_of("archive.py", before) | about(torch.device("cpu")) | found})


if __name__ == "__main__":
    main()

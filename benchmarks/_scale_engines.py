"""`scale.py engines`: the same shards by every engine, in processes that wait for their turn.

Each way to do them has a process of its own, or several, started before the first round: what starting takes (Python, the
tool, Ray) is told apart and is in no round, and so is what the first round takes more than the others, when Ray's workers
start and modules are imported. A process waits for a line, does a round and answers with its seconds and its processor
seconds, those of all its descendants among them.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SHARD = 1000  # images
QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": "CRITICAL", "object_store_memory": 100 << 20}
ASKED: dict[str, Any] = {"preset": "r16", "verify": "none", "opt_out": False, "workers": 1}
GOALS = {"local": 0.05, "ray": 0.15}

# who does it, and how many at once: a process for each that is none of an engine's
WAYS = {
    "bare 1": ("bare", 1),
    "local 1": ("local", 1),
    "ray 1": ("ray", 1),
    "bare 2": ("bare", 2),
    "local 2": ("local", 2),
    "ray 2": ("ray", 2),
    "shard 2": ("shard", 2),
}


def engines(folder: Path, source: Path, images: int, rounds: int, ways: Sequence[str], size: int) -> dict[str, Any]:
    """Seconds of every way, round by round and in turn, and what follows from them. size: images of a shard."""
    fit(source, folder / "shard", size)
    times: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
    with ExitStack() as stack:
        started: dict[str, list[Worker]] = {}
        for way in ways:
            who, count = WAYS[way]
            several = [(number, count) for number in range(count)] if who in ("bare", "shard") else [(0, count)]
            where = folder / ("shard" if who == "shard" else way.replace(" ", ""))
            started[way] = [stack.enter_context(begun(who, source, where, part, size)) for part in several]
            print(way, "is ready", [each.ready for each in started[way]], flush=True)
        for number in range(rounds + 1):
            order = [*ways[number % len(ways) :], *ways[: number % len(ways)]]
            for way in order:
                found = together(started[way])
                times[way].append(found)
                print(number, way, found, flush=True)
        starts = {way: [each.ready for each in workers] for way, workers in started.items()}
    first = {way: rounds.pop(0) for way, rounds in times.items()}
    found = compared(times, images)
    for way, told in found.items():
        told["start"] = {clock: round(max(each[clock] for each in starts[way]), 2) for clock in ("wall", "cpu")}
        usual = {clock: statistics.median(each[clock] for each in times[way]) for clock in ("wall", "cpu")}
        told["first_round_more"] = {clock: round(first[way][clock] - usual[clock], 2) for clock in ("wall", "cpu")}
    return {"images": images, "images_a_shard": size, "rounds": rounds, "ways": found}


def compared(times: dict[str, list[dict[str, float]]], images: int) -> dict[str, Any]:
    """Images a second, and the overhead against the bare loop of the same round: the time of all workers to that of one.

    `among_two` is against two bare loops at once, each with half of the shards: what is left of the overhead when what two
    processes take from each other (cache, memory, a core's two threads) is not counted.
    """
    found: dict[str, Any] = {}
    for way, rounds in times.items():
        who, count = WAYS[way]
        told: dict[str, Any] = {"workers": count}
        told["images_a_second"] = spread([images / each["wall"] for each in rounds])
        told["processor_ms_an_image"] = spread([1000 * each["cpu"] / images for each in rounds])
        for name, beside in (("overhead", "bare 1"), ("among_two", "bare 2")):
            if beside not in times or way == beside or WAYS[beside][1] > count:
                continue
            pairs = list(zip(rounds, times[beside], strict=True))
            share = count / WAYS[beside][1]
            told[name] = {
                "wall": spread([a["wall"] * share / b["wall"] - 1 for a, b in pairs]),
                "processor": spread([a["cpu"] / b["cpu"] - 1 for a, b in pairs]),
            }
        if who in GOALS and "overhead" in told:
            told["goal"] = GOALS[who]
            like = told.get("among_two", told["overhead"])  # as many bare loops as there are workers
            told["met"] = {clock: like[clock]["median"] <= GOALS[who] for clock in ("wall", "processor")}
        found[way] = told
    return found


def spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": round(statistics.median(values), 4), "low": round(min(values), 4), "high": round(max(values), 4)}


class Worker:
    """A process that does shards when it is told to."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.ready = self.heard()

    def tell(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def heard(self) -> dict[str, float]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"A process of the benchmark ended with code {self.process.wait()}.")
        found: dict[str, float] = json.loads(line)
        return found


@contextmanager
def begun(who: str, source: Path, folder: Path, part: tuple[int, int], size: int) -> Iterator[Worker]:
    words = [who, str(source), str(folder), *map(str, part), str(size)]
    command = [sys.executable, __file__, *words]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0"}
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, env=environment, text=True
    )
    try:
        yield Worker(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()  # it ends then, and Ray with it
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def together(workers: Sequence[Worker]) -> dict[str, float]:
    """A round of one way: as long as its slowest process takes, and the processor seconds of all."""
    for each in workers:
        each.tell()
    found = [each.heard() for each in workers]
    return {"wall": max(each["wall"] for each in found), "cpu": round(sum(each["cpu"] for each in found), 3)}


# --- in the processes ---


def serve(who: str, source: Path, folder: Path, part: tuple[int, int], size: int) -> None:
    from release.formats import parquet

    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what Ray and others print is no answer
    parquet.MAX_ROWS = size
    with ExitStack() as stack:
        act = act_of(who, source, folder, part, stack)
        answers.write(json.dumps({"wall": round(up(), 2), "cpu": round(processor(), 2)}) + "\n")
        while sys.stdin.readline():
            before, start = processor(), time.perf_counter()
            act()
            wall, cpu = time.perf_counter() - start, processor() - before
            tidy(folder, who, part)
            answers.write(json.dumps({"wall": round(wall, 3), "cpu": round(cpu, 3)}) + "\n")


def act_of(who: str, source: Path, folder: Path, part: tuple[int, int], stack: ExitStack) -> Callable[[], None]:
    if who == "shard":
        return lambda: shard(source, folder / "out", part)
    from release.build import build

    work = work_on(source, folder / str(part[0]), part[1])
    shards = work.shards()
    if who == "bare":
        import torch

        torch.set_num_threads(1)

        def loop() -> None:
            for each in shards[part[0] :: part[1]]:
                work.shard(each)

        return loop
    if who == "ray":
        import ray

        stack.callback(ray.shutdown)
        ray.init("local", num_cpus=part[1], include_dashboard=False, **QUIET)
    return lambda: build(work, engine=who) and None


def shard(source: Path, out: Path, part: tuple[int, int]) -> None:
    import unlearnable
    from unlearnable import Options

    unlearnable.protect(str(source), out, Options(**ASKED, shard=part))


def fit(source: Path, folder: Path, size: int) -> None:
    """What runs with --shard begin from."""
    import unlearnable
    from release.formats import parquet
    from unlearnable import Options

    folder.mkdir(parents=True)
    before, parquet.MAX_ROWS = parquet.MAX_ROWS, size
    unlearnable.protect(str(source), folder / "out", Options(**ASKED, fit_only=True))
    parquet.MAX_ROWS = before


def work_on(source: Path, folder: Path, workers: int) -> Any:
    """The work of a release of these pictures, with the closed form r16."""
    from release.build import Settings, Work
    from unlearnable import craft
    from unlearnable.keys import Key
    from unlearnable.sources import open_source
    from unlearnable.types import Context

    opened = open_source(str(source))
    context = Context(Key(bytes(32)), opened.classes or (), 8, 64)
    crafter = craft.fit(craft.resolve(None, "r16", {}), None, context)
    for name in ("staging", "marks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    settings = Settings("parquet", "auto", 8, workers=workers)
    return Work(opened, crafter, settings, folder / "staging", folder / "marks", apart=True)


def tidy(folder: Path, who: str, part: tuple[int, int]) -> None:
    """Removes what a round made. The processes of a release in parts remove each its own."""
    from release import layout, marks

    if who == "shard":
        state, staging = layout.owner_folder(folder / "out") / layout.UNFINISHED, layout.staging_folder(folder / "out")
        for mark in sorted((state / layout.SHARDS).glob("*.json")):
            if int(mark.stem) % part[1] == part[0]:
                for path in marks.files(mark):
                    (staging / path).unlink()
                mark.unlink()
        return
    for name in ("staging", "marks"):
        shutil.rmtree(folder / str(part[0]) / name)
        (folder / str(part[0]) / name).mkdir()


def processor() -> float:
    """Processor seconds of this process, of its children that have ended, and of all its descendants that live."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used) + sum(_living().values())


def _living() -> dict[int, float]:
    """Descendants by number, with the seconds that they and their ended children took. Linux alone tells."""
    parents, seconds = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has ended
        parents[int(folder.name)] = int(fields[1])
        seconds[int(folder.name)] = sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    found, layer = {}, {os.getpid()}
    while layer:
        layer = {pid for pid, parent in parents.items() if parent in layer}
        found |= {pid: seconds[pid] for pid in layer}
    return found


def up() -> float:
    """Seconds since this process was started."""
    begun = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
    return float(Path("/proc/uptime").read_text().split()[0]) - begun


if __name__ == "__main__":
    who, source, folder, number, of, size = sys.argv[1:]
    serve(who, Path(source), Path(folder), (int(number), int(of)), int(size))

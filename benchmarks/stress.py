"""Runs of `protect` that are killed, starved of disk, interrupted and lied to, and what their reruns end in.

    python benchmarks/stress.py [--kills 100] [--seed 0] [--out benchmarks/results/stress.json]

Each run is a process of its own (forked, so that it starts at once) in a process group of its own, on small generated
pictures, a shard of a few images each. What is held against an uninterrupted run: every data file, byte for byte, and
their entries in the manifest. Only processes that were started here are killed, by their numbers.

    kills      kill -9 at a random moment, again and again, until enough have hit
    full disk  a file system of a few hundred kilobytes, growing (needs the right to mount; else limits of file size)
    changed    a photo rewritten or removed while the run goes on, or between a kill and the rerun
    Ctrl-C     SIGINT at a random moment: exit code 130, whole shards alone, and how to go on
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import torch
from jobs import RESULTS, hardware
from made_pictures import picture, write_tree
from PIL import Image

from cli import cli
from release import check, layout
from release.formats import folder, parquet, webdataset
from unlearnable import api
from unlearnable.sources import _stamps

KEY = "5a" * 32
SOURCES = ("tree", "tree", "zip", "tar", "gztar")
LAYOUTS = ("folder", "folder", "parquet", "webdataset")
Found = dict[str, Any]


class Trouble(AssertionError):
    """A promise was broken."""


def hold(true: bool, what: str, *more: object) -> None:
    if not true:
        raise Trouble(" ".join([what, *(str(each) for each in more)]))


@dataclass
class Job:
    """One `protect` and its place. words: further options."""

    source: Path
    out: Path
    key: Path
    words: tuple[str, ...] = ()
    prepare: Callable[[], None] = field(default=lambda: None)  # in the child, before it begins

    @property
    def log(self) -> Path:
        return self.out.with_name(self.out.name + ".stderr")

    def start(self) -> int:
        """The number of the process, which leads a group of its own."""
        pid = os.fork()
        if pid == 0:
            os.setpgid(0, 0)
            code = 1
            try:
                with self.log.open("wb") as file:
                    os.dup2(file.fileno(), 1)
                    os.dup2(file.fileno(), 2)
                os.environ["UNLEARNABLE_CONFIG"] = str(self.out.with_name(self.out.name + ".config"))
                folder.MAX_ROWS = parquet.MAX_ROWS = webdataset.MAX_ROWS = 4
                self.prepare()
                cli(["protect", str(self.source), str(self.out), "--key", str(self.key), *USUAL, *self.words])
            except SystemExit as done:
                code = done.code if isinstance(done.code, int) else 1
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        return pid

    def run(self) -> int:
        """Its exit code."""
        return os.waitstatus_to_exitcode(os.waitpid(self.start(), 0)[1])

    def said(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def finish(self, codes: tuple[int, ...] = (0,)) -> int:
        code = self.run()
        hold(code in codes, f"exit code {code}:", self.said())
        return code


USUAL = ("--preset", "r16", "--verify", "none", "--progress", "plain", "--workers", "2")


def stopped(pid: int, after: float, how: int) -> int | None:
    """Sends the signal to a run after so many seconds; its exit code, None where the signal killed it."""
    end = time.monotonic() + after
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.001)
    os.kill(pid, how)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    for _ in range(500):  # its workers, if it had any, must not outlive it
        try:
            os.killpg(pid, 0)
        except ProcessLookupError:
            return None if code == -how else code
        time.sleep(0.01)
    os.killpg(pid, signal.SIGKILL)
    raise Trouble("processes of a run that was stopped live on")


def state(out: Path) -> tuple[dict[str, bytes], list[Any]]:
    """The data files, and their entries in the manifest."""
    data = {str(p.relative_to(out)): p.read_bytes() for p in sorted((out / layout.DATA).rglob("*")) if p.is_file()}
    entries = [e for e in json.loads((out / layout.MANIFEST).read_text())["files"] if e["path"].startswith("data/")]
    return data, entries


def same(out: Path, whole: tuple[dict[str, bytes], list[Any]]) -> None:
    data, entries = state(out)
    hold(data.keys() == whole[0].keys(), "other files:", sorted(data.keys() ^ whole[0].keys()))
    hold(data == whole[0], "other bytes:", [name for name in data if data[name] != whole[0][name]])
    hold(entries == whole[1], "other entries of the manifest")
    hold(check.check_release(out).ok, "the check fails")
    hold(not layout.staging_folder(out).exists(), "the staging folder is still there")
    hold(not [p for p in out.parent.glob(f".{out.name}.*")], "something is left over")
    for line in (layout.owner_folder(out) / layout.LOG).read_text().splitlines():
        hold(KEY not in line, "the key is in the log")


def clear(out: Path) -> None:
    for each in out.parent.glob(f"*{out.name}*"):
        shutil.rmtree(each) if each.is_dir() else each.unlink()


# --- the troubles ---


class Stress:
    def __init__(self, place: Path, seed: int) -> None:
        self.place, self.rng = place, random.Random(seed)
        self.key = place / "key"
        self.key.write_text(KEY)
        tree = write_tree(place / "tree", 3, 16)
        write_tree(place / "more", 3, 4, suffix=".jpg")
        for file in (place / "more").rglob("*.jpg"):
            file.rename(tree / file.parent.name / file.name)
        (tree / "across/notes.txt").write_text("no image")
        (tree / "across/000.png.xmp").write_text("<x/>")
        self.sources = {"tree": tree}
        for kind in ("zip", "tar", "gztar"):
            self.sources[kind] = Path(shutil.make_archive(str(place / f"packed-{kind}"), kind, tree))
        self.wholes: dict[Any, Any] = {}
        self.seconds: dict[Any, float] = {}

    def whole(self, source: str, form: str) -> Any:
        """What an uninterrupted run ends in."""
        if (source, form) not in self.wholes:
            job = self.job(source, form, f"whole-{source}-{form}")
            started = time.monotonic()
            job.finish()
            self.seconds[source, form] = time.monotonic() - started
            self.wholes[source, form] = state(job.out)
        return self.wholes[source, form]

    def job(self, source: str, form: str, name: str, **more: Any) -> Job:
        return Job(self.sources[source], self.place / "out" / name, self.key, ("--layout", form), **more)

    def kills(self, wanted: int) -> Found:
        hit = runs = reruns = 0
        stages: dict[str, int] = {}
        while hit < wanted:
            source, form = self.rng.choice(SOURCES), self.rng.choice(LAYOUTS)
            whole = self.whole(source, form)
            job = self.job(source, form, f"killed{runs}")
            for _ in range(self.rng.choice((1, 1, 2, 4))):
                moment = self.rng.uniform(0.0, 1.05) * self.seconds[source, form]
                if stopped(job.start(), moment, signal.SIGKILL) is not None:
                    break  # it was quicker than its killer
                hit += 1
                where = stage(job.out)
                stages[where] = stages.get(where, 0) + 1
            if not job.out.exists():
                job.finish()
                reruns += 1
            same(job.out, whole)
            clear(job.out)
            runs += 1
        return {"kills": hit, "runs": runs, "reruns": reruns, "killed_while": stages, "equal": runs}

    def full_disk(self) -> Found:
        whole, tries, codes = self.whole("tree", "folder"), 0, set()
        mounted = self.place / "small"
        mounted.mkdir()
        size = 100
        mount = ["mount", "-t", "tmpfs", "-o", f"size={size}k", "none", str(mounted)]
        if subprocess.run(mount, capture_output=True, check=False).returncode:
            return self._limited()
        try:
            job = Job(self.sources["tree"], mounted / "out", self.key, ("--layout", "folder"))
            job.log.parent.mkdir(exist_ok=True)
            while True:
                code = Elsewhere(job, self.place / "full.stderr").run()
                tries += 1
                if code == 0:
                    break
                said = (self.place / "full.stderr").read_text()
                hold(code == 1 and "is full" in said and "Traceback" not in said, f"exit code {code}:", said)
                codes.add(code)
                hold(not job.out.exists(), "a release from a full disk")
                size += self.rng.randint(8, 60)
                subprocess.run(["mount", "-o", f"remount,size={size}k", str(mounted)], check=True)
            same(job.out, whole)
        finally:
            subprocess.run(["umount", str(mounted)], check=True)
        return {"how": "tmpfs", "full": tries - 1, "codes": sorted(codes), "kilobytes_at_last": size, "equal": 1}

    def _limited(self) -> Found:
        whole, limits = self.whole("tree", "parquet"), (500, 2_000, 10_000)
        for limit in limits:
            job = self.job("tree", "parquet", f"limited{limit}")
            job.prepare = lambda limit=limit: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
            hold(job.run() == 1 and not job.out.exists(), "a release from a full disk")
            job.prepare = lambda: None
            job.finish()
            same(job.out, whole)
        return {"how": "RLIMIT_FSIZE", "full": len(limits), "equal": len(limits)}

    def changed(self, times: int) -> Found:
        done = {"while running": 0, "vanished": 0, "after a kill": 0, "vanished after a kill": 0}
        for number in range(times):
            tree = Path(shutil.copytree(self.sources["tree"], self.place / f"tree{number}"))
            victim = self.rng.choice(sorted(tree.rglob("*.png")))
            act = self.rng.choice((rewrite, Path.unlink))
            job = Job(tree, self.place / "out" / f"changed{number}", self.key)
            if self.rng.random() < 0.5:
                job.prepare = lambda victim=victim, act=act: at_read(self.rng.randrange(40), victim, act)
                code = job.finish((0, 3))
                job.prepare = lambda: None
                data, _ = state(job.out)
                name = f"data/{victim.relative_to(tree)}"
                if code == 3:
                    hold(name not in data and victim.name in job.said(), "a change that nobody reports", job.said())
                elif act is rewrite:
                    hold(data[name] == self.whole("tree", "folder")[0][name], "a mix of old and new")
                others = {n: d for n, d in data.items() if not n.startswith(name)}
                hold(others.items() <= self.whole("tree", "folder")[0].items(), "others changed too")
                done["while running" if act is rewrite else "vanished"] += 1
                job.words = ("--retry-failed",)
                job.finish()
            else:
                if stopped(job.start(), self.rng.uniform(0.3, 0.9), signal.SIGKILL) is None:
                    act(victim)
                code = job.run()
                if code == 2 and not job.out.exists():  # the listing is another one: the owner decides
                    hold("--overwrite" in job.said(), "no way out:", job.said())
                    job.words = ("--overwrite",)
                    code = job.run()
                if code == 2:  # it had finished before
                    job.words = ("--grow",)
                    code = job.run()
                hold(code == 0, f"exit code {code}:", job.said())
                done["after a kill" if act is rewrite else "vanished after a kill"] += 1
            fresh = Job(tree, self.place / "out" / f"fresh{number}", self.key)
            fresh.finish()
            same(job.out, state(fresh.out))
            clear(job.out), clear(fresh.out), shutil.rmtree(tree)
        return {**done, "equal": times}

    def interrupts(self, times: int) -> Found:
        whole, heard, shards = self.whole("tree", "folder"), 0, 0
        for number in range(times):
            job = self.job("tree", "folder", f"interrupted{number}")
            after = self.rng.uniform(0.2, 1.0) * self.seconds["tree", "folder"]
            code = stopped(job.start(), after, signal.SIGINT)
            if code == 130:
                heard += 1
                hold("repeat the same command to go on" in job.said(), "no way to go on:", job.said())
                staged = layout.staging_folder(job.out)
                written = [p for p in staged.rglob("*") if p.is_file()] if staged.exists() else []
                marks = layout.owner_folder(job.out) / layout.UNFINISHED / layout.SHARDS
                known = {path for mark in marks.glob("*.json") for path in json.loads(mark.read_text())["files"]}
                if "part that is under way" in job.said():
                    shards += 1
                    loose = [p for p in written if str(p.relative_to(staged)) not in known]
                    hold(not loose, "a shard that was not finished:", loose)
            else:
                hold(code in (0, None), f"exit code {code}:", job.said())
            if not job.out.exists():
                job.finish()
            same(job.out, whole)
            clear(job.out)
        return {"times": times, "exit_130": heard, "shards_finished_first": shards, "equal": times}


class Elsewhere(Job):
    """The same job, its messages and the keys of its owner on another disk."""

    def __init__(self, job: Job, log: Path) -> None:
        super().__init__(job.source, job.out, job.key, job.words, job.prepare)
        self._log = log

    @property
    def log(self) -> Path:
        return self._log


def stage(out: Path) -> str:
    """How far a killed run had come."""
    staging, owner = layout.staging_folder(out), layout.owner_folder(out)
    if out.exists():
        return "tidying up"
    if (staging / layout.PUBLIC_KEY).exists() or (owner / layout.UNFINISHED / layout.RECEIPT).exists():
        return "sealing"
    marks = list((owner / layout.UNFINISHED / layout.SHARDS).glob("*.json"))
    return "writing" if marks or staging.exists() else "preparing" if owner.exists() else "starting"


def rewrite(victim: Path) -> None:
    """Another picture, of another size in bytes or, with luck, the same."""
    Image.fromarray(picture(3, random.randrange(1000))).save(victim)


def at_read(number: int, victim: Path, act: Callable[[Path], None]) -> None:
    """In this process: does that to the file when so many files have been read."""
    real, count = _stamps.Files.__call__, [0]

    def read(self: _stamps.Files, name: str) -> bytes:
        count[0] += 1
        if count[0] == number + 1 and victim.exists():
            act(victim)
        return real(self, name)

    _stamps.Files.__call__ = read  # type: ignore[method-assign]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS / "stress.json")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    import matplotlib.pyplot  # noqa: F401 - so that no child has to

    started = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        (place / "out").mkdir()
        api.protect(str(write_tree(place / "warm", 2, 4)), place / "w", api.Options(preset="r16", verify="none"))
        stress = Stress(place, asked.seed)
        found = {"kills": stress.kills(asked.kills)}
        few = max(4, asked.kills // 5)
        found |= {"full_disk": stress.full_disk(), "changed": stress.changed(few), "ctrl_c": stress.interrupts(few)}
    report = {
        "command": f"python benchmarks/stress.py --kills {asked.kills} --seed {asked.seed}",
        "date": time.strftime("%Y-%m-%d"),
        "hardware": hardware(),
        "seconds": round(time.monotonic() - started),
        **found,
    }
    asked.out.parent.mkdir(exist_ok=True)
    asked.out.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1))

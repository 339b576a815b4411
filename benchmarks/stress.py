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
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from _notes import RESULTS, today
from _stress import KEY, Job, at_read, clear, hold, rewrite, same, stage, state, stopped, write_pictures
from jobs import hardware

from release import layout
from unlearnable import api

SOURCES = ("tree", "tree", "zip", "tar", "gztar")
LAYOUTS = ("folder", "folder", "parquet", "webdataset")
Found = dict[str, Any]


# --- the troubles ---


class Stress:
    def __init__(self, place: Path, seed: int) -> None:
        self.place, self.rng = place, random.Random(seed)
        self.key = place / "key"
        self.key.write_text(KEY)
        tree = write_pictures(place / "tree")
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
            job = self.job(source, form, f"killed{runs}", apart=self.rng.random() < 0.5)
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
            job = Job(self.sources["tree"], mounted / "out", self.key, ("--layout", "folder"), beside=self.place)
            while True:
                code = job.run()
                tries += 1
                if code == 0:
                    break
                said = job.said()
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
            job = self.job("tree", "folder", f"interrupted{number}", apart=number % 2 == 1)
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
        hold(heard or times < 8, f"none of {times} runs heard Ctrl-C")
        return {"times": times, "exit_130": heard, "shards_finished_first": shards, "equal": times}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS / "stress.json")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        (place / "out").mkdir()
        os.environ["UNLEARNABLE_CONFIG"] = str(place / "config")
        api.protect(str(write_pictures(place / "warm")), place / "w", api.Options(preset="r16", verify="none"))
        stress = Stress(place, asked.seed)
        found = {"kills": stress.kills(asked.kills)}
        few = max(4, asked.kills // 5)
        found |= {"full_disk": stress.full_disk(), "changed": stress.changed(few), "ctrl_c": stress.interrupts(few)}
    report = {
        "command": f"python benchmarks/stress.py --kills {asked.kills} --seed {asked.seed}",
        "date": today(),
        "hardware": hardware(),
        "seconds": round(time.monotonic() - started),
        **found,
    }
    asked.out.parent.mkdir(exist_ok=True)
    asked.out.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1))

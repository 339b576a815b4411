"""Promises of who does the work: whatever the number of workers and whatever befalls them, the same bytes."""

from __future__ import annotations

import dataclasses
import faulthandler
import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from deadly_source import Deadly, Ripples, made, work_on
from made_pictures import write_tree

import unlearnable
from cli import cli
from release import build, layout
from release.ahead import ahead
from release.engines import local
from release.engines._process import Forked, Fresh, portable
from release.formats import folder
from release.room import LARGE, Room
from unlearnable import Options, craft, registry
from unlearnable.errors import UnlearnableError
from unlearnable.keys import Key
from unlearnable.types import Batch, Context

FAST = Options(preset="r16", verify="none")
ROOT = Path(__file__).resolve().parents[1]
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="workers are forked on Linux alone")


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "my.key"
    path.write_text("00112233445566778899aabbccddeeff" * 2)
    return path


@pytest.fixture
def many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixty images are many, in ten shards."""
    monkeypatch.setattr(local, "FEW_IMAGES", 1)
    monkeypatch.setattr(folder, "MAX_ROWS", 6)


def data(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted((root / "data").rglob("*")) if p.is_file()}


def entries(root: Path) -> list[object]:
    found: list[object] = json.loads((root / layout.MANIFEST).read_text())["files"]
    return [each for each in found if each["kind"] == "data"]  # type: ignore[index]


@LINUX
@pytest.mark.usefixtures("many")
def test_the_bytes_do_not_depend_on_the_number_of_workers(tree: Path, tmp_path: Path, key: Path) -> None:
    each = []
    for workers in (1, 2, 3):
        out = tmp_path / f"out{workers}"
        unlearnable.protect(str(tree), out, dataclasses.replace(FAST, key=key, workers=workers))
        each.append((data(out), entries(out)))
    assert each[0] == each[1] == each[2] and len(each[0][0]) == 60


@LINUX
@pytest.mark.usefixtures("many")
def test_a_worker_that_dies_once_costs_nothing(
    tree: Path, tmp_path: Path, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unlearnable.protect(str(tree), tmp_path / "whole", dataclasses.replace(FAST, key=key, workers=1))
    real, here = build.make, os.getpid()

    def dies(picture: build.Picture, *rest: object) -> build.Made:
        if picture.name == "down/007.png" and not (tmp_path / "died").exists():
            (tmp_path / "died").touch()
            assert os.getpid() != here
            os.kill(os.getpid(), signal.SIGKILL)
        return real(picture, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(build, "make", dies)
    unlearnable.protect(str(tree), tmp_path / "out", dataclasses.replace(FAST, key=key, workers=2))
    assert (tmp_path / "died").exists() and data(tmp_path / "out") == data(tmp_path / "whole")


@LINUX
@pytest.mark.usefixtures("many")
def test_an_image_that_kills_whoever_touches_it_is_left_out_and_all_others_are_protected(
    tree: Path, tmp_path: Path, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, options = build.make, dataclasses.replace(FAST, key=key, workers=2)
    unlearnable.protect(str(tree), tmp_path / "whole", options)

    def dies(picture: build.Picture, *rest: object) -> build.Made:
        if picture.name in ("down/007.png", "down/009.png"):
            faulthandler.disable()
            os.kill(os.getpid(), signal.SIGSEGV)
        return real(picture, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(build, "make", dies)
    done = unlearnable.protect(str(tree), tmp_path / "out", options)
    whole, made = data(tmp_path / "whole"), data(tmp_path / "out")
    lost = {"data/down/007.png", "data/down/009.png"}
    assert whole.keys() - made.keys() == lost and made == {path: whole[path] for path in made}
    assert done["images"] == {"total": 60, "protected": 58, "skipped": 2}
    (receipt,) = layout.owner_folder(tmp_path / "out").rglob(layout.RECEIPT)
    assert "SIGSEGV: the codec crashed" in receipt.read_text() and "--retry-failed" in receipt.read_text()


@LINUX
@pytest.mark.usefixtures("many")
def test_a_shard_that_kills_though_none_of_its_images_does_is_named_and_all_others_done(
    tree: Path, tmp_path: Path, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, options, seen = build.make, dataclasses.replace(FAST, key=key, workers=2), set[str]()

    def dies(picture: build.Picture, *rest: object) -> build.Made:
        seen.add(picture.name)
        if {"down/007.png", "down/008.png"} <= seen:  # each of them is harmless
            os.kill(os.getpid(), signal.SIGKILL)
        return real(picture, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(build, "make", dies)
    with pytest.raises(
        UnlearnableError, match=r"\(SIGKILL\) on the 6 images from down/004.png to down/009.png, though"
    ):
        unlearnable.protect(str(tree), tmp_path / "out", options)
    made: list[str] = []
    monkeypatch.setattr(build, "make", lambda p, *rest: made.append(p.name) or real(p, *rest))
    unlearnable.protect(str(tree), tmp_path / "out", dataclasses.replace(options, workers=1))
    assert sorted(made) == [f"down/{n:03d}.png" for n in range(4, 10)], (
        "a rerun makes what was missing and nothing else"
    )


@LINUX
@pytest.mark.usefixtures("many")
def test_an_error_in_a_worker_ends_the_run_and_says_why(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(build, "_write_mark", full)
    with pytest.raises(UnlearnableError, match="is full"):
        unlearnable.protect(str(tree), tmp_path / "out", dataclasses.replace(FAST, workers=2))

    def wrong(*args: object) -> None:
        raise KeyError("a fault of ours")

    monkeypatch.setattr(build, "make", wrong)
    with pytest.raises(RuntimeError, match=r"(?s)in wrong.*a fault of ours"):
        unlearnable.protect(str(tree), tmp_path / "out", dataclasses.replace(FAST, workers=2))


@LINUX
@pytest.mark.usefixtures("many")
def test_a_run_that_stops_early_keeps_what_its_workers_made(tree: Path, tmp_path: Path) -> None:
    from unlearnable.sources import open_source

    settings = build.Settings("folder", "auto", 8, workers=2)
    (tmp_path / "staging").mkdir()
    (tmp_path / "marks").mkdir()
    work = build.Work(
        open_source(str(tree)), lambda r, p: torch.zeros(len(r), 3, 16, 16), settings, tmp_path / "staging",
        tmp_path / "marks", apart=True,
    )  # fmt: skip
    running = local.run(work, work.shards())
    next(running)
    running.close()
    marks = sorted(p.name for p in (tmp_path / "marks").glob("*.json"))
    assert 1 <= len(marks) <= 3 and not list((tmp_path / "staging").rglob(".partial-*"))


@LINUX
def test_killed_with_its_workers_at_work_a_rerun_ends_in_the_same_bytes(tmp_path: Path, key: Path) -> None:
    tree = write_tree(tmp_path / "pictures", each=20)
    few = "from release.engines import local; from release.formats import folder; local.FEW_IMAGES = folder.MAX_ROWS = 1\n"
    slow = "from release import build; import time; real = build.make\n"
    slow += "build.make = lambda *a: time.sleep(0.05) or real(*a)\n"
    words = ["protect", str(tree), str(tmp_path / "out"), "--preset", "r16", "--verify", "none", "--key", str(key)]
    program = [sys.executable, "-c", few + slow + "from cli import cli\ncli()", *words, "-q", "--workers", "3"]
    process = subprocess.Popen(program, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    marks = layout.owner_folder(tmp_path / "out") / layout.UNFINISHED / layout.SHARDS
    while len(list(marks.glob("*.json"))) < 5 and process.poll() is None:
        time.sleep(0.01)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    time.sleep(0.2)
    before = len(list(marks.glob("*.json")))
    time.sleep(0.3)
    assert len(list(marks.glob("*.json"))) == before < 60, "workers end with their parent"
    assert CliRunner().invoke(cli, [*words, "-q"]).exit_code == 0
    unlearnable.protect(str(tree), tmp_path / "whole", dataclasses.replace(FAST, key=key))
    assert data(tmp_path / "out") == data(tmp_path / "whole")


@LINUX
@pytest.mark.usefixtures("many")
@pytest.mark.parametrize("start", [Forked, pytest.param(Fresh, marks=pytest.mark.slow)])
def test_with_several_devices_each_has_a_process_and_the_bytes_are_those_of_one(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: object
) -> None:
    monkeypatch.setattr(local, "Fresh", start)  # processes that start anew import torch for seconds
    alone = work_on(Deadly(tree), tmp_path / "alone", apart=False)
    assert len(list(local.run(alone, alone.shards()))) == 10
    monkeypatch.setattr(local, "devices", lambda work: ("cpu", "cpu"))
    both = work_on(Deadly(tree, once="down/003.png"), tmp_path / "both", apart=False)
    assert local.processes(both, both.shards()) == 2
    assert len(list(local.run(both, both.shards()))) == 10 and (tmp_path / "died").exists()
    assert made(both) == made(alone)


def test_work_can_be_sent_whoever_its_crafter_talks_to(tree: Path, tmp_path: Path) -> None:
    heard: list[str] = []
    context = dataclasses.replace(Ripples().context, tell=lambda message: heard.append(message))
    crafter = craft.fit(craft.resolve("regions", "r16", {}), None, context)
    work = dataclasses.replace(work_on(Deadly(tree), tmp_path / "out"), perturb=crafter)
    with pytest.raises((AttributeError, pickle.PicklingError)):
        pickle.dumps(work)
    there = pickle.loads(pickle.dumps(portable(work, "cuda:1")))
    assert there.perturb.context.device == "cuda:1" and there.perturb.context.key == context.key
    batch = torch.zeros(2, 3, 16, 16, dtype=torch.uint8)
    assert torch.equal(
        there.perturb.on(("x", "y"), batch, torch.arange(2)), crafter.on(("x", "y"), batch, torch.arange(2))
    )


def test_every_gpu_works_unless_one_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def on(device: str) -> tuple[str, ...]:
        ripples = Ripples(dataclasses.replace(Ripples().context, device=device))
        return local.devices(build.Work(None, ripples, build.Settings("folder", "auto", 8), tmp_path, tmp_path))  # type: ignore[arg-type]

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert on("cuda") == ("cuda:0", "cuda:1", "cuda:2")
    assert on("cuda:1") == ("cuda:1",) and on("cpu") == ("cpu",) and on("mps") == ("mps",)


def test_what_follows_is_made_meanwhile_and_no_more_than_two_are_there() -> None:
    begun = [threading.Event() for _ in range(4)]

    def things() -> Iterator[int]:
        for number in range(3):
            begun[number].set()
            yield number

    for number in ahead(things()):
        assert number == 2 or begun[number + 1].wait(60)
        assert not begun[min(number + 2, 3)].is_set()
    assert begun[2].is_set()

    def fails() -> Iterator[int]:
        yield 1
        raise OSError("no more")

    with pytest.raises(OSError, match="no more"):
        list(ahead(fails()))


def test_a_crafted_chunk_is_encoded_while_the_next_is_crafted(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "_CHUNK_IMAGES", 10)
    crafted = [threading.Event() for _ in range(7)]
    count, waited, real = iter(range(6)), [], build.make
    work = dataclasses.replace(work_on(Deadly(tree), tmp_path / "out"), apart=False)

    def perturb(records, pictures):  # type: ignore[no-untyped-def]
        crafted[next(count)].set()
        return work.perturb(records, pictures)

    def make(picture, *rest):  # type: ignore[no-untyped-def]
        if not waited:  # the very first image is encoded only when the second chunk is being crafted
            waited.append(crafted[1].wait(60))
        return real(picture, *rest)

    monkeypatch.setattr(build, "make", make)
    seen = dataclasses.replace(work, perturb=perturb)
    assert len(list(local.run(seen, seen.shards()))) == len(work.shards())
    assert waited and all(waited)


@LINUX
@pytest.mark.usefixtures("many")
def test_no_lock_is_left_in_the_owner_folder(tree: Path, tmp_path: Path) -> None:
    work = work_on(Deadly(tree), tmp_path / "out")
    assert len(list(local.run(work, work.shards()))) == 10
    assert {path.suffix for path in work.marks.iterdir()} == {".json"}


def test_crafted_methods_and_few_images_stay_in_one_process(tree: Path, tmp_path: Path) -> None:
    from unlearnable.sources import open_source

    settings = build.Settings("folder", "auto", 8, workers=4)
    work = build.Work(open_source(str(tree)), lambda r, p: torch.zeros(0), settings, tmp_path, tmp_path, apart=True)
    shards = [dataclasses.replace(work.shards()[0], index=n) for n in range(6)]
    assert local.processes(work, shards[:3]) == 1
    assert local.processes(work, shards) == (4 if sys.platform == "linux" else 1)
    assert local.processes(dataclasses.replace(work, apart=False), shards) == 1


def test_a_large_picture_waits_for_the_middling_and_they_for_it(tmp_path: Path) -> None:
    first, second, third = (Room(tmp_path) for _ in range(3))
    first.admit(LARGE - 1)
    second.admit(LARGE - 1)  # these share
    program = (
        "import sys; from pathlib import Path; from release.room import LARGE, Room\n"
        "room = Room(Path(sys.argv[1])); print('waits', flush=True); room.admit(LARGE + 1); print('in', flush=True)"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None and other.stdout.readline() == b"waits\n"
        third.admit(100)  # small ones never wait
        first.leave()
        assert other.poll() is None
        second.leave()
        assert other.stdout.readline() == b"in\n"
    first.admit(LARGE + 1)  # it died, and what it held is free
    first.leave()


@pytest.mark.parametrize(
    "name", [n for n in registry.names("poisons") if registry.describe("poisons", n).facts.get("BLIND")]
)
def test_methods_that_say_they_are_blind_look_at_no_picture(name: str) -> None:
    context = Context(Key(bytes(32)), ("a", "b", "c"), 8, 32)
    crafter = craft.fit(craft.resolve(name, None, {}), None, context)
    ids, labels = ("x", "y", "z"), torch.arange(3)
    pictures = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    unseen = torch.zeros((), dtype=torch.uint8).expand(3, 3, 32, 32)
    assert torch.equal(crafter.on(ids, pictures, labels), crafter.on(ids, unseen, labels))
    assert len(Batch(ids, unseen, labels)) == 3 and crafter.apart

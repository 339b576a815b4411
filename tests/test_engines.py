"""Promises of who does the work: whatever the number of workers and whatever befalls them, the same bytes."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from made_pictures import write_tree

import unlearnable
from cli import cli
from release import build, layout
from release.engines import local
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
    made = []
    for workers in (1, 2, 3):
        out = tmp_path / f"out{workers}"
        unlearnable.protect(str(tree), out, dataclasses.replace(FAST, key=key, workers=workers))
        made.append((data(out), entries(out)))
    assert made[0] == made[1] == made[2] and len(made[0][0]) == 60


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
def test_images_that_kill_every_worker_are_named_and_all_others_done(
    tree: Path, tmp_path: Path, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, options = build.make, dataclasses.replace(FAST, key=key, workers=2)

    def dies(picture: build.Picture, *rest: object) -> build.Made:
        if picture.name == "down/007.png":
            os.kill(os.getpid(), signal.SIGKILL)
        return real(picture, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(build, "make", dies)
    with pytest.raises(
        UnlearnableError, match=r"SIGKILL\) on the 6 images from down/004.png to down/009.png; all others"
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

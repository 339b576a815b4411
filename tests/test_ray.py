"""Promises of the engine on Ray: the same bytes as here, whatever befalls workers and machines, and Ray left as it was."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from deadly_source import Deadly, Ripples, made, wait_for, work_on
from made_pictures import write_tree

import unlearnable
from release import build, engines, layout, marks
from release.engines import local
from release.engines import ray as engine
from release.formats import Shard, folder
from unlearnable import Options
from unlearnable.errors import UsageError

ROOT = Path(__file__).resolve().parents[1]
LIMIT = 240  # seconds that a run on Ray may take before it counts as stuck
STORE = 100 << 20


@pytest.fixture
def few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Forty images in eight shards."""
    monkeypatch.setattr(folder, "MAX_ROWS", 5)
    return write_tree(tmp_path / "pictures", classes=2)


@pytest.fixture
def bounded() -> Iterator[None]:
    """Ends a test that is stuck."""

    def stuck(*given: object) -> None:
        raise TimeoutError(f"not done after {LIMIT} seconds")

    before = signal.signal(signal.SIGALRM, stuck)
    signal.alarm(LIMIT)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray's workers find the helpers of the tests. What the engine sets is taken back."""
    for name in (*engine._ENVIRONMENT, "RAY_ADDRESS"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")  # one password for a process, and a Ray here may have none
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(ROOT / "tests")]))


@pytest.fixture
def cluster(bounded: None, surroundings: None) -> Iterator[Any]:
    """Two machines of one core each, and one of none that leads them."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    started = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": STORE})
    for _ in range(2):
        started.add_node(num_cpus=1, object_store_memory=STORE)
    started.wait_for_nodes()
    yield started
    started.shutdown()


def data(root: Path) -> tuple[dict[str, bytes], list[object]]:
    """The data files of a release, and what its manifest says of them."""
    files = {str(p.relative_to(root)): p.read_bytes() for p in sorted((root / "data").rglob("*")) if p.is_file()}
    return files, [each for each in json.loads((root / layout.MANIFEST).read_text())["files"] if each["kind"] == "data"]


def test_the_bytes_are_those_of_this_machine_and_stdout_holds_the_result_alone(
    few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray")
    monkeypatch.setattr(local, "FEW_IMAGES", 1)
    (tmp_path / "my.key").write_text("0f" * 32)
    options = Options(preset="r16", verify="none", key=tmp_path / "my.key")
    for workers in (1, 2):
        unlearnable.protect(str(few), tmp_path / f"out{workers}", dataclasses.replace(options, workers=workers))
    program = "from release.formats import folder; folder.MAX_ROWS = 5\nfrom cli import cli\n"
    program += "try: cli()\nfinally:\n    import ray; assert not ray.is_initialized()"
    words = ["protect", "pictures", "out", "--preset", "r16", "--verify", "none", "--key", "my.key", "--json"]
    words += ["--engine", "ray", "--workers", "2"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment["PYTHONPATH"] = str(ROOT)
    done = subprocess.run(
        [sys.executable, "-c", program, *words],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["images"] == {"total": 40, "protected": 40, "skipped": 0}
    made = [data(tmp_path / name) for name in ("out", "out1", "out2")]
    assert made[0] == made[1] == made[2] and len(made[0][0]) == 40


def test_without_ray_its_absence_is_said_before_anything_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"is not installed. pip install 'unlearnable\[ray\]'"):
        engines.load("ray")


def test_an_address_where_nobody_listens_is_said_at_once(few: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    for address in (f"127.0.0.1:{port}", f"ray://127.0.0.1:{port}"):
        work = work_on(Deadly(few), tmp_path / address.replace("/", ""), address=address)
        with pytest.raises(UsageError, match=f"There is no Ray to work on at {address} .*refused.*--address"):
            list(engine.run(work, work.shards()))


def test_a_machine_that_does_not_see_the_folders_or_has_another_version_says_so(few: Path, tmp_path: Path) -> None:
    work = work_on(Deadly(few), tmp_path / "out")
    about = engine._Run(str(tmp_path), engine._paths(work), True, 1, 1, "room")
    assert engine._unfit(about) is None
    work.marks.rmdir()
    assert f"does not see {work.marks}." in str(engine._unfit(about))
    assert str(few) in about.paths
    assert "Install unlearnable 0.0.0" in str(engine._unfit(dataclasses.replace(about, version="0.0.0")))


def test_what_a_task_asks_of_a_machine(tmp_path: Path) -> None:
    def asks(device: str, *machines: dict[str, float], apart: bool = False) -> dict[str, int]:
        ray = SimpleNamespace(nodes=lambda: [{"Alive": True, "Resources": has} for has in machines])
        ripples = Ripples(dataclasses.replace(Ripples().context, device=device))
        settings = build.Settings("folder", "auto", 8)
        work = build.Work(None, ripples, settings, tmp_path, tmp_path, None, apart)  # type: ignore[arg-type]
        return engine._asks(ray, work)

    small, large, gpus = {"CPU": 4.0}, {"CPU": 64.0}, {"CPU": 32.0, "GPU": 8.0}
    assert asks("cuda", small, gpus, apart=True) == {"num_cpus": 1}, "closed forms need no GPU"
    assert asks("cpu", small, large) == {"num_cpus": 4}
    assert asks("cuda", small, gpus) == {"num_gpus": 1, "num_cpus": 4}
    with pytest.raises(UsageError, match="no machine of the cluster has one"):
        asks("cuda", small, large)


@dataclasses.dataclass(eq=False)
class Ref:
    shard: Shard


class Counted:
    """As much of Ray as the engine asks of it: two cores, tasks that are done when they are waited for, and how many wait."""

    def __init__(self) -> None:
        self.waiting: list[Ref] = []
        self.most, self.cancelled = 0, 0
        self.exceptions = SimpleNamespace(
            **dict.fromkeys(("WorkerCrashedError", "NodeDiedError", "OutOfMemoryError", "LocalRayletDiedError"), KeyError),
            RayTaskError=KeyError, RayError=KeyError,
        )  # fmt: skip

    def remote(self, **asks: int) -> Any:
        assert asks == {"num_cpus": 1, "max_retries": 1}

        def submit(held: list[Any], about: object, shard: Shard, careful: bool) -> Ref:
            self.waiting.append(Ref(shard))
            self.most = max(self.most, len(self.waiting))
            return self.waiting[-1]

        return lambda task: SimpleNamespace(remote=submit)

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 2.0}

    def put(self, sent: bytes) -> str:
        return "the work"

    def wait(self, refs: list[Ref], num_returns: int) -> tuple[list[Ref], list[Ref]]:
        done, self.waiting = self.waiting[:num_returns], self.waiting[num_returns:]
        return done, self.waiting

    def get(self, ref: Ref) -> Exception | None:
        return OSError(28, "No space left") if ref.shard.index == 5 else None

    def cancel(self, ref: object) -> None:
        self.cancelled += 1


def test_ray_never_knows_of_more_than_a_few_shards(few: Path, tmp_path: Path) -> None:
    ray, work = Counted(), work_on(Deadly(few), tmp_path / "out")
    marked = [dataclasses.replace(shard, records=()) for shard in work.shards()]
    running = engine._tasks(ray, work, b"", marked)
    assert [next(running).index for _ in range(5)] == [0, 1, 2, 3, 4] and ray.most == 4
    with pytest.raises(OSError, match="No space left"):  # of shard 5, and no more are begun
        list(running)
    assert ray.most == 4 and ray.cancelled >= 2

    ray = Counted()
    stopped = engine._tasks(ray, work, b"", marked)
    next(stopped)
    stopped.close()
    assert ray.cancelled == 3 and not ray.waiting


@pytest.mark.slow
def test_a_killed_worker_a_straggler_and_a_pill_cost_one_image(cluster: Any, few: Path, tmp_path: Path) -> None:
    quiet = work_on(Deadly(few), tmp_path / "quiet")
    list(local.run(quiet, quiet.shards()))
    harm = {"once": "across/007.png", "pill": "down/003.png", "slow": "across/000.png"}
    source = Deadly(few, tmp_path / "out" / "marks", 7, **harm)
    work = work_on(source, tmp_path / "out", address=cluster.address)
    done = [shard.index for shard in engine.run(work, work.shards())]
    assert sorted(done) == list(range(8)), "each shard once"
    assert done[-1] == 0, "nobody waited for the slow one"
    assert source.died.exists()
    (files, notes), (quiet_files, quiet_notes) = made(work), made(quiet)
    assert quiet_files.keys() - files.keys() == {"data/down/003.png"}
    assert all(files[path] == quiet_files[path] for path in files)
    assert [name for name in notes if notes[name] != quiet_notes[name]] == ["000004.json"]
    (skipped,) = marks.read(work.marks / "000004.json")[1]
    assert skipped.id == "down/003.png" and "SIGSEGV" in skipped.reason


@pytest.mark.slow
def test_a_machine_that_is_lost_while_it_works_costs_nothing(cluster: Any, few: Path, tmp_path: Path) -> None:
    quiet = work_on(Deadly(few), tmp_path / "quiet")
    list(local.run(quiet, quiet.shards()))
    source = Deadly(few, hold="across/008.png")
    work = work_on(source, tmp_path / "out", address=cluster.address)
    lost: list[str] = []

    def pull_the_plug() -> None:
        wait_for(source.held.exists)
        (node,) = (node for node in cluster.list_all_nodes() if node.node_id == source.held.read_text())
        cluster.remove_node(node, allow_graceful=False)
        lost.append(node.node_id)

    thread = threading.Thread(target=pull_the_plug)
    thread.start()
    done = [shard.index for shard in engine.run(work, work.shards())]
    thread.join()
    assert lost and sorted(done) == list(range(8))
    assert made(work) == made(quiet)


@pytest.mark.slow
@pytest.mark.usefixtures("bounded", "surroundings")
def test_stopped_early_it_keeps_what_was_made_and_ends_the_ray_it_started(few: Path, tmp_path: Path) -> None:
    ray = pytest.importorskip("ray")
    quiet = work_on(Deadly(few), tmp_path / "quiet")
    list(local.run(quiet, quiet.shards()))
    work = work_on(Deadly(few), tmp_path / "out")
    before = signal.getsignal(signal.SIGTERM)
    running = engine.run(work, work.shards())
    next(running)
    running.close()
    assert not ray.is_initialized() and signal.getsignal(signal.SIGTERM) is before
    assert list(work.marks.glob("*.json")) and not list(work.staging.rglob(".partial-*"))
    assert not [path for path in work.marks.iterdir() if path.suffix != ".json"]
    assert len(list(engine.run(work, work.shards()))) == 8 and made(work) == made(quiet)


@pytest.mark.slow
@pytest.mark.usefixtures("bounded", "surroundings")
def test_a_ray_that_was_running_goes_on_and_errors_come_back_as_themselves(few: Path, tmp_path: Path) -> None:
    ray = pytest.importorskip("ray")
    ray.init("local", num_cpus=2, object_store_memory=STORE, include_dashboard=False, log_to_driver=False)
    try:
        work = work_on(Deadly(few, full="down/003.png"), tmp_path / "out")
        with pytest.raises(OSError, match="No space left") as failed:
            list(engine.run(work, work.shards()))
        assert failed.value.errno == 28 and ray.is_initialized()
        work = dataclasses.replace(work_on(Deadly(few), tmp_path / "more"), perturb=None)  # type: ignore[arg-type]
        with pytest.raises(RuntimeError, match=r"(?s)in attempt.*NoneType"):
            list(engine.run(work, work.shards()[:1]))  # a fault of ours
        here, there = (work_on(Deadly(few), tmp_path / name, apart=False) for name in ("here", "there"))
        assert len(list(engine.run(there, there.shards()))) == len(list(local.run(here, here.shards()))) == 8
        assert made(there) == made(here), "crafted ones too"
        assert ray.is_initialized()
    finally:
        ray.shutdown()

"""Ray: the shards as tasks of a cluster, or of a Ray that is started on this machine for as long as the run takes.

Every machine must have the same version of `unlearnable`, and see the source, the release's staging folder (unless shards go
from there to a depot) and its owner folder at the same paths as this one does (a shared disk); a worker that does not says so,
and the run stops. The work is sent once, and with it the owner's key: it lies in the memory of the cluster, so use one whose
users you trust.

Where things go wrong: a task whose worker or machine died is repeated by Ray itself; one that died twice is done with care,
without the images that kill (`_pills`). Slow ones keep nobody waiting but the end of the run. Closed forms take one CPU a task
and one thread of torch; methods that are crafted on networks take a GPU a task, or on CPUs as many of them as the smallest
machine has, so that one task runs there at a time. Closed early (Ctrl-C), tasks that have begun are finished and the others
dropped. A Ray that was running is left as it was. It says not a word on stdout and sends nobody statistics.

It does not repeat a task elsewhere because it is slow, nor start machines, nor send files to them.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import pickle
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from release.build import Work
from release.engines import _pills
from release.engines._process import Fresh, portable, set_threads, spread, threads
from release.formats import Shard
from release.room import Room
from unlearnable.errors import UnlearnableError, UsageError
from unlearnable.version import __version__

_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS_SKIP_REGEX": "^",  # every line: it would print deaths of workers to stdout, which is for results
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_task_oom_retries": str(_pills.TRIES - 1),  # else for ever
}
_QUIET = {"log_to_driver": False, "logging_level": "CRITICAL"}
_STORE = 100 << 20  # bytes of shared memory that a Ray of our own has besides the work
_AHEAD = 2  # tasks that Ray knows of, for each that can run: a large job must not become a million of them
_HERE = "local"  # Ray's word for one that is started for this process
_PATIENCE = 10.0  # seconds until an address that does not answer is given up


@dataclass(frozen=True)
class _Run:
    """What a task must know besides the work. paths: what every machine must see, from the folder `here`. slots: CPUs of a
    task; torchs: threads of torch; room: names the folder of locks that a machine's workers share."""

    here: str
    paths: tuple[str, ...]
    one_thread: bool
    slots: int
    torchs: int
    room: str
    version: str = __version__


def require() -> None:
    """Raises UsageError where Ray is not installed."""
    if importlib.util.find_spec("ray") is None:
        raise UsageError("The engine ray needs Ray, which is not installed.", "pip install 'unlearnable[ray]'")


def run(work: Work, shards: Sequence[Shard]) -> Iterator[Shard]:
    """Does the shards and yields each when it is done, in any order. A process that has a Ray already stays with it.

    Raises what a shard raised and UnlearnableError for one that killed its workers even without the images that kill, as
    the engine `local` does; UsageError when no cluster answers at `work.address` or its machines do not see the folders.
    """
    require()
    address = work.address or os.environ.get("RAY_ADDRESS") or _HERE
    try:
        _answers(address)
    except OSError as why:
        raise _unreachable(address, why) from why
    _environment(address)
    ray = importlib.import_module("ray")
    sent = pickle.dumps(portable(work, "cuda" if _device(work).startswith("cuda") else None))
    with _connected(ray, address, work.settings.workers, len(sent)):
        yield from _tasks(ray, work, sent, shards)


def _environment(address: str) -> None:
    """Ray reads these when it is imported. A Ray of our own asks for a password, as whoever reaches one runs programs on it."""
    os.environ.update(_ENVIRONMENT)
    if address == _HERE and "ray" not in sys.modules and "RAY_AUTH_MODE" not in os.environ:
        os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(32))


@contextmanager
def _connected(ray: Any, address: str, workers: int, size: int) -> Iterator[None]:
    """Ray, as this process already knows it, at an address, or started here. size: of what will be sent, in bytes."""
    if ray.is_initialized():
        yield
        return
    options: dict[str, Any] = {}
    if address == _HERE:
        options = {"num_cpus": workers, "include_dashboard": False, "object_store_memory": _STORE + 2 * size}
    before = signal.getsignal(signal.SIGTERM)
    try:
        there = ray.init(address, **_QUIET, **options)
    except (OSError, RuntimeError, ValueError) as why:
        raise _unreachable(address, why) from why
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, before)  # Ray has put its own in its place
    try:
        yield
    finally:
        ray.shutdown()
        if address == _HERE:
            shutil.rmtree(there.address_info["session_dir"], ignore_errors=True)  # its logs


def _unreachable(address: str, why: Exception) -> UsageError:
    reason = str(why).strip().partition("\n")[0].rstrip(".")
    if address == _HERE:
        return UsageError(f"Ray does not start here ({reason}).", "Look into /tmp/ray/session_latest/logs.")
    return UsageError(
        f"There is no Ray to work on at {address} ({reason}).",
        "Look whether it runs (ray status), or leave --address and RAY_ADDRESS out to start one here.",
    )


def _answers(address: str) -> None:
    """Raises OSError when nobody listens there. Ray itself would try for minutes, and end the process."""
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=_PATIENCE).close()


def _tasks(ray: Any, work: Work, sent: bytes, shards: Sequence[Shard]) -> Iterator[Shard]:
    asks = _asks(ray, work)
    room = Path(tempfile.gettempdir()) / f"unlearnable-{secrets.token_hex(16)}"
    about = _Run(str(Path.cwd()), _paths(work), work.apart, asks["num_cpus"], threads(), room.name)
    task = ray.remote(**asks, max_retries=_pills.TRIES - 1)(_do)
    held = [ray.put(sent)]  # in a list, or it would be unpacked for every task
    todo, running = iter(shards), dict[Any, tuple[Shard, bool]]()
    failed: list[Exception] = []
    killed: list[Exception] = []
    try:
        while True:
            most = _AHEAD * _at_once(ray, asks)
            while not failed and len(running) < most and (shard := next(todo, None)):
                running[task.remote(held, about, shard, False)] = (shard, False)
            if not running:
                break
            for ref in ray.wait(list(running), num_returns=1)[0]:
                shard, careful = running.pop(ref)
                why = _end(ray, ref)
                if why is None:
                    yield shard
                elif not isinstance(why, _Died):
                    failed.append(why)
                    _cancel(ray, running)
                elif careful:
                    killed.append(_pills.killed(shard, str(why)))
                elif not failed:
                    running[task.remote(held, about, shard, True)] = (shard, True)
    finally:
        _cancel(ray, running)
        if running:
            ray.wait(list(running), num_returns=len(running))
        shutil.rmtree(room, ignore_errors=True)  # where this machine is one of the workers'
    for each in [*failed, *killed]:
        raise each


class _Died(Exception):
    """The workers that did a task died, or their machines."""


def _end(ray: Any, ref: Any) -> Exception | None:
    """How a task that is no longer running ended: None if well."""
    known = ray.exceptions
    try:
        why: Exception | None = ray.get(ref)
    except (known.WorkerCrashedError, known.NodeDiedError, known.OutOfMemoryError, known.LocalRayletDiedError) as died:
        return _Died(type(died).__name__)
    except known.RayTaskError as wrong:
        if "No module named" in str(wrong):
            last = str(wrong).strip().rpartition("\n")[2]
            return UsageError(f"A machine of the cluster lacks a part of unlearnable ({last}).", _same(__version__))
        return RuntimeError(str(wrong))
    except known.RayError as wrong:
        reason = str(wrong).strip().partition("\n")[0].rstrip(".")
        return UnlearnableError(f"Ray dropped a part of the work ({reason}).", "Repeat the command: it continues.")
    return why


def _cancel(ray: Any, running: dict[Any, tuple[Shard, bool]]) -> None:
    """What has not begun will not; `_do` lets what has begun finish."""
    for ref in running:
        ray.cancel(ref)


def _device(work: Work) -> str:
    """Where perturbations are made. Closed forms are computed on CPUs, whatever there is."""
    return "cpu" if work.apart else str(getattr(getattr(work.perturb, "context", None), "device", "cpu"))


def _asks(ray: Any, work: Work) -> dict[str, int]:
    """What a task asks of the machine that does it."""
    if work.apart:
        return {"num_cpus": 1}
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
    if not _device(work).startswith("cuda"):
        return {"num_cpus": int(min((has["CPU"] for has in machines), default=1))}
    shares = [int(has["CPU"] // has["GPU"]) for has in machines if has.get("GPU", 0) >= 1]
    if not shares:
        raise UsageError("The method is crafted on a GPU, and no machine of the cluster has one.", "Use --device cpu.")
    return {"num_gpus": 1, "num_cpus": max(1, min(shares))}


def _at_once(ray: Any, asks: dict[str, int]) -> int:
    """How many tasks the cluster, which may grow, can run now."""
    has = ray.cluster_resources()
    wanted = {name.removeprefix("num_").removesuffix("s").upper(): count for name, count in asks.items()}
    return max(1, min(int(has.get(name, 0) // count) for name, count in wanted.items()))


def _paths(work: Work) -> tuple[str, ...]:
    """What must be there on every machine; a source that is no path (a Hub repository) need not."""
    source = Path(work.source.spec).expanduser()
    there = [source] if source.exists() else []
    staging = () if work.depot else (work.staging,)  # a machine's own, where shards go from there to a depot
    return tuple(map(str, (*staging, work.marks, *there)))


_known: dict[str, Work] = {}  # by the name of what was sent: unpacked once a worker and not once a shard


def _do(held: list[Any], about: _Run, shard: Shard, careful: bool) -> Exception | None:
    """A task: one shard, in a worker of the cluster. Returns what it raised."""
    with _undisturbed(), contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # paths may all be absolute; one that is not is missed below
            stack.enter_context(contextlib.chdir(about.here))
        if (why := _unfit(about)) is not None:
            return why
        over: Callable[..., Any] = stack.enter_context(spread(about.slots, one=about.one_thread))
        if not about.one_thread:
            set_threads(about.torchs)
        room = stack.enter_context(contextlib.closing(Room(_room(about))))
        return _pills.attempt(_work(held[0]), shard, map if about.one_thread else over, room, Fresh, careful)


def _unfit(about: _Run) -> Exception | None:
    """Why this machine cannot do a shard of that run."""
    if about.version != __version__:
        return UsageError(f"The worker on {socket.gethostname()} has unlearnable {__version__}.", _same(about.version))
    for path in about.paths:
        if not Path(path).exists():
            return UsageError(
                f"The Ray worker on {socket.gethostname()} does not see {path}.",
                "Source, release and owner folder must lie on a disk that all machines share, at the same paths.",
            )
    return None


def _same(version: str) -> str:
    return f"Install unlearnable {version} on every machine."


def _work(ref: Any) -> Work:
    name = ref.hex()
    if name not in _known:
        _known.clear()
        _known[name] = pickle.loads(importlib.import_module("ray").get(ref))
    return _known[name]


def _room(about: _Run) -> Path:
    folder = Path(tempfile.gettempdir()) / about.room
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Cancelled by Ray, which is done by an interrupt, a task that has begun is finished nevertheless."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)

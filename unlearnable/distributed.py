"""Several processes that fit one protection together, started by torch's own launcher.

    torchrun --standalone --nproc-per-node 2 -m cli protect SOURCE OUT --method error_min --fit-only

RANK, LOCAL_RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT come from the launcher; gloo connects processes on CPUs, nccl
those with a GPU each. Inside `joined` the same program runs in every process: `world` says which one this is, and gives
the few ways in which they talk. With one process all of it does nothing, and torch.distributed is not imported.

What `shared` sends is pickled, and the owner's key may be part of it: the network between the processes must be private
(one machine's own, or a cluster's inner network), because nothing on it is encrypted or authenticated.

A process that fails leaves a note with the launcher, and all others end with its sentence; one that is lost without a word
ends them too: at once where its connections break, after `PATIENCE` at the latest. Raises UsageError for a launch that
cannot work. It starts no processes, and goes on with none: what a broken fit had found is lost.
"""

from __future__ import annotations

import itertools
import os
import pickle
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from unlearnable.errors import TrainingError, UnlearnableError, UsageError

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

T = TypeVar("T")
Net = TypeVar("Net", bound="nn.Module")

PATIENCE = timedelta(minutes=30)  # for another process: `auto` on the first one takes a while
_MEETING = timedelta(minutes=5)  # for the launcher to answer
_WHY = "why"  # the note of a process that failed


@dataclass(frozen=True)
class World:
    """The processes that work together: which one this is, how many there are, how they are connected.

    Everything but `part`, `weighed`, `rows` and `require` is to be called by all of them, in the same order.
    """

    rank: int = 0
    size: int = 1
    backend: str = ""
    device: str = "cpu"  # where tensors must be to be sent

    def part(self, count: int) -> slice:
        """This process's run of `count` images of a batch; the runs of all differ by one image at most."""
        return slice(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def weighed(self, loss: Tensor, count: int) -> Tensor:
        """The mean loss over `part(count)`, weighed so that its mean over the processes is that of the whole batch."""
        mine = self.part(count)
        return loss if self.size == 1 else loss * ((mine.stop - mine.start) * self.size / count)

    def rows(self, indices: Tensor) -> Tensor:
        """Every `size`-th of some indices: a share that has all classes of a set that lies class by class."""
        return indices[self.rank :: self.size]

    def require(self, batch: int) -> None:
        """Raises UsageError where a batch is too small to give every process two images, as normalisation asks."""
        if self.size > 1 and batch < 2 * self.size:
            raise UsageError(
                f"{self.size} processes are too many for batches of {batch} images: each takes at least two.",
                "Start fewer with torchrun --nproc-per-node, or add images.",
            )

    def total(self, value: Tensor) -> Tensor:
        """The sum over the processes, the same bytes in all of them."""
        if self.size == 1:
            return value
        import torch.distributed as dist

        found = value.detach().to(self.device, copy=True)
        dist.all_reduce(found)
        return found.to(value.device)

    def whole(self, mine: Tensor, count: int) -> Tensor:
        """The first process gets (count, ...) from the `rows` that each one holds; the others keep their own."""
        if self.size == 1:
            return mine
        import torch
        import torch.distributed as dist

        most = -(-count // self.size)  # all send as many as the one that has most
        sent = torch.zeros((most, *mine.shape[1:]), dtype=mine.dtype, device=self.device)
        sent[: len(mine)] = mine.to(self.device)
        parts = [torch.empty_like(sent) for _ in range(self.size)] if self.rank == 0 else None
        dist.gather(sent, parts)
        return mine if parts is None else torch.stack(parts, 1).flatten(0, 1)[:count].to(mine.device)

    def together(self, net: Net) -> Net:
        """The network to train: DistributedDataParallel around it, so that every process takes the same steps.

        Gradients are averaged. On GPUs its batch normalisation becomes SyncBatchNorm, in place, and normalises by the whole
        batch as one process does. That is for CUDA alone: on CPUs every process normalises by its own part of the batch,
        and the running statistics are those of the first one's parts.
        """
        if self.size == 1:
            return net
        import torch
        from torch.nn.parallel import DistributedDataParallel

        if self.device.startswith("cuda"):
            net = torch.nn.SyncBatchNorm.convert_sync_batchnorm(net)  # type: ignore[no-untyped-call]
        return DistributedDataParallel(net)  # type: ignore[return-value]  # it is called as the network is

    def agree(self, net: nn.Module) -> None:
        """Gives all processes the first one's running statistics, so that they read images alike."""
        if self.size == 1:
            return
        import torch.distributed as dist

        for buffer in net.buffers():
            held = buffer.to(self.device)
            dist.broadcast(held, 0)
            buffer.copy_(held)


ALONE = World()
_current = ALONE
_joinings = itertools.count()


def world() -> World:
    """The processes that work together at this moment: this one alone, but inside `joined` and outside `apart`."""
    return _current


def launched() -> int:
    """How many processes the launcher started; 1 where there was none."""
    return _number("WORLD_SIZE", 1)


@contextmanager
def joined(device: torch.device | str, patience: timedelta = PATIENCE) -> Iterator[World]:
    """Connects the processes of a launch while the block runs; all leave it together. One process alone stays so.

    On "cuda" each takes the GPU of its LOCAL_RANK, and "cuda" means that one from then on. Progress and files are the
    first one's (`rank` 0). An error inside ends all processes with it.
    """
    global _current
    if launched() == 1:
        yield ALONE
        return
    import torch
    import torch.distributed as dist
    from torch.distributed.rendezvous import rendezvous

    size, rank = launched(), _number("RANK")
    if not _number("MASTER_PORT"):
        raise UsageError("torchrun was given port 0, where nobody answers.", "Use torchrun --standalone.")
    backend, place = _place(str(device), _number("LOCAL_RANK"))
    try:
        store, _, _ = next(iter(rendezvous("env://", rank, size, timeout=min(patience, _MEETING))))
        # a second time must not find the addresses of the first
        store = dist.PrefixStore(f"unlearnable {next(_joinings)}", store)  # type: ignore[attr-defined]
        here = torch.device(place) if backend == "nccl" else None
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=patience, device_id=here)
    except (RuntimeError, ValueError) as why:
        raise _lost(why) from why
    _current = World(rank, size, backend, place)
    try:
        yield _current
        dist.barrier()  # the first one may hold the store that the others still ask
    except BaseException as why:
        _current = ALONE
        _fail(why, store)
        raise
    finally:
        _current = ALONE
        if dist.is_initialized():
            dist.destroy_process_group()


@contextmanager
def apart() -> Iterator[None]:
    """For what one process does alone while the others wait: inside, `world` is that process and nobody is asked."""
    global _current
    here, _current = _current, ALONE
    try:
        yield
    finally:
        _current = here


def shared(make: Callable[[], T]) -> T:
    """What `make` gives in the first process, in all of them; an error of it is raised in all. `make` runs alone."""
    here = _current
    if here.size == 1:
        return make()
    import torch
    import torch.distributed as dist

    made: list[Any] = [None, None]
    failed: Exception | None = None
    if here.rank == 0:
        try:
            with apart():
                made[0] = make()
        except Exception as why:  # noqa: BLE001 - it is raised again, in every process
            failed, made[1] = why, _sendable(why)
    dist.broadcast_object_list(made, 0, device=torch.device(here.device))
    if made[1] is not None:
        raise failed or made[1]
    found: T = made[0]
    return found


def require_same(digest: str, what: str) -> None:
    """Raises UsageError where this process has another `what` than the first one, told by a digest."""
    first = shared(lambda: digest)
    if first != digest:
        raise UsageError(
            f"Process {world().rank} of the fit has other {what} than process 0.",
            "Give every machine the same source, options and version of this tool.",
        )


def _number(name: str, default: int | None = None) -> int:
    value = os.environ.get(name)
    if value is None and default is not None:
        return default
    if value is None or not value.isdecimal():
        raise UsageError(
            f"{name} is {value!r} in the environment, and no number.", "Start several processes with torchrun."
        )
    return int(value)


def _place(device: str, local: int) -> tuple[str, str]:
    """The backend, and where this process computes. Raises UsageError where that cannot be."""
    import torch

    if device == "cpu":
        return "gloo", "cpu"
    if device != "cuda":
        raise UsageError(f"Several processes do not compute on {device} together.", "Use --device cpu, or cuda.")
    if local >= torch.cuda.device_count():
        raise UsageError(
            f"Process {local} of this machine has no GPU: there are {torch.cuda.device_count()}.",
            "Start one process for each with torchrun --nproc-per-node, or use --device cpu.",
        )
    torch.cuda.set_device(local)
    return "nccl", f"cuda:{local}"


def _fail(why: BaseException, store: Any) -> None:
    """Leaves a note for the others why this process ends or, where it ends because of another, raises that one's reason."""
    if not _broken(why):
        with suppress(RuntimeError):
            store.set(_WHY, pickle.dumps(_sendable(why)))
        return
    told = None
    with suppress(RuntimeError):  # without torchrun, the notes are the first process's and go with it
        if store.check([_WHY]):
            told = pickle.loads(store.get(_WHY))
    raise told or _lost(why) from (None if told else why)


def _broken(why: BaseException) -> bool:
    """Whether an error says that another process cannot be reached."""
    import torch.distributed as dist

    said = r"gloo|nccl|pair closure|connection|timed out"
    return isinstance(why, dist.DistError) or (isinstance(why, RuntimeError) and bool(re.search(said, str(why), re.I)))


def _lost(why: BaseException) -> UnlearnableError:
    said = next(iter(str(why).splitlines()), type(why).__name__)
    said = re.sub(r"^\[\S+\] ", "", said).partition(". ")[0]  # without the line of torch's code, and its good wishes
    return TrainingError(
        f"Another process of the fit was lost or did not answer ({said}).",
        "Its own lines say why, where it could write any. Start all of them again.",
    )


def _sendable(why: BaseException) -> BaseException:
    """An error as others can raise it: ours as it is, any other in words, for its class may not survive the journey."""
    if isinstance(why, UnlearnableError | KeyboardInterrupt):
        return why.with_traceback(None)
    return TrainingError(f"A process of the fit failed: {type(why).__name__}: {why}")

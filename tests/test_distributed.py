"""Several processes fit what one would: the same steps, noise for every image, one sentence where one of them fails."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from poison_kit import KEY, context, separable, take
from torch import multiprocessing, nn
from torch.nn import functional as F

from unlearnable import distributed, learn, nets, study, surrogate, train
from unlearnable.augment import crop_flip
from unlearnable.distributed import ALONE, World
from unlearnable.errors import UnlearnableError, UsageError
from unlearnable.options import Options
from unlearnable.poisons import _noise, _surrogates, error_min, robust_error_min
from unlearnable.sources import open_source
from unlearnable.types import Batch, State, silent

EPS = 8 / 255
ROOT = Path(__file__).resolve().parents[1]
Work = Callable[[World], Any]


def free_port() -> str:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return str(found.getsockname()[1])


def launch(rank: int, port: str) -> dict[str, str]:
    """What torchrun says to a process."""
    asked = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return {name: str(value) for name, value in asked.items()}


def one_of_two(rank: int, port: str, work: Work, where: Path, device: str) -> None:
    os.environ.update(launch(rank, port))
    torch.set_num_threads(1)
    try:
        with distributed.joined(device, timedelta(seconds=60)) as world:
            said = work(world)
    except UnlearnableError as why:
        said = (type(why).__name__, str(why))
    torch.save(said, where / f"{rank}.pt")


def two(work: Work, where: Path, device: str = "cpu") -> list[Any]:
    """What two processes that work together come to; None for one that ended without a word."""
    start, port = multiprocessing.get_context("spawn"), free_port()
    both = [start.Process(target=one_of_two, args=(rank, port, work, where, device)) for rank in range(2)]
    try:
        for process in both:
            process.start()
        for process in both:
            process.join(180)
            assert not process.is_alive(), "a process hangs"
    finally:
        for process in both:
            process.kill()
    files = [where / f"{rank}.pt" for rank in range(2)]
    return [torch.load(file, weights_only=False) if file.exists() else None for file in files]


def hard(count: int = 61) -> Batch:
    """Images without classes: only noise can make them learnable. Two processes cannot halve them."""
    data = separable(count, contrast=0)
    return Batch(data.ids, data.images, torch.arange(count) % 3)


def plain() -> nets.Network:
    """A network without batch normalisation, which would see another batch in every process."""
    torch.manual_seed(4)
    return nets.Network(nn.Sequential(nn.Conv2d(3, 8, 5, stride=3), nn.Tanh(), nn.Flatten()), 8 * 4**2, 3)


DATA, TEST = separable(62), separable(31, seed=1)
RECIPE = train.Recipe(epochs=3, batch=15, learning_rate=0.05)


def trained(world: World) -> tuple[train.History, dict[str, torch.Tensor]]:
    net = plain()
    tested = (TEST.images, TEST.labels)
    history = train.train(net, DATA.images, DATA.labels, RECIPE, seed=3, test=tested, world=world, keep_best=True)
    return history, nets.weights_of(net)


def exact(device: torch.device) -> torch.autocast:
    """bfloat16 rounds sums of a batch's parts to other numbers."""
    return torch.autocast(device.type, enabled=False)


NOISE: dict[str, Any] = {"net": "small", "train_steps": 3, "batch": 20, "rounds": 20, "subset": 1.0}
GAME: dict[str, Any] = {"net": "linear", "batch": 20, "iterations": 20, "steps": 4, "step": 0.5, "samples": 2}
GAME |= {"attack_steps": 3, "attack_step": 0.6}


def asked(level: str) -> error_min.Params:
    more = {"steps": 10, "step": 0.2} if level == "sample" else {}
    return error_min.Params(**NOISE | more, level=level)  # type: ignore[arg-type]


def fitted(level: str) -> State:
    return error_min.fit(hard(), asked(level), context())


def improved(world: World) -> torch.Tensor:
    """Class-wise noise after one search on a network that all processes have."""
    params = error_min.Params(net="small", level="class", subset=0.9, batch=27)  # 55 images: the last batch is one
    noise = error_min._ClassNoise(hard(), params, context(), world)
    noise.improve(_surrogates.freeze(plain(), "cpu"))
    return noise.noise


def refused() -> bytes:
    raise UsageError("There is no key.", "Bring one.")


def everything(world: World) -> dict[str, Any]:
    """One launch for most promises: starting two processes takes longer than what they do."""
    half, train.autocast = train.autocast, exact  # type: ignore[attr-defined]
    done: dict[str, Any] = {"network": trained(world)}
    train.autocast = half  # type: ignore[attr-defined]
    done |= {"sample": fitted("sample"), "class": fitted("class"), "search": improved(world)}
    done["shared"] = distributed.shared(lambda: (os.getpid(), distributed.world().size))
    for name, ask in (("error", refused), ("fault", lambda: bytes([300]))):
        try:
            distributed.shared(ask)
        except (UnlearnableError, ValueError) as why:
            done[name] = str(why)
    try:
        distributed.require_same(str(world.rank), "images")
    except UsageError as why:
        done["other"] = str(why)
    return done


def trainings(world: World) -> dict[str, Any]:
    """The other two that train: a game against an attacker, and the one loop for a surrogate, through the cache."""
    del world
    done: dict[str, Any] = {}
    done["game"] = robust_error_min.fit(hard(), robust_error_min.Params(**GAME), context())
    told: list[str] = []
    make = surrogate.trainer((TEST.images, TEST.labels), 3, device=torch.device("cpu"), tell=told.append)
    done["surrogate"] = [nets.weights_of(make(DATA, "small", epochs=8)[0][0]) for _ in range(2)]
    done["told"] = told
    return done


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return two(everything, tmp_path_factory.mktemp("two"))


def test_two_processes_train_the_network_that_one_does(
    both: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "autocast", exact)
    history, weights = trained(ALONE)
    for theirs, found in (process["network"] for process in both):
        assert theirs.train_loss == pytest.approx(history.train_loss, rel=1e-5) and len(theirs.train_loss) == 3
        assert theirs.accuracy == pytest.approx(history.accuracy)
        for name, value in weights.items():
            torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5)
    first, second = (process["network"][1] for process in both)
    assert all(torch.equal(first[name], second[name]) for name in first)


def on_a_gpu(world: World) -> tuple[list[float], dict[str, torch.Tensor]]:
    train.autocast = exact  # type: ignore[attr-defined]
    net = nets.create("small", 3, 16, seed=0)  # with batch normalisation, over the whole batch there
    history = train.train(net, DATA.images.to("cuda"), DATA.labels.to("cuda"), RECIPE, seed=3, world=world)
    return history.train_loss, nets.weights_of(net)


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="fewer than two GPUs")
def test_two_gpus_train_the_network_that_one_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "autocast", exact)
    losses, weights = on_a_gpu(ALONE)
    for theirs, found in two(on_a_gpu, tmp_path, "cuda"):
        assert theirs == pytest.approx(losses, rel=0.01)
        for name in weights:
            torch.testing.assert_close(found[name], weights[name], rtol=0.02, atol=0.02)


def test_normalisation_over_all_processes_is_the_same_network() -> None:
    """What GPUs put in its place keeps the names and, once trained, the function."""
    net, other = (nets.create("small", 3, 16, seed=0).eval() for _ in range(2))
    assert nn.SyncBatchNorm.convert_sync_batchnorm(other) is other  # type: ignore[no-untyped-call]
    assert any(isinstance(part, nn.SyncBatchNorm) for part in other.modules())
    assert list(net.state_dict()) == list(other.state_dict())
    assert torch.equal(net(TEST.images.float() / 255), other(TEST.images.float() / 255))


@pytest.mark.parametrize("level", ["sample", "class"])
def test_two_processes_fit_noise_that_is_learned_at_once(both: list[dict[str, Any]], level: str) -> None:
    data, state = hard(), both[0][level]
    assert state["converged"] and state["error"] <= 0.01
    assert (state["rounds"], state["error"], state["loss"]) == tuple(
        both[1][level][name] for name in ("rounds", "error", "loss")
    ), "they stop together"
    params = asked(level)
    delta = error_min.delta(data, state, params, context())
    assert delta.isfinite().all() and delta.abs().max() <= EPS + 1e-6
    assert (delta.abs() > 4 / 255).flatten(1).float().mean(1).min() > 0.1, "every image has its noise"
    (net,) = _surrogates.unpack(state, context())
    noisy = (data.images.float() + (delta * 255).round()).clamp(0, 255).byte()
    assert train.accuracy(net, noisy, data.labels) > 0.95 > 0.8 > train.accuracy(net, data.images, data.labels)
    shards = [take(data, list(range(first, min(first + 17, 61)))) for first in range(0, 61, 17)]
    assert torch.equal(torch.cat([error_min.delta(shard, state, params, context()) for shard in shards]), delta)


def require_gathered(first: State, second: State) -> None:
    assert first["ids"] == list(hard().ids) and second["ids"] == list(hard().ids)[1::2]
    assert torch.equal(first["noise"][1::2], second["noise"])
    assert first["noise"].shape == hard().images.shape and first["noise"].abs().amax((1, 2, 3)).min() > 60


def test_each_process_holds_the_noise_of_its_own_images_and_the_first_gets_all(both: list[dict[str, Any]]) -> None:
    require_gathered(*(process["sample"] for process in both))


def test_class_wise_noise_is_the_mean_over_the_images_of_all_processes(both: list[dict[str, Any]]) -> None:
    assert torch.equal(both[0]["search"], both[1]["search"])
    assert ((both[0]["search"] - improved(ALONE)).abs() > 0.01 * EPS).float().mean() < 0.02
    assert both[0]["search"].abs().max() > 0.5 * EPS


def test_what_the_first_process_makes_alone_or_fails_to_make_all_have(both: list[dict[str, Any]]) -> None:
    assert both[0]["shared"] == both[1]["shared"] and both[0]["shared"][1] == 1
    assert [process["error"] for process in both] == 2 * ["There is no key. Bring one."]
    assert both[0]["fault"] == "bytes must be in range(0, 256)" and both[0]["fault"] in both[1]["fault"]
    assert "other" not in both[0] and "Process 1 of the fit has other images" in both[1]["other"]


def dies(world: World) -> None:
    def on_epoch(epoch: int, history: train.History) -> None:
        del epoch, history
        if world.rank:
            os._exit(9)

    train.train(plain(), DATA.images, DATA.labels, RECIPE, seed=3, on_epoch=on_epoch, world=world)


def fails(world: World) -> None:
    if world.rank:
        raise UsageError("The disk is full.", "Free space.")
    world.total(torch.ones(1))


def test_a_process_that_dies_ends_the_others_with_a_sentence(tmp_path: Path) -> None:
    (kind, sentence), dead = two(dies, tmp_path)
    assert kind == "TrainingError" and dead is None
    assert sentence.startswith("Another process of the fit was lost or did not answer (") and "\n" not in sentence


@pytest.mark.slow
def test_a_surrogate_and_a_game_are_trained_together(tmp_path: Path) -> None:
    both = two(trainings, tmp_path)
    made = [weights for process in both for weights in process["surrogate"]]
    assert all(torch.equal(made[0][name], other[name]) for other in made[1:] for name in other)
    assert "taken from" in both[0]["told"][-1] and "taken from" not in both[0]["told"][-2], "the first one's cache"
    require_gathered(*(process["game"] for process in both))
    assert both[0]["game"]["loss"] == both[1]["game"]["loss"]
    alone = robust_error_min.fit(hard(), robust_error_min.Params(**GAME), context())
    clean, found = losses(both[0]["game"])
    assert found == pytest.approx(losses(alone)[1], rel=0.15) and found < 0.8 * clean


def losses(game: State) -> tuple[float, float]:
    """Of the final network, without the noise and under it."""
    (net,) = _surrogates.unpack(game, context())
    noise = robust_error_min.delta(hard(), game, robust_error_min.Params(**GAME), context())
    images = hard().images.float() / 255
    clean, found = (F.cross_entropy(net(x), hard().labels).item() for x in (images, images + noise))
    return clean, found


@pytest.mark.slow
def test_a_process_that_fails_ends_the_others_with_its_sentence(tmp_path: Path) -> None:
    assert two(fails, tmp_path) == 2 * [("UsageError", "The disk is full. Free space.")]


def test_one_process_takes_the_very_steps_of_a_bare_loop() -> None:
    history, weights = trained(ALONE)
    torch.manual_seed(4)
    net = plain().to(memory_format=torch.channels_last)
    net.normalise_for(DATA.images)
    optimiser = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4, nesterov=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 0.05, total_steps=13, pct_start=0.2)
    generator = torch.Generator().manual_seed(3)
    losses = []
    for _ in range(3):
        net.train()
        total = torch.zeros(())
        for chosen in torch.randperm(62, generator=generator).tensor_split(4):
            with torch.autocast("cpu", torch.bfloat16):
                images = crop_flip(DATA.images[chosen], generator)
                loss = F.cross_entropy(net(images).float(), DATA.labels[chosen])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
            total += loss.detach() * len(chosen)
        losses.append(total.item() / 62)
    assert losses == history.train_loss
    if history.accuracy[-1] == history.peak and history.accuracy.count(history.peak) == 1:
        assert all(torch.equal(weights[name], value) for name, value in net.state_dict().items())


def test_one_process_draws_the_batches_that_it_always_drew() -> None:
    generator = torch.Generator().manual_seed(KEY.seed("error_min", "order"))
    ours = _noise.batches(61, 20, KEY, "error_min")
    for _ in range(2):
        for chosen in torch.randperm(61, generator=generator).tensor_split(3):
            assert torch.equal(next(ours), chosen)


@pytest.mark.parametrize("environment", [{}, {"WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "0"}])
def test_one_process_stays_alone(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    value, net = torch.arange(7), plain()
    with distributed.joined("cpu") as world:
        assert world is distributed.world() is ALONE and not torch.distributed.is_initialized()
        assert world.total(value) is value and world.whole(value, 7) is value and world.together(net) is net
        assert distributed.shared(lambda: value) is value and world.weighed(value, 7) is value
        world.agree(net)
        world.require(1)


def test_parts_and_rows_cover_a_batch_once() -> None:
    worlds = [World(rank, 3) for rank in range(3)]
    assert [list(range(11))[world.part(11)] for world in worlds] == [[0, 1, 2], [3, 4, 5, 6], [7, 8, 9, 10]]
    assert torch.equal(torch.cat([world.rows(torch.arange(11)) for world in worlds]).sort().values, torch.arange(11))
    losses = torch.arange(11.0)
    parts = [world.weighed(losses[world.part(11)].mean(), 11) for world in worlds]
    assert torch.stack(parts).mean() == pytest.approx(losses.mean().item())


def test_a_launch_that_cannot_work_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(UsageError, match=r"RANK is None.*torchrun"), distributed.joined("cpu"):
        pass
    for name, value in launch(0, "0").items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match="--standalone"), distributed.joined("cpu"):
        pass
    with pytest.raises(UsageError, match="3 processes are too many for batches of 5"):
        World(0, 3).require(5)
    with pytest.raises(UsageError, match="mps together"):
        distributed._place("mps", 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UsageError, match="no GPU: there are 1"):
        distributed._place("cuda", 1)


def test_what_a_fit_was_made_of_is_kept_with_it(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "_FIT_BYTES", 30 * 3 * 16**2)
    source, saved = open_source(str(tree)), tmp_path / "fit.pt"
    values = {"net": "linear", "batch": 20, "rounds": 1, "train_steps": 1, "level": "class"}
    options = Options(method="error_min", set=values, verify="none", device="cpu")
    known = {"images": 30, "of": 60, "processes": 1, "backend": ""}
    for _ in range(2):  # the second time from the file
        crafter, _, _ = learn.learn(source, options, KEY, saved, silent)
        assert learn.facts(crafter) == known
    closed = replace(options, method="regions", set={})
    assert learn.facts(learn.learn(source, closed, KEY, None, silent)[0]) is None


PROGRAM = """
    import sys
    from pathlib import Path
    from unlearnable import distributed
    from unlearnable.keys import Key
    from unlearnable.learn import facts, learn
    from unlearnable.options import Options
    from unlearnable.sources import open_source

    def tell(what, done, of, failed=0):
        print(what, flush=True)

    source, saved = open_source(sys.argv[1]), Path(sys.argv[2])
    options = Options(method="error_min", set={"net": "small", "batch": 20, "rounds": 4}, verify="none", device="cpu")
    with distributed.joined("cpu") as world:
        key = distributed.shared(Key.new)
        crafter, _, _ = learn(source, options, key, None if world.rank else saved, tell)
    if world.rank == 0:
        print("facts", facts(crafter), flush=True)
"""


@pytest.mark.slow
def test_a_launch_by_torchrun_fits_once_and_says_on_what(tree: Path, tmp_path: Path) -> None:
    program, saved = tmp_path / "program.py", tmp_path / "fit.pt"
    program.write_text(textwrap.dedent(PROGRAM))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*launcher, str(program), str(tree), str(saved)]
    lines: list[str] = []
    for _ in range(2):  # the second finds what the first kept
        done = subprocess.run(
            command,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        lines.append(done.stdout)
    document = torch.load(saved, weights_only=True)
    known = document["state"]["fitted on"]
    assert known == {"images": len(document["state"]["ids"]), "of": 60, "processes": 2, "backend": "gloo"}
    assert all(text.endswith(f"facts {known}\n") for text in lines), lines
    assert lines[0].count("round 1 of at most") == 1 and "round" not in lines[1], "the other process is quiet"

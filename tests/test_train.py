"""The one training loop: learns, repeats itself for a seed, keeps the best weights, stops on nonsense."""

from __future__ import annotations

import pytest
import torch
from made_pictures import picture
from poison_kit import little_memory

from unlearnable import nets
from unlearnable.errors import TrainingError
from unlearnable.train import History, Recipe, accuracy, predict, train


def data(each: int = 30, start: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    pictures = [torch.from_numpy(picture(k, start + i)).permute(2, 0, 1) for k in range(3) for i in range(each)]
    return torch.stack(pictures), torch.arange(3).repeat_interleave(each)


RECIPE = Recipe(epochs=8, batch=16)


def test_a_small_network_learns_and_its_peak_is_its_best_epoch() -> None:
    net = nets.create("small", 3, 16, seed=0)
    history = train(net, *data(), RECIPE, seed=0, test=data(20, 1000), keep_best=True)
    assert history.peak > 0.8 and history.peak == max(history.accuracy) and len(history.accuracy) == 8
    assert accuracy(net, *data(20, 1000)) == pytest.approx(history.peak), "the best epoch's weights are kept"
    assert history.train_loss[-1] < history.train_loss[0]


def test_the_same_seed_trains_the_same_network() -> None:
    runs = [train(nets.create("small", 3, 16, seed=5), *data(), RECIPE, seed=5, test=data(20, 99)) for _ in range(2)]
    assert runs[0].train_loss == runs[1].train_loss and runs[0].accuracy == runs[1].accuracy


def test_where_memory_runs_out_fewer_images_are_read_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    net, (images, _) = nets.create("small", 3, 16, seed=0).eval(), data(7)
    whole = predict(net, images)
    assert predict(net, images[:0]).shape == (0, 3), "a process of many may have no image to read"
    little_memory(monkeypatch, room=4)
    torch.testing.assert_close(predict(net, images), whole, atol=0.02, rtol=0.02)


def test_normalisation_is_inside_the_network() -> None:
    net = nets.create("small", 3, 16, seed=0)
    x, _ = data()
    net.normalise_for(x)
    seen = (x.float() / 255 - net.mean) / net.std
    assert seen.mean().abs() < 0.05 and abs(seen.std() - 1) < 0.05
    assert predict(net, x).shape == (90, 3)


def test_a_loss_that_is_no_number_is_said() -> None:
    with pytest.raises(TrainingError, match="nan"):
        train(
            nets.create("small", 3, 16, seed=0),
            *data(),
            RECIPE,
            seed=0,
            objective=lambda net, x, y: net(x).float().mean() * float("nan"),
        )


@pytest.mark.parametrize("count", [1, 3, 17])
def test_no_image_is_left_out_of_an_epoch(count: int) -> None:
    seen: list[int] = []

    def objective(net: nets.Network, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        seen.append(len(x))
        return net.head.weight.sum() * 0

    train(nets.create("small", 3, 16, seed=0), *(t[:count] for t in data()), Recipe(2, 8), seed=0, objective=objective)
    assert sum(seen) == 2 * count


def test_epochs_to_a_loss_counts_from_one() -> None:
    history = History(train_loss=[2.0, 0.6, 0.4, 0.3])
    assert history.epochs_to(0.5) == 3 and history.epochs_to(0.1) is None


@pytest.mark.parametrize("name", ["small", "resnet18"])
@pytest.mark.parametrize("size", [16, 32, 80])
def test_networks_take_the_sizes_that_sources_have(name: str, size: int) -> None:
    net = nets.create(name, 7, size, seed=0).eval()
    assert net(torch.rand(2, 3, size, size)).shape == (2, 7)
    assert net.features(torch.rand(2, 3, size, size)).dim() == 2

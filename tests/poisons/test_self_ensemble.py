"""Many checkpoints at once: the variance-reduced steps against arithmetic by hand, and features that reach their target."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from poison_kit import KEY, OTHER_KEY, context, separable
from torch import Tensor, nn

from unlearnable.errors import TrainingError
from unlearnable.nets import Network
from unlearnable.poisons import _features, _pgd, _surrogates, self_ensemble
from unlearnable.poisons.self_ensemble import VarianceReduced
from unlearnable.types import State

EPS = 8 / 255
SIDE, WIDTH = 4, 5
PARAMS = self_ensemble.Params(net="small", checkpoints=3, epochs=9, steps=20)


@cache
def fitted() -> State:
    return self_ensemble.fit(separable(60, contrast=25), PARAMS, context())


def curved(seed: int) -> Network:
    """Features tanh(W z + b): their distance to a point is not quadratic, so that reduced variance is put to work."""
    torch.manual_seed(seed)
    net = Network(nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE * SIDE, WIDTH), nn.Tanh()), WIDTH, 3)
    net.std.fill_(0.1 + 0.05 * seed)
    return _surrogates.freeze(net, "cpu")


def gradient_by_hand(net: Network, centre: Tensor, seen: NDArray[Any]) -> NDArray[Any]:
    layer = net.body[1]
    weight, bias = layer.weight.double().numpy(), layer.bias.double().numpy()
    std = float(net.std[0, 0])
    features = np.tanh(weight @ ((seen - 0.5) / std).ravel() + bias)
    back = (1 - features**2) * 2 * (features - centre.double().numpy()) / WIDTH
    return (weight.T @ back).reshape(seen.shape) / std


def slow_descent(
    nets: list[Network], centres: list[Tensor], image: Tensor, order: list[list[int]], step: float
) -> NDArray[Any]:
    clean = image.double().numpy() / 255

    def project(delta: NDArray[Any]) -> NDArray[Any]:
        return np.clip(clean + np.clip(delta, -EPS, EPS), 0, 1) - clean

    delta = np.zeros_like(clean)
    for chosen in order:
        at_start = [gradient_by_hand(net, centre, clean + delta) for net, centre in zip(nets, centres, strict=True)]
        mean = sum(at_start) / len(nets)
        inner, summed = delta.copy(), np.zeros_like(clean)
        for number in [0, *chosen]:  # whichever is first: nothing has moved, and the mean is what is left
            now = gradient_by_hand(nets[number], centres[number], clean + inner)
            summed += now - at_start[number] + mean
            inner = project(inner - step * EPS * np.sign(summed))
        delta = project(delta - step * EPS * np.sign(summed))
    return delta


def test_steps_against_arithmetic_by_hand_each_checkpoint_with_its_own_centroids() -> None:
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(256, (4, 3, SIDE, SIDE), generator=generator).byte()
    images[0], images[1] = 0, 255
    nets, order = [curved(seed) for seed in range(3)], [[2, 0], [1, 1], [0, 2], [2, 1]]
    tables = {net: torch.rand((3, WIDTH), generator=generator) * 2 - 1 for net in nets}
    wanted = torch.tensor([0, 1, 2, 1])

    def loss(net: Network, seen: Tensor, wanted: Tensor) -> Tensor:
        return _features.distance(net.features(seen), tables[net][wanted])

    descent = VarianceReduced(loss, 4, 0.3, half=False, order=tuple(map(tuple, order)))
    found = descent.run(nets, images, wanted, torch.zeros(images.shape), EPS, None)
    unlike_the_last = 0.0
    for row in range(4):
        own = [tables[net][wanted[row]] for net in nets]
        np.testing.assert_allclose(found[row].numpy(), slow_descent(nets, own, images[row], order, 0.3), atol=1e-6)
        last = slow_descent(nets, [own[-1]] * 3, images[row], order, 0.3)
        unlike_the_last = max(unlike_the_last, abs(found[row].numpy() - last).max())
    assert unlike_the_last > EPS / 4, "the last checkpoint's centroids, held against all, give other noise"


def test_one_checkpoint_is_plain_signed_steps() -> None:
    net, images = curved(1), torch.randint(256, (5, 3, SIDE, SIDE), generator=torch.Generator().manual_seed(2)).byte()
    centres, wanted = torch.rand(3, WIDTH), torch.tensor([0, 1, 2, 0, 1])

    def loss(net: Network, seen: Tensor, wanted: Tensor) -> Tensor:
        return _features.distance(net.features(seen), centres[wanted])

    arguments = ([net], images, wanted, torch.zeros(images.shape), EPS, None)
    plain = _pgd.Descent(loss, 5, 0.4, half=False).run(*arguments)
    assert torch.equal(VarianceReduced(loss, 5, 0.4, half=False, order=((),) * 5).run(*arguments), plain)


def test_features_come_nearer_to_the_target_on_every_checkpoint() -> None:
    data, where, state = separable(12, contrast=25, seed=3), context(levels=16), fitted()
    assert len(state["weights"]) == 3
    assert not torch.equal(state["weights"][0]["head.weight"], state["weights"][2]["head.weight"])
    targets: dict[str, str] = state["targets"]
    assert sorted(targets) == sorted(targets.values()) and all(name != target for name, target in targets.items())
    seen = data.images / 255 + self_ensemble.delta(data, state, PARAMS, where)
    wanted = [targets[where.classes[label]] for label in data.labels.tolist()]
    for net, centroids in zip(_surrogates.unpack(state, where), state["centroids"], strict=True):
        centre = torch.stack([centroids[name] for name in wanted])
        before = (net.features(data.images / 255) - centre).norm(dim=1)
        after = (net.features(seen) - centre).norm(dim=1)
        assert (after < before).all() and after.mean() < 0.5 * before.mean()


def test_checkpoints_are_drawn_from_the_key() -> None:
    data, params = separable(6), replace(PARAMS, steps=3)
    found = [self_ensemble.delta(data, fitted(), params, context(key=key)) for key in (KEY, KEY, OTHER_KEY)]
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])


def test_a_checkpoint_that_is_broken_is_no_quiet_noise() -> None:
    data, state = separable(4), dict(fitted())
    state["weights"] = [{name: value.clone() for name, value in weights.items()} for weights in state["weights"]]
    state["weights"][1]["body.0.0.weight"][0] = torch.nan
    with pytest.raises(TrainingError, match=r"self_ensemble: the loss of train/0-0.png was not finite"):
        self_ensemble.delta(data, state, replace(PARAMS, steps=1), context())


def test_a_step_is_one_grey_level_where_there_are_enough() -> None:
    assert [self_ensemble.Params().step_size(levels) for levels in (2, 8)] == [0.5, 0.125]
    assert self_ensemble.Params(steps=5).step_size(8) == 0.5
    assert self_ensemble.Params(step=0.2).step_size(8) == 0.2


@pytest.mark.parametrize("wrong", [{"checkpoints": 0}, {"checkpoints": 9, "epochs": 8}, {"epochs": 0}, {"steps": 0}])
def test_ranges(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        self_ensemble.Params(**wrong)

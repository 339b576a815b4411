"""Centroids against a loop, and features that leave their class: pushed off its centre, pulled to another's."""

from __future__ import annotations

from functools import cache
from types import ModuleType
from typing import Any

import pytest
import torch
from poison_kit import context, separable, surrogate
from torch import nn

from unlearnable import nets
from unlearnable.errors import UsageError
from unlearnable.nets import Network
from unlearnable.poisons import _features, _surrogates, entangled_features, self_ensemble
from unlearnable.types import Batch, State


class Bare(Network):
    """Features are the pixels themselves."""

    def __init__(self) -> None:
        super().__init__(nn.Flatten(), 3, 3)
        self.mean.zero_()
        self.std.fill_(1)


def test_centroids_against_a_loop_for_more_than_ten_classes() -> None:
    data = separable(40, classes=12)
    names = tuple(f"class {i}" for i in range(12))
    net = _surrogates.freeze(nets.create("small", 12, 16, seed=5), "cpu")
    found = _features.centroids(net, data, context(classes=names))
    assert tuple(found) == names
    for number, name in enumerate(names):
        own = [net.features(image[None] / 255)[0] for image in data.images[data.labels == number]]
        torch.testing.assert_close(found[name], sum(own) / len(own), atol=1e-5, rtol=1e-4)


def test_pull_takes_the_nearest_other_centre_even_when_all_are_far() -> None:
    net, generator = Bare(), torch.Generator().manual_seed(4)
    centres = torch.rand((3, 3), generator=generator) * 40
    seen, own = torch.rand((30, 3, 1, 1), generator=generator) * 40, torch.arange(30) % 3
    found = entangled_features.pull({net: centres})(net, seen, own)
    for row, image in enumerate(seen.flatten(1)):
        distances = [((image - centre) ** 2).mean().item() for centre in centres]
        others = [value for number, value in enumerate(distances) if number != own[row]]
        assert found[row].item() == pytest.approx(min(others), rel=1e-5)
    # the case that a mask of 1 gets wrong: its own centre is nearest, and every other is farther than 1
    near = centres[:1, :, None, None] + 0.1
    (value,) = entangled_features.pull({net: centres})(net, near, torch.tensor([0]))
    assert value > 1


def test_pull_chooses_anew_as_the_image_moves() -> None:
    net, centres = Bare(), torch.tensor([[0.0, 0, 0], [1.0, 1, 1], [5.0, 5, 5]])
    loss, own = entangled_features.pull({net: centres}), torch.tensor([0])
    for place, nearest in ((0.9, 1.0), (4.0, 5.0)):
        seen = torch.full((1, 3, 1, 1), place)
        assert loss(net, seen, own).item() == pytest.approx((place - nearest) ** 2)


@cache
def fitted() -> State:
    """The same for both goals."""
    return entangled_features.fit(separable(60), entangled_features.Params(net="small", epochs=9), context())


@pytest.mark.parametrize("goal", ["push", "pull"])
def test_features_leave_their_class(goal: Any) -> None:
    data, where, state = separable(12, seed=3), context(levels=16), fitted()
    params = entangled_features.Params(net="small", steps=20, epochs=9, goal=goal)
    (net,) = _surrogates.unpack(state, where)
    seen = data.images / 255 + entangled_features.delta(data, state, params, where)
    centres = torch.stack([state["centroids"][0][name] for name in where.classes])
    own = nn.functional.one_hot(data.labels, 3).bool()
    before = torch.cdist(net.features(data.images / 255), centres)
    after = torch.cdist(net.features(seen), centres)
    if goal == "push":
        assert (after[own] > before[own]).all() and after[own].mean() > 2 * before[own].mean()
    else:
        before, after = (each.masked_fill(own, torch.inf).amin(1) for each in (before, after))
        assert (after < before).all() and after.mean() < 0.7 * before.mean()


def test_the_network_is_trained_adversarially_as_in_the_paper() -> None:
    asked: dict[str, Any] = {}

    def spy(data: Batch, net: str, **how: Any) -> tuple[list[Network], float]:
        asked.update(how)
        return surrogate(data, net, epochs=1)

    entangled_features.fit(separable(9), entangled_features.Params(net="small"), context(train_surrogate=spy))
    assert (asked["robust"], asked["epochs"], asked["milestones"]) == (4 / 255, 100, (0.75, 0.9))


@pytest.mark.parametrize("poison", [entangled_features, self_ensemble])
def test_a_class_without_images_is_named_before_anything_is_trained(poison: ModuleType) -> None:
    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError("trained in vain")

    where = context(classes=("ant", "bee", "cat", "dog"), train_surrogate=never)
    with pytest.raises(UsageError, match="'dog' has no image"):
        poison.fit(separable(12), poison.Params(net="small"), where)


@pytest.mark.parametrize("wrong", [{"goal": "shove"}, {"robust": -1.0}, {"epochs": 0}, {"steps": 0}])
def test_ranges(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        entangled_features.Params(**wrong)

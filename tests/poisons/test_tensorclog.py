"""Gradients that vanish, and that stay numbers when they have."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from poison_kit import context, separable, surrogate
from torch import Tensor
from torch.nn import functional as F

from unlearnable import nets
from unlearnable.nets import Network
from unlearnable.poisons import _pgd, _surrogates, tensorclog
from unlearnable.types import State


@cache
def fitted() -> State:
    return tensorclog.fit(separable(60, contrast=25), tensorclog.Params(net="small"), context())


def test_the_loss_is_the_norm_of_the_gradient_an_image_gives_all_weights() -> None:
    data = separable(5)
    (net,), _ = surrogate(separable(24), "small", epochs=4)
    _surrogates.freeze(net, "cpu")
    images = data.images / 255
    found = tensorclog.vanishing(net, images, data.labels)
    net.requires_grad_(True)
    for row in range(5):
        loss = F.cross_entropy(net(images[row : row + 1]), data.labels[row : row + 1])
        gradients = torch.autograd.grad(loss, list(net.parameters()))
        wanted = sum(gradient.square().sum() for gradient in gradients) ** 0.5
        torch.testing.assert_close(found[row], wanted, atol=1e-6, rtol=1e-3)


def test_norms_fall() -> None:
    data, where, state = separable(8, contrast=25, seed=3), context(levels=16), fitted()
    params = tensorclog.Params(net="small", steps=6)
    (net,) = _surrogates.unpack(state, where, folded=False)
    before = tensorclog.vanishing(net, data.images / 255, data.labels)
    after = tensorclog.vanishing(net, data.images / 255 + tensorclog.delta(data, state, params, where), data.labels)
    # an image that the network misreads may be held on the other side of the boundary: not all of them fall
    assert after.median() < 0.1 * before.median() and (after < before).float().mean() > 0.7


def test_a_gradient_that_is_zero_moves_nothing_and_is_no_nan() -> None:
    data = separable(4)
    (net,), _ = surrogate(data, "small", epochs=1)
    net.head.weight.data.zero_()
    net.head.bias.data.copy_(torch.tensor([0.0, 300.0, 0.0]))  # class 1 is certain: its loss is zero in float32
    _surrogates.freeze(net, "cpu")
    descent = _pgd.Descent(tensorclog.vanishing, 2, 1.0, half=False)
    labels, start = torch.ones(4, dtype=torch.int64), torch.full(data.images.shape, 2 / 255)
    seen = (data.images / 255).requires_grad_()
    norms = tensorclog.vanishing(net, seen, labels)
    assert (norms == 0).all() and (torch.autograd.grad(norms.sum(), seen)[0] == 0).all()
    assert torch.equal(descent.run([net], data.images, labels, start, 8 / 255, None), start)


def test_the_weights_are_those_that_a_training_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not those of a network whose normalisation is folded into its convolutions, as ordinary steps have it."""
    data, where, moved = separable(2), context(), []
    net = nets.create("resnet18", 3, 16, seed=1)

    def spy(net: Network, seen: Tensor, own: Tensor) -> Tensor:
        moved.append({name for name, _ in net.named_parameters()})
        return seen.sum((1, 2, 3))

    monkeypatch.setattr(tensorclog, "vanishing", spy)
    state = _surrogates.pack([net.eval()], "resnet18", where)
    tensorclog.delta(data, state, tensorclog.Params(steps=1), where)
    assert moved == [{name for name, _ in net.named_parameters()}]


def test_every_image_keeps_its_best_restart() -> None:
    data, where, state = separable(6, contrast=25, seed=3), context(), fitted()
    (net,) = _surrogates.unpack(state, where, folded=False)
    losses = []
    for restarts in (1, 2):
        params = tensorclog.Params(net="small", steps=1, restarts=restarts)
        seen = data.images / 255 + tensorclog.delta(data, state, params, where)
        losses.append(tensorclog.vanishing(net, seen, data.labels))
    assert (losses[1] <= losses[0] * 1.001).all() and (losses[1] < losses[0] * 0.99).any()


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"batch": -1}])
def test_ranges(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        tensorclog.Params(**wrong)

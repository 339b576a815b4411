"""Gradients of single images against autograd, one image at a time, and gradients that turn to their goal."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from poison_kit import context, separable, surrogate
from torch import Tensor, nn
from torch.nn import functional as F

from unlearnable import nets
from unlearnable.nets import Network
from unlearnable.poisons import _gradients, _pgd, _surrogates, gradient_alignment
from unlearnable.types import State


def learned(count: int = 24) -> Network:
    (net,), _ = surrogate(separable(count), "small", epochs=4)
    return _surrogates.freeze(net, "cpu")


@cache
def fitted() -> State:
    return gradient_alignment.fit(separable(60, contrast=25), gradient_alignment.Params(net="small"), context())


def slow(net: Network, images: Tensor, losses: Tensor | None, labels: Tensor) -> dict[str, Tensor]:
    """Gradient of cross entropy (or of the sum of `losses`) for the weights, by autograd."""
    loss = F.cross_entropy(net(images), labels) if losses is None else losses.sum()
    found = torch.autograd.grad(loss, list(net.parameters()))
    return dict(zip((name for name, _ in net.named_parameters()), found, strict=True))


def test_every_image_has_the_gradient_that_it_has_alone() -> None:
    data, net = separable(6), learned()
    images = data.images / 255
    found = _gradients.per_image(net, images, data.labels)
    net.requires_grad_(True)
    for row in range(6):
        alone = slow(net, images[row : row + 1], None, data.labels[row : row + 1])
        assert set(found) == set(alone), "all weights, those of the normalisation too"
        for name, gradient in alone.items():
            torch.testing.assert_close(found[name][row], gradient, atol=1e-5, rtol=1e-3)


def test_norms_and_cosines_are_over_all_weights_at_once() -> None:
    generator = torch.Generator().manual_seed(1)
    gradients = {"a": torch.randn((4, 3, 2), generator=generator), "b": torch.randn((4, 5), generator=generator)}
    goal = {name: torch.randn(value.shape[1:], generator=generator) for name, value in gradients.items()}
    gradients["a"][3], gradients["b"][3] = 0, 0
    flat = torch.cat([gradients["a"].flatten(1), gradients["b"]], 1)
    torch.testing.assert_close(_gradients.norms(gradients), flat.square().sum(1).sqrt())
    wanted = F.cosine_similarity(flat, torch.cat([goal["a"].flatten(), goal["b"]])[None])
    torch.testing.assert_close(_gradients.cosines(gradients, goal), wanted)


def test_images_feel_their_own_gradient() -> None:
    """The double backward against finite differences."""
    torch.manual_seed(2)
    net = Network(nn.Sequential(nn.Flatten(), nn.Linear(12, 4), nn.Tanh()), 4, 3).double()
    _surrogates.freeze(net, "cpu")
    goal = {name: torch.randn_like(value) for name, value in net.named_parameters()}
    images, labels = torch.rand((2, 3, 2, 2), dtype=torch.float64, requires_grad=True), torch.tensor([0, 2])
    for measure in (_gradients.norms, lambda found: _gradients.cosines(found, goal)):
        assert torch.autograd.gradcheck(lambda x, m=measure: m(_gradients.per_image(net, x, labels)), (images,))


def test_reverse_cross_entropy_is_minus_log_of_the_others_and_stays_finite() -> None:
    logits, labels = torch.randn((20, 5), dtype=torch.float64), torch.arange(20) % 5
    p = logits.softmax(1)[torch.arange(20), labels]
    torch.testing.assert_close(_gradients.reverse_cross_entropy(logits, labels), -torch.log(1 - p))
    sure = torch.tensor([[200.0, 0.0, 0.0]], requires_grad=True)  # where 1 - p is zero in float32
    loss = _gradients.reverse_cross_entropy(sure, torch.tensor([0]))
    assert loss.item() == pytest.approx(200 - torch.tensor(2.0).log().item())
    assert torch.autograd.grad(loss.sum(), sure)[0].isfinite().all()


def test_the_goal_is_the_mean_gradient_of_the_reverse_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    data, net = separable(20), learned()
    monkeypatch.setattr(_pgd, "at_once", lambda size, context: 7)  # in parts of unequal size
    found = _gradients.of_reverse_loss(net, data, context())
    net.requires_grad_(True)
    images = data.images / 255
    p = net(images).softmax(1)[torch.arange(20), data.labels]
    wanted = slow(net, images, -torch.log(1 - p) / 20, data.labels)
    assert set(found) == set(wanted)
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, atol=1e-4, rtol=1e-2)


def test_gradients_turn_to_the_goal() -> None:
    data, where, state = separable(8, contrast=25, seed=3), context(levels=16), fitted()
    params = gradient_alignment.Params(net="small", steps=6)
    (net,) = _surrogates.unpack(state, where, folded=False)
    (goal,) = state["goals"]
    clean = data.images / 255
    seen = clean + gradient_alignment.delta(data, state, params, where)
    before, after = (_gradients.cosines(_gradients.per_image(net, x, data.labels), goal) for x in (clean, seen))
    assert (after > before).all() and after.mean() > before.mean() + 0.3


def test_training_on_the_images_unlearns_clean_ones() -> None:
    """What the alignment is for: one step of gradient descent on the noisy images, and the reverse loss falls."""
    data, where, state = separable(8, contrast=25, seed=3), context(levels=16), fitted()
    params = gradient_alignment.Params(net="small", steps=6)
    delta = gradient_alignment.delta(data, state, params, where)

    def slope(seen: Tensor) -> float:
        (net,) = _surrogates.unpack(state, where, folded=False)
        found = _gradients.per_image(net, seen, data.labels)
        step = {name: value.mean(0) for name, value in found.items()}
        return -sum((step[name] * goal).sum().item() for name, goal in state["goals"][0].items())

    assert slope(data.images / 255 + delta) < min(0.0, slope(data.images / 255))


def test_residual_networks_work() -> None:
    data, where = separable(2), context()
    net = nets.create("resnet18", 3, 16, seed=1)
    net(separable(8).images / 255)  # running statistics of its own
    goal = {name: value.detach().clone() for name, value in net.named_parameters()}
    state = _surrogates.pack([net.eval()], "resnet18", where, goals=[goal])
    found = gradient_alignment.delta(data, state, gradient_alignment.Params(steps=1), where)
    assert found.isfinite().all() and found.abs().amax() == pytest.approx(8 / 255)


def test_fewer_images_at_once_than_for_ordinary_steps() -> None:
    assert _gradients.at_once(0, context()) < _pgd.at_once(0, context())
    assert _gradients.at_once(3, context()) == 3

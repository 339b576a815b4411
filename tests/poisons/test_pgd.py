"""The step loop against slow arithmetic, and what the crafted poisons reach on the network they are crafted on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from poison_kit import context, cropped, separable, surrogate
from torch import Tensor, nn
from torch.nn import functional as F

from unlearnable import nets, registry, train
from unlearnable.errors import TrainingError, UsageError
from unlearnable.nets import Network
from unlearnable.poisons import _pgd, _surrogates, cw, fgsm, hypocritical, mi_fgsm, targeted, untargeted
from unlearnable.types import Batch

EPS = 8 / 255


def linear(side: int, classes: int, seed: int = 0) -> Network:
    torch.manual_seed(seed)
    net = Network(nn.Flatten(), 3 * side * side, classes)
    net.mean.copy_(torch.tensor([0.4, 0.5, 0.6]).view(1, 3, 1, 1))
    net.std.copy_(torch.tensor([0.2, 0.3, 0.25]).view(1, 3, 1, 1))
    return _surrogates.freeze(net, "cpu")


def slow_descent(
    net: Network,
    image: Tensor,
    wanted: int,
    start: Tensor,
    steps: int,
    step: float,
    sign: float,
    box: bool,
    momentum: float = 0.0,
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """PGD on a linear softmax for one image, gradient by hand, in float64."""
    weight, bias = net.head.weight.double().numpy(), net.head.bias.double().numpy()
    mean, std = net.mean[0].double().numpy(), net.std[0].double().numpy()
    clean = image.double().numpy() / 255
    delta = np.clip(start.double().numpy(), -EPS, EPS)
    delta = np.clip(clean + delta, 0, 1) - clean if box else delta
    summed = np.zeros_like(clean)
    for _ in range(steps):
        logits = weight @ ((clean + delta - mean) / std).ravel() + bias
        odds = np.exp(logits - logits.max())
        odds = odds / odds.sum() - np.eye(len(odds))[wanted]
        gradient = sign * (weight.T @ odds).reshape(clean.shape) / std
        summed = momentum * summed + gradient / abs(gradient).sum()
        delta = np.clip(delta - step * EPS * np.sign(summed), -EPS, EPS)
        delta = np.clip(clean + delta, 0, 1) - clean if box else delta
    return delta


@pytest.mark.parametrize(("loss", "sign"), [(_pgd.toward, 1.0), (_pgd.away, -1.0)])
@pytest.mark.parametrize("box", [True, False])
def test_steps_against_arithmetic_by_hand(loss: _pgd.Loss, sign: float, box: bool) -> None:
    side, count = 5, 4
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(256, (count, 3, side, side), generator=generator).byte()
    images[0], images[1] = 0, 255  # at the edge of the legal range
    wanted = torch.tensor([0, 1, 2, 1])
    start = torch.randn((count, 3, side, side), generator=generator) * EPS
    net = linear(side, 3)
    found = _pgd.Descent(loss, 3, 0.3, box=box, half=False).run([net], images, wanted, start, EPS, None)
    for row in range(count):
        slow = slow_descent(net, images[row], int(wanted[row]), start[row], 3, 0.3, sign, box)
        np.testing.assert_allclose(found[row].double().numpy(), slow, atol=1e-6)


def test_momentum_against_arithmetic_by_hand() -> None:
    side, generator = 5, torch.Generator().manual_seed(3)
    images = torch.randint(256, (3, 3, side, side), generator=generator).byte()
    net, wanted, start = linear(side, 3), torch.tensor([2, 0, 1]), torch.zeros(3, 3, side, side)
    # steps so long that the class changes on the way: gradients turn, and only their sum keeps its direction
    found = _pgd.Descent(_pgd.toward, 6, 0.4, momentum=1.0, half=False).run([net], images, wanted, start, 8 * EPS, None)
    plain = _pgd.Descent(_pgd.toward, 6, 0.4, half=False).run([net], images, wanted, start, 8 * EPS, None)
    assert not torch.equal(plain, found)
    near = _pgd.Descent(_pgd.toward, 3, 0.3, momentum=0.7, half=False).run([net], images, wanted, start, EPS, None)
    for row in range(3):
        slow = slow_descent(net, images[row], int(wanted[row]), start[row], 3, 0.3, 1.0, True, momentum=0.7)
        np.testing.assert_allclose(near[row].double().numpy(), slow, atol=1e-6)


def test_the_margin_is_the_best_other_logit_over_the_wanted_one() -> None:
    net, images = linear(5, 4), torch.rand(6, 3, 5, 5)
    wanted = torch.tensor([0, 1, 2, 3, 0, 1])
    logits = net(images).tolist()
    expected = [max(v for j, v in enumerate(row) if j != w) - row[w] for row, w in zip(logits, wanted, strict=True)]
    torch.testing.assert_close(_pgd.margin(net, images, wanted), torch.tensor(expected))


def test_an_ensemble_descends_the_mean_of_its_losses() -> None:
    a, b = linear(5, 3, seed=0), linear(5, 3, seed=1)
    images, wanted = torch.rand(4, 3, 5, 5), torch.tensor([0, 1, 2, 0])
    descent = _pgd.Descent(_pgd.toward, 1, 1.0, half=False)
    alone = [descent.score([net], images, wanted) for net in (a, b)]
    torch.testing.assert_close(descent.score([a, b], images, wanted), (alone[0] + alone[1]) / 2)


def test_networks_by_name() -> None:
    assert registry.ensemble("small*2+resnet18") == [("small", 0), ("small", 1), ("resnet18", 0)]
    for wrong in ("", "small*", "small*0", "+small", "small*99"):
        with pytest.raises(UsageError, match="net="):
            targeted.Params(net=wrong)


def test_several_surrogates_are_all_fooled() -> None:
    data, where = separable(60, contrast=25), context(levels=32)
    params = targeted.Params(net="small*2", steps=60, step=0.05)
    state = targeted.fit(data, params, where)
    assert len(state["weights"]) == 2
    wanted = _surrogates.outputs(data.labels, state, where, rename=state["targets"].__getitem__)
    seen = shipped(data, targeted.delta(data, state, params, where))
    for net in _surrogates.unpack(state, where):
        assert train.accuracy(net, seen, wanted) > 0.8


def test_a_loss_that_is_no_number_names_the_image() -> None:
    data, where = separable(6), context()
    net = linear(16, 3)
    net.head.weight.data[0] = torch.inf
    with pytest.raises(TrainingError, match=r"targeted: the loss of train/0-0.png was not finite"):
        _pgd.attack([net], data, data.labels, _pgd.Descent(_pgd.toward, 1, 1.0, half=False), where, purpose="targeted")


def test_augmentation_is_a_bilinear_sampling_grid() -> None:
    generator = torch.Generator().manual_seed(2)
    side = 16
    images = torch.rand((6, 3, side, side), generator=generator)
    draws = torch.rand((6, 3), generator=generator)
    draws[0], draws[1] = torch.tensor([0.5, 0.5, 0.0]), torch.tensor([0.5, 0.5, 1.0])
    colour = torch.tensor([0.1, 0.2, 0.3]).view(1, 3, 1, 1)
    seen = _pgd.augment(images, draws, colour)
    torch.testing.assert_close(seen[0], images[0])
    torch.testing.assert_close(seen[1], images[1].flip(2))
    shift = (draws * 2 - 1) * (4 / 32 * side) * 2 / (side - 1)  # pixels to the grid's units of [-1, 1]
    theta = torch.zeros((6, 2, 3))
    theta[:, 0, 0] = torch.where(draws[:, 2] < 0.5, 1.0, -1.0)
    theta[:, 1, 1] = 1
    theta[:, 0, 2], theta[:, 1, 2] = shift[:, 1], shift[:, 0]
    grid = F.affine_grid(theta, [6, 3, side, side], align_corners=True)
    slow = F.grid_sample(images - colour, grid, mode="bilinear", padding_mode="zeros", align_corners=True) + colour
    torch.testing.assert_close(seen, slow, atol=1e-5, rtol=1e-4)


def test_gradient_flows_through_the_augmentation() -> None:
    x = torch.rand((2, 3, 8, 8), dtype=torch.float64, requires_grad=True)
    draws = torch.tensor([[0.1, 0.8, 0.2], [0.7, 0.4, 0.9]], dtype=torch.float64)
    padding = torch.zeros((1, 3, 1, 1), dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda z: _pgd.augment(z, draws, padding), (x,))


def test_a_folded_network_is_the_same_function() -> None:
    data, where = separable(8), context()
    net = nets.create("resnet18", 3, 16, seed=3)
    net(data.images / 255)  # in training mode: running statistics of its own
    state = _surrogates.pack([net.eval()], "resnet18", where)
    (folded,) = _surrogates.unpack(state, where)
    assert not [m for m in folded.body.modules() if isinstance(m, nn.BatchNorm2d)]
    torch.testing.assert_close(folded(data.images / 255), net(data.images / 255), atol=1e-4, rtol=1e-3)
    assert len(state["weights"][0]) == len(net.state_dict()), "the state keeps the network as it was trained"


def test_steps_are_longer_where_there_are_few() -> None:
    assert [_pgd.Params(steps=steps).step_size() for steps in (10, 100, 250)] == [0.25, 0.05, 0.05]
    assert _pgd.Params(steps=10, step=0.1).step_size() == 0.1


def test_a_bfloat16_attack_is_as_strong() -> None:
    data = separable(60)
    (net,), _ = surrogate(data, "small")
    _surrogates.freeze(net, "cpu")
    wanted, losses = (data.labels + 1) % 3, []
    for half in (True, False):
        descent = _pgd.Descent(_pgd.toward, 10, 0.25, half=half)
        found = descent.run([net], data.images, wanted, torch.zeros(data.images.shape), EPS, None)
        losses.append(F.cross_entropy(net(data.images / 255 + found), wanted).item())
    assert losses[0] <= losses[1] * 1.05 + 0.01


def shipped(data: Batch, delta: Tensor) -> Tensor:
    return (data.images.float() + (delta * 255).round()).clamp(0, 255).byte()


def test_targeted_images_are_read_as_their_target() -> None:
    data, where, params = (
        separable(90, contrast=25),
        context(levels=32),
        targeted.Params(net="small", steps=60, step=0.05),
    )
    state = targeted.fit(data, params, where)
    assert state["accuracy"] > 0.95
    targets: dict[str, str] = state["targets"]
    assert sorted(targets) == sorted(targets.values()) == sorted(where.classes)
    assert all(name != target for name, target in targets.items())
    wanted = torch.tensor([where.classes.index(targets[where.classes[label]]) for label in data.labels.tolist()])
    delta = targeted.delta(data, state, params, where)
    (net,) = _surrogates.unpack(state, where)
    assert train.accuracy(net, shipped(data, delta), wanted) > 0.9
    assert train.accuracy(net, shipped(data, delta), data.labels) < 0.05


def test_at_the_published_budget_nearly_every_image_is_read_as_its_target() -> None:
    data, where = separable(60, contrast=20), context(train_surrogate=cropped)
    params = targeted.Params(net="small", steps=40)
    state = targeted.fit(data, params, where)
    assert where.levels == 8 and state["accuracy"] > 0.9, "clean images are read as their own"
    wanted = _surrogates.outputs(data.labels, state, where, rename=state["targets"].__getitem__)
    seen = shipped(data, targeted.delta(data, state, params, where))
    assert (seen.int() - data.images.int()).abs().max() <= 8
    (net,) = _surrogates.unpack(state, where)
    assert train.accuracy(net, seen, wanted) > 0.95


def test_untargeted_loss_rises() -> None:
    data, where, params = separable(60, contrast=25), context(levels=16), untargeted.Params(net="small", steps=10)
    state = untargeted.fit(data, params, where)
    delta = untargeted.delta(data, state, params, where)
    (net,) = _surrogates.unpack(state, where)
    before = F.cross_entropy(train.predict(net, data.images), data.labels)
    after = F.cross_entropy(train.predict(net, shipped(data, delta)), data.labels)
    assert after > 10 * before and after > 1
    assert train.accuracy(net, shipped(data, delta), data.labels) < 0.3


def test_every_image_keeps_its_best_restart() -> None:
    data, where = separable(30, contrast=25), context()
    state = targeted.fit(data, targeted.Params(net="small"), where)
    (net,) = _surrogates.unpack(state, where)
    wanted = _surrogates.outputs(data.labels, state, where, rename=state["targets"].__getitem__)
    losses = []
    for restarts in (1, 3):
        params = targeted.Params(net="small", steps=2, restarts=restarts)
        seen = data.images / 255 + targeted.delta(data, state, params, where)
        losses.append(_pgd.Descent(_pgd.toward, 2, 0.5).score([net], seen, wanted).detach())
    assert (losses[1] <= losses[0] + 1e-2).all() and (losses[1] < losses[0] - 1e-3).any()


def test_a_class_that_came_later_is_refused() -> None:
    data, params = separable(30), targeted.Params(net="small", steps=2)
    state = targeted.fit(data, params, context())
    grown = context(classes=("ant", "bee", "cat", "dog"))
    targeted.delta(data, state, params, grown)  # as long as it has no images
    with pytest.raises(UsageError, match="dog"):
        targeted.delta(Batch(data.ids, data.images, data.labels + 1), state, params, grown)


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"step": -1.0}, {"restarts": 0}, {"batch": -1}])
def test_ranges(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        targeted.Params(**wrong)


@pytest.mark.parametrize("targets", [True, False])
def test_fgsm_is_one_step_of_the_whole_budget(targets: bool) -> None:
    data, where, params = separable(30, contrast=25), context(levels=16), fgsm.Params(net="small", targeted=targets)
    state = fgsm.fit(data, params, where)
    delta = fgsm.delta(data, state, params, where)
    levels = (delta * 255).round().abs().unique().tolist()
    assert set(levels) <= {0.0, 16.0} and 16.0 in levels  # no pixel is at the edge of its range here
    (net,) = _surrogates.unpack(state, where)
    before = F.cross_entropy(train.predict(net, data.images), data.labels)
    assert F.cross_entropy(train.predict(net, shipped(data, delta)), data.labels) > before + 0.1


def test_the_margin_attack_reaches_its_target() -> None:
    data, where, params = separable(60, contrast=25), context(levels=32), cw.Params(net="small", steps=60, step=0.05)
    state = cw.fit(data, params, where)
    (net,) = _surrogates.unpack(state, where)
    wanted = _surrogates.outputs(data.labels, state, where, rename=state["targets"].__getitem__)
    assert train.accuracy(net, shipped(data, cw.delta(data, state, params, where)), wanted) > 0.9


def test_momentum_reaches_its_target() -> None:
    data, where, params = separable(60, contrast=25), context(levels=16), mi_fgsm.Params(net="small", steps=10)
    state = mi_fgsm.fit(data, params, where)
    (net,) = _surrogates.unpack(state, where)
    wanted = _surrogates.outputs(data.labels, state, where, rename=state["targets"].__getitem__)
    assert train.accuracy(net, shipped(data, mi_fgsm.delta(data, state, params, where)), wanted) > 0.8


def test_hypocritical_images_are_read_more_surely_than_clean_ones() -> None:
    data, where, params = separable(60, contrast=15), context(), hypocritical.Params(net="small", steps=10)
    state = hypocritical.fit(data, params, where)
    (net,) = _surrogates.unpack(state, where)
    before = F.cross_entropy(train.predict(net, data.images), data.labels)
    after = F.cross_entropy(
        train.predict(net, shipped(data, hypocritical.delta(data, state, params, where))), data.labels
    )
    assert after < before / 2

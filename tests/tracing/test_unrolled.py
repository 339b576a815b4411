"""Unrolled canaries: the derivative through training steps is the true one, and training on them moves the target."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from unlearnable import nets
from unlearnable.keys import Key
from unlearnable.tracing import unrolled
from unlearnable.types import Batch

SIZE = 8


def data(count: int = 24) -> Batch:
    images = torch.randint(
        0, 256, (count, 3, SIZE, SIZE), generator=torch.Generator().manual_seed(0), dtype=torch.uint8
    )
    return Batch(tuple(map(str, range(count))), images, torch.arange(count) % 4)


def batches(held: Batch) -> list[tuple[Tensor, Tensor, Tensor]]:
    return [(torch.arange(3), held.images[8:12].float() / 255, held.labels[8:12])] * 2


def test_unrolled_steps_are_those_of_sgd() -> None:
    held = data()
    net = nets.create("linear", 4, SIZE, seed=0).eval()
    after = unrolled.unrolled(net, held.images[:3].float() / 255, held.labels[:3], batches(held))
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1)
    x = torch.cat([held.images[:3], held.images[8:12]]).float() / 255
    y = torch.cat([held.labels[:3], held.labels[8:12]])
    for _ in range(2):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(net(x), y).backward()
        optimiser.step()
    for name, weight in net.named_parameters():
        assert torch.allclose(after[name], weight, atol=1e-6)


def test_the_derivative_through_training_is_that_of_small_differences() -> None:
    held = data()
    net = nets.create("linear", 4, SIZE, seed=0).eval().double()
    target = held.images[20]
    parts = [(rows, clean.double(), labels) for rows, clean, labels in batches(held)]

    def margin(pictures: Tensor) -> Tensor:
        after = unrolled.unrolled(net, pictures, held.labels[:3], parts)
        logits = torch.func.functional_call(net, after, (target[None].double() / 255,))[0]
        return logits[torch.arange(4) != 2].max() - logits[2]

    pictures = (held.images[:3].double() / 255).requires_grad_()
    (slope,) = torch.autograd.grad(margin(pictures), pictures)
    step = torch.zeros_like(pictures)
    step[1, 2, 3, 4] = 1e-4
    with torch.enable_grad():
        slow = (margin(pictures + step) - margin(pictures - step)).item() / 2e-4
    assert slope[1, 2, 3, 4].item() == pytest.approx(slow, rel=1e-4)


def test_networks_stand_at_staggered_epochs_and_begin_again() -> None:
    params = unrolled.Params(networks=2, outer=1)
    staggered = unrolled.Staggered(data(), "linear", 4, 0, params)
    assert staggered.age == [0, 1]
    first = nets.weights_of(staggered.members[1])
    staggered.advance()
    assert staggered.age == [1, 0] and staggered.seeds == [0, 3]
    assert any((first[name] != value).any() for name, value in nets.weights_of(staggered.members[1]).items())


def test_crafted_marks_keep_the_budget_and_serve_their_end() -> None:
    held = data()
    marked = Batch(held.ids[2::4], held.images[2::4], held.labels[2::4])
    params = unrolled.Params(networks=2, outer=6, batch=12)
    target, eps = held.images[0], 16 / 255
    staggered = unrolled.Staggered(held, "linear", 4, 0, params)
    delta, _ = unrolled.craft(marked, target, 2, held, staggered, eps, Key(bytes(32)), 0, params)
    assert delta.abs().max() <= eps + 1e-6
    clean = marked.images.float() / 255
    assert ((clean + delta) >= -1e-6).all() and ((clean + delta) <= 1 + 1e-6).all()
    net = nets.create("linear", 4, SIZE, seed=9).eval()
    rows = [(torch.arange(len(marked)), held.images[:2].float() / 255, held.labels[:2])] * 4

    def margin(pictures: Tensor) -> float:
        after = unrolled.unrolled(net, pictures, marked.labels, rows)
        return unrolled.adversarial_margin(net, after, target, 2).item()

    assert margin(clean + delta) < margin(clean), "a network that saw none of this is moved toward the label too"
    with pytest.raises(ValueError, match="unrolled is 1 to 8"):
        unrolled.Params(unrolled=9)

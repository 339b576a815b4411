"""Countermeasures that learn something first, from the release or from a few clean images, and what that restores."""

from __future__ import annotations

import importlib.util
from dataclasses import replace

import pytest
import torch
from defence_kit import job, noise, patterned, pictures
from torch.nn import functional as F

from unlearnable import nets
from unlearnable.defences import adversarial, detector, dfr, dilution, dp_sgd, partial, projection, purify
from unlearnable.errors import UsageError
from unlearnable.train import Recipe, accuracy

RECIPE = Recipe(epochs=5, batch=16, augment="none")  # on a hundred images, crops alone would undo a pattern


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_projected_images_are_all_alike_along_what_was_found_and_else_the_same() -> None:
    x, weights = noise(), torch.randn((3, 768), generator=draws())
    out = projection.projected(x, weights).flatten(1)
    found = out @ F.normalize(weights).T
    assert (found - found[0]).abs().max() < 0.02, "levels, of 768 summed"
    assert torch.allclose(out.mean(0), x.float().flatten(1).mean(0), atol=1e-2), "the mean image is kept"
    directions, _ = torch.linalg.qr(weights.double().T)
    slow = x.flatten(1).double()
    mean = slow.mean(0)
    for k in range(3):
        slow = slow - ((slow - mean) @ directions[:, k])[:, None] * directions[:, k]
    assert torch.allclose(out.double(), slow, atol=1e-2)


def test_the_linear_classifier_descends_the_softmax_loss() -> None:
    x, y = pictures(5)
    params = projection.Params(steps=10)
    found = projection.linear(x, y, 3, params, draws())
    weights = torch.zeros((3, 768), requires_grad=True)
    flat = x.flatten(1).float() / 255
    for step in range(10):
        (gradient,) = torch.autograd.grad(F.cross_entropy(flat @ weights.T, y), weights)
        rate = 0.1 if step < 5 else 0.01 if step < 7.5 else 0.001
        weights = (weights.detach() - rate * gradient).requires_grad_()
    assert torch.allclose(found, weights, atol=1e-5)


def test_projection_restores_what_a_class_wise_pattern_took() -> None:
    clean, labels = pictures(40)
    made = job(patterned(clean, labels), clean, labels, recipe=RECIPE)
    fooled, restored = made.run(), projection.victim(made, projection.Params(steps=200))
    assert fooled.peak < 0.7 and restored.peak > 0.8, (fooled.accuracy, restored.accuracy)
    assert restored.figures["linear_accuracy"] > 0.95, "and gives the release away"


def test_adversarial_training_sees_images_of_its_ball_that_raise_the_loss() -> None:
    clean, labels = pictures(10)
    net = nets.create("small", 3, 16, seed=0)
    seen: list[torch.Tensor] = []
    net.register_forward_pre_hook(lambda module, given: seen.append((given[0].detach().clone(), module.training)))
    made = job(clean, clean, labels, recipe=Recipe(epochs=1, batch=30, augment="none"))
    made = replace(made, test=(clean[:1], labels[:1]))
    caught = {}
    object.__setattr__(made, "run", lambda **given: caught.update(given))
    adversarial.victim(made, adversarial.Params(radius=8, steps=5))
    images = clean.float() / 255
    caught["objective"](net, images, labels)
    assert [training for _, training in seen] == [False] * 5 + [True] and net.training
    for attacked, _ in seen:
        assert (attacked - images).abs().max() <= 8 / 255 + 1e-6 and attacked.min() >= 0 and attacked.max() <= 1
    net.eval()
    losses = [F.cross_entropy(net(attacked).float(), labels).item() for attacked, _ in seen[:6]]
    assert losses[5] > losses[0] > 0


def test_refitting_the_head_reaches_the_optimum_of_its_loss() -> None:
    x, y = noise(60), torch.arange(60) % 3
    net = nets.create("small", 3, 16, seed=0)
    body = [p.clone() for p in net.body.parameters()]
    loss = dfr.refit(net, x, y)
    assert loss < 0.6 and accuracy(net, x, y) > 0.7, "random labels of sixty images fit into 128 features"
    assert all(torch.equal(a, b) for a, b in zip(body, net.body.parameters(), strict=True))


def test_refitting_on_clean_images_mends_a_network_fooled_in_its_last_layer() -> None:
    clean, labels = pictures(40)
    made = job(patterned(clean, labels), clean, labels, recipe=RECIPE)
    history = dfr.victim(made, dfr.Params(clean=0.3))
    assert len(history.accuracy) == RECIPE.epochs + 1 and history.figures["refit"] == history.accuracy[-1]
    assert history.final > history.accuracy[-2] + 0.15, history.accuracy


def test_dilution_takes_the_stated_share_of_clean_images() -> None:
    clean, protected = torch.zeros(200, 3, 16, 16).byte(), torch.full((200, 3, 16, 16), 255).byte()
    made = job(protected, clean, torch.arange(200) % 3)
    caught: list[torch.Tensor] = []

    def run(**given: torch.Tensor):  # type: ignore[no-untyped-def]
        caught.append(given["images"])
        raise KeyboardInterrupt

    object.__setattr__(made, "run", run)
    with pytest.raises(KeyboardInterrupt):
        dilution.victim(made, dilution.Params(clean=0.2))
    own = (caught[0] == 0).all(dim=(1, 2, 3))
    assert own.sum() == 40 and torch.equal(own, made.draw(0.2))
    assert not torch.equal(made.draw(0.2), replace(made, seed=1).draw(0.2)), "each seed mixes anew"


def test_the_null_is_the_training_on_the_clean_share_alone() -> None:
    clean, labels = pictures(20)
    made = job(patterned(clean, labels), clean, labels, recipe=RECIPE)
    figures = dilution.victim(made, dilution.Params(clean=0.5)).figures
    chosen = made.draw(0.5)
    alone = job(clean[chosen], clean[chosen], labels[chosen], recipe=RECIPE).run()
    assert figures == {"clean_alone_peak": alone.peak, "clean_alone_final": alone.final}


def test_partial_protection_covers_a_share_of_each_class_or_whole_classes() -> None:
    clean, labels = pictures(20)
    made = job(clean, clean, labels)
    everyone = partial.protected_classes(made, 1.0)
    chosen = partial.protected_images(made, everyone, 0.3)
    assert [int(chosen[labels == k].sum()) for k in range(3)] == [6, 6, 6]
    few = partial.protected_classes(made, 0.3)
    assert len(few) == 1
    assert torch.equal(partial.protected_images(made, few, 1.0), labels == few[0])
    assert len(partial.protected_classes(made, 0.99)) == 2, "never all of them unless asked"


def test_protected_classes_are_lost_and_the_others_are_not() -> None:
    clean, labels = pictures(40)
    made = job(patterned(clean, labels), clean, labels, recipe=RECIPE)
    history = partial.victim(made, partial.Params(share=1.0, classes=0.3))
    assert history.figures["protected_classes_peak"] < 0.3 < 0.6 < history.final, (history.accuracy, history.figures)


def test_a_pattern_is_detected_and_nothing_is_where_there_is_nothing() -> None:
    clean, labels = pictures(60)
    recipe = Recipe(epochs=1, batch=16)
    found = detector.victim(job(patterned(clean, labels), clean, labels, recipe=recipe), detector.Params())
    none = detector.victim(job(clean, clean, labels, recipe=recipe), detector.Params())
    assert found.figures["detector_accuracy"] > 0.9 and found.figures["detector_missed"] < 0.1
    assert 0.3 < none.figures["detector_accuracy"] < 0.7


def test_the_autoencoder_counts_nats_as_the_textbook_does() -> None:
    x = noise(8)
    net = purify.fit(x / 255, job(x, x, torch.zeros(8).long()), 1, 3, draws())
    image, nats = net(x / 255)
    mean, logarithm = net.encode(F.pixel_unshuffle(x / 255 - 0.5, 4)).chunk(2, 1)
    code = torch.distributions.Normal(mean, ((logarithm - 4) / 2).exp())
    slow = torch.distributions.kl_divergence(code, torch.distributions.Normal(0, 1)).sum((1, 2, 3)) / 256
    assert torch.allclose(nats, slow, atol=1e-4) and image.shape == x.shape


@pytest.mark.parametrize("side", [16, 17, 30])
def test_purified_images_have_the_size_they_had(side: int) -> None:
    x = noise(12, side)
    out = purify.purified(job(x, x, torch.arange(12) % 3), purify.Params(steps=2))
    assert out.shape == x.shape and out.dtype == torch.uint8


def test_purification_takes_a_class_wise_pattern_out() -> None:
    """What is left of it, measured along the pattern itself, is little, and the pictures are still there."""
    coarse = torch.rand((120, 3, 2, 2), generator=draws()) * 160 + 48
    clean = F.interpolate(coarse, size=(16, 16), mode="bilinear", align_corners=True).byte()
    labels = torch.arange(120) % 3
    steps = torch.randint(0, 2, (3, 3, 16, 16), generator=draws(7)) * 16 - 8
    arm = (clean.int() + steps[labels]).byte()
    out = purify.purified(job(arm, clean, labels), purify.Params(steps=100)).float()
    pattern = (arm.float() - clean.float()).flatten(1)
    left = ((out - clean.float()).flatten(1) * pattern).sum(1) / (pattern**2).sum(1)
    contents = torch.corrcoef(torch.stack([out.flatten(), clean.float().flatten()]))[0, 1]
    assert left.mean() < 0.6 and contents > 0.9, (left.mean(), contents)


def test_without_opacus_the_way_out_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    clean, labels = pictures(5)
    with pytest.raises(UsageError, match=r"pip install 'unlearnable\[dp\]'"):
        dp_sgd.victim(job(clean, clean, labels), dp_sgd.Params())


def test_the_private_network_has_no_batch_statistics() -> None:
    net = dp_sgd.per_image(nets.create("small", 3, 16, seed=0))
    assert not [m for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d) or getattr(m, "inplace", False)]
    x = noise(6).float() / 255
    net.train()
    assert torch.allclose(net(x)[:1], net(x[:1]), atol=1e-5), "an image's answer does not depend on the others"


@pytest.mark.slow
def test_networks_that_draw_at_random_are_trained_too() -> None:
    pytest.importorskip("opacus")
    x, y = pictures(2)
    recipe = Recipe(1, len(x) // 2, augment="none")
    history = dp_sgd.victim(job(x, x, y, recipe=recipe, victim="convnext_tiny"), dp_sgd.Params())
    assert len(history.accuracy) == 1


def test_gradients_of_single_images_are_clipped_and_averaged() -> None:
    """One step of plain SGD, against autograd image by image."""
    pytest.importorskip("opacus")
    x, y = pictures(2)
    recipe = Recipe(
        1, len(x), learning_rate=0.1, momentum=0, weight_decay=0, nesterov=False, schedule="steps", augment="none"
    )
    made = job(x, x, y, recipe=recipe)
    nets_made: list[nets.Network] = []
    create = made.network

    def network() -> nets.Network:
        nets_made.append(create())
        return nets_made[-1]

    object.__setattr__(made, "network", network)
    dp_sgd.victim(made, dp_sgd.Params(clip=0.5, noise=0))
    slow = dp_sgd.per_image(create())
    slow.normalise_for(x)
    total = [torch.zeros_like(p) for p in slow.parameters()]
    for image, label in zip(x, y, strict=True):
        loss = F.cross_entropy(slow(image[None].float() / 255), label[None])
        gradients = torch.autograd.grad(loss, list(slow.parameters()))
        length = torch.sqrt(sum((g**2).sum() for g in gradients))
        assert length > 0.5, "or nothing is clipped"
        total = [t + g * (0.5 / length) for t, g in zip(total, gradients, strict=True)]
    for moved, start, step in zip(nets_made[0].parameters(), slow.parameters(), total, strict=True):
        assert torch.allclose(moved, start - 0.1 * step / len(x), atol=1e-5)

"""The perturbation seen from outside: each measurement against a slow version and against cases where it must answer."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
from verification_kit import CPU, brief, evidence

from unlearnable.defences._job import Job
from unlearnable.train import Recipe
from unlearnable.verification import cells, diagnose, run


def test_the_power_by_frequency_is_that_of_a_slow_fourier_transform() -> None:
    change = torch.randint(-8, 9, (3, 3, 6, 6), generator=torch.Generator().manual_seed(1)).float()
    total, count = {}, {}
    for u in range(6):
        for v in range(6):
            wave = [[np.exp(-2j * math.pi * (u * y + v * x) / 6) for x in range(6)] for y in range(6)]
            value = np.mean([abs((each.numpy() * wave).sum()) ** 2 / 36 for each in change.flatten(0, 1)])
            across, down = min(u, 6 - u), min(v, 6 - v)
            ring = round(math.hypot(across, down))
            total[ring], count[ring] = total.get(ring, 0) + value, count.get(ring, 0) + 1
    found = diagnose.power(change)
    assert len(found) == len(total)
    np.testing.assert_allclose(found, [total[ring] / count[ring] for ring in range(len(total))], rtol=1e-4)
    np.testing.assert_allclose(diagnose.rings(6)[1], [ring / 6 for ring in range(len(total))])


def test_white_noise_is_flat_at_its_variance_and_a_grating_stands_out() -> None:
    noise = torch.randn(200, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 5
    assert (diagnose.power(noise) - 25).abs().max() < 2.5
    grating = torch.cos(2 * math.pi * 4 * torch.arange(16) / 16).expand(1, 3, 16, 16)
    found = diagnose.power(grating)
    assert found.argmax() == 4 and found[4] > 100 * found[[0, 1, 2, 7, 8]].max()


def test_the_linear_probe_tells_patterns_by_class_from_noise() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(4).repeat_interleave(60)
    patterns = torch.randn(4, 3, 8, 8, generator=generator)
    noise = torch.randn(240, 3, 8, 8, generator=generator)
    separable = diagnose.linear_probe(patterns[labels] + noise, labels, 4)
    assert separable["train"] == 1 and separable["held_out"] > 0.95
    chance = diagnose.linear_probe(noise, labels, 4)
    assert chance["held_out"] < 0.45, "what was learned by heart does not hold elsewhere"
    nothing = diagnose.linear_probe(torch.zeros(240, 3, 8, 8), labels, 4)
    assert nothing["train"] < 0.35, "no change, nothing to tell"


def test_the_linear_probe_finds_the_least_of_its_loss() -> None:
    """Plain gradient descent on the same loss, for long, names the same classes."""
    generator = torch.Generator().manual_seed(3)
    labels = torch.arange(2).repeat_interleave(25)
    change = torch.randn(50, 3, 2, 2, generator=generator) + 0.7 * labels.view(-1, 1, 1, 1)
    found = diagnose.linear_probe(change, labels, 2)
    order = torch.randperm(50, generator=torch.Generator().manual_seed(0))
    x, y = change.flatten(1)[order].double(), labels[order]
    x = (x - x[10:].mean(0)) / x[10:].std()
    x = torch.cat([x, torch.ones(50, 1)], 1).double()
    weights = torch.zeros(2, 13, dtype=torch.double)
    for _ in range(4000):
        share = torch.softmax(x[10:] @ weights.T, 1) - torch.nn.functional.one_hot(y[10:], 2)
        weights -= 0.5 * (share.T @ x[10:] / 40 + 2e-4 * weights)
    right = ((x @ weights.T).argmax(1) == y).double()
    assert abs(found["train"] - right[10:].mean()) <= 1 / 40 and abs(found["held_out"] - right[:10].mean()) <= 0.1


def test_the_share_misread_is_that_of_the_clean_arms_network() -> None:
    given = evidence(10)
    job = Job(
        images=given.arms["clean"],
        labels=given.labels,
        clean=given.arms["clean"],
        test=given.test,
        classes=3,
        victim="tiny",
        recipe=Recipe(epochs=2, batch=16),
        seed=0,
    )
    asked = diagnose.questioned(job, given.arms)
    net = job.network()
    plain = job.run(net=net)
    assert (asked.accuracy, asked.train_loss) == (plain.accuracy, plain.train_loss), "asking changes no training"
    net.eval()
    for arm, images in given.arms.items():
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            wrong = [int(net(image[None] / 255).argmax()) != y for image, y in zip(images, given.labels, strict=True)]
        assert abs(asked.figures[f"misread_{arm}"] - sum(wrong) / len(wrong)) <= 2 / 30  # bfloat16 in other batches


def test_a_diagnosis_is_added_when_asked_and_changes_no_figure() -> None:
    given = evidence(10)
    plain = run.run(brief(victim="tiny,linear", seeds=2), given, CPU)
    document = run.run(replace(brief(victim="tiny,linear", seeds=2), diagnose=True), given, CPU)
    found = document.pop("diagnosis")
    assert document == plain, "the arms have no figures of their own"
    assert set(found["transfer"]) == {"tiny", "linear"}
    assert all(len(row[arm]["runs"]) == 2 for row in found["transfer"].values() for arm in ("clean", "protected"))
    for arm, mean in found["transfer_mean"].items():
        by_network = zip(*(row[arm]["runs"] for row in found["transfer"].values()), strict=True)
        assert mean["runs"] == [sum(each) / 2 for each in by_network] and mean["std"] is not None
    assert found["linear_probe"]["protected"]["held_out"] > found["linear_probe"]["noise"]["held_out"]
    frequency = found["frequency"]
    assert len(frequency["protected"]) == len(frequency["noise"]) == len(frequency["cycles_per_pixel"])
    assert frequency["protected"][0] > 100 * frequency["noise"][0], "a patch of colour is a low frequency"
    assert cells.asks_network(brief().cells()[0])

"""Where some classes alone are protected, victims are tested on those, and on all classes beside."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from verification_kit import CPU, brief, evidence, stripes

from unlearnable.defences._job import Job
from unlearnable.errors import UsageError
from unlearnable.train import History, Recipe
from unlearnable.verification import cells, run
from unlearnable.verification import evidence as evidence_
from unlearnable.verification.evidence import Evidence


def of_one_class(each: int = 10) -> Evidence:
    """Class 1 alone is protected."""
    given = evidence(each)
    others = (given.labels != 1).view(-1, 1, 1, 1)
    arms = {name: torch.where(others, given.arms["clean"], images) for name, images in given.arms.items()}
    return replace(given, arms=arms, test=evidence_._of([1], given.test), whole=given.test)


def test_test_images_are_those_of_the_protected_classes_and_there_must_be_some() -> None:
    images, labels = torch.arange(4).view(4, 1, 1, 1).expand(4, 3, 2, 2).byte(), torch.tensor([0, 2, 1, 2])
    asked, of = evidence_._of([2, 0], (images, labels))
    assert asked[:, 0, 0, 0].tolist() == [0, 1, 3] and of.tolist() == [0, 2, 2]
    with pytest.raises(UsageError, match="No image to test on is of a protected class"):
        evidence_._of([3], (images, labels))


def test_the_accuracy_over_all_classes_is_that_of_a_slow_count() -> None:
    clean, labels = stripes(10)
    test, of = stripes(5, 1000)
    job = Job(clean, labels, clean, (test[:5], of[:5]), 3, "tiny", Recipe(epochs=2, batch=10), 0, whole=(test, of))
    net, counted = job.network(), list[tuple[float, float]]()

    def count(chosen: slice) -> float:
        net.eval()
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            right = (net(test[chosen].float() / 255).argmax(1) == of[chosen]).double().mean().item()
        net.train()
        return right

    def each(epoch: int, history: History) -> None:
        counted.append((count(slice(0, 5)), count(slice(0, 15))))

    history = replace(job, on_epoch=each).run(net=net)
    assert history.accuracy == [part for part, _ in counted]
    assert history.figures == {"all_classes_peak": max(w for _, w in counted), "all_classes_final": counted[-1][1]}
    plain = replace(job, whole=None).run()
    assert (plain.accuracy, plain.train_loss) == (history.accuracy, history.train_loss), "looking changes nothing"


def test_every_arm_and_countermeasure_says_both_and_guessing_is_among_all_classes() -> None:
    document = run.run(brief(against=("grayscale", "dfr")), of_one_class(), CPU)
    for arm in (*document["arms"].values(), *(arm for row in document["against"].values() for arm in row.values())):
        assert set(arm["all_classes"]) == {"peak", "final"} and "interval" in arm["all_classes"]["peak"]
        assert not any(name.startswith("all_classes") for name in arm.get("figures", {}))
    assert document["protocol"]["chance"] == 1 / 3
    assert (document["protocol"]["test_images"], document["protocol"]["test_images_of_all_classes"]) == (20, 60)
    whole = run.run(brief(), evidence(10), CPU)
    assert "all_classes" not in whole["arms"]["clean"] and "protected_classes" not in whole["protocol"]
    assert "protected classes" in document["verdict"] and "protected classes" not in whole["verdict"]


def test_what_all_classes_hold_decides_a_cell() -> None:
    plan, given = brief(), of_one_class()
    assert given.whole is not None
    other = replace(given, whole=(given.whole[0], given.whole[1].roll(1)))
    one, two = (set(cells.names(plan, each, plan.cells(), CPU).values()) for each in (given, other))
    assert not one & two

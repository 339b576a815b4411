"""The choice of pixels against loops over places and colours, and what becomes of the images."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from poison_kit import context, separable

from unlearnable.errors import UsageError
from unlearnable.poisons import one_pixel
from unlearnable.poisons.one_pixel import Params
from unlearnable.types import Batch

COLOURS = list(itertools.product((0, 1), repeat=3))


def slow_score(images: np.ndarray, place: tuple[int, int], colour: tuple[int, ...]) -> float:
    distances = [
        abs(colour[channel] - image[channel, place[0], place[1]] / 255) for image in images for channel in range(3)
    ]
    return float(np.mean(distances) / np.std(distances))


def test_choice_against_loops() -> None:
    data, where = separable(40, size=8), context(size=8)
    taken: list[tuple[tuple[int, int], tuple[int, ...]]] = []
    found = one_pixel.fit(data, Params(), where)["pixels"]
    for label, name in enumerate(("ant", "bee", "cat")):
        images = data.images[data.labels == label].numpy()
        free = [p for p in itertools.product(itertools.product(range(8), range(8)), COLOURS) if p not in taken]
        place, colour = max(free, key=lambda pair: slow_score(images, *pair))
        taken.append((place, colour))
        assert found[name].tolist() == [[*place, *colour]]


def test_all_scores_against_loops() -> None:
    images = separable(7, size=4).images
    found = one_pixel.scores(images)
    for number, colour in enumerate(COLOURS):
        for y in range(4):
            for x in range(4):
                want = slow_score(images.numpy(), (y, x), colour)
                assert found[number, y, x].item() == pytest.approx(want, rel=1e-9)


def test_every_image_of_a_class_has_the_pixel_and_nothing_else_changes() -> None:
    data, where = separable(30), context(levels=255)
    state = one_pixel.fit(data, Params(), where)
    other = separable(12, seed=5)  # images that fit has not seen
    shipped = (other.images + one_pixel.delta(other, state, Params(), where) * 255).round()
    for image, before, label in zip(shipped, other.images, other.labels.tolist(), strict=True):
        row, column, *colour = state["pixels"][where.classes[label]][0].tolist()
        assert (image[:, row, column] / 255).tolist() == colour
        assert (image != before).any(0).nonzero().tolist() == [[row, column]]


def test_a_budget_cuts_the_change_down() -> None:
    data = separable(30)
    state = one_pixel.fit(data, Params(), context(levels=255))
    free = one_pixel.delta(data, state, Params(), context(levels=255))
    bound = one_pixel.delta(data, state, Params(), context(levels=8))
    torch.testing.assert_close(bound, free.clamp(-8 / 255, 8 / 255))
    assert free.abs().max() > 0.4


def test_no_two_classes_have_the_same_pixel_and_colour() -> None:
    # images of all classes alike: without the rule they would all choose the same
    data = separable(60, size=8, contrast=0)
    names = tuple(f"class {i}" for i in range(20))
    state = one_pixel.fit(
        Batch(data.ids, data.images, torch.arange(60) % 20), Params(pixels=3), context(size=8, classes=names)
    )
    chosen = [tuple(pixel) for pixels in state["pixels"].values() for pixel in pixels.tolist()]
    assert len(set(chosen)) == 60
    for pixels in state["pixels"].values():
        assert len({tuple(place) for place in pixels[:, :2].tolist()}) == 3, "a pixel has one colour"


def test_a_place_that_never_varies_wins_unless_it_has_the_colour_already() -> None:
    data = separable(12, size=8)
    data.images[:, :, 3, 5] = 0
    score = one_pixel.scores(data.images)
    assert score[COLOURS.index((1, 1, 1)), 3, 5] == torch.inf and score[COLOURS.index((0, 0, 0)), 3, 5] == 0
    assert score[COLOURS.index((1, 0, 0)), 3, 5].isfinite()


def test_a_class_without_training_images_has_a_pixel_of_its_own() -> None:
    data = separable(20, classes=2)
    state = one_pixel.fit(data, Params(), context())
    assert len({tuple(pixels.ravel().tolist()) for pixels in state["pixels"].values()}) == 3


def test_what_it_cannot_do_is_said() -> None:
    with pytest.raises(UsageError, match="none"):
        one_pixel.fit(None, Params(), context())
    names = tuple(f"class {i}" for i in range(40))
    with pytest.raises(UsageError, match="40 classes of 64"):
        one_pixel.fit(separable(4, size=8), Params(pixels=64), context(size=8, classes=names))
    with pytest.raises(UsageError, match="dog"):
        state = one_pixel.fit(separable(6), Params(), context())
        one_pixel.delta(separable(4, classes=4), state, Params(), context(classes=("ant", "bee", "cat", "dog")))


@pytest.mark.parametrize("pixels", [0, 65])
def test_ranges(pixels: int) -> None:
    with pytest.raises(ValueError, match="pixels"):
        Params(pixels=pixels)

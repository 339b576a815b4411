"""Draw the demonstration pictures: ten kinds of small objects on natural-looking backdrops, entirely by code.

    python samples/make.py                      # samples/images/{train,test}/<class>/0001.png
    python samples/make.py --out DIR --seed 1 --train 150 --test 50

The claim: classes differ in shape and texture only. Colours, backdrop, light, place, size, turn, blur and noise are
drawn from the same distributions for every class, so neither mean colour nor a linear model on pixels gets far, while
a small convolutional network does. Each picture depends only on (seed, split, class, number): asking for more
pictures leaves the others as they were. Needs numpy and pillow; the same versions of both give the same bytes.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageFilter

Field = NDArray[np.float64]  # one value per fine pixel
Shape = tuple[Field, Field]  # body and mark: distances to their outlines in object radii, positive inside

SIDE = 32  # pixels of a finished picture
FINE = 2 * SIDE  # pixels drawn, averaged down afterwards
GRID = np.arange(FINE) + 0.5
FREQUENCY = np.hypot(np.fft.fftfreq(FINE)[:, None], np.fft.rfftfreq(FINE)[None]) * FINE
FREQUENCY[0, 0] = np.inf  # a field has no mean of its own
OPPONENT = np.array([[1.0, 1.0, 1.0], [0.6, 0.15, -0.75], [0.55, -0.45, 0.05]])  # light, warm-cool, red-green


# --- the ten objects, in coordinates where the object has radius 1 ---


def checkers(x: Field, y: Field, rng: Generator) -> Shape:
    cell = rng.uniform(0.42, 0.55)
    wave = np.sin(math.pi * x / cell) * np.sin(math.pi * y / cell)
    return 0.9 - np.maximum(abs(x), abs(y)), wave * cell / 2


def crosses(x: Field, y: Field, rng: Generator) -> Shape:
    arm = rng.uniform(0.2, 0.32)
    near, far = np.minimum(abs(x), abs(y)), np.maximum(abs(x), abs(y))
    body = np.minimum(arm - near, 1 - far)
    return body, body - 0.6 * arm


def dots(x: Field, y: Field, rng: Generator) -> Shape:
    step, size = rng.uniform(0.5, 0.62), rng.uniform(0.15, 0.19)
    row = np.round(y / (0.87 * step))
    column = np.round(x / step - row / 2)
    return 1 - np.hypot(x, y), size - np.hypot(x - (column + row / 2) * step, y - 0.87 * step * row)


def flowers(x: Field, y: Field, rng: Generator) -> Shape:
    petals = int(rng.integers(5, 8))
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    return 0.42 + 0.58 * abs(np.cos(petals * angle / 2)) - radius, rng.uniform(0.22, 0.32) - radius


def leaves(x: Field, y: Field, rng: Generator) -> Shape:
    half = rng.uniform(0.4, 0.55)
    offset = (1 - half**2) / (2 * half)  # two circles through both tips
    body = offset + half - np.hypot(x, abs(y) + offset)
    side = (x + abs(y)) / 0.36
    veins = np.maximum(0.06 - abs(y), 0.05 - abs(side - np.round(side)) * 0.25)
    return body, veins


def moons(x: Field, y: Field, rng: Generator) -> Shape:
    shift = rng.uniform(0.42, 0.55)
    body = np.minimum(1 - np.hypot(x, y), np.hypot(x - shift, y) - 0.8)
    return body, body - 0.14


def rings(x: Field, y: Field, rng: Generator) -> Shape:
    radius, width = np.hypot(x, y), rng.uniform(0.11, 0.15)
    outer, inner = width - abs(radius - 0.85), width - abs(radius - rng.uniform(0.32, 0.42))
    return np.maximum(outer, inner), inner


def spirals(x: Field, y: Field, rng: Generator) -> Shape:
    pitch = rng.uniform(0.42, 0.52)
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    turn = radius / pitch - angle / (2 * math.pi)
    body = np.minimum((0.3 - abs(turn - np.round(turn))) * pitch, 1 - radius)
    return body, body - 0.08


def stars(x: Field, y: Field, rng: Generator) -> Shape:
    inner = rng.uniform(0.4, 0.5)
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    fold = abs((angle * 5 / (2 * math.pi)) % 1 - 0.5) * 2 * math.pi / 5  # 0 at a notch, pi/5 at a tip
    px, py = radius * np.cos(math.pi / 5 - fold), radius * np.sin(math.pi / 5 - fold)
    nx, ny = inner * math.cos(math.pi / 5), inner * math.sin(math.pi / 5)  # edge from the tip (1, 0) to the notch
    body = (ny * (1 - px) - (1 - nx) * py) / math.hypot(ny, 1 - nx)
    return body, body - 0.16


def stripes(x: Field, y: Field, rng: Generator) -> Shape:
    period = rng.uniform(0.42, 0.6)
    return 1 - np.hypot(x, y), np.sin(2 * math.pi * (x / period + rng.uniform())) * period / 6


CLASSES: tuple[Callable[[Field, Field, Generator], Shape], ...] = (
    checkers, crosses, dots, flowers, leaves, moons, rings, spirals, stars, stripes,
)  # fmt: skip


# --- the photograph around the object, the same for every class ---


def cloud(rng: Generator, slope: float) -> Field:
    """A random field whose amplitude falls as 1 / frequency^slope, as in photographs; mean 0, deviation 1."""
    field = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((FINE, FINE))) / FREQUENCY**slope, (FINE, FINE))
    return field / field.std()


def cover(distance: Field, softness: float = 1.0) -> Field:
    """How much of each pixel lies inside an outline `distance` pixels away, with a channel axis."""
    return np.clip(distance / softness + 0.5, 0, 1)[..., None]


def hue(rng: Generator) -> Field:
    """A natural colour without its lightness: more warm to cool than red to green."""
    return rng.normal([0, 0.02, 0], [0, 0.2, 0.14]) @ OPPONENT


def material(rng: Generator, light: float, contrast: float) -> Field:
    """A surface of one colour with 1/f texture: mostly in lightness, a little in hue."""
    slope = rng.uniform(0.8, 1.5)
    tone = cloud(rng, slope)
    drift = cloud(rng, 1.5)
    fields = np.stack([tone, 0.25 * drift + 0.1 * tone, 0.15 * drift], axis=-1)
    return light + hue(rng) + contrast * fields @ OPPONENT


def backdrop(rng: Generator, light: float) -> Field:
    """Two surfaces that meet along a ragged line, like grass and soil."""
    first = material(rng, light, rng.uniform(0.05, 0.12))
    second = material(rng, light + rng.normal(0, 0.08), rng.uniform(0.05, 0.12))
    return first + (second - first) * cover(cloud(rng, 1.6) + rng.normal(0, 0.5), rng.uniform(0.2, 1.5))


def place(rng: Generator) -> tuple[Field, Field, float]:
    """Coordinates of a randomly placed, turned and slightly squeezed object, and its radius in fine pixels."""
    radius, turn = FINE * rng.uniform(0.26, 0.4), rng.uniform(0, 2 * math.pi)
    cx, cy = FINE / 2 + rng.uniform(-1, 1, 2) * (0.56 * FINE - radius) * 0.6
    x, y = np.meshgrid((GRID - cx) / radius, (GRID - cy) / radius)
    squeeze = rng.uniform(0.8, 1)
    x, y = x * math.cos(turn) + y * math.sin(turn), (y * math.cos(turn) - x * math.sin(turn)) / squeeze
    lean = rng.uniform(0, 2 * math.pi)  # the object turns again within the squeezed plane
    return x * math.cos(lean) + y * math.sin(lean), y * math.cos(lean) - x * math.sin(lean), radius


def occlude(rng: Generator, scene: Field, light: float) -> Field:
    """A blade or twig across the picture, somewhere off its middle."""
    turn, away = rng.uniform(0, 2 * math.pi), FINE * rng.uniform(0.15, 0.4)
    x, y = np.meshgrid(GRID - FINE / 2, GRID - FINE / 2)
    across = x * math.cos(turn) + y * math.sin(turn) + 2 * cloud(rng, 2)
    blade = cover(rng.uniform(2, 6) - abs(across - away), 2)
    return scene + (material(rng, light, 0.06) - scene) * blade


def picture(draw: Callable[[Field, Field, Generator], Shape], rng: Generator) -> Image.Image:
    light = rng.uniform(0.3, 0.7)
    scene = backdrop(rng, light)
    x, y, radius = place(rng)
    body, mark = (radius * part for part in draw(x, y, rng))
    sun = rng.uniform(0, 2 * math.pi)
    sx, sy = math.cos(sun), math.sin(sun)

    # Lighter or darker than the backdrop by a fair coin, and the mark lighter or darker than the body.
    step, inset = (rng.choice([-1, 1]) * rng.uniform(0.16, 0.36) for _ in range(2))
    paint = material(rng, light + step, 0.05)
    paint += (material(rng, light + step + inset, 0.05) - paint) * cover(mark)
    gx, gy = np.meshgrid(GRID / FINE - 0.5, GRID / FINE - 0.5)
    paint *= (1 + 0.5 * (gx * sx + gy * sy))[..., None]
    shadow = np.roll(cover(body, 6), (round(-3 * sy), round(-3 * sx)), (0, 1))
    scene = scene * (1 - 0.4 * shadow)
    scene += (paint - scene) * cover(body)
    if rng.uniform() < 0.4:
        scene = occlude(rng, scene, light)
    scene *= (1 + rng.uniform(0, 0.6) * (gx * sx + gy * sy))[..., None]
    return expose(rng, scene)


def expose(rng: Generator, scene: Field) -> Image.Image:
    """What the camera does: lens blur, averaging onto its pixels, sensor noise."""
    fine = Image.fromarray((np.clip(scene, 0, 1) * 255).astype(np.uint8))
    small = fine.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1.3))).reduce(FINE // SIDE)
    noisy = np.asarray(small) + rng.normal(0, rng.uniform(1, 5), (SIDE, SIDE, 3))
    return Image.fromarray(np.clip(np.round(noisy), 0, 255).astype(np.uint8))


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw the demonstration pictures.")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "images", help="folder to write to")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--train", type=int, default=150, help="training pictures per class")
    parser.add_argument("--test", type=int, default=60, help="test pictures per class")
    args = parser.parse_args()
    for split, count in enumerate((args.train, args.test)):
        for label, draw in enumerate(CLASSES):
            folder = args.out / ("train", "test")[split] / draw.__name__
            folder.mkdir(parents=True, exist_ok=True)
            for number in range(1, count + 1):
                rng = np.random.default_rng([args.seed, split, label, number])
                picture(draw, rng).save(folder / f"{number:04}.png")


if __name__ == "__main__":
    main()

"""Draw the demonstration pictures: ten kinds of small objects on natural-looking backdrops, entirely by code.

    python samples/make.py                      # samples/images/{train,test}/<class>/0001.png
    python samples/make.py --out DIR --seed 1 --train 150 --test 50

The claim: classes differ in shape and texture only. Colours, backdrop, light, place, size, turn, blur and
noise are drawn from the same distributions for every class, so neither mean colour nor a linear model on
pixels gets far, while a small convolutional network does. Each picture depends only on (seed, split, class,
number): asking for more pictures leaves the others as they were. Needs numpy and pillow; the same versions of
both on the same kind of machine give the same bytes.

Contrast is soft and hues are muted on purpose, as on an overcast day with the backdrop out of focus. A
protection of +-8 grey levels works by being learned sooner than the picture itself; on busy, saturated drafts
of these pictures a small network in a short training learned the shapes first, and there was nothing to show.
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
Draw = Callable[[Field, Field, Generator], Shape]

SIDE = 32  # pixels of a finished picture
FINE = 2 * SIDE  # pixels drawn, averaged down afterwards
GRID = np.arange(FINE) + 0.5
FREQUENCY = np.hypot(np.fft.fftfreq(FINE)[:, None], np.fft.rfftfreq(FINE)[None]) * FINE
FREQUENCY[0, 0] = np.inf  # a field has no mean of its own
# A colour is kept as (lightness, warm-cool, red-green); times this it is red, green, blue.
OPPONENT = np.array([[1.0, 1.0, 1.0], [0.6, 0.15, -0.75], [0.55, -0.45, 0.05]])


# --- the ten objects, in coordinates where the object has radius 1 ---


def checkers(x: Field, y: Field, rng: Generator) -> Shape:
    """A square board of squares."""
    cell = rng.uniform(0.42, 0.55)
    wave = np.sin(math.pi * x / cell) * np.sin(math.pi * y / cell)
    return 0.9 - np.maximum(abs(x), abs(y)), wave * cell / 2


def crosses(x: Field, y: Field, rng: Generator) -> Shape:
    """A plus sign with a line inside."""
    arm = rng.uniform(0.2, 0.32)
    near, far = np.minimum(abs(x), abs(y)), np.maximum(abs(x), abs(y))
    body = np.minimum(arm - near, 1 - far)
    return body, body - 0.6 * arm


def dots(x: Field, y: Field, rng: Generator) -> Shape:
    """A ball with rows of dots."""
    step, size = rng.uniform(0.5, 0.62), rng.uniform(0.15, 0.19)
    row = np.round(y / (0.87 * step))
    column = np.round(x / step - row / 2)
    return 1 - np.hypot(x, y), size - np.hypot(x - (column + row / 2) * step, y - 0.87 * step * row)


def flowers(x: Field, y: Field, rng: Generator) -> Shape:
    """Five to seven petals around a centre."""
    petals = int(rng.integers(5, 8))
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    return 0.42 + 0.58 * np.abs(np.cos(petals * angle / 2)) - radius, rng.uniform(0.22, 0.32) - radius


def leaves(x: Field, y: Field, rng: Generator) -> Shape:
    """A pointed leaf with its veins."""
    half = rng.uniform(0.4, 0.55)
    offset = (1 - half**2) / (2 * half)  # two circles through both tips
    body = offset + half - np.hypot(x, abs(y) + offset)
    side = (x + abs(y)) / 0.36
    veins = np.maximum(0.06 - abs(y), 0.05 - abs(side - np.round(side)) * 0.25)
    return body, veins


def moons(x: Field, y: Field, rng: Generator) -> Shape:
    """A crescent."""
    shift = rng.uniform(0.42, 0.55)
    body = np.minimum(1 - np.hypot(x, y), np.hypot(x - shift, y) - 0.8)
    return body, body - 0.14


def rings(x: Field, y: Field, rng: Generator) -> Shape:
    """Two rings, one inside the other."""
    radius, width = np.hypot(x, y), rng.uniform(0.11, 0.15)
    outer, inner = width - abs(radius - 0.85), width - abs(radius - rng.uniform(0.32, 0.42))
    return np.maximum(outer, inner), inner


def spirals(x: Field, y: Field, rng: Generator) -> Shape:
    """A band wound from the middle outwards, always the same way round."""
    pitch = rng.uniform(0.42, 0.52)
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    turn = radius / pitch - angle / (2 * math.pi)
    body = np.minimum((0.3 - abs(turn - np.round(turn))) * pitch, 1 - radius)
    return body, body - 0.08


def stars(x: Field, y: Field, rng: Generator) -> Shape:
    """Five points."""
    inner = rng.uniform(0.4, 0.5)
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    fold = abs((angle * 5 / (2 * math.pi)) % 1 - 0.5) * 2 * math.pi / 5  # 0 at a notch, pi/5 at a tip
    px, py = radius * np.cos(math.pi / 5 - fold), radius * np.sin(math.pi / 5 - fold)
    nx, ny = inner * math.cos(math.pi / 5), inner * math.sin(math.pi / 5)  # the notch; the tip is (1, 0)
    body = (ny * (1 - px) - (1 - nx) * py) / math.hypot(ny, 1 - nx)
    return body, body - 0.16


def stripes(x: Field, y: Field, rng: Generator) -> Shape:
    """A ball with straight stripes."""
    period = rng.uniform(0.42, 0.6)
    return 1 - np.hypot(x, y), np.sin(2 * math.pi * (x / period + rng.uniform())) * period / 6


CLASSES: tuple[Draw, ...] = (
    checkers, crosses, dots, flowers, leaves, moons, rings, spirals, stars, stripes,
)  # fmt: skip


# --- the photograph around the object, the same for every class ---


def cloud(rng: Generator, slope: float) -> Field:
    """A random field whose amplitude falls as 1 / frequency^slope, as in photographs; mean 0, deviation 1."""
    white = np.fft.rfft2(rng.standard_normal((FINE, FINE)))
    field: Field = np.fft.irfft2(white / FREQUENCY**slope, (FINE, FINE))
    field /= field.std()
    return field


def cover(distance: Field, softness: float = 1.0) -> Field:
    """How much of each pixel lies inside an outline `distance` pixels away, with a channel axis."""
    return np.clip(distance / softness + 0.5, 0, 1)[..., None]


def nearby(rng: Generator, colour: Field, light: float, spread: float) -> Field:
    """Another colour near this one, `light` lighter; natural hues vary most from warm to cool."""
    warm, red = rng.normal(0, [spread, 0.7 * spread])
    return np.add(colour, [light, warm, red])


def material(rng: Generator, colour: Field, contrast: float) -> Field:
    """A surface of one colour and a cloudy texture, a little out of focus: mostly lightness, some hue."""
    tone, drift = cloud(rng, rng.uniform(1.3, 1.9)), cloud(rng, 2)
    fields = np.stack([tone, 0.2 * drift + 0.1 * tone, 0.1 * drift], axis=-1)
    surface: Field = (colour + contrast * fields) @ OPPONENT
    return surface


def backdrop(rng: Generator, colour: Field) -> Field:
    """Two surfaces that meet along a ragged, unsharp line, like grass and soil behind the subject."""
    first = material(rng, colour, rng.uniform(0.015, 0.04))
    second = material(rng, nearby(rng, colour, rng.normal(0, 0.08), 0.02), rng.uniform(0.015, 0.04))
    return first + (second - first) * cover(cloud(rng, 2) + rng.normal(0, 0.5), rng.uniform(1, 4))


def place(rng: Generator) -> tuple[Field, Field, float]:
    """Coordinates of a randomly placed, turned, slightly squeezed object, and its radius in fine pixels."""
    radius, turn = FINE * rng.uniform(0.26, 0.4), rng.uniform(0, 2 * math.pi)
    cx, cy = FINE / 2 + rng.uniform(-1, 1, 2) * (0.56 * FINE - radius) * 0.6
    x, y = np.meshgrid((GRID - cx) / radius, (GRID - cy) / radius)
    squeeze = rng.uniform(0.8, 1)
    x, y = x * math.cos(turn) + y * math.sin(turn), (y * math.cos(turn) - x * math.sin(turn)) / squeeze
    lean = rng.uniform(0, 2 * math.pi)  # the object turns again within the squeezed plane
    return x * math.cos(lean) + y * math.sin(lean), y * math.cos(lean) - x * math.sin(lean), radius


def occlude(rng: Generator, scene: Field, colour: Field) -> Field:
    """A blade or twig across the picture, somewhere off its middle."""
    turn, away = rng.uniform(0, 2 * math.pi), FINE * rng.uniform(0.15, 0.4)
    x, y = np.meshgrid(GRID - FINE / 2, GRID - FINE / 2)
    across = x * math.cos(turn) + y * math.sin(turn) + 2 * cloud(rng, 2)
    blade = cover(rng.uniform(2, 6) - abs(across - away), 3)
    return scene + (material(rng, nearby(rng, colour, rng.normal(0, 0.08), 0.03), 0.025) - scene) * blade


def picture(draw: Draw, rng: Generator) -> Image.Image:
    """One photograph of one object."""
    colour = nearby(rng, np.zeros(3), rng.uniform(0.38, 0.62), 0.03)
    scene = backdrop(rng, colour)
    x, y, radius = place(rng)
    body, mark = (radius * part for part in draw(x, y, rng))
    sun = rng.uniform(0, 2 * math.pi)
    sx, sy = math.cos(sun), math.sin(sun)

    # Lighter or darker than the backdrop by a fair coin, and the mark lighter or darker than the body.
    step, inset = (rng.choice([-1, 1]) * rng.uniform(0.08, 0.18) for _ in range(2))
    body_colour = nearby(rng, colour, step, 0.055)
    mark_colour = nearby(rng, body_colour, inset, 0.055)
    paint = material(rng, body_colour, 0.025)
    paint += (material(rng, mark_colour, 0.025) - paint) * cover(mark)
    gx, gy = np.meshgrid(GRID / FINE - 0.5, GRID / FINE - 0.5)
    paint *= (1 + 0.5 * (gx * sx + gy * sy))[..., None]
    shadow = np.roll(cover(body, 6), (round(-3 * sy), round(-3 * sx)), (0, 1))
    scene = scene * (1 - 0.4 * shadow)
    scene += (paint - scene) * cover(body)
    if rng.uniform() < 0.4:
        scene = occlude(rng, scene, colour)
    scene *= (1 + rng.uniform(0, 0.4) * (gx * sx + gy * sy))[..., None]
    return expose(rng, scene)


def expose(rng: Generator, scene: Field) -> Image.Image:
    """What the camera does: lens blur, averaging onto its pixels, sensor noise."""
    fine = Image.fromarray((np.clip(scene, 0, 1) * 255).astype(np.uint8))
    small = fine.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1.3))).reduce(FINE // SIDE)
    noisy = np.asarray(small) + rng.normal(0, rng.uniform(0.3, 1.5), (SIDE, SIDE, 3))
    return Image.fromarray(np.clip(np.round(noisy), 0, 255).astype(np.uint8))


def write(folder: Path, draw: Draw, key: tuple[int, int, int], count: int) -> None:
    """Pictures 1 to `count` of one class of one split; `key` is (seed, split, class)."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(1, count + 1):
        picture(draw, np.random.default_rng([*key, number])).save(folder / f"{number:04}.png")


def main() -> None:
    """Read the options and write both splits."""
    parser = argparse.ArgumentParser(description="Draw the demonstration pictures.")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "images", help="where to write")
    parser.add_argument("--seed", type=int, default=0, help="another seed, other pictures (default 0)")
    parser.add_argument("--train", type=int, default=150, help="training pictures per class (default 150)")
    parser.add_argument("--test", type=int, default=80, help="test pictures per class (default 80)")
    args = parser.parse_args()
    folders = [
        (args.out / split / draw.__name__, draw, (args.seed, i, label), count)
        for i, (split, count) in enumerate((("train", args.train), ("test", args.test)))
        for label, draw in enumerate(CLASSES)
    ]
    for folder, _, _, count in folders:
        if (folder / f"{count + 1:04}.png").exists():  # they would be left over, perhaps from another seed
            parser.error(f"{folder} holds more than {count} pictures already; delete {args.out} first")
    for folder, draw, key, count in folders:
        write(folder, draw, key, count)


if __name__ == "__main__":
    main()

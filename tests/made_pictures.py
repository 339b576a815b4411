"""Pictures and trees of pictures that tests make for themselves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"  # real data, where it is at hand


def picture(kind: int, seed: int, side: int = 16) -> np.ndarray:
    """A (side, side, 3) uint8 picture of stripes that run one of four ways, in random colours on a noisy ground."""
    rng = np.random.default_rng([kind, seed])
    y, x = np.mgrid[:side, :side]
    along = (x, y, x + y, x - y)[kind % 4]
    wave = np.sin(along * (0.9 + 0.1 * rng.random()) + rng.random() * 6.3)[:, :, None]
    low, high = rng.integers(20, 110, 3), rng.integers(140, 230, 3)
    ground = np.where(wave > 0, high, low) + rng.normal(0, 12, (side, side, 3))
    return np.clip(ground, 0, 255).astype(np.uint8)


def write_tree(root: Path, classes: int = 3, each: int = 20, side: int = 16, suffix: str = ".png") -> Path:
    """root/<class>/<number>, one folder a class."""
    for kind in range(classes):
        folder = root / ("across", "down", "rising", "falling")[kind]
        folder.mkdir(parents=True)
        for number in range(each):
            options = {"quality": 95, "subsampling": 0} if suffix == ".jpg" else {}
            Image.fromarray(picture(kind, number, side)).save(folder / f"{number:03d}{suffix}", **options)
    return root

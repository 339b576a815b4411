"""Small pictures, trees and datasets, made where a test asks for them."""

from __future__ import annotations

import io
from pathlib import Path

import datasets
import numpy as np
from PIL import Image


def picture(seed: int, container: str = "PNG") -> bytes:
    """A 12 x 16 picture's file, different for every seed."""
    rng = np.random.default_rng(seed)
    out = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)).save(out, container)
    return out.getvalue()


def tree(root: Path, *names: str) -> Path:
    """Files under root: pictures for image names, text for others."""
    for seed, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        image = path.suffix.lower() in (".png", ".jpg", ".jpeg", ".bmp")
        container = {".jpg": "JPEG", ".jpeg": "JPEG", ".bmp": "BMP"}.get(path.suffix.lower(), "PNG")
        path.write_bytes(picture(seed, container) if image else b"some text")
    return root


FEATURES = datasets.Features(
    {
        "caption": datasets.Value("string"),
        "image": datasets.Image(),
        "label": datasets.ClassLabel(names=["cat", "dog", "eel"]),
        "box": datasets.List(datasets.Value("int64")),
    }
)


def dataset(rows: dict[str, list[object]], features: object = FEATURES) -> object:
    return datasets.Dataset.from_dict(rows, features=features)


def as_parquet(rows: dict[str, list[object]], root: Path) -> Path:
    (root / "data").mkdir(parents=True)
    whole = dataset(rows)
    for number in (0, 1):
        whole.select(range(4 * number, 4 * number + 4)).to_parquet(root / f"data/train-0000{number}-of-00002.parquet")
    whole.select(range(8, 12)).to_parquet(root / "data/test-00000-of-00001.parquet")
    return root


def as_saved(rows: dict[str, list[object]], root: Path) -> Path:
    whole = dataset(rows)
    both = datasets.DatasetDict(train=whole.select(range(8)), test=whole.select(range(8, 12)))
    both.save_to_disk(root)
    return root

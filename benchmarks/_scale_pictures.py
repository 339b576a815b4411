"""Small pictures and photographs for `scale.py`, drawn here, in parquet as on the Hub."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

CLASSES = 5
_GROUP = 1000  # rows that are drawn and written at a time


@dataclass(frozen=True)
class Kind:
    """What pictures are like: their size in pixels, and how they are stored."""

    width: int
    height: int
    container: str

    def shown(self) -> str:
        return f"{self.width} x {self.height} {self.container}"


KINDS = {"small": Kind(64, 64, "PNG"), "photo": Kind(500, 375, "JPEG")}


def write(folder: Path, kind: Kind, count: int) -> Path:
    """folder/train-00000-of-00001.parquet with so many pictures, which differ, in five classes; not again if it is there."""
    path = folder / "train-00000-of-00001.parquet"
    if path.exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / ".partial"
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    with pq.ParquetWriter(partial, pa.schema([("image", image), ("label", pa.string())])) as file:
        for first in range(0, count, _GROUP):
            numbers = range(first, min(count, first + _GROUP))
            pictures = [{"bytes": data, "path": None} for data in _drawn(kind, numbers)]
            labels = [f"class{number % CLASSES}" for number in numbers]
            file.write_table(pa.table({"image": pa.array(pictures, image), "label": labels}))
    partial.rename(path)
    return folder


def _drawn(kind: Kind, numbers: range) -> Iterator[bytes]:
    """Coloured clouds with a grain, which compress about as photographs do."""
    for number in numbers:
        rng = np.random.default_rng([kind.width, number])
        clouds = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        pixels = np.asarray(clouds.resize((kind.width, kind.height), Image.Resampling.BICUBIC)).astype(np.int16)
        pixels = pixels + rng.integers(-6, 7, (kind.height, kind.width, 1))
        data = io.BytesIO()
        options = {"quality": 90} if kind.container == "JPEG" else {}
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(data, kind.container, **options)
        yield data.getvalue()

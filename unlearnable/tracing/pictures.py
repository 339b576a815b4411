"""Pictures of queries as files: PNG bytes, names that follow from the pixels, and a folder of them to ask by hand."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from unlearnable import imageio
from unlearnable.errors import UsageError, disk_error
from unlearnable.imageio import Picture
from unlearnable.tracing.answers import TOP, Answers, digest

TABLE = "queries.csv"


def png(image: Tensor) -> bytes:
    """(3, S, S) uint8 -> a PNG file."""
    pixels = image.permute(1, 2, 0).contiguous().numpy()
    return imageio.encode(pixels, Picture(pixels, "PNG", True, "a query"), "PNG")


def file_name(image: Tensor) -> str:
    return f"{digest(image)[:20]}.png"


class Folder:
    """A model that answers nothing and writes down what it is asked: the pictures, and a table to fill in."""

    shown, gives, white = "a folder of queries", TOP, None

    def __init__(self, folder: Path, classes: Sequence[str]) -> None:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UsageError(f"{folder} exists and is not empty.", "Name a new folder.")
        self.folder, self.classes, self.names = folder, classes, set[str]()

    def ask(self, images: Tensor) -> Answers:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for image in images:
                name = file_name(image)
                if name not in self.names:
                    (self.folder / name).write_bytes(png(image))
                    self.names.add(name)
        except OSError as why:
            raise disk_error(why, self.folder) from why
        return Answers(torch.full((len(images),), -1))

    def finish(self) -> int:
        """Writes the table, in the order of the names, which tells nothing; returns how many queries there are."""
        with (self.folder / TABLE).open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["query", "label"])
            writer.writerows([name, ""] for name in sorted(self.names))
        return len(self.names)

"""A CSV of answers to the pictures that `trace RELEASE --write-queries FOLDER` wrote, for services used by hand.

A row is `query,label`: the picture's file name and the label that the service gave. A probability for every class may
follow, in columns that are named like the classes. A picture is known by its pixels, so the order of rows is free, and the
names tell nobody which pictures carry the owner's secret.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from unlearnable.errors import UsageError
from unlearnable.tracing.answers import PROBABILITIES, TOP, Answers, Names
from unlearnable.tracing.models import Seen
from unlearnable.tracing.pictures import file_name


@dataclass(frozen=True)
class Written:
    shown: str
    labels: dict[str, int]
    rows: dict[str, list[float]] | None
    gives: str
    files: tuple[Path, ...]
    white: None = None

    def ask(self, images: Tensor) -> Answers:
        names = [file_name(image) for image in images]
        missing = [name for name in names if name not in self.labels]
        if missing:
            hint = "Answer all pictures that --write-queries wrote, with the same --decoys and --images."
            raise UsageError(f"{self.shown} has no answer for {missing[0]} and {len(missing) - 1} others.", hint)
        rows = None if self.rows is None else torch.tensor([self.rows[name] for name in names], dtype=torch.float64)
        return Answers(torch.tensor([self.labels[name] for name in names]), rows)


def matches(spec: str) -> bool:
    return spec.endswith(".csv")


def open_model(spec: str, names: Names, seen: Seen) -> Written:
    del seen
    path = Path(spec).expanduser()
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as why:
        raise UsageError(f"{path} cannot be read ({why}).", "It is a CSV with the columns query and label.") from why
    if not rows or not {"query", "label"} <= rows[0].keys():
        raise UsageError(f"{path.name} has no columns query and label.", "Fill in the queries.csv that was written.")
    filled = [row for row in rows if (row["label"] or "").strip()]
    whole = set(names.classes) <= rows[0].keys()
    try:
        given = {row["query"]: [float(row[name]) for name in names.classes] for row in filled} if whole else None
    except (TypeError, ValueError) as why:
        raise UsageError(f"{path.name} has a probability that is no number ({why}).") from why
    labels = {row["query"]: names.number(row["label"]) for row in filled}
    return Written(path.name, labels, given, PROBABILITIES if whole else TOP, (path,))

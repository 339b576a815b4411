"""A TorchScript file: (N, 3, S, S) floats in [0, 1], unless --normalise says otherwise, to (N, outputs) logits.

TorchScript is a program, run by torch's own interpreter: open files from people you trust, or in a machine of their own.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unlearnable.errors import UsageError
from unlearnable.tracing.answers import PROBABILITIES, Answers, Names
from unlearnable.tracing.models import Seen

_PREFIX = "torchscript:"
_ROWS = "Export it with (N, classes) as its first output."


@dataclass(frozen=True)
class Script:
    shown: str
    program: Any
    names: Names
    seen: Seen
    files: tuple[Path, ...]
    gives: str = PROBABILITIES
    white: None = None

    @torch.no_grad()
    def ask(self, images: Tensor) -> Answers:
        try:
            logits = self.program(self.seen.prepared(images, "none"))
        except RuntimeError as why:
            said = str(why).strip().splitlines()[-1]
            raise UsageError(
                f"{self.shown} cannot take these pictures: {said}", "Its input has a side: --size."
            ) from why
        return self.names.answers(as_probabilities(logits, self.shown))


def matches(spec: str) -> bool:
    return spec.startswith(_PREFIX) or spec.endswith((".pt", ".pth", ".ts", ".torchscript"))


def open_model(spec: str, names: Names, seen: Seen) -> Script:
    path = Path(spec.removeprefix(_PREFIX)).expanduser()
    if not path.is_file():
        raise UsageError(f"There is no file {path}.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # deprecated, and what is out there is in this format
            program = torch.jit.load(str(path), map_location="cpu").eval()  # type: ignore[no-untyped-call]
    except RuntimeError as why:
        hint = f"Weights alone need their network's name: NETWORK@{path.name}."
        raise UsageError(f"{path} is no TorchScript file.", hint) from why
    return Script(path.name, program, names, seen, (path,))


def as_probabilities(outputs: Any, shown: str) -> Tensor:
    """Rows that are probabilities already stay; logits go through softmax. Raises UsageError for anything else."""
    if not isinstance(outputs, Tensor) or outputs.ndim != 2:
        raise UsageError(f"{shown} gives something else than one row of logits a picture.", _ROWS)
    rows = outputs.detach().double().cpu()
    ready = bool((rows >= 0).all()) and bool(((rows.sum(1) - 1).abs() < 1e-3).all())
    return rows if ready else rows.softmax(1)

"""An ONNX file with one input (N, 3, S, S) and logits or probabilities as its first output. Needs onnxruntime."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from importlib import util
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unlearnable.errors import UsageError
from unlearnable.tracing.answers import PROBABILITIES, Answers, Names
from unlearnable.tracing.models import Seen
from unlearnable.tracing.models.torchscript import as_probabilities


@dataclass(frozen=True)
class Onnx:
    shown: str
    session: Any
    names: Names
    seen: Seen
    gives: str = PROBABILITIES
    white: None = None

    def ask(self, images: Tensor) -> Answers:
        pictures = self.seen.prepared(images, "none").numpy()
        name = self.session.get_inputs()[0].name
        fixed = self.session.get_inputs()[0].shape[0] == 1  # exported for one picture at a time
        parts = [pictures[i : i + 1] for i in range(len(pictures))] if fixed else [pictures]
        try:
            outputs = [torch.from_numpy(self.session.run(None, {name: part})[0]) for part in parts]
        except Exception as why:  # onnxruntime's errors share no base of their own
            said = str(why).strip().splitlines()[0] if str(why).strip() else type(why).__name__
            raise UsageError(
                f"{self.shown} cannot take these pictures: {said}", "Its input has a side: --size."
            ) from why
        return self.names.answers(as_probabilities(torch.cat(outputs)))


def matches(spec: str) -> bool:
    return spec.endswith(".onnx")


def open_model(spec: str, names: Names, seen: Seen) -> Onnx:
    path = Path(spec).expanduser()
    if not path.is_file():
        raise UsageError(f"There is no file {path}.")
    if util.find_spec("onnxruntime") is None:
        raise UsageError(f"{path.name} needs onnxruntime, which is not installed.", "pip install onnxruntime")
    runtime = importlib.import_module("onnxruntime")
    try:
        session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as why:  # onnxruntime's errors share no base of their own
        raise UsageError(f"{path.name} cannot be read as ONNX ({str(why).splitlines()[0]}).") from why
    return Onnx(path.name, session, names, seen)

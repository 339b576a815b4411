"""An ONNX file with one input of pictures, and logits or probabilities as its first output. Needs onnxruntime.

The input is (N, 3, S, S), or (N, S, S, 3) as TensorFlow has it: floats of any precision, in [0, 1] unless --normalise says
otherwise, or uint8, which is given grey levels. A side or a number of pictures that the file fixes is kept to.
"""

from __future__ import annotations

import importlib
import mmap
import re
from dataclasses import dataclass, replace
from importlib import util
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unlearnable.errors import UsageError
from unlearnable.tracing.answers import PROBABILITIES, Answers, Names
from unlearnable.tracing.models import Seen
from unlearnable.tracing.models.torchscript import as_probabilities

_GREY = "tensor(uint8)"
_KINDS = {"tensor(float)": torch.float32, "tensor(float16)": torch.float16, "tensor(double)": torch.float64}
_KINDS[_GREY] = torch.uint8
# how protobuf spells the name of another file that holds weights: a key, and the length of what follows
_LOCATION = re.compile(rb"\n\x08location\x12([\x80-\xff]?[\x00-\x7f])")


@dataclass(frozen=True)
class Onnx:
    shown: str
    session: Any
    names: Names
    seen: Seen
    files: tuple[Path, ...] = ()
    gives: str = PROBABILITIES
    white: None = None

    def ask(self, images: Tensor) -> Answers:
        pictures, asked = self._pictures(images), self.session.get_inputs()[0]
        fixed = asked.shape[0] if isinstance(asked.shape[0], int) else len(pictures)
        try:
            outputs = [self._run(asked.name, part, fixed) for part in torch.split(pictures, fixed)]
        except Exception as why:  # onnxruntime's errors share no base of their own
            said = " ".join(str(why).split()) or type(why).__name__
            raise UsageError(
                f"{self.shown} cannot take these pictures: {said}", "Its input has a side: --size."
            ) from why
        return self.names.answers(as_probabilities(torch.cat(outputs), self.shown))

    def _pictures(self, images: Tensor) -> Tensor:
        """As the input takes them. Raises UsageError where it is made for something else."""
        inputs = self.session.get_inputs()
        kind, shape = inputs[0].type, list(inputs[0].shape)
        if len(inputs) != 1 or len(shape) != 4 or kind not in _KINDS or 3 not in (shape[1], shape[3]):
            takes = ", ".join(f"{each.name} {each.type} {list(each.shape)}" for each in inputs)
            raise UsageError(f"{self.shown} takes {takes}, not pictures of three colours alone.", _EXPORT)
        last = shape[1] != 3
        sides = {side for side in (shape[1:3] if last else shape[2:]) if isinstance(side, int)}
        seen = replace(self.seen, size=min(sides)) if len(sides) == 1 and self.seen.size is None else self.seen
        if len(sides) > 1:
            raise UsageError(f"{self.shown} takes pictures that are not square, and only square ones can be shown.")
        if sides - {seen.size}:
            why = f"{self.shown} takes pictures of {min(sides)} by {min(sides)} pixels, not of {seen.size}."
            raise UsageError(why, "Leave out --size: the file says it.")
        if kind == _GREY and seen.normalise not in (None, "none"):
            raise UsageError(f"{self.shown} takes grey levels, so nothing can be normalised.", "Leave out --normalise.")
        x = seen.prepared(images, "none")
        x = ((x * 255).round() if kind == _GREY else x).to(_KINDS[kind])
        return x.permute(0, 2, 3, 1).contiguous() if last else x

    def _run(self, name: str, part: Tensor, fixed: int) -> Tensor:
        """The first output for these pictures; what a fixed number of them lacks is filled up, and its answers dropped."""
        filled = torch.cat([part, part[:1].expand(fixed - len(part), *part.shape[1:])])
        return torch.from_numpy(self.session.run(None, {name: filled.numpy()})[0])[: len(part)]


_EXPORT = "Export it with one input (N, 3, S, S), or give TorchScript."


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
        missing = [file.name for file in beside(path) if not file.exists()]
        if missing:
            raise UsageError(
                f"{path.name} has its weights in {missing[0]}, which is not beside it.", "Put both into one folder."
            ) from why
        raise UsageError(f"{path.name} cannot be read as ONNX ({str(why).splitlines()[0]}).") from why
    return Onnx(path.name, session, names, seen, (path, *beside(path)))


def beside(path: Path) -> list[Path]:
    """Files beside an ONNX file that hold its weights, by name: those that it mentions, whether they exist or not."""
    with path.open("rb") as file:
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if path.stat().st_size else b""
        names = set()
        for found in _LOCATION.finditer(data):
            length = sum((byte & 127) << (7 * place) for place, byte in enumerate(found[1]))
            names.add(bytes(data[found.end() : found.end() + length]).decode("utf-8", "replace"))
    inside = [name for name in names if name and not Path(name).is_absolute() and ".." not in Path(name).parts]
    return [path.parent / name for name in sorted(inside)]

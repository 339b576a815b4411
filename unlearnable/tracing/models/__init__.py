"""Ways to ask a suspect model, each one file: `matches(spec) -> bool` and `open_model(spec, names, seen) -> Model`.

checkpoint   NETWORK@FILE        weights of a torchvision network (or one of ours), or hf://OWNER/NAME/FILE; white-box
timm_net     timm:NETWORK@FILE   the same of a timm network, where timm is installed
             timm:FOLDER         one as timm puts it on the Hub, or timm:hf://OWNER/NAME
torchscript  FILE.pt, .ts        a TorchScript file; `torchscript:FILE` whatever it is called
onnx         FILE.onnx           where onnxruntime is installed
http         http:// https://    an endpoint that speaks the protocol of docs/trace.md
answers      FILE.csv            answers, gathered by hand or otherwise, to the pictures that --write-queries wrote
"""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import dataclass
from types import ModuleType

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from unlearnable.errors import UsageError
from unlearnable.tracing.answers import Model, Names

Moments = tuple[tuple[float, ...], tuple[float, ...]]  # mean and standard deviation of each channel

NORMALISATIONS: dict[str, Moments] = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}


@dataclass(frozen=True)
class Seen:
    """How pictures reach a model that is a file. size: of its input, None as they are; normalise: a name, None by kind."""

    size: int | None = None
    native: int = 32  # side of the pictures
    normalise: str | None = None
    header: tuple[str, str] | None = None  # of HTTP requests, such as a token; never written anywhere

    def prepared(self, images: Tensor, default: str | Moments) -> Tensor:
        """(N, 3, S, S) uint8 -> (N, 3, size, size) floats, normalised by name, or by `default` where none was given."""
        x = images.float() / 255
        if self.size is not None and self.size != x.shape[-1]:
            x = interpolate(x, size=(self.size, self.size), mode="bilinear", antialias=True)
        asked = self.normalise or default
        mean, std = NORMALISATIONS[asked] if isinstance(asked, str) else asked
        return (x - torch.tensor(mean).view(1, 3, 1, 1)) / torch.tensor(std).view(1, 3, 1, 1)


def open_model(spec: str, names: Names, seen: Seen) -> Model:
    """The model that a spec means. Raises UsageError for one that no adapter knows."""
    if seen.normalise is not None and seen.normalise not in NORMALISATIONS:
        raise UsageError(f"--normalise is one of {', '.join(NORMALISATIONS)}, not {seen.normalise!r}.")
    for module in adapters():
        if module.matches(spec):
            model: Model = module.open_model(spec, names, seen)
            return model
    raise UsageError(
        f"--model {spec} is not known as a model.",
        "Give NETWORK@FILE, timm:NETWORK@FILE, timm:FOLDER, FILE.pt (TorchScript), FILE.onnx, an http:// address, "
        "or a FILE.csv of answers.",
    )


def adapters() -> list[ModuleType]:
    """Modules of this folder, by name."""
    found = sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))
    return [importlib.import_module(f"{__name__}.{name}") for name in found]

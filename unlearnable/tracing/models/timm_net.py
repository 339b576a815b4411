"""A timm network and its weights: timm:resnet18@weights.safetensors, or a whole model as timm puts it on the Hub.

    timm:NETWORK@FILE       its state dict; FILE may be hf://OWNER/NAME/FILE
    timm:FOLDER             config.json beside model.safetensors or pytorch_model.bin, as `save_for_hf` writes them
    timm:hf://OWNER/NAME    the same on the Hub, with model.safetensors

Pictures are normalised as timm's settings of the network say, or as config.json says; the names of the outputs in that
file are used where --labels gives none. Weights are read as tensors alone. Needs timm, which is not a dependency.
"""

from __future__ import annotations

import difflib
import importlib
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from importlib import util
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from unlearnable import registry
from unlearnable.errors import UsageError
from unlearnable.nets import _weights
from unlearnable.tracing.answers import Names
from unlearnable.tracing.models import Moments, Seen, checkpoint
from unlearnable.tracing.models.checkpoint import Checkpoint

CONFIG, WEIGHTS, PICKLED = "config.json", "model.safetensors", "pytorch_model.bin"  # as on the Hub
_PREFIX = "timm:"
_SPELLED = "Write timm:NETWORK@FILE, timm:FOLDER or timm:hf://OWNER/NAME."
_SCRIPT = "Save the model as TorchScript, and give that file."


def matches(spec: str) -> bool:
    return spec.startswith(_PREFIX)


def open_model(spec: str, names: Names, seen: Seen) -> Checkpoint:
    if util.find_spec("timm") is None:
        raise UsageError("timm is not installed.", "pip install timm, or save the network as TorchScript.")
    asked = spec.removeprefix(_PREFIX)
    folder = Path(asked).expanduser()
    if asked.startswith(registry.HUB):
        return _of_files(spec, _from_hub(asked), names, seen)
    if folder.is_dir():
        weights = next((file for name in (WEIGHTS, PICKLED) if (file := folder / name).is_file()), folder / WEIGHTS)
        return _of_files(_PREFIX + folder.resolve().name, (weights, folder / CONFIG), names, seen)
    name, _, weights_of = asked.partition("@")
    if not weights_of:
        raise UsageError(f"{asked} is no folder, and names no weights.", _SPELLED)
    net = registry.Net(name, weights_of)
    return _of_weights(net, names, seen)


def _of_weights(asked: registry.Net, names: Names, seen: Seen) -> Checkpoint:
    timm = importlib.import_module("timm")
    if not timm.is_model(asked.name):
        raise _unknown(asked.name)
    file = _weights.path(asked) if asked.weights.startswith(registry.HUB) else Path(asked.weights).expanduser()
    state = _read(file)
    settings = timm.get_pretrained_cfg(asked.name)
    last: str | Sequence[str] = (settings and settings.classifier) or ()
    outputs = checkpoint.outputs_of(state, (last,) if isinstance(last, str) else last, asked.name, file.name)
    net = _made(asked.name, asked.name, num_classes=outputs)
    shown = f"{_PREFIX}{asked.name}@{asked.weights if asked.weights.startswith(registry.HUB) else file.name}"
    return _loaded(shown, net, state, names, seen, (file,))


def _of_files(shown: str, files: tuple[Path, Path], names: Names, seen: Seen) -> Checkpoint:
    """Of weights and the config.json beside them."""
    weights, config = files
    try:
        said = json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError) as why:
        raise UsageError(f"{shown} has no {CONFIG} that can be read ({type(why).__name__}).", _SPELLED) from why
    if not isinstance(said, dict) or not isinstance(said.get("architecture"), str):
        theirs = said.get("architectures") if isinstance(said, dict) else None
        of = f"of transformers ({', '.join(map(str, theirs))})" if isinstance(theirs, list) else "not of timm"
        raise UsageError(f"The model in {shown} is {of}: its {CONFIG} names no architecture.", _SCRIPT)
    net = _made(f"local-dir:{config.parent}", said["architecture"])
    outputs = net.pretrained_cfg.get("label_names")
    if names.outputs is None and isinstance(outputs, list | tuple) and set(map(str, outputs)) & set(names.classes):
        names = replace(names, outputs=tuple(map(str, outputs)))
    return _loaded(shown, net, _read(weights), names, seen, files)


def _made(name: str, shown: str, **options: Any) -> Any:
    timm = importlib.import_module("timm")
    try:
        return timm.create_model(name, pretrained=False, **options)
    except (RuntimeError, TypeError, ValueError, LookupError, AttributeError, AssertionError) as why:
        if not timm.is_model(shown):
            raise _unknown(shown) from why
        raise UsageError(f"timm cannot make {shown}: {str(why).strip() or type(why).__name__}", _SCRIPT) from why


def _loaded(
    shown: str, net: Any, state: dict[str, Tensor], names: Names, seen: Seen, files: tuple[Path, ...]
) -> Checkpoint:
    try:
        net.load_state_dict(state)
    except RuntimeError as why:
        raise checkpoint.misfit(files[0].name, shown.removeprefix(_PREFIX).partition("@")[0], why) from why
    module: nn.Module = net.eval()
    return checkpoint.of_module(shown, module, names, seen, _moments(net.pretrained_cfg), files)


def _moments(settings: dict[str, Any]) -> str | Moments:
    mean, std = settings.get("mean"), settings.get("std")
    return (tuple(map(float, mean)), tuple(map(float, std))) if mean and std else "imagenet"


def _read(file: Path) -> dict[str, Tensor]:
    try:
        return _weights.read(file)
    except UsageError as why:
        hint = 'Give a state dict alone: torch.save(checkpoint["state_dict"], "weights.pt") makes one.'
        raise UsageError(why.message, hint if file.is_file() else _SPELLED) from why


def _from_hub(address: str) -> tuple[Path, Path]:
    found = re.fullmatch(registry.HUB + r"([\w-][\w.-]*/[\w-][\w.-]*)(?:@([^/]+))?/?", address)
    if found is None:
        raise UsageError(f"{address} is no model on the Hub.", _SPELLED)
    weights, config = (_weights.from_hub(found[1], found[2], file) for file in (WEIGHTS, CONFIG))
    return weights, config


def _unknown(name: str) -> UsageError:
    timm = importlib.import_module("timm")
    close = difflib.get_close_matches(name, timm.list_models(), n=1, cutoff=0.5)
    return UsageError(
        f"timm {timm.__version__} has no network called {name!r}.", f"Did you mean {close[0]!r}?" if close else ""
    )

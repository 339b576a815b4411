"""Weights to start a network from: found, fetched, read as tensors alone, and put into a body that they fit to the last one.

WEIGHTS of a network's spec is a file (.safetensors, .pt, .pth), hf://OWNER/NAME/FILE, or a name of torchvision's such as
DEFAULT. Pickled code is never run. A file holds the state dict of torchvision's own network, or of a `Network` of this program,
as `small`, `tiny`, `linear` and `vit_small` have no others. The latter's normalisation is taken too, and its last layer
where it has as many classes; otherwise that begins anew.
"""

from __future__ import annotations

import errno
import http.client
import pickle
import re
from pathlib import Path

import torch
from torch import Tensor, nn

from unlearnable import registry
from unlearnable.errors import HubError, UsageError

_HINT = "Give the state dict of torchvision's own network, or of one of this program's, in .safetensors, .pt or .pth."
_AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")  # classifiers of GoogLeNet and Inception that only their training used

State = dict[str, Tensor]


def get(spec: registry.Net) -> State:
    """The state dict that a spec names. Raises UsageError for a bad file, HubError where it cannot be fetched."""
    return read(path(spec), spec.weights if spec.weights.startswith(registry.HUB) else "")


def path(spec: registry.Net) -> Path:
    """The file that a spec names, fetched if need be."""
    if spec.weights.startswith(registry.HUB):
        return from_hub(*registry.hub_file(spec.weights))
    return Path(spec.weights).expanduser() if registry.is_file(spec.weights) else _from_torchvision(spec)


def read(path: Path, name: str = "") -> State:
    """Tensors by name. Raises UsageError, which calls the file `name`, for anything but a whole state dict of tensors."""
    name = name or str(path)
    try:
        if path.suffix == ".safetensors":
            from safetensors import SafetensorError
            from safetensors.torch import load_file

            try:
                state = load_file(path)
            except SafetensorError as why:
                raise ValueError(str(why)) from why
        else:
            state = torch.load(path, weights_only=True, map_location="cpu")
    except FileNotFoundError as why:
        raise UsageError(f"There is no file {name}.", _HINT) from why
    except pickle.UnpicklingError as why:
        raise UsageError(f"{name} holds more than tensors, or is damaged; code in it was not run.", _HINT) from why
    except (OSError, EOFError, RuntimeError, ValueError, LookupError, AttributeError, TypeError, AssertionError) as why:
        said = (str(why) or type(why).__name__).splitlines()[0]
        raise UsageError(f"{name} cannot be read as weights ({said}).", _HINT) from why
    if not isinstance(state, dict) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise UsageError(f"{name} holds something else than tensors by name.", _HINT)
    return state


def put(body: nn.Module, state: State, name: str) -> None:
    """Loads `state` into `body`, which has lost its last layer. Raises UsageError, naming the file, unless all tensors fit."""
    # DenseNets saved long ago, torchvision's published ones too, have a dot too many: denselayer1.norm.1.weight
    state = {re.sub(r"(denselayer\d+\.(?:norm|conv))\.(\d)", r"\1\2", key): value for key, value in state.items()}
    own = body.state_dict()
    # what batch normalisation counts is missing in old files, and nothing depends on it
    missing = [key for key in own if key not in state and not key.endswith("num_batches_tracked")]
    if missing:
        raise UsageError(f"{name} lacks {len(missing)} tensors of the network, such as {missing[0]}.", _HINT)
    foreign = [key for key in state if key not in own and not _left_out(body, key)]
    if foreign:
        raise UsageError(f"{name} is of another network: it has {foreign[0]}, which this one has not.", _HINT)
    load(body, {key: value for key, value in state.items() if key in own}, name)


def load(net: nn.Module, state: State, name: str) -> None:
    """Tensors that a network has, some of them. Raises UsageError, naming the file, where one does not fit."""
    own = net.state_dict()
    for key, value in state.items():
        if value.shape != own[key].shape:
            there, here = ("x".join(map(str, shape)) or "one number" for shape in (value.shape, own[key].shape))
            raise UsageError(f"{name} is of another network: {key} is {there} there, {here} here.", _HINT)
        if not value.isfinite().all():
            raise UsageError(f"{name} is damaged: {key} has values that are no numbers.", _HINT)
    net.load_state_dict(state, strict=False)


def _left_out(body: nn.Module, key: str) -> bool:
    """Whether a tensor belongs to the last layer, in whose place is the identity, or to an auxiliary classifier."""
    try:
        return key.startswith(_AUXILIARY) or isinstance(body.get_submodule(key.rpartition(".")[0]), nn.Identity)
    except AttributeError:
        return False


def from_hub(repo: str, revision: str | None, file: str) -> Path:
    """The file in the Hub's cache, fetched if need be; HF_ENDPOINT, HF_HUB_OFFLINE and HF_TOKEN work as everywhere."""
    from huggingface_hub import errors, hf_hub_download

    # the last is the error of the HTTP library, whichever one the client uses
    expected: tuple[type[Exception], ...] = (OSError, ValueError, RuntimeError, errors.HfHubHTTPError.__bases__[0])
    # messages of the client may show an address with a token in it: none is repeated, and the chain ends here
    try:
        return Path(hf_hub_download(repo, file, revision=revision))
    except (errors.EntryNotFoundError, errors.RevisionNotFoundError) as why:
        if not isinstance(why, errors.LocalEntryNotFoundError):
            raise HubError(f"The Hub's {repo} has no {file}{f' at {revision}' if revision else ''}.") from None
    except errors.RepositoryNotFoundError:
        raise HubError(
            f"There is no {repo} on the Hub that you may read.",
            "Check the name; for a private or gated one set HF_TOKEN or run: hf auth login",
        ) from None
    except expected as why:
        if isinstance(why, OSError) and why.errno == errno.ENOSPC:
            raise
    at = f"@{revision}" if revision else ""
    raise HubError(
        f"{registry.HUB}{repo}{at}/{file} is not in the cache, and the Hub could not be reached for it.",
        "Check the network and HF_ENDPOINT, or download the file and give its path.",
    )


def _from_torchvision(spec: registry.Net) -> Path:
    """The file in torch's cache (TORCH_HOME), fetched if need be. torch.hub's own loader would write to stdout."""
    from torchvision import models

    url: str = models.get_model_weights(spec.name)[spec.weights].url
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    if path.exists():
        return path
    digest = re.search(r"-([0-9a-f]+)\.\w+$", path.name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), digest and digest[1], progress=False)
    except (OSError, RuntimeError, http.client.HTTPException) as why:
        if isinstance(why, OSError) and why.errno == errno.ENOSPC:
            raise
        raise HubError(
            f"torchvision's weights {spec.name}@{spec.weights} could not be fetched from {url} ({why}).",
            f"Check the network, or fetch the file elsewhere and give it: {spec.name}@FILE.",
        ) from why
    return path

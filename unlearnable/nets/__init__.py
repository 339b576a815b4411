"""Networks by file name. Each file has `body(size) -> (module, features)`; the head and the normalisation are here."""

from __future__ import annotations

import pickle
import threading
from pathlib import Path

import torch
from torch import Tensor, nn

from unlearnable import registry
from unlearnable.errors import UsageError

# initial weights come from torch's one global generator, and victims are made in several threads
_GENERATOR = threading.Lock()


class Network(nn.Module):
    """(N, 3, S, S) floats in [0, 1] -> (N, classes) logits. Normalisation is inside: attacks work in pixel space."""

    mean: Tensor
    std: Tensor

    def __init__(self, body: nn.Module, features: int, classes: int) -> None:
        super().__init__()
        self.body = body
        self.head = nn.Linear(features, classes)
        self.register_buffer("mean", torch.full((1, 3, 1, 1), 0.5))
        self.register_buffer("std", torch.full((1, 3, 1, 1), 0.25))

    def normalise_for(self, images: Tensor) -> None:
        """Takes mean and standard deviation per channel from (a sample of) uint8 training images."""
        sample = images[:: max(1, len(images) // 2000)].float() / 255
        self.mean.copy_(sample.mean((0, 2, 3)).view(1, 3, 1, 1))
        self.std.copy_(sample.std((0, 2, 3)).clamp(min=1e-3).view(1, 3, 1, 1))

    def features(self, x: Tensor) -> Tensor:
        """(N, F) activations before the last layer."""
        out: Tensor = self.body(((x - self.mean) / self.std).contiguous(memory_format=torch.channels_last))
        return out

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.features(x))
        return out


def create(name: str, classes: int, size: int, seed: int) -> Network:
    """A freshly initialised network; the same seed gives the same weights."""
    with _GENERATOR, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        body, features = registry.load("nets", name).body(size)
        return Network(body, features, classes).to(memory_format=torch.channels_last)


def load_weights(net: Network, path: Path) -> None:
    """Puts a state dict of the torchvision network into `net`, with ImageNet's normalisation; its last layer is left out.

    Reads .safetensors, or .pt and .pth with tensors alone (pickled code is refused). Raises UsageError, naming the file.
    """
    hint = "Give a state dict of torchvision's own network, in .safetensors, .pt or .pth."
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(path)
        else:
            state = torch.load(path, weights_only=True, map_location="cpu")
        missing, _ = net.body.load_state_dict(state, strict=False)
    except (OSError, RuntimeError, AttributeError, TypeError, EOFError, pickle.UnpicklingError) as why:
        raise UsageError(
            f"{path} holds no weights that can be used ({(str(why) or type(why).__name__).splitlines()[0]}).", hint
        ) from why
    if missing:
        raise UsageError(f"{path} lacks {len(missing)} tensors of the network, such as {missing[0]}.", hint)
    net.mean.copy_(torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1))
    net.std.copy_(torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))

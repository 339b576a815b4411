"""Networks by name: a file of this folder, or any classification network of torchvision.

A file has `body(size, pretrained) -> (module, features, side)`: a module from (N, 3, side, side) normalised floats to
(N, features). Head, normalisation and the resizing of images of `size` pixels to `side` are here. `pretrained` asks for the
layers that published weights fit; without it small images get stems that keep their resolution (`_torchvision`).
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unlearnable import registry
from unlearnable.errors import UsageError
from unlearnable.nets import _drop, _torchvision, _weights

# initial weights come from torch's one global generator, and victims are made in several threads
_GENERATOR = threading.Lock()

_BODY, _HEAD = "body.", ("head.weight", "head.bias")  # as state dicts name them

FROM_SCRATCH, FINE_TUNING = 0.1, 0.01  # learning rates of SGD with momentum


class Network(nn.Module):
    """(N, 3, S, S) floats in [0, 1] -> (N, classes) logits. Normalisation is inside: attacks work in pixel space.

    learning_rate: the highest that SGD with momentum should train it with. pretrained: it starts from weights, and keeps
    ImageNet's normalisation. frozen: its body stays as it is, whatever is asked; only the head learns.
    """

    mean: Tensor
    std: Tensor
    resize: Tensor | None

    def __init__(self, body: nn.Module, features: int, classes: int, resize: Tensor | None = None) -> None:
        super().__init__()
        self.body = body
        self.head = nn.Linear(features, classes)
        self.register_buffer("mean", torch.full((1, 3, 1, 1), 0.5))
        self.register_buffer("std", torch.full((1, 3, 1, 1), 0.25))
        self.register_buffer("resize", resize, persistent=False)
        self.learning_rate = FROM_SCRATCH
        self.pretrained = self.frozen = False

    def normalise_for(self, images: Tensor) -> None:
        """Takes mean and standard deviation per channel from (a sample of) uint8 training images, unless weights fixed them."""
        if self.pretrained:
            return
        sample = images[:: max(1, len(images) // 2000)].float() / 255
        self.mean.copy_(sample.mean((0, 2, 3)).view(1, 3, 1, 1))
        self.std.copy_(sample.std((0, 2, 3)).clamp(min=1e-3).view(1, 3, 1, 1))

    def features(self, x: Tensor) -> Tensor:
        """(N, F) activations before the last layer."""
        if self.resize is not None:
            with torch.autocast(x.device.type, enabled=False):  # pixels have eight bits, bfloat16 as many at best
                x = self.resize @ x.float() @ self.resize.T
        out: Tensor = self.body(((x - self.mean) / self.std).contiguous(memory_format=torch.channels_last))
        return out

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.features(x))
        return out

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if self.frozen:
            self.body.eval()
        return self

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        super().requires_grad_(requires_grad)
        if self.frozen:
            self.body.requires_grad_(False)
        return self

    def start_from_weights(self, frozen: bool = False) -> None:
        """Marks the network as one whose body has, or will be given, published weights."""
        self.pretrained, self.frozen = True, frozen
        self.learning_rate = FROM_SCRATCH if frozen else FINE_TUNING
        self.mean.copy_(torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1))
        self.std.copy_(torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))
        self.train(self.training).requires_grad_(True)


def weights_of(net: nn.Module) -> dict[str, Tensor]:
    """A copy of the network's state on the CPU, to be kept."""
    return {name: value.detach().to("cpu", copy=True).contiguous() for name, value in net.state_dict().items()}


def create(spec: str, classes: int, size: int, seed: int, *, weights: bool = True) -> Network:
    """A network for images of `size` pixels, as [frozen:]NAME[@WEIGHTS] says; the same seed gives the same one.

    With weights=False those of the spec are not read: the same network, to be given a state dict that was kept.
    Raises UsageError for a name, a size or a file that cannot be used, HubError where weights cannot be fetched.
    """
    asked = registry.network(spec)
    if weights:
        registry.require_network(spec)
    with _GENERATOR, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        body, features, side = _body(asked, size)
        net = Network(body, features, classes, _resizing(size, side) if side != size else None)
        _drop.keyed(body)
    net.learning_rate = learning_rate(spec)
    if asked.weights:
        net.start_from_weights(asked.frozen)
        if weights:
            _take(net, _weights.get(asked), asked.weights)
    return net.to(memory_format=torch.channels_last)


def learning_rate(spec: str) -> float:
    """The highest that SGD with momentum should train a network with: lower where it starts from weights that would be lost."""
    asked = registry.network(spec)
    return FINE_TUNING if asked.weights and not asked.frozen else FROM_SCRATCH


def load_weights(net: Network, path: Path) -> None:
    """Puts a state dict of the torchvision network into `net`, with ImageNet's normalisation; its last layer is left out.

    Reads .safetensors, or .pt and .pth with tensors alone (pickled code is refused). Raises UsageError, naming the file.
    """
    net.start_from_weights()
    _take(net, _weights.read(path), str(path))


def _take(net: Network, state: dict[str, Tensor], name: str) -> None:
    """Puts weights into `net`: those of a `Network`, or of a body alone. Raises UsageError, naming the file."""
    if {"mean", "std", *_HEAD} <= state.keys():
        own = net.state_dict()
        same = all(state[key].shape == own[key].shape for key in _HEAD)
        if not same and not net.body.state_dict():
            there, here = state["head.bias"].numel(), net.head.bias.numel()
            raise UsageError(
                f"{name} is of another network: a last layer of {there} classes, {here} here, and no other."
            )
        _weights.load(net, {key: state[key] for key in ("mean", "std", *(_HEAD if same else ()))}, name)
        state = {key.removeprefix(_BODY): value for key, value in state.items() if key.startswith(_BODY)}
    elif not net.body.state_dict():
        raise UsageError(f"{name} holds no last layer called head, and the network has no other.")
    _weights.put(net.body, state, name)


def _body(asked: registry.Net, size: int) -> tuple[nn.Module, int, int]:
    if asked.name not in registry.names("nets"):
        return _torchvision.body(asked.name, size, bool(asked.weights))
    found: tuple[nn.Module, int, int] = registry.load("nets", asked.name).body(size, bool(asked.weights))
    return found


def _resizing(size: int, side: int) -> Tensor:
    """(side, size): the bilinear weights of pixels, smoothed where it shrinks. As a product it has the same gradients every
    time on CUDA, which interpolation has not."""
    rows = torch.eye(size)[None, None]
    return F.interpolate(rows, size=(side, size), mode="bilinear", antialias=side < size)[0, 0]

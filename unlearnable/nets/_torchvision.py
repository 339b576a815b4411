"""Any classification network of torchvision as a body: its last layer dropped, its strides lessened for small images.

ImageNet networks shrink an image 32 times, which leaves one point of a 32x32 image. From scratch, images of up to SMALL
pixels are therefore shrunk 8 times only, or 16 (RegNet), and a 32x32 image keeps a map of 4x4 (Kuang Liu's CIFAR networks,
which the literature trains, do the same; methods.md 3.1):
  the first convolution is 3x3 with stride 1, then
  the last max-pools go (ResNet and DenseNet have one, VGG loses two of five), then
  the first strided depthwise convolutions get stride 1 (MobileNet, EfficientNet; RegNet has none), and
  VGG and AlexNet are pooled to one point, and their two layers of 4096, made for a map of 7x7, go.
A vision transformer's patches stay as they are: the image is enlarged to 8 patches a side at least. MaxViT has a fixed side.

With weights nothing of this is done, because weights fit the stem they were trained with: smaller images are enlarged
instead, to ENLARGED pixels (as BiT does before fine-tuning on 32x32 images, arXiv 1912.11370: the ImageNet side is three
times as costly), for networks of a fixed side to that one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from unlearnable.errors import UsageError

SMALL = 64
ENLARGED = 128
IMAGENET = 224
_MOST = 8  # times that a small image may be shrunk
_LARGEST_TRIED = 128


def body(name: str, size: int, pretrained: bool, full_size: Sequence[str] | None = None) -> tuple[nn.Module, int, int]:
    """(module, its features, the side it must be shown: images of `size` pixels are resized to it).

    full_size: layers that do not shrink small images: pools go, convolutions get stride 1; None finds them by the rule.
    Raises UsageError where the network cannot take images of this size.
    """
    net, side = _built(name, size, pretrained)
    features = _drop_head(net)
    if size <= SMALL and not pretrained and side == size:
        _first_convolution(net)
        features = _one_point(net) or features
        for layer in _found(net) if full_size is None else full_size:
            _keep_size(net, layer)
    if full_size is None and not _shape(net, side):
        enough = next((larger for larger in range(size, _LARGEST_TRIED + 1) if _shape(net, larger)), None)
        raise UsageError(
            f"{name} cannot take images of {size} pixels: its layers would have nothing left.",
            f"Its smallest is {enough}; give it weights, or name another." if enough else "Name another.",
        )
    return net, features, side


def _built(name: str, size: int, pretrained: bool) -> tuple[nn.Module, int]:
    """torchvision's network with its own initial weights, and the side of the images it is made for."""
    from torchvision.models import get_model

    side = max(size, ENLARGED) if pretrained else size
    options: dict[str, Any] = {}
    if name.startswith("vit_"):
        patch = int(name.rpartition("_")[2])
        side = IMAGENET if pretrained else max(8, -(-size // patch)) * patch
        options = {"image_size": side}
    elif name.startswith("maxvit"):
        side = IMAGENET
    elif name in ("googlenet", "inception_v3"):
        # their published weights expect the input in [-1, 1], which transform_input makes of the usual normalisation
        options = {"aux_logits": False, "init_weights": True, "transform_input": pretrained}
    return get_model(name, weights=None, **options), side


def _drop_head(net: nn.Module) -> int:
    """Puts the identity in place of the last layer (SqueezeNet's is a convolution) and returns what went into it."""
    linear = [name for name, part in net.named_modules() if isinstance(part, nn.Linear)]
    last = linear[-1] if linear else [name for name, part in net.named_modules() if isinstance(part, nn.Conv2d)][-1]
    head = net.get_submodule(last)
    net.set_submodule(last, nn.Identity())
    return int(head.in_features if isinstance(head, nn.Linear) else head.in_channels)  # type: ignore[arg-type]


def _first_convolution(net: nn.Module) -> None:
    name, old = next((name, part) for name, part in net.named_modules() if isinstance(part, nn.Conv2d))
    if old.stride != (1, 1) or old.kernel_size[0] > 3:
        new = nn.Conv2d(old.in_channels, old.out_channels, 3, padding=1, bias=old.bias is not None)
        net.set_submodule(name, new)


def _one_point(net: nn.Module) -> int:
    """Pools to one point what would be pooled to several and go through large layers. The new number of features, or 0."""
    pool, layers = getattr(net, "avgpool", None), getattr(net, "classifier", None)
    if not isinstance(pool, nn.AdaptiveAvgPool2d) or pool.output_size in (1, (1, 1)) or layers is None:
        return 0
    net.avgpool, net.classifier = nn.AdaptiveAvgPool2d(1), nn.Identity()
    return int([part for part in net.modules() if isinstance(part, nn.Conv2d)][-1].out_channels)


def _keep_size(net: nn.Module, layer: str) -> None:
    part = net.get_submodule(layer)
    if isinstance(part, nn.Conv2d):
        part.stride = (1, 1)
    else:
        net.set_submodule(layer, nn.Identity())


def _found(net: nn.Module) -> Iterator[str]:
    """Layers that shrink, in the order in which they should stop to; each is asked for when those before it were not enough."""
    pools = [name for name, part in net.named_modules() if isinstance(part, nn.MaxPool2d) and part.stride == 2]
    strided = [(n, part) for n, part in net.named_modules() if isinstance(part, nn.Conv2d) and part.stride == (2, 2)]
    for layer in [*reversed(pools), *(name for name, part in strided if part.groups == part.in_channels)]:
        shape = _shape(net, SMALL)
        if not shape or shape[-1] * _MOST >= SMALL:
            return
        yield layer


def _shape(net: nn.Module, side: int) -> tuple[int, ...]:
    """Shape of what the last convolution makes of an image, nothing computed; () where the image is too small for it."""
    seen: list[tuple[int, ...]] = []

    def see(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        seen.append(tuple(output.shape))

    hooks = [part.register_forward_hook(see) for part in net.modules() if isinstance(part, nn.Conv2d)]
    nothing = {name: value.detach().to("meta") for name, value in net.state_dict().items()}
    was_training = net.training
    try:
        with torch.no_grad():
            torch.func.functional_call(net.eval(), nothing, (torch.empty(1, 3, side, side, device="meta"),))
    except RuntimeError:
        return ()
    finally:
        net.train(was_training)
        for hook in hooks:
            hook.remove()
    return seen[-1]

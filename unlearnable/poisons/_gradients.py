"""Gradients of a network's weights for each image on its own, differentiable in the image.

Batch normalisation is frozen (networks are in evaluation mode), so an image's gradient does not depend on the others of
its batch. A gradient is as large as the network: ResNet-18's is 45 MB an image, and a step through it (a double backward)
needs three times that.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F

from unlearnable.device import in_parts
from unlearnable.nets import Network
from unlearnable.poisons import _pgd
from unlearnable.types import Batch, Context

Gradients = dict[str, Tensor]  # by the parameter's name in the network


def per_image(net: Network, images: Tensor, labels: Tensor) -> Gradients:
    """{parameter: (N, *shape)} gradients of cross entropy. images: (N, 3, S, S) in [0, 1]; labels: (N,)."""
    layers = _layers(net)

    def loss(weights: Gradients, image: Tensor, label: Tensor) -> Tensor:
        return F.cross_entropy(functional_call(layers, weights, (image[None],)), label[None])

    found: Gradients = vmap(grad(loss), in_dims=(None, 0, 0))(_weights(layers), (images - net.mean) / net.std, labels)
    return found


def of_reverse_loss(net: Network, data: Batch, context: Context) -> Gradients:
    """{parameter: gradient} of the mean reverse cross entropy of clean images."""
    layers = _layers(net)
    weights = _weights(layers)
    total = {name: torch.zeros_like(weight) for name, weight in weights.items()}

    def loss(weights: Gradients, images: Tensor, labels: Tensor) -> Tensor:
        logits: Tensor = functional_call(layers, weights, (images,))
        return reverse_cross_entropy(logits, labels).sum()

    def add(part: slice) -> None:
        images, labels = data.images[part].to(net.mean.device), data.labels[part].to(net.mean.device)
        found = grad(loss)(weights, (images.float() / 255 - net.mean) / net.std, labels)
        for name, value in found.items():
            total[name] += value / len(data)

    in_parts(add, len(data), _pgd.at_once(0, context), context.tell)
    return total


def reverse_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """(N,) -log(1 - p), p being the label's probability: small where the label is not believed. Finite where p rounds to 1."""
    own = F.one_hot(labels, logits.shape[1]).bool()
    return logits.logsumexp(1) - logits.masked_fill(own, -torch.inf).logsumexp(1)


def norms(gradients: Gradients) -> Tensor:
    """(N,) L2 norms over all parameters. Where a gradient is zero so is this one's, not NaN."""
    parts = [torch.linalg.vector_norm(gradient.flatten(1), dim=1) for gradient in gradients.values()]
    whole: Tensor = torch.linalg.vector_norm(torch.stack(parts, 1), dim=1)
    return whole


def cosines(gradients: Gradients, goal: Gradients) -> Tensor:
    """(N,) cosines between each image's gradient and one goal, over all parameters; 0 where a gradient is zero."""
    parts = [gradient.flatten(1) @ goal[name].flatten() for name, gradient in gradients.items()]
    length = norms(gradients) * norms({name: value[None] for name, value in goal.items()})
    return torch.stack(parts).sum(0) / length.clamp(min=torch.finfo(length.dtype).tiny)


def at_once(size: int, context: Context) -> int:
    """How many images to attack together: `size`, or where it is 0 what a gradient each leaves room for."""
    return size or (8 if context.device == "cpu" else 64)


def _layers(net: Network) -> nn.Module:
    """The network after its normalisation: `vmap` cannot change an image's memory layout, as `Network.features` does."""
    return nn.Sequential(OrderedDict(body=net.body, head=net.head))


def _weights(layers: nn.Module) -> Gradients:
    # contiguous: `vmap` goes image by image, with a warning, where a convolution's output is channels last
    return {name: weight.detach().contiguous() for name, weight in layers.named_parameters()}

"""The same promises on a CUDA device."""

from __future__ import annotations

import pytest
import torch
from made_pictures import picture

from unlearnable import craft, nets
from unlearnable.keys import Key
from unlearnable.surrogate import trainer
from unlearnable.train import Recipe, train
from unlearnable.types import Batch, Context

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]
CUDA = torch.device("cuda")


def data(each: int = 60, start: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    images = [torch.from_numpy(picture(k, start + i, 32)).permute(2, 0, 1) for k in range(3) for i in range(each)]
    return torch.stack(images), torch.arange(3).repeat_interleave(each)


@pytest.mark.parametrize("name", ["small", "resnet18"])
def test_victims_learn_on_the_device(name: str) -> None:
    test = tuple(t.to(CUDA) for t in data(20, 1000))
    history = train(
        nets.create(name, 3, 32, 0), *(t.to(CUDA) for t in data()), Recipe(8, 32), seed=0, test=(test[0], test[1])
    )
    assert history.peak > 0.8


@pytest.mark.parametrize("preset", ["r16", "p10", "cu", "su"])
def test_methods_make_perturbations_on_the_device(preset: str) -> None:
    images, labels = data()
    key = Key(bytes(range(32)))
    surrogates = trainer(data(20, 500), 3, device=CUDA, tell=lambda message: None)
    context = Context(key, ("a", "b", "c"), 8, 32, "cuda", surrogates)
    method = craft.resolve(None, preset, {"net": "small"} if preset != "r16" else {})
    batch = Batch(tuple(f"train/{i}" for i in range(len(images))), images, labels)
    crafter = craft.fit(method, batch if method.trains else None, context)
    delta = crafter.on(batch.ids, images, labels)
    assert delta.device.type == "cpu" and delta.isfinite().all() and delta.abs().amax((1, 2, 3)).min() > 0

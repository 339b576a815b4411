from __future__ import annotations

import math
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from poison_kit import OTHER_KEY, context, cropped, little_memory, separable, surrogate, take
from torch import Tensor
from torch.nn import functional as F
from torchvision import models

from unlearnable import cluster, craft, nets
from unlearnable.errors import HubError, TrainingError, UsageError
from unlearnable.poisons import _surrogates, clusters
from unlearnable.poisons.clusters import Params
from unlearnable.types import Batch, State

EPS = 8 / 255
QUICK: dict[str, Any] = {"net": "linear", "clusters": 3, "epochs": 4, "batch": 15, "noise": "direct"}


@cache
def fitted() -> tuple[Batch, State, Params]:
    data, params = separable(45, size=8), Params(**QUICK)
    return data, clusters.fit(data, params, context(size=8)), params


def seen_by(state: State, images: Tensor) -> Tensor:
    (net,) = _surrogates.unpack(state, context(size=state["size"]))
    with torch.no_grad():
        return net.features(images)


def test_every_pattern_moves_any_image_to_the_centre_of_another_cluster() -> None:
    data, eps = separable(45, contrast=40), 24 / 255
    where = context(levels=24, train_surrogate=cropped)
    params = Params(**QUICK | {"net": "small", "rate": 0.2, "epochs": 10})
    state = clusters.fit(data, params, where)
    clean = data.images.float() / 255
    own = clusters.nearest(seen_by(state, clean), state["mean"], state["centres"])
    assert all(after < 0.5 * before for before, after in zip(state["before"], state["after"], strict=True))
    for number, (goal, pattern) in enumerate(zip(state["goals"], state["patterns"], strict=True)):
        target = int(state["targets"][str(number)])
        assert target != number
        torch.testing.assert_close(goal, seen_by(state, clean[own == target]).mean(0), atol=1e-4, rtol=1e-3)
        far = clean[own != target]  # from every other cluster, one and all
        before, after = (seen_by(state, x) for x in (far, far + pattern * eps))
        assert len(far) >= 15 and (clusters.apart(after, goal) < clusters.apart(before, goal)).all()
        assert ((after - goal).norm(dim=1) < (before - goal).norm(dim=1)).all()
    delta = clusters.delta(data, state, params, where)
    assert torch.equal(delta, (state["patterns"] * eps)[own]) and delta.abs().max() <= eps + 1e-6


def test_images_are_in_the_cluster_that_k_means_put_them_in(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[Tensor] = []
    k_means = cluster.k_means

    def spy(points: Tensor, count: int, generator: torch.Generator) -> Tensor:
        kept.extend([points, k_means(points, count, generator)])
        return kept[1]

    monkeypatch.setattr(cluster, "k_means", spy)
    data, where, params = separable(40, size=8), context(size=8), Params(**QUICK | {"clusters": 5, "epochs": 1})
    state = clusters.fit(data, params, where)
    points, centres = kept
    slow = [max(range(5), key=lambda i: float(point @ centres[i])) for point in points]
    assert len(set(slow)) == 5
    assert torch.equal(clusters.delta(data, state, params, where), state["patterns"][slow] * EPS)


def test_the_divergence_against_arithmetic_by_hand() -> None:
    generator = torch.Generator().manual_seed(0)
    found, goal = torch.randn((4, 6), generator=generator), torch.randn(6, generator=generator)
    for row, measured in zip(found.tolist(), clusters.apart(found, goal).tolist(), strict=True):
        p, q = ([math.exp(v) / sum(map(math.exp, values)) for v in values] for values in (goal.tolist(), row))
        assert measured == pytest.approx(sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)), abs=1e-5)
    assert clusters.apart(goal[None], goal).item() == pytest.approx(0, abs=1e-6)


def test_later_images_of_any_class_take_the_nearest_centre_alone_or_together() -> None:
    data, state, params = fitted()
    later = separable(30, size=8, seed=8)
    grown = context(size=8, classes=("ant", "bee", "cat", "dog"))
    delta = clusters.delta(replace(later, labels=torch.full((30,), 3)), state, params, grown)
    for row in (0, 11, 29):
        assert torch.equal(clusters.delta(take(later, [row]), state, params, context(size=8))[0], delta[row])
    own = clusters.nearest(seen_by(state, later.images / 255), state["mean"], state["centres"])
    of_class = [own[later.labels == label].mode().values.item() for label in range(3)]
    assert len(set(of_class)) == 3, "clusters of new images are those of the fit"
    assert len(data) == 45


def test_targets_and_patterns_are_secret() -> None:
    data, state, params = fitted()
    other = clusters.fit(data, params, context(size=8, key=OTHER_KEY))
    assert not torch.equal(other["patterns"], state["patterns"])
    several = Params(**QUICK | {"clusters": 6, "epochs": 1})
    drawn = [clusters.fit(data, several, context(size=8, key=key))["targets"] for key in (context().key, OTHER_KEY)]
    assert drawn[0] != drawn[1] and all(sorted(targets.values()) == sorted(targets) for targets in drawn)


@pytest.mark.parametrize("noise", ["direct", "generator"])
def test_patterns_have_any_size(noise: str) -> None:
    params = Params(**QUICK | {"noise": noise, "clusters": 2, "epochs": 1, "batch": 24})
    state = clusters.fit(separable(24, size=18), params, context(size=18))
    assert state["patterns"].shape == (2, 3, 18, 18) and 0 < state["patterns"].abs().max() <= 1


def test_a_generator_lessens_the_divergence_too() -> None:
    data, where = separable(45, contrast=40, size=8), context(size=8, levels=24, train_surrogate=cropped)
    params = Params(**QUICK | {"net": "small", "clusters": 2, "noise": "generator"})
    state = clusters.fit(data, params, where)
    assert all(after < 0.8 * before for before, after in zip(state["before"], state["after"], strict=True))


def test_a_network_with_weights_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, create = [], nets.create

    def made(name: str, *rest: Any, **more: Any) -> nets.Network:
        asked.append(name)
        return create("linear", *rest, **more)

    monkeypatch.setattr(nets, "create", made)
    params, one = Params(**QUICK | {"net": "resnet18@my.pt", "epochs": 1}), context(size=8, classes=("all",))
    data = replace(separable(20, size=8), labels=torch.zeros(20, dtype=torch.long))
    state = clusters.fit(data, params, replace(one, train_surrogate=None))
    assert set(asked) == {"resnet18@my.pt"} and state["nets"] == ["resnet18@my.pt"]
    assert clusters.delta(data, state, params, one).abs().max() > 0


def test_a_weights_file_is_taken_as_it_is_and_nothing_is_trained(tmp_path: Path) -> None:
    torch.manual_seed(5)
    published = models.shufflenet_v2_x0_5(weights=None)
    torch.save(published.state_dict(), file := tmp_path / "mine.pt")
    values = QUICK | {"net": f"shufflenet_v2_x0_5@{file}", "clusters": "2", "epochs": "2", "rate": "0.5"}
    data, where = separable(12, size=8, contrast=120), context(size=8, levels=64, train_surrogate=None)
    crafter = craft.fit(craft.resolve(None, "uc", values), data, where)
    (weights,) = crafter.state["weights"]
    body = {key: value for key, value in published.state_dict().items() if not key.startswith("fc.")}
    assert {f"body.{key}" for key in body} == {key for key in weights if key.startswith("body.")}
    assert all(torch.equal(weights[f"body.{key}"], value) for key, value in body.items())
    file.unlink()  # everything is in the fit
    assert crafter.on(data.ids, data.images, data.labels).abs().amax((1, 2, 3)).min() > 0.1
    assert sum(crafter.state["after"]) < sum(crafter.state["before"])


@pytest.mark.parametrize("weights", ["DEFAULT", "hf://owner/nets/w.safetensors"])
def test_weights_that_cannot_be_reached_are_one_sentence(
    weights: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # where nobody listens
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    params = Params(**QUICK | {"net": f"resnet18@{weights}"})
    with pytest.raises(HubError, match=r"could not be (fetched|reached)") as found:
        clusters.fit(separable(20, size=8), params, context(size=8, train_surrogate=None))
    assert weights in found.value.message and "\n" not in str(found.value) and found.value.hint


def test_what_cannot_be_clustered_is_refused() -> None:
    data, where, params = separable(20, size=8), context(size=8), Params(**QUICK)
    with pytest.raises(UsageError, match="5 images are too few for 3 clusters"):
        clusters.fit(take(data, list(range(5))), params, where)
    with pytest.raises(UsageError, match="--labels none"):
        clusters.fit(replace(data, labels=torch.zeros_like(data.labels)), params, where)
    twice = replace(data, images=data.images[[0, 1] * 10])
    with pytest.raises(UsageError, match=r"2 clusters, not 3"):
        clusters.fit(twice, params, where)


@pytest.mark.parametrize("noise", ["direct", "generator"])
def test_where_memory_runs_out_it_goes_on_with_fewer_images_to_the_same_pattern(
    noise: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, lines, params = separable(45, size=8), list[str](), Params(**QUICK | {"noise": noise, "epochs": 1})
    (net,), _ = surrogate(data, "linear", epochs=1)
    goal = torch.randn(192, generator=torch.Generator().manual_seed(0))
    wanted = clusters._pattern(net, data, goal, 0, params, context(size=8))
    little_memory(monkeypatch)
    found = clusters._pattern(net, data, goal, 0, params, context(size=8, tell=lines.append))
    assert lines == ["out of memory: going on with 8 images at once"]
    assert F.cosine_similarity(found.ravel(), wanted.ravel(), dim=0) > 0.98


def test_a_divergence_that_is_no_number_is_told() -> None:
    def broken(*rest: Any, **more: Any) -> tuple[list[nets.Network], float]:
        found, accuracy = surrogate(*rest, **more)
        found[0].body = torch.nn.Sequential(found[0].body, torch.nn.Hardtanh(-1e-30, 1e-30), Blowing())
        return found, accuracy

    data, where = separable(20, size=8), context(size=8)
    net = broken(data, "linear")[0][0]
    with pytest.raises(TrainingError, match="pattern 1"):
        clusters._pattern(net, data, torch.ones(192), 0, Params(**QUICK), where)


class Blowing(torch.nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x) / 0


@pytest.mark.parametrize("wrong", [{"clusters": 1}, {"noise": "x"}, {"epochs": 0}, {"rate": -1.0}, {"net": "small*2"}])
def test_ranges(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Params(**wrong)

"""Images without labels: clusters follow content and not colour, and stay the same on the next run."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from made_pictures import picture

from unlearnable import cluster
from unlearnable.errors import UsageError


def data(each: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    pictures = [torch.from_numpy(picture(k, i, 48)).permute(2, 0, 1) for k in range(2) for i in range(each)]
    return torch.stack(pictures), torch.arange(2).repeat_interleave(each)


def purity(found: torch.Tensor, truth: torch.Tensor) -> float:
    pairs = torch.zeros(int(found.max()) + 1, int(truth.max()) + 1)
    for f, t in zip(found.tolist(), truth.tolist(), strict=True):
        pairs[f, t] += 1
    return pairs.amax(1).sum().item() / len(truth)


def test_clusters_follow_content_though_colours_are_random() -> None:
    images, truth = data()
    labeller = cluster.fit(images, 2, seed=0, epochs=6)
    assert purity(labeller(images), truth) > 0.9


def test_clusters_survive_saving() -> None:
    images, _ = data(10)
    labeller = cluster.fit(images, 3, seed=1, epochs=1)
    again = cluster.Labeller.from_state(labeller.state())
    assert torch.equal(labeller(images), again(images))


def test_too_few_images_are_refused() -> None:
    with pytest.raises(UsageError, match="too few"):
        cluster.fit(data(3)[0], 10, seed=0)


def test_nt_xent_agrees_with_the_double_loop() -> None:
    a, b = torch.randn(5, 7), torch.randn(5, 7)
    z = [v / v.norm() for v in [*a, *b]]
    total = 0.0
    for i in range(10):
        scores = {j: torch.exp(z[i] @ z[j] / 0.5) for j in range(10) if j != i}
        total += -torch.log(scores[(i + 5) % 10] / sum(scores.values())).item()
    assert cluster.nt_xent(a, b, 0.5).item() == pytest.approx(total / 10, rel=1e-5)


def test_k_means_finds_separated_directions() -> None:
    rng = np.random.default_rng(0)
    centres = np.eye(4, 16)
    points = np.concatenate([c + 0.05 * rng.normal(size=(30, 16)) for c in centres])
    unit = torch.nn.functional.normalize(torch.from_numpy(points).float())
    found = cluster.k_means(unit, 4, torch.Generator().manual_seed(0))
    assert sorted((found @ torch.eye(4, 16).T).argmax(1).tolist()) == [0, 1, 2, 3]


def test_named_weights_are_used_as_they_are(tmp_path: Path) -> None:
    """Weights of torchvision's own ResNet-18: features equal torchvision's, and no training happens."""
    from torchvision.models import resnet18

    torch.manual_seed(3)
    net = resnet18(weights=None).eval()
    torch.save(net.state_dict(), tmp_path / "weights.pth")
    images, _ = data(4)
    labeller = cluster.fit(images, 2, seed=0, weights=tmp_path / "weights.pth")
    x = cluster.resize(images[:2], 224).float() / 255
    mean, std = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    net.fc = torch.nn.Identity()
    with torch.no_grad():
        assert torch.allclose(labeller.net.features(x), net((x - mean) / std), rtol=1e-3, atol=1e-4)
    assert torch.equal(cluster.Labeller.from_state(labeller.state())(images), labeller(images))


@pytest.mark.parametrize("content", [b"", b"no weights", pickle.dumps(print), "small"])
def test_what_is_no_weights_file_is_refused(tmp_path: Path, content: bytes | str) -> None:
    path = tmp_path / "weights.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save({"conv1.weight": torch.zeros(64, 3, 7, 7)}, path)
    with pytest.raises(UsageError, match=r"weights\.pt"):
        cluster.fit(data(4)[0], 2, seed=0, weights=path)

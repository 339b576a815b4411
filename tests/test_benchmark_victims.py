"""The comparison of our training loop with a plain one: resumed run by run, and each part of a difference by itself."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from made_pictures import picture
from torch.nn import functional as F

from unlearnable import nets
from unlearnable.train import Recipe, train

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))
import victims

CPU = torch.device("cpu")


def pictures(folder: Path, split: str, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    count = min(count, 24)
    made = [torch.from_numpy(picture(i % 3, i, 32)).permute(2, 0, 1) for i in range(count)]
    return torch.stack(made), torch.arange(count) % 3


def test_every_loop_and_seed_is_trained_once_and_runs_are_not_mixed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(victims, "load", pictures)
    monkeypatch.setattr(victims, "plain", lambda net, *rest: 1.0)
    file, run = tmp_path / "victims.jsonl", {"net": "linear", "images": 24, "epochs": 1}
    victims.accuracy(run, tmp_path, ["ours", "plain"], 2, 9.0, file, CPU)
    before = file.read_text()
    victims.accuracy(run, tmp_path, ["ours", "plain"], 2, 9.0, file, CPU)
    assert file.read_text() == before and len(before.splitlines()) == 4
    victims.accuracy(run | {"device": "cuda"}, tmp_path, ["ours"], 1, 9.0, file, CPU)
    victims.accuracy(run | {"epochs": 2}, tmp_path, ["ours"], 1, 9.0, file, CPU)
    assert [len(victims.lines_of(file, run | more)) for more in ({}, {"device": "cuda"}, {"epochs": 2})] == [4, 1, 1]


def test_without_bfloat16_nothing_else_of_our_loop_changes() -> None:
    x, y = pictures(Path(), "train", 24)
    kinds = []

    def objective(net: nets.Network, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        logits = net(images)
        kinds.append(logits.dtype)
        return F.cross_entropy(logits.float(), labels)

    for reduced in (True, False):
        with victims.nullcontext() if reduced else victims.full_precision():
            train(nets.create("linear", 3, 32, 0), x, y, Recipe(1, 24), seed=0, objective=objective)
    assert kinds == [torch.bfloat16, torch.float32]


def test_a_difference_is_the_sum_of_what_bfloat16_and_the_rest_make() -> None:
    finals = {"ours": (0.70, 0.72), "float32": (0.71, 0.73), "plain": (0.74, 0.78)}
    lines = [{"loop": loop, "final": final} for loop, values in finals.items() for final in values]
    found = victims.summary(lines)
    assert found["difference"]["mean"] == pytest.approx(-0.05) and found["of_bfloat16"]["mean"] == pytest.approx(-0.01)
    assert found["of_the_rest"]["mean"] == pytest.approx(-0.04)
    low, high = found["difference"]["interval"]  # variances 0.0002 and 0.0008 of two runs each
    assert high - low == pytest.approx(2 * 1.96 * (0.0005) ** 0.5)
    assert "of_bfloat16" not in victims.summary([line for line in lines if line["loop"] != "float32"])

"""The benchmark's bounds are those of a statistics book, and one network runs through it."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_pictures import picture

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
import _trace_table as figures
from _cifar import World


@pytest.fixture(scope="module")
def bench() -> Any:
    """benchmarks/trace.py, by its path: the standard library has a `trace` too."""
    spec = importlib.util.spec_from_file_location("benchmark_of_trace", Path(figures.__file__).with_name("trace.py"))
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_students_t_has_its_book_values() -> None:
    assert figures.t_quantile(0.05, 39) == pytest.approx(1.6849, abs=1e-4)
    assert figures.t_quantile(0.025, 9) == pytest.approx(2.2622, abs=1e-4)
    assert figures.upper([0.01, 0.03]) == pytest.approx(0.02 + 6.3138 * 0.01, abs=1e-4)
    assert figures.upper([0.5]) is None
    assert figures.t_test([0.4, 0.5, 0.6], 0.5) == pytest.approx(1.0)
    assert figures.t_test([0.1, 0.2, 0.3], 0.7) == pytest.approx(0.0131, abs=1e-4), "t = -8.66 with 2 degrees"


def test_a_test_that_accuses_too_often_is_seen() -> None:
    rng = np.random.default_rng(0)
    fair = [{"p": {"key": rng.random(250).tolist()}} for _ in range(40)]
    loose = [{"p": {"key": (rng.random(250) ** 1.5).tolist()}} for _ in range(40)]
    good, bad = figures.rates(fair, "key"), figures.rates(loose, "key")
    assert good["alpha 0.01"]["upper_95"] <= 0.015 < bad["alpha 0.01"]["upper_95"]
    assert good["mean_p"]["p_of_expected"] > 0.01 > bad["mean_p"]["p_of_expected"]


def test_every_network_has_a_name_of_its_own_and_forty_are_innocent(bench: Any) -> None:
    rows = bench.rows()
    assert len({row.name for row in rows}) == len(rows)
    null = [row for row in rows if row.group == "null"]
    assert len(null) == 40 and sum(row.other for row in null) == 10


def test_a_network_is_measured_once_and_comes_out_in_the_table(
    bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = torch.stack([torch.from_numpy(picture(k, i, 32)).permute(2, 0, 1) for k in range(10) for i in range(4)])
    labels = torch.arange(10).repeat_interleave(4)
    world = World((images, labels), (images, labels), (images[1::4], labels[1::4]), torch.device("cpu"))
    for name, value in (("NET", "linear"), ("EPOCHS", 1), ("KEYS", 4), ("DECOYS", 19)):
        monkeypatch.setattr(bench, name, value)
    monkeypatch.setattr(bench.plan, "DECOYS", 19)
    monkeypatch.setattr(bench, "trainer", lambda *args, **kwargs: lambda *args, **kwargs: ([network(bench)], 1.0))
    rows = [row for row in bench.rows() if row.group in ("null", "share") and row.seed == 0 and row.preset != "p10"][:2]
    for _ in range(2):
        bench.run_rows(rows, world, tmp_path / "lines", 5)
    found = [json.loads(line) for line in (tmp_path / "lines").read_text().splitlines()]
    assert [line["group"] for line in found] == ["null", "share"]
    assert {name: len(ps) for name, ps in found[0]["p"].items()} == dict.fromkeys(found[0]["p"], 4)
    table = figures.table(found)
    assert table["null"]["networks"] == 1 and table["detection"][0]["test"] == "key"


def network(bench: Any) -> Any:
    from unlearnable import nets

    return nets.create("linear", 10, 32, seed=0)

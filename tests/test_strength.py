"""The strength benchmark on a few made pictures: cells are made once and come out in its table."""

from __future__ import annotations

import io
import json
import sys
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from made_pictures import picture
from PIL import Image

from unlearnable import registry
from unlearnable.errors import UsageError

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))
import _cells
import defences
import strength
from _cifar import World

CPU = torch.device("cpu")


def world() -> World:
    images = torch.stack([torch.from_numpy(picture(k, i, 32)).permute(2, 0, 1) for k in range(3) for i in range(12)])
    labels = torch.arange(3).repeat_interleave(12)
    data = (images, labels), (images[::4], labels[::4]), (images[1::4], labels[1::4])
    return World(*data, CPU, ("ant", "bee", "cat"))


def quick() -> strength.Protocol:
    mini = strength.PROTOCOLS["miniature"]
    return replace(mini, net="linear", recipe=replace(mini.recipe, epochs=2, batch=8))


def test_the_script_and_its_log_are_both_there() -> None:
    """A folder of the script's name holds no module, so that importing it finds the script."""
    script = Path(strength.__file__)
    assert script.name == "strength.py" and (script.parent / "strength" / "LOG.md").is_file()
    assert not list((script.parent / "strength").glob("*.py"))


def test_a_cell_is_made_once_and_comes_out_in_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "strength.jsonl"
    cells = [
        ("linear", seed, against, poison)
        for seed in (0, 1)
        for against in ("none", "notch")
        for poison in ("clean", "grating:low=3:high=6")
    ]
    for _ in range(2):
        strength.run(quick(), world(), cells, out, 5, None)
    found = strength.lines(out)
    assert [strength.key(line)[1:] for line in found] == cells, "in the order asked for, each once"
    assert all(line["peak"] == max(line["accuracy"]) and len(line["accuracy"]) == 2 for line in found)
    text = strength.table(found)
    assert "## miniature, linear" in text and "| | none | notch | worst cheap" in text and "At most 2 seed(s)" in text
    mean = 50 * sum(line["peak"] for line in found if (line["poison"], line["against"]) == ("clean", "none"))
    assert next(line for line in text.splitlines() if line.startswith("| clean")).startswith(f"| clean | {mean:.1f} /")


def test_cells_that_another_table_made_are_taken_where_nothing_was_cut(tmp_path: Path) -> None:
    cell = {"protocol": "miniature", "victim": "tiny", "poison": "R16", "peak": 0.3}
    theirs = [
        cell | {"against": "none"},
        cell | {"against": "jpeg10", "changed": {}},
        cell | {"against": "ueraser", "changed": {"draws": 1}},
    ]
    (tmp_path / "defences.jsonl").write_text("".join(json.dumps(line) + "\n" for line in theirs))
    own = cell | {"against": "none", "seed": 0, "peak": 0.2}
    found = strength.with_defences([own], tmp_path / "defences.jsonl")
    assert found == [own, {"seed": 0} | theirs[1]]


def test_the_worst_of_the_cheap_scrapers_is_named_and_missing_ones_counted() -> None:
    cells = {name: [{"peak": peak}] for name, peak in (("none", 0.2), ("jpeg10", 0.41), ("blur1", 0.3))}
    assert strength._worst(cells, strength.CHEAP) == "41.0 (jpeg10, 3 of 10 made)"  # type: ignore[arg-type]
    assert strength._worst({}, strength.CHEAP) == "."


def test_a_poison_is_a_row_a_preset_or_a_preset_with_values() -> None:
    assert strength.row("R4").peak == 24.51 and strength.row("grating").preset == "grating"
    assert strength.row("grating:eps=4:softness=1").levels == 4 and strength.row("grating").levels is None
    soft = strength.row("grating:softness=0.5:colour=any").method("miniature").params
    assert (soft.softness, soft.colour) == (0.5, "any")
    with pytest.raises(UsageError, match="takes NAME=VALUE"):
        strength.row("grating:soft")


def test_every_scraper_and_poison_of_the_lists_exists() -> None:
    for against in {*strength.FIRST, *strength.REST} - {"none"}:
        registry.find_preset("defences", against)
    assert all(strength.row(poison).known for poison in strength.POISONS)
    assert set(defences.AGAINST) <= {*strength.FIRST, *strength.REST}


def test_no_cell_is_begun_that_would_not_end_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now, made = [0.0], []
    monkeypatch.setattr(_cells.time, "monotonic", lambda: now[0])

    def make(cell: float) -> None:
        made.append(cell)
        now[0] += 60 * cell

    _cells.in_time([1, 4, 2, 3], 8, make)
    assert made == [1, 4], "4 minutes are the longest so far, and 5 are gone of 8"


def test_flowers_are_seen_as_a_trainer_sees_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_cells, "_HELD_OUT", 2)
    photos = []
    for i in range(10):
        file = io.BytesIO()
        Image.new("RGB", (60, 40 + i), (10 * i, 20, 30)).save(file, "PNG")
        photos.append({"bytes": file.getvalue(), "path": f"{i}.png"})
    for split, rows in (("train", photos), ("test", photos[:3])):
        table = pa.table({"image": rows, "label": [i % 5 for i in range(len(rows))]})
        pq.write_table(table, tmp_path / f"{split}-00000.parquet")
    found = _cells.flowers(tmp_path, 24, CPU)
    assert found.train[0].shape == (8, 3, 24, 24) and found.held_out[0].shape == (2, 3, 24, 24)
    assert found.test[0].shape == (3, 3, 24, 24) and found.classes == _cells.KINDS
    reds = torch.cat([found.train[0], found.held_out[0]])[:, 0, 0, 0]
    assert sorted(reds.tolist()) == [10 * i for i in range(10)]
    labels = torch.cat([found.train[1], found.held_out[1]])
    assert torch.equal(labels, reds.long() // 10 % 5), "labels go with their photos"

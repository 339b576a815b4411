"""The benchmarks run: one row of the reproduction on a few made pictures, and the arithmetic of its table."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from made_pictures import picture

from unlearnable import budget

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))
import _gpu_loops
import _table
import crafting
import reproduction
from _cifar import World, shipped
from _rows import BY_NAME, ROWS


def world() -> World:
    images = torch.stack([torch.from_numpy(picture(k, i, 32)).permute(2, 0, 1) for k in range(3) for i in range(12)])
    labels = torch.arange(3).repeat_interleave(12)
    return World((images, labels), (images[::4], labels[::4]), (images[1::4], labels[1::4]), torch.device("cpu"))


def test_a_row_is_made_once_and_comes_out_in_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mini = reproduction.PROTOCOLS["miniature"]
    protocol = replace(mini, net="linear", recipe=replace(mini.recipe, epochs=2, batch=8))
    out = tmp_path / "reproduction.jsonl"
    for _ in range(2):
        reproduction.run([BY_NAME["R4"]], [0, 1], protocol, world(), out, 5, None)
    found = reproduction.lines(out)
    assert [line["seed"] for line in found] == [0, 1] and capsys.readouterr().out.count("R4") == 2
    assert found[0]["peak"] == max(found[0]["accuracy"]) and len(found[0]["train_loss"]) == 2
    _table.write(found, ROWS, tmp_path / "table")
    (row,) = json.loads((tmp_path / "table.json").read_text())["miniature"]["rows"]
    assert row["peak"] == pytest.approx(100 * np.mean([line["peak"] for line in found]))
    assert "| R4 | 24.5 | 11.4 |" in (tmp_path / "table.md").read_text()


def test_a_row_whose_parameters_changed_is_made_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mini = reproduction.PROTOCOLS["miniature"]
    protocol = replace(mini, net="linear", recipe=replace(mini.recipe, epochs=1, batch=12))
    changed = replace(BY_NAME["R4"], mini={"count": 16})
    for row in (BY_NAME["R4"], changed):
        reproduction.run([row], [0], protocol, world(), tmp_path / "lines", 5, None)
    found = reproduction.lines(tmp_path / "lines")
    assert [line["overrides"] for line in found] == [{}, {"count": 16}] and capsys.readouterr().out.count("R4") == 2
    _table.write(found, [changed], tmp_path / "table")
    (row,) = json.loads((tmp_path / "table.json").read_text())["miniature"]["rows"]
    assert row["overrides"] == {"count": 16} and row["seeds"] == [0]


def test_rows_of_different_victims_are_not_put_in_one_table(tmp_path: Path) -> None:
    mini = reproduction.PROTOCOLS["miniature"]
    short = replace(mini, recipe=replace(mini.recipe, epochs=1, batch=12))
    for row, protocol in (("R4", replace(short, net="linear")), ("R16", short)):
        reproduction.run([BY_NAME[row]], [0], protocol, world(), tmp_path / "lines", 5, None)
    with pytest.raises(SystemExit, match="different victims"):
        _table.write(reproduction.lines(tmp_path / "lines"), ROWS, tmp_path / "table")


def test_a_row_whose_method_is_not_there_is_left_for_later(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = replace(BY_NAME["R4"], preset="not_written_yet")
    reproduction.run([row], [0], reproduction.PROTOCOLS["miniature"], world(), tmp_path / "out", 5, None)
    assert "skipped" in capsys.readouterr().out and not (tmp_path / "out").exists()


def test_pixels_are_those_that_the_tool_would_ship() -> None:
    rng = np.random.default_rng(0)
    clean = rng.integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
    delta = torch.from_numpy(rng.normal(0, 8 / 255, (4, 3, 8, 8)).astype(np.float32))
    ours = shipped(torch.from_numpy(clean).permute(0, 3, 1, 2), delta, 8)
    for image, noise, pixels in zip(clean, delta, ours, strict=True):
        np.testing.assert_array_equal(pixels.permute(1, 2, 0).numpy(), budget.protect(noise, image, 8))


def test_every_poison_of_the_published_table_has_its_row() -> None:
    table = [row.name for row in ROWS if row.source == "table 1" and not row.variant]
    assert len(table) == 25 and sum(row.transfer is not None and not row.variant for row in ROWS) == 10
    assert len({row.name for row in ROWS}) == len(ROWS)


def test_the_paper_protocol_judges_misreading_as_the_papers_second_table_does() -> None:
    assert reproduction.PROTOCOLS["paper"].judges == ("resnet18", "vgg19_bn", "mobilenet_v2", "googlenet")


def test_a_note_on_the_miniature_is_not_in_the_papers_table() -> None:
    both = replace(BY_NAME["FC"], note="always true")
    assert "weak surrogate" in both.notes("miniature") and both.notes("miniature").startswith("always true; ")
    assert both.notes("paper") == "always true"
    assert not [row.name for row in ROWS if "miniature" in row.notes("paper")]


def test_finals_are_judged_where_a_final_is_all_that_is_published() -> None:
    def row(name: str, peak: float, final: float, *published: float | None, variant: bool = False) -> dict[str, object]:
        said = dict(zip(("published_peak", "published_final"), published, strict=True))
        return {"row": name, "peak": peak, "final": final, "variant": variant, **said}

    table = [
        row("clean", 60, 50, None, None),
        row("both", 35, 30, 50.0, 10.0),  # half of what is left at the peak, as published; half at the end, not nought
        row("alone", 99, 10, None, 10.0),
        row("other reading", 60, 60, 10.0, 10.0, variant=True),
    ]
    assert _table.agreement(table) == "Peaks: 1 of 1 rows leave the published share within 15 points."
    finals = _table.agreement(table, "final")
    assert finals == "Finals: 1 of 2 rows leave the published share within 15 points; further: both (+50)."
    assert _table.agreement(table[1:], "final") == "", "without a clean row there is no share"


def test_rank_correlation_is_that_of_the_ranks() -> None:
    assert _table.ranks([3, 1, 1, 9]).tolist() == [3, 1.5, 1.5, 4]
    assert _table.spearman([1, 2, 3, 4], [1, 8, 27, 64]) == pytest.approx(1)
    # by hand: ranks (1, 2, 3, 4, 5) and (2, 1, 4, 3, 5), 1 - 6 * 4 / (5 * 24)
    assert _table.spearman([1, 2, 3, 4, 5], [20, 10, 40, 30, 50]) == pytest.approx(0.8)
    assert _table.spearman([1, 1, 1], [1, 2, 3]) is None
    assert _table.correlation([1, 2, 3, 4], [1, 2, 3, 4])["interval"] is None
    low, high = _table.correlation([1, 2, 3, 4, 5, 6], [2, 1, 4, 3, 5, 6])["interval"]
    assert -1 <= low < 0.88 < high <= 1


def test_a_closed_form_below_its_goal_has_a_reason_in_figures() -> None:
    floors = dict.fromkeys(crafting.FLOORS, 60_000.0)
    assert set().union(*crafting.NEEDS.values()) <= set(floors)
    said = crafting.why_below("mix", "mix", floors)
    assert said.startswith("Each image takes 2 times a generator keyed by the record, 2 times") and "15,000" in said
    assert crafting.why_below("r16", "regions", floors) == "No reason is written down."
    assert all(crafting.floor(name, 8) > 0 for name in floors)
    by_clock, by_processor, fit = crafting.closed_rate("grating_blue", 6, 0)
    assert min(by_clock, by_processor) > 0 and fit >= 0


def test_steps_one_by_one_are_those_of_the_loop() -> None:
    given = _gpu_loops.given_batch(world(), 4, 3)
    assert torch.equal(_gpu_loops.graph(given)(), _gpu_loops.plain(given)())


@pytest.mark.parametrize(
    ("peak", "spread", "expected"),
    [(31, 0.5, ["peak"]), (29, 0.5, []), (31, 4.0, []), (31, None, []), (41, None, ["peak"])],
)
def test_a_row_disagrees_by_five_points_and_three_deviations(
    peak: float, spread: float | None, expected: list[str]
) -> None:
    row = {
        "peak": peak,
        "peak_std": spread,
        "published_peak": 25.0,
        "final": 0,
        "final_std": 0.0,
        "published_final": None,
    }
    assert [name for name in ("peak", "final") if _table._disagrees(row, name)] == expected

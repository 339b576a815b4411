"""Plots are files of the owner's: a picture and the numbers it shows, and none of them lies in the release."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from made_release import METHOD_WORDS, arm, stat, verification
from PIL import Image

from release import curves, heatmap, plots, report
from release.drawing import Drawing, Mark
from release.facts import Facts

Made = Callable[..., Facts]


def seen(drawing: Drawing) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(drawing.png())).convert("RGB")).astype(int)


def full() -> dict:  # type: ignore[type-arg]
    found = verification()
    found["against"] |= {"jpeg:quality=10": {"clean": arm(0.8, 2), "protected": arm(0.3, 2)}}
    found["against"] |= {"jpeg/quality 10": {"clean": arm(0.8, 2), "protected": arm(0.2, 2)}}
    return found


def test_every_plot_is_a_picture_and_its_numbers(tmp_path: Path, made: Made) -> None:
    facts = made(tmp_path / "out", verification=full())
    folder = tmp_path / "plots"
    plots.write(folder, facts)
    names = {path.stem for path in folder.iterdir()}
    assert names >= {"peaks", "test-accuracy", "train-loss", "countermeasures", "spectrum"}
    assert {"against-02-jpeg-quality-10", "against-03-jpeg-quality-10"} <= names
    for name in names:
        document = json.loads((folder / f"{name}.json").read_text())
        assert document["plot"] == name and len(document) > 2
        assert Image.open(folder / f"{name}.png").format == "PNG"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in folder.iterdir())
    runs = json.loads((folder / "test-accuracy.json").read_text())["runs"]
    assert runs["protected"] == facts.verification["arms"]["protected"]["curves"]["test_accuracy"]  # type: ignore[index]
    peaks = json.loads((folder / "countermeasures.json").read_text())["peak_test_accuracy"]
    assert peaks["grayscale"] == {"small": {"clean": 0.85, "protected": 0.43}}


def test_plots_of_an_earlier_run_go(tmp_path: Path, made: Made) -> None:
    folder = tmp_path / "plots"
    plots.write(folder, made(tmp_path / "out"))
    plots.write(folder, made(tmp_path / "out", verification=None, owner_extra={}))
    assert not folder.exists()


def test_a_folder_that_is_a_link_is_replaced_and_not_emptied(tmp_path: Path, made: Made) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "kept").write_text("kept")
    (tmp_path / "plots").symlink_to(elsewhere)
    plots.write(tmp_path / "plots", made(tmp_path / "out"))
    assert [path.name for path in elsewhere.iterdir()] == ["kept"] and not (tmp_path / "plots").is_symlink()


def test_public_plots_are_made_of_public_facts(tmp_path: Path, made: Made) -> None:
    for plot in plots.public(made(tmp_path, verification=full())):
        told = json.dumps(plot.data) + plot.drawing.svg() + plot.name + plot.caption
        assert not any(word in told for word in (*METHOD_WORDS, "jpeg", "811", "spectrum", "0.43"))


def test_a_plot_is_the_same_every_time(tmp_path: Path, made: Made) -> None:
    for plot, again in zip(plots.public(made(tmp_path)), plots.public(made(tmp_path)), strict=True):
        assert plot.drawing.png() == again.drawing.png()


@pytest.mark.parametrize("step", [0, 5, 10])
def test_a_heat_map_is_told_by_lightness_alone(step: int) -> None:
    def lightness(which: int) -> float:
        square = Mark("area", f"heat h{which}", ((0, 0), (40, 0), (40, 40), (0, 40)))
        return float(seen(Drawing("", 40, 40, (square,)))[100, 20] @ [0.299, 0.587, 0.114])

    shades = [lightness(which) for which in range(11)]
    assert shades == sorted(shades, reverse=True) and len(set(shades)) == 11
    assert shades[step] >= 150, "black numbers stay readable on it"


def test_the_numbers_of_a_heat_map_are_in_its_drawing() -> None:
    found = heatmap.rows(full())
    words = [mark.text for mark in heatmap.drawing(found).marks]
    assert all(text in words for text in ("43.0%", "85.0%", "grayscale", "plain training"))
    assert heatmap.rows({**full(), "against": {}}) == []


def test_several_networks_are_columns_side_by_side(tmp_path: Path, made: Made) -> None:
    document = full()
    gray = {"clean": {"peak": stat(0.7)}, "protected": {"peak": stat(0.69)}}
    document["victims"] = {"resnet18": {"arms": document["arms"], "against": {"grayscale": gray}}}
    found = heatmap.rows(document)
    assert [row.name for row in found][:2] == ["plain training", "grayscale"]
    assert list(found[0].cells) == [(n, arm) for n in ("small", "resnet18") for arm in ("clean", "protected")]
    assert ("resnet18", "clean") not in found[2].cells, "not measured is not drawn"
    words = [mark.text for mark in heatmap.drawing(found).marks]
    assert "resnet18" in words and "69.0%" in words
    facts = made(tmp_path, verification=document)
    text = report.owner(facts)
    assert text.count('scope="colgroup"') == 2 and "69.0%" in text
    assert "69.0%" not in report.public(facts) and "resnet18" not in report.public(facts)


def test_peaks_lie_where_the_runs_are() -> None:
    drawing = curves.peaks({"clean": ("The originals", [0.0, 1.0])}, chance=0.5)
    dots = [mark.points[0][0] for mark in drawing.marks if mark.shape == "dot"]
    (bar,) = [mark for mark in drawing.marks if mark.style == "spread clean"]
    (guess,) = [mark for mark in drawing.marks if mark.style == "chance"]
    assert dots == [16.0, 404.0] and [x for x, _ in bar.points] == dots and guess.points[0][0] == 210.0


@pytest.mark.parametrize("power", [[1.0, 1.0], [1e-12, 1e3], [0.0, 5.0], [24.0]])
def test_a_spectrum_of_any_range_is_drawn_inside_its_frame(power: list[float]) -> None:
    drawing = curves.spectrum([0.1, 0.4][: len(power)], power, sum(power) / len(power))
    inside = [mark for mark in drawing.marks if mark.style.endswith("protected") or mark.style == "chance"]
    assert all(46 <= x <= 410 and 12 <= y <= 214 for mark in inside for x, y in mark.points)


def test_a_dashed_line_has_gaps_and_a_full_one_has_none() -> None:
    def covered(style: str) -> float:
        line = Mark("line", style, ((0, 10), (30, 10), (100, 10)))
        row = seen(Drawing("", 100, 20, (line,)))[2 * (28 + 10)]
        return float((row.sum(axis=1) < 700).mean())

    assert covered("line clean") > 0.95
    assert covered("line noise") == pytest.approx(7 / 11, abs=0.12)


def test_words_in_a_drawing_are_text() -> None:
    svg = Drawing('"><b>', 10, 10, (Mark("text", "", ((1, 1),), "<script>&"),)).svg()
    assert "<b>" not in svg and "<script>" not in svg and "&lt;script&gt;&amp;" in svg


def test_the_diagnosed_spectrum_shows_both_changes_up_to_half_a_cycle(tmp_path: Path, made: Made) -> None:
    found = verification()
    cycles = {"cycles_per_pixel": [0.0, 0.25, 0.5, 0.7]}
    found["diagnosis"] = {"transfer": {}, "linear_probe": {}}
    found["diagnosis"]["frequency"] = cycles | {"protected": [100.0, 10.0, 1.0, 1e9], "noise": [10.0] * 4}
    plot = plots.diagnosed(made(tmp_path, verification=found))
    assert plot is not None and plot.data["noise"] == [10.0] * 4
    traces = {mark.style: mark.points for mark in plot.drawing.marks if mark.shape == "line"}
    heights = [y for _, y in traces["line protected"]]
    assert heights[1] - heights[0] == pytest.approx(heights[2] - heights[1]), "ten decibels each, and no corner"
    assert {y for _, y in traces["line noise"]} == {heights[1]}, "flat, where the other crosses it"
    assert [x for x, _ in traces["line noise"]] == [46.0, 228.0, 410.0]
    assert plots.diagnosed(made(tmp_path)) is None
    plots.write(tmp_path / "plots", made(tmp_path, verification=found))
    assert (tmp_path / "plots" / "spectrum-diagnosed.png").exists()

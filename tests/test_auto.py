"""`auto` measures, decides by a margin, keeps to its time, and says why."""

from __future__ import annotations

import torch
from made_pictures import picture

from unlearnable import auto
from unlearnable.keys import Key
from unlearnable.looks import Looks
from unlearnable.train import Recipe
from unlearnable.types import Context, Record

CONTEXT = Context(Key(bytes(range(32))), ("across", "down", "rising"), 8, 16)


def part(each: int, start: int) -> tuple[Looks, torch.Tensor]:
    images = torch.stack(
        [torch.from_numpy(picture(k, start + i)).permute(2, 0, 1) for k in range(3) for i in range(each)]
    )
    labels = torch.arange(3).repeat_interleave(each)
    records = tuple(Record(f"train/{start + i}", "train", int(label)) for i, label in enumerate(labels))
    return Looks(records, images), labels


def choose(seconds: float, each: int = 40) -> auto.Choice:
    return auto.choose(
        part(each, 0),
        part(20, 1000),
        CONTEXT,
        Recipe(epochs=4, batch=16),
        seconds=seconds,
        device=torch.device("cpu"),
        tell=lambda what, done, of: None,
    )


def test_every_candidate_is_measured_and_the_choice_follows_the_figures() -> None:
    choice = choose(60)
    peaks = {row["preset"]: row["peak"] for row in choice.evidence}
    assert peaks["clean"] > 0.6 and all(
        peaks[name] is not None for name in ("r16", "grating", "r4", "grating_photo", "lf4")
    )
    best = min(value for name, value in peaks.items() if name != "clean" and value is not None)
    assert peaks[choice.preset] <= best + auto.MARGIN
    assert f"{peaks[choice.preset]:.0%}" in choice.reason
    assert peaks["cu"] is None, "its network takes longer than the time that was given"


def test_out_of_time_only_the_fallback_is_tried() -> None:
    choice = choose(0)
    tried = [row["preset"] for row in choice.evidence if row["peak"] is not None]
    assert choice.preset == auto.FALLBACK and tried == ["clean", auto.FALLBACK]
    assert all("time" in row["note"] for row in choice.evidence[2:])


def rows(clean: float, **peaks: float) -> list[dict[str, object]]:
    return [{"preset": name, "peak": peak} for name, peak in {"clean": clean, **peaks}.items()]


def test_a_hair_better_is_not_better() -> None:
    assert auto._decide(rows(0.9, r16=0.30, r4=0.28), 0.1).preset == "r16"
    assert auto._decide(rows(0.9, r16=0.30, r4=0.20), 0.1).preset == "r4"
    assert auto._decide(rows(0.9, r16=0.30, cu=0.10), 0.1).values == {"net": "small"}


def test_a_victim_that_learned_nothing_is_no_ruler() -> None:
    choice = auto._decide(rows(0.12, r16=0.30, r4=0.05), 0.1)
    assert choice.preset == auto.FALLBACK and "too little" in choice.reason


def test_perturbed_looks_stay_inside_the_budget() -> None:
    looks, labels = part(5, 0)
    out = auto.perturbed(looks, labels, "r16", {}, CONTEXT)
    assert 0 < (out.int() - looks.images.int()).abs().max() <= 8

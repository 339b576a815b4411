"""`auto` measures, decides by a margin, keeps to its time, and says why."""

from __future__ import annotations

import pytest
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


@pytest.fixture(autouse=True)
def without_crafting(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last candidate trains a network, which takes longer than all others."""
    monkeypatch.setattr(auto, "CANDIDATES", auto.CANDIDATES[:-1])


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


def test_the_choice_is_the_one_that_holds_best_at_its_worst() -> None:
    choice = choose(600)
    clean, first, *others = choice.evidence
    assert clean["worst"] == clean["none"] > 0.6 and first["preset"] == "in_phase"
    assert first["worst"] == max(first[scraper] for scraper in auto.SCRAPERS)
    whole = {row["preset"]: row["worst"] for row in choice.evidence[1:] if row["worst"] is not None}
    assert whole[choice.preset] <= min(whole.values()) + auto.MARGIN
    assert f"{whole[choice.preset]:.0%}" in choice.reason
    for row in others:
        tried = [row[scraper] for scraper in auto.SCRAPERS if row[scraper] is not None]
        assert row["worst"] is not None or row["note"]
        if "given up" in row["note"]:
            assert max(tried) > min(whole.values())


def test_out_of_time_nothing_is_compared() -> None:
    choice = choose(0)
    tried = [row["preset"] for row in choice.evidence if row["none"] is not None]
    assert choice.preset == "in_phase" and tried == ["clean", "in_phase"] and "too little time" in choice.reason
    assert all("time" in row["note"] for row in choice.evidence[1:])


def test_what_others_have_to_beat_suits_the_trainer_and_the_classes() -> None:
    assert auto.fallback(CONTEXT, Recipe()) == "in_phase"
    assert auto.fallback(CONTEXT, Recipe(augment="resized_crop")) == "grating_photo"
    many = Context(CONTEXT.key, tuple(map(str, range(500))), 8, 16)
    assert auto.fallback(many, Recipe()) == "r16"


def rows(clean: float, **worst: float) -> list[dict[str, object]]:
    return [{"preset": name, "worst": value} for name, value in {"clean": clean, **worst}.items()]


def test_a_hair_better_is_not_better() -> None:
    assert auto._decide(rows(0.9, grating=0.30, r4=0.28), 0.1).preset == "grating"
    assert auto._decide(rows(0.9, grating=0.30, r4=0.20), 0.1).preset == "r4"


def test_a_victim_that_learned_nothing_is_no_ruler() -> None:
    choice = auto._decide(rows(0.12, grating=0.30, r4=0.05), 0.1)
    assert choice.preset == "grating" and "too little" in choice.reason


def test_perturbed_looks_stay_inside_the_budget() -> None:
    looks, labels = part(5, 0)
    out = auto.perturbed(looks, labels, "r16", {}, CONTEXT)
    assert 0 < (out.int() - looks.images.int()).abs().max() <= 8

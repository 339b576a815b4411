"""Methods that move pixels as far as they like: the whole job is still right about them, and plain about what they do."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_pictures import write_tree

import unlearnable
from release import console, layout
from unlearnable import Options, budget, registry
from unlearnable.errors import UsageError
from unlearnable.listing import described, lines
from unlearnable.types import Batch
from unlearnable.verification import plan, run
from unlearnable.verification.evidence import Evidence

UNBOUNDED = [name for name in registry.names("poisons") if registry.describe("poisons", name).facts.get("UNBOUNDED")]
CRAFTED = [name for name in UNBOUNDED if "net" in {field.name for field in registry.describe("poisons", name).params}]
Let = Callable[[str], str]


def brief(name: str) -> dict[str, str]:
    """Parameters under which a method that is crafted on a network is quick."""
    return {"net": "small", "steps": "2"} if name in CRAFTED else {}


@pytest.fixture
def let(monkeypatch: pytest.MonkeyPatch) -> Let:
    """Names a method that has no bound; one that has is made to say otherwise for this test."""
    describe = registry.describe

    def allow(name: str) -> str:
        def said(kind: str, asked: str) -> registry.Described:
            found = describe(kind, asked)
            return dataclasses.replace(found, facts=found.facts | ({"UNBOUNDED": True} if asked == name else {}))

        monkeypatch.setattr(registry, "describe", said)
        return name

    return allow


@pytest.fixture
def arms(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, np.ndarray]]:
    """Victims are trained for one epoch; what each verification trained them on, by arm, int."""
    seen: list[dict[str, np.ndarray]] = []
    trained = run.run

    def short(todo: plan.Plan, evidence: Evidence, *rest: Any) -> dict[str, Any]:
        seen.append({arm: images.numpy().astype(int) for arm, images in evidence.arms.items()})
        recipe = dataclasses.replace(todo.recipe, epochs=1)
        return trained(dataclasses.replace(todo, recipe=recipe), evidence, *rest)

    monkeypatch.setattr(run, "run", short)
    return seen


def test_the_default_budget_is_none_and_eps_still_caps_it(let: Let) -> None:
    name = let("regions")
    assert Options(method=name).levels == 255 and Options(preset="r16").levels == 255
    assert Options(method=name, eps=200).levels == 200
    with pytest.raises(UsageError, match="from 1 to 255, not 256"):
        Options(method=name, eps=256)


def test_every_other_method_keeps_its_default_and_its_limit() -> None:
    for options in (Options(), Options(method="auto"), Options(preset="r16"), Options(method="random_noise")):
        assert options.levels == 8 and "--eps" not in options.words()
        with pytest.raises(UsageError, match="from 1 to 64, not 65"):
            dataclasses.replace(options, eps=65)
    assert Options(preset="r16", eps=64).levels == 64


def test_the_default_said_aloud_is_the_same_job() -> None:
    assert Options(preset="r16", eps=8).deciding() == Options(preset="r16").deciding()
    assert Options(preset="r16", eps=4).deciding() != Options(preset="r16").deciding()


def test_methods_say_that_they_are_visible(let: Let) -> None:
    name = let("grating")
    said = {method["name"]: method for method in described("poisons")}
    assert [other for other in said if said[other]["unbounded"]] == sorted({name, *UNBOUNDED})
    assert any("visible" in line for line in lines([said[name]]))
    assert not any("visible" in line and "bounded" in line for line in lines([said["regions"]]))
    assert "unbounded" not in described("nets")[0]


def rms(source: Path, out: Path, pixels: Callable[[Path], np.ndarray]) -> float:
    """Over the files themselves: the root mean square change of a pixel value."""
    errors = []
    for path in source.rglob("*.png"):
        clean, shipped = pixels(path).astype(float), pixels(out / "data" / path.relative_to(source)).astype(float)
        errors.append(((clean - shipped) ** 2).mean())
    return math.sqrt(np.mean(errors))


@pytest.mark.parametrize("name", ["regions", *UNBOUNDED])
def test_a_release_without_a_bound_is_whole_and_honest(
    name: str,
    let: Let,
    arms: list[dict[str, np.ndarray]],
    tmp_path: Path,
    pixels: Callable[[Path], np.ndarray],
    capsys: pytest.CaptureFixture[str],
) -> None:
    source, out = write_tree(tmp_path / "pictures"), tmp_path / "out"
    document = unlearnable.protect(str(source), out, Options(method=let(name), set=brief(name), seeds=1))
    manifest = json.loads((out / layout.MANIFEST).read_text())
    assert document["eps"] == manifest["budget"]["levels"] == 255
    assert unlearnable.check(out)["ok"]
    largest = max(entry["linf"] for entry in manifest["files"] if entry["images"])
    assert largest > (0 if name in CRAFTED else budget.MAX_LEVELS), "two steps do not go far"

    levels = document["verification"]["protocol"]["noise_levels"]
    size = rms(source, out, pixels)
    assert levels == min(range(1, 65), key=lambda k: abs(math.sqrt(k * (k + 1) / 3) - size))
    assert np.abs(arms[0]["noise"] - arms[0]["clean"]).max() == levels
    again = unlearnable.verify(out, seeds=1)
    assert again["protocol"]["noise_levels"] == levels
    assert np.array_equal(arms[0]["noise"], arms[1]["noise"])

    public = (out / "README.md").read_text() + (out / "report.html").read_text()
    assert "not bounded, and it is visible" in public and "nearly the same" not in public
    assert f"random noise of up to {levels} grey levels" in public
    owner = layout.owner_folder(out)
    assert json.loads((owner / layout.STATE / layout.RECEIPT).read_text())["eps"] == 255
    assert name not in public and name in (owner / "report.html").read_text()
    console.protected(document)
    printed = " ".join(capsys.readouterr().out.split())
    assert "no bound on the change of a pixel, which is visible" in printed and f"±{levels}" in printed


@pytest.mark.parametrize("name", ["regions", *UNBOUNDED])
def test_a_cap_is_kept_and_guaranteed(
    name: str, let: Let, tmp_path: Path, pixels: Callable[[Path], np.ndarray]
) -> None:
    source, out = write_tree(tmp_path / "pictures", each=4), tmp_path / "out"
    unlearnable.protect(str(source), out, Options(method=let(name), set=brief(name), eps=100, verify="none"))
    moved = [
        np.abs(pixels(path).astype(int) - pixels(out / "data" / path.relative_to(source))).max()
        for path in source.rglob("*.png")
    ]
    assert (0 if name in CRAFTED else budget.MAX_LEVELS) < max(moved) <= 100
    manifest: dict[str, Any] = json.loads((out / layout.MANIFEST).read_text())
    assert manifest["budget"] == {"norm": "linf", "levels": 100, "guaranteed": True}
    card = (out / "README.md").read_text()
    assert "The change is visible" in card and "by more than 100 of 255 grey levels" in card


@pytest.mark.parametrize(("unbounded", "eps"), [(True, 4), (False, 6)])
def test_noise_is_never_larger_than_the_budget(
    unbounded: bool, eps: int, let: Let, arms: list[dict[str, np.ndarray]], tmp_path: Path
) -> None:
    source, out = write_tree(tmp_path / "pictures"), tmp_path / "out"
    name = let("regions") if unbounded else "regions"
    document = unlearnable.protect(str(source), out, Options(method=name, eps=eps, seeds=1))
    assert document["eps"] == document["verification"]["protocol"]["noise_levels"] == eps
    for arm in ("noise", "protected"):
        assert np.abs(arms[0][arm] - arms[0]["clean"]).max() == eps
    assert "Random noise of the same size" in (out / "README.md").read_text()


def test_noise_is_as_large_as_what_really_changed(
    let: Let,
    arms: list[dict[str, np.ndarray]],
    tmp_path: Path,
    pixels: Callable[[Path], np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two white pixels in every image: far beyond any budget where they are, and little over the whole picture."""

    def two_pixels(batch: Batch, *rest: Any) -> torch.Tensor:
        out = torch.zeros(batch.images.shape)
        out[:, :, 0, :2] = 1.0
        return out

    monkeypatch.setattr(registry.load("poisons", "regions"), "delta", two_pixels)
    source, out = write_tree(tmp_path / "pictures"), tmp_path / "out"
    document = unlearnable.protect(str(source), out, Options(method=let("regions"), seeds=1))
    levels = document["verification"]["protocol"]["noise_levels"]
    assert 8 < levels < 64
    noise = arms[0]["noise"] - arms[0]["clean"]
    assert np.abs(noise).max() == levels
    assert math.sqrt((noise**2).mean()) == pytest.approx(rms(source, out, pixels), rel=0.1)

"""Every reason to doubt that docs/flags.md names is raised by what it says, in a verification that is really run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from made_pictures import write_tree
from torch.nn import functional as F
from verification_kit import CPU, brief, evidence

import cli
from release import layout
from unlearnable.train import Recipe
from unlearnable.verification import run
from unlearnable.verification.checks import Flag
from unlearnable.verification.evidence import Evidence

Change = Callable[[Evidence], Evidence]


def raised(given: Evidence, **changes: Any) -> set[str]:
    """The flags of a verification with one seed and no countermeasure, unless told otherwise."""
    plan = replace(brief(**changes), recipe=Recipe(epochs=4, batch=16))
    return {flag["name"] for flag in run.run(plan, given, CPU)["flags"]}


@pytest.fixture(scope="module")
def sound() -> set[str]:
    return raised(unlike(evidence()), seeds=2, against=("grayscale",))


def unlike(given: Evidence) -> Evidence:
    """Stripes are alike to a perceptual hash: here, half of each test image is clouds of its own."""
    clouds = torch.rand((len(given.test[1]), 3, 4, 2), generator=torch.Generator().manual_seed(0)) * 255
    images = given.test[0].clone()
    images[..., 8:] = F.interpolate(clouds, size=(16, 8), mode="bilinear").byte()
    return replace(given, test=(images, given.test[1]))


def with_arm(name: str, images: Callable[[Evidence], torch.Tensor]) -> Change:
    return lambda given: replace(given, arms=given.arms | {name: images(given)})


def of_training(given: Evidence) -> Evidence:
    """Three of sixty test images are training images, but for a grey level."""
    near = given.arms["clean"][:3] ^ 1
    return replace(given, test=(torch.cat([near, given.test[0][3:]]), torch.cat([given.labels[:3], given.test[1][3:]])))


CHANGES: dict[Flag, Change] = {
    Flag.VICTIM_TOO_WEAK: lambda given: replace(given, test=(given.test[0], (given.test[1] + 1) % 3)),
    Flag.NOISE_ARM_LOW: with_arm("noise", lambda given: given.arms["protected"]),
    Flag.WEAK_PROTECTION: with_arm("protected", lambda given: given.arms["clean"]),
    Flag.HOLDOUT_DUPLICATES: of_training,
    Flag.ONLY_THE_SURROGATE: lambda given: replace(given, surrogate="tiny"),
    Flag.PSEUDO_LABELS: lambda given: replace(given, pseudo_labels=True),
}


@pytest.mark.parametrize("flag", CHANGES, ids=lambda flag: flag.name)
def test_what_a_flag_warns_of_raises_it(flag: Flag, sound: set[str]) -> None:
    assert flag.name not in sound
    assert flag.name in raised(CHANGES[flag](unlike(evidence())))


def test_too_few_images_seeds_and_countermeasures_are_told(sound: set[str]) -> None:
    small = {"TOO_FEW_IMAGES", "HOLDOUT_TOO_SMALL"}  # 120 images to train on and 60 to test
    assert small <= sound and not {"ONE_SEED", "NO_ADAPTIVE_TRAINER"} & sound
    assert {"ONE_SEED", "NO_ADAPTIVE_TRAINER"} <= raised(evidence())
    paper = replace(brief(seeds=2), protocol="paper", recipe=Recipe(epochs=1, batch=16))
    three = replace(paper, seeds=(0, 1, 2))
    assert [
        "FEW_SEEDS" in {flag["name"] for flag in run.run(plan, evidence(8), CPU)["flags"]} for plan in (paper, three)
    ] == [True, False]
    assert "FEW_SEEDS" not in sound, "other protocols promise no spread"
    told = small | {"ONE_SEED", "FEW_SEEDS", "NO_ADAPTIVE_TRAINER"} | {flag.name for flag in CHANGES}
    assert told == {flag.name for flag in Flag}, "every flag is raised here"


def test_a_release_that_differs_from_its_manifest_is_not_verified_at_all(tmp_path: Path) -> None:
    write_tree(tmp_path / "pictures", each=4)
    words = ["protect", str(tmp_path / "pictures"), str(tmp_path / "out"), "--preset", "r16", "--verify", "none", "-q"]
    assert CliRunner().invoke(cli.cli, words).exit_code == 0
    picture = next((tmp_path / "out" / layout.DATA).rglob("*.png"))
    picture.write_bytes(picture.read_bytes() + b"\0")
    done = CliRunner().invoke(cli.cli, ["verify", str(tmp_path / "out"), "-q"])
    assert done.exit_code == 5 and "is not as it was sealed" in done.stderr

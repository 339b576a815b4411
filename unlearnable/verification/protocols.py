"""How a scraper trains, as a protocol: `quick`, `paper`, or a TOML file whose keys are the fields of `Protocol`.

`paper` is "Poisons that are learned faster are more effective", the protocol of methods.md section 3.1 with random crops and
flips; `quick` is a verdict in minutes on a CPU, read on a part. What is None in a protocol follows the images.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from unlearnable import nets, registry
from unlearnable.augment import AUGMENTATIONS
from unlearnable.errors import UsageError
from unlearnable.train import PAPER, Recipe

SUFFIX = ".toml"
CUSTOM = "custom"
SCHEDULES = ("one_cycle", "cosine", "steps")
_MOST_SEEDS = 20


@dataclass(frozen=True)
class Protocol:
    """One way to train and test. In a file any may be left out; the defaults are those of `quick`."""

    name: str = CUSTOM
    victims: tuple[str, ...] = ("small",)
    "networks, as --victim spells them; the first is the headline. `victim` names one"
    epochs: int | None = None
    "passes over the training images; none: 10 for 10,000 images, up to 30 for few"
    batch: int | None = None
    "images a step; none: 128, 64 below 4,000 images, 32 below 400"
    learning_rate: float | None = None
    "highest rate; none: 0.1, or 0.01 for a network that starts from weights"
    schedule: str = "one_cycle"
    "one_cycle, cosine or steps"
    milestones: tuple[float, ...] = ()
    "for steps: fractions of the epochs after which the rate falls tenfold"
    momentum: float = 0.9
    "of SGD"
    weight_decay: float = 5e-4
    "of SGD"
    nesterov: bool = True
    "Nesterov's momentum"
    augment: str | None = None
    "none, crop_flip or resized_crop; left out: resized_crop for photos, crop_flip for small images"
    seeds: int = 2
    "trainings of each arm"
    against: tuple[str, ...] = ()
    "countermeasures, as --against spells them"
    train_images: int = 10_000
    "at most; a release that exists holds the sample it was protected with, and no more"
    test_images: int = 2_000
    "at most"

    def __post_init__(self) -> None:
        """Raises ValueError that begins with the name of the field at fault."""
        for name, (low, high) in _WHOLE.items():
            value = getattr(self, name)
            if value is None and name in ("epochs", "batch"):
                continue
            if type(value) is not int or not low <= value <= high:
                raise ValueError(f"{name} is a whole number from {low} to {high}, not {value!r}")
        for name, (least, most) in _REAL.items():
            value = getattr(self, name)
            if value is None and name == "learning_rate":
                continue
            if type(value) not in (int, float) or not math.isfinite(value) or not least <= value <= most:
                raise ValueError(f"{name} is a number from {least:g} to {most:g}, not {value!r}")
        for name in ("victims", "against"):
            value = getattr(self, name)
            if not isinstance(value, tuple) or not all(isinstance(item, str) and item for item in value):
                raise ValueError(f"{name} is a name or a list of names, not {value!r}")
        if not self.victims:
            raise ValueError("victims names no network")
        if self.schedule not in SCHEDULES:
            raise ValueError(f"schedule is one of {', '.join(SCHEDULES)}, not {self.schedule!r}")
        if self.augment not in (None, *AUGMENTATIONS):
            raise ValueError(f"augment is one of {', '.join(AUGMENTATIONS)}, not {self.augment!r}")
        if type(self.nesterov) is not bool:
            raise ValueError(f"nesterov is true or false, not {self.nesterov!r}")
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov needs a momentum above 0")
        self._check_milestones()

    def _check_milestones(self) -> None:
        given = self.milestones
        numbers = isinstance(given, tuple) and all(type(each) in (int, float) and 0 < each < 1 for each in given)
        if not numbers or list(given) != sorted(set(given)):
            raise ValueError(f"milestones are rising fractions of the epochs between 0 and 1, not {given!r}")
        if bool(given) != (self.schedule == "steps"):
            raise ValueError(
                "milestones are missing, which schedule = 'steps' needs"
                if not given
                else f"milestones are for schedule = 'steps', not {self.schedule!r}"
            )

    def recipe(self, victim: str, train_images: int, photos: bool) -> Recipe:
        """How this protocol trains a network on so many images. photos: larger than its input, so trainers crop."""
        rate = self.learning_rate
        return Recipe(
            epochs=self.epochs or min(30, max(10, round(1000 / math.sqrt(max(1, train_images))))),
            batch=self.batch or (128 if train_images >= 4000 else 64 if train_images >= 400 else 32),
            learning_rate=min(PAPER.learning_rate, nets.learning_rate(victim)) if rate is None else rate,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            nesterov=self.nesterov,
            schedule=self.schedule,  # type: ignore[arg-type]
            milestones=self.milestones,
            augment=self.augment or ("resized_crop" if photos else "crop_flip"),  # type: ignore[arg-type]
        )


_WHOLE = {
    "epochs": (1, 10_000),
    "batch": (1, 100_000),
    "seeds": (1, _MOST_SEEDS),
    "train_images": (2, 100_000_000),
    "test_images": (1, 100_000_000),
}
_REAL = {"learning_rate": (1e-8, 100.0), "momentum": (0.0, 0.9999), "weight_decay": (0.0, 1.0)}

NAMED = {
    "quick": Protocol("quick"),
    "paper": Protocol(
        "paper",
        victims=("resnet18",),
        epochs=PAPER.epochs,
        batch=PAPER.batch,
        schedule=PAPER.schedule,
        milestones=PAPER.milestones,
        nesterov=PAPER.nesterov,
        seeds=3,
        train_images=1_000_000,
        test_images=100_000,
    ),
}


def least_seeds(name: str) -> int:
    """How many a verdict under this protocol needs: `paper` states a spread, whatever --seeds says; others promise none."""
    return NAMED["paper"].seeds if name == "paper" else 1


def find(spec: str) -> Protocol:
    """`quick`, `paper` or a file's. Raises UsageError for what is neither."""
    if spec in NAMED:
        return NAMED[spec]
    if spec.endswith(SUFFIX):
        return read(Path(spec).expanduser())
    raise UsageError(
        f"There is no protocol {spec!r}.", registry.nearest(spec, list(NAMED)) + f" Or a file: {CUSTOM}{SUFFIX}."
    )


def read(path: Path) -> Protocol:
    """A protocol from a TOML file. Raises UsageError, naming the key that is at fault."""
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as why:
        raise UsageError(f"The protocol {path} cannot be read ({why.strerror or why}).") from why
    except ValueError as why:  # no TOML, or no text
        raise UsageError(f"{path} is not TOML: {why}.") from why
    known = [field.name for field in fields(Protocol) if field.name != "name"]
    for key in given:
        if key not in (*known, "victim"):
            raise UsageError(f"{path}: a protocol has no key {key!r}.", registry.nearest(key, known))
    if "victim" in given:
        if "victims" in given:
            raise UsageError(f"{path} has both victim and victims.", "Keep one of them.")
        given["victims"] = given.pop("victim")
    values: dict[str, Any] = {}
    for key, value in given.items():
        listed = [value] if key in ("victims", "against") and isinstance(value, str) else value
        values[key] = tuple(listed) if isinstance(listed, list) else listed
    try:
        return Protocol(**values)
    except ValueError as why:
        raise UsageError(f"{path}: {why}.") from why


def asked(
    protocol: Protocol, victims: Sequence[str] = (), seeds: int | None = None, against: Sequence[str] = ()
) -> Protocol:
    """The protocol with what the command line names in place of its own."""
    return replace(
        protocol,
        victims=tuple(victims) or protocol.victims,
        seeds=seeds or protocol.seeds,
        against=tuple(against) or protocol.against,
    )

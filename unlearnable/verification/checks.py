"""The verifier doubts itself: named flags, each with its meaning, raised when the verdict may be wrong."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from enum import Enum
from typing import Any

from unlearnable import registry
from unlearnable.train import learned_little

NOISE_GAP = 0.05
FEW_TEST_IMAGES = 200
FEW_TRAINING_IMAGES = 500
OPEN_GAP = 0.1
COARSE = 0.05  # half the interval that a hold-out alone may leave, at an accuracy of one half
MOST_DUPLICATES = 0.01  # of the hold-out


class Flag(Enum):
    """A reason to doubt the verdict, and what it means."""

    VICTIM_TOO_WEAK = "The victim learned little from the clean images, so a low accuracy elsewhere proves little."
    NOISE_ARM_LOW = "Random noise costs more than 5 points too: part of the drop is damage."
    TOO_FEW_IMAGES = "Few images were trained or tested on: the figures would move with another sample."
    ONLY_THE_SURROGATE = "The victim has the architecture that the copy was made with: others may be fooled less."
    NO_ADAPTIVE_TRAINER = "No countermeasure was tried; compression or heavier augmentation may restore accuracy."
    PSEUDO_LABELS = (
        "The images have no labels: victims were trained on clusters, and a scraper's own labels may differ."
    )
    WEAK_PROTECTION = "The network trained on the protected copy comes within 10 points of the clean one."
    HOLDOUT_TOO_SMALL = "The hold-out is so small that chance alone may move an accuracy by 5 points."
    HOLDOUT_DUPLICATES = (
        "More than 1 % of the hold-out are near-duplicates of training images: accuracies are flattered."
    )
    FEW_SEEDS = "Fewer seeds than the protocol asks for: the spread, and with it what counts as noise, is poorly known."
    ONE_SEED = "One seed only: no spread can be stated."


def flags(
    *,
    arms: dict[str, Any],
    chance: float,
    train_images: int,
    test_images: int,
    victims: Sequence[str],
    surrogate: str | None,
    tried: int,
    pseudo_labels: bool,
    duplicates: int = 0,
    seeds: int = 1,
) -> Iterator[Flag]:
    """The flags that apply. `surrogate` is a network's name, all that is known here of how the release was made.

    arms: of the first victim. duplicates: test images that are near-duplicates of training images. seeds: that the protocol
    asks for.
    """
    clean, protected = arms["clean"]["peak"]["mean"], arms["protected"]["peak"]["mean"]
    if learned_little(clean, chance) or clean - chance < OPEN_GAP:
        yield Flag.VICTIM_TOO_WEAK
    if clean - arms["noise"]["peak"]["mean"] > NOISE_GAP:
        yield Flag.NOISE_ARM_LOW
    if clean - protected < OPEN_GAP:
        yield Flag.WEAK_PROTECTION
    if test_images < FEW_TEST_IMAGES or train_images < FEW_TRAINING_IMAGES:
        yield Flag.TOO_FEW_IMAGES
    if 1.96 * math.sqrt(0.25 / test_images) > COARSE:
        yield Flag.HOLDOUT_TOO_SMALL
    if duplicates > MOST_DUPLICATES * test_images:
        yield Flag.HOLDOUT_DUPLICATES
    crafted_on = registry.ensemble(surrogate) if surrogate else []
    if {registry.network(name).name for name in victims} <= {registry.network(name).name for name, _ in crafted_on}:
        yield Flag.ONLY_THE_SURROGATE
    if not tried:
        yield Flag.NO_ADAPTIVE_TRAINER
    if pseudo_labels:
        yield Flag.PSEUDO_LABELS
    trained = len(arms["clean"]["peak"]["runs"])
    if trained < seeds:
        yield Flag.FEW_SEEDS
    if trained < 2:
        yield Flag.ONE_SEED

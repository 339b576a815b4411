"""A small finished copy, with made-up but plausible measurements, for everything that seals, checks and describes."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from PIL import Image

from release.facts import Facts, Measured, Quality

METHOD_WORDS = ("regions", "r16", "secret-surrogate", "grayscale", "photos/ copy/ --preset", "noise_count")


def picture(seed: int, kind: str = "PNG", size: int = 8) -> bytes:
    """An encoded picture; different for every seed."""
    image = Image.new("RGB", (size, size))
    image.putdata(
        [((seed * 37 + 11 * i) % 256, (seed * 91 + 5 * i) % 256, (i * i + seed) % 256) for i in range(size**2)]
    )
    out = io.BytesIO()
    image.save(out, kind)
    return out.getvalue()


def stat(*runs: float) -> dict[str, Any]:
    return {"mean": sum(runs) / len(runs), "std": 0.01 if len(runs) > 1 else None, "runs": list(runs)}


def measured(*runs: float) -> dict[str, Any]:
    middle = sum(runs) / len(runs)
    return stat(*runs) | {"interval": {"low": middle - 0.05, "high": middle + 0.05}}


def arm(peak: float, seconds_to_learn: int | None) -> dict[str, Any]:
    return {
        "peak": measured(peak, peak - 0.01),
        "selected": measured(peak - 0.03, peak - 0.05),
        "final": stat(peak - 0.02, peak - 0.03),
        "epochs_to_half_loss": {"mean": seconds_to_learn, "std": None, "runs": [seconds_to_learn, seconds_to_learn]},
        "curves": {
            "test_accuracy": [[0.1, peak / 2, peak], [0.12, peak / 2, peak - 0.01]],
            "train_loss": [[2.3, 1.0, 0.4], [2.2, 1.1, 0.5]],
        },
    }


def verification() -> dict[str, Any]:
    """A full record, as `verify --json` prints it: what is private in it must never come out."""
    return {
        "protocol": {
            **{"name": "quick", "victim": "small", "epochs": 3, "batch": 64, "learning_rate": 0.1},
            **{"augment": "crop and flip", "seeds": [811, 977], "train_images": 1200, "test_images": 400},
            **{"image_size": 32, "test_set": "the owner's test split", "classes": 2, "chance": 0.5, "device": "cpu"},
        },
        "arms": {"clean": arm(0.91, 3), "noise": arm(0.9, 3), "protected": arm(0.21, None)},
        "against": {
            "grayscale": {
                "clean": {"peak": stat(0.85)},
                "protected": {"peak": stat(0.43), "figures": {"clean_alone_peak": stat(0.61)}},
            }
        },
        "worst_case": {"against": "grayscale", "peak": 0.43},
        "relative_accuracy_drop": {"mean": 0.74, "low": 0.7, "high": 0.78},
        "flags": [{"name": "ONE_NETWORK", "meaning": "Only one network was trained."}],
        "verdict": "A network trained on this release reaches at best 21.0% on clean images.",
    }


def write_data(staging: Path) -> dict[str, Measured]:
    measured = {}
    for index in range(4):
        path = f"data/{'test' if index == 3 else 'train'}/{'cat' if index % 2 else 'a dog é'}/{index}.png"
        (staging / path).parent.mkdir(parents=True, exist_ok=True)
        (staging / path).write_bytes(picture(index))
        measured[path] = Measured(images=1, linf=8, p999=8.0, psnr=30.126 + index)
    return measured


def make_facts(staging: Path, **changes: Any) -> Facts:
    """Writes data into a staging folder and returns the facts about it; keyword arguments replace fields."""
    fields: dict[str, Any] = {
        **{"name": "Herbarium", "created": "2026-11-21T10:20:30Z", "layout": "folder", "levels": 8},
        "guaranteed": True,
        "counts": {"total": 5, "protected": 4, "skipped": 1},
        "splits": {"train": 3, "test": 1},
        "measured": write_data(staging),
        "versions": {"tool": "0.1.0", "python": "3.11.7"},
        "commitment": {"salt": "ab" * 16, "sha256": "cd" * 32},
        "classes": ("a dog é", "cat"),
        "verification": verification(),
        "configs": [{"split": "train", "path": "data/train/**"}, {"split": "test", "path": "data/test/**"}],
        "quality": Quality(3, 0.9876, 0.9123, None, "torchmetrics is not installed"),
        "gallery": [picture(0), picture(1, "JPEG"), picture(2, "WEBP")],
        "owner_extra": {
            **{"method": "regions", "preset": "r16", "params": {"noise_count": 4242}, "surrogate": "secret-surrogate"},
            **{"command": "unlearnable protect photos/ copy/ --preset r16", "source": "/home/owner/photos"},
            "auto": [{"preset": "grating", "worst": 0.28125}, {"preset": "r16", "worst": None, "note": "given up"}],
            "skipped": [("train/cat/broken.jpg", "The file ends before the image does.")],
            "timings": {"fit": 1.25},
            "spectrum": {"images": 3, "cycles_per_pixel": [0.1, 0.4], "power": [40.0, 0.5], "mean_power": 20.0},
        },
        "owner_gallery": [(picture(50), picture(51), picture(52))],
    }
    return Facts(**(fields | changes))

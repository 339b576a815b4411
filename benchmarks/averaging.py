"""What a scraper gets of a perturbation without the key: by averaging a release, from two releases, from one original.

    python benchmarks/averaging.py [--method r16 ...]

On the demonstration pictures (samples/make.py), drawn here into the system's temporary folder, labels known. For each method,
over the training pictures: the root mean square of the change, and of what is left of it after the attack. `average`: the
mean of a class in the release, less the mean of all classes, is taken off each of its pictures, all of it or that part which
leaves least (the attacker may guess it). `two_releases`: the mean of two copies with different
keys; `difference`: how much of what separates them is the same for a whole class. `one_original`: the change of one leaked
original per class is taken off every other picture of the class. `subtracted`: the countermeasure `subtract`, a wave for each
class in each picture's own phase. `same_class`: correlation of the changes of two pictures of a class.
Writes benchmarks/results/averaging.json.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
RESULTS = ROOT / "benchmarks" / "results"
METHODS = ("r16", "lsp", "ar", "grating", "in_phase")

Images = NDArray[np.float64]  # (class, picture, height, width, colour), grey levels


def read(root: Path) -> Images:
    classes = sorted(path for path in root.iterdir() if path.is_dir())
    return np.array([[np.asarray(Image.open(p).convert("RGB"), float) for p in sorted(c.iterdir())] for c in classes])


def rms(of: Images) -> float:
    return round(float(np.sqrt((of**2).mean())), 3)


def after(clean: Images, one: Images, two: Images) -> dict[str, Any]:
    """Each attack on `one`; `two` is a release of the same pictures with another key."""
    change, other = one - clean, two - clean
    mine = one.mean(axis=1, keepdims=True) - one.mean(axis=(0, 1), keepdims=True)
    shares = np.linspace(0, 1, 21)
    least = min(shares, key=lambda share: rms(change - share * mine))
    apart = one - two
    leaked = change[:, :1]
    first, second = change[:, 0].reshape(len(change), -1), change[:, 1].reshape(len(change), -1)
    same = np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(first, second, strict=True)])
    return {
        "pictures_a_class": one.shape[1],
        "change": rms(change),
        "average": {
            "whole": rms(change - mine),
            "best_share": round(float(least), 2),
            "best": rms(change - least * mine),
        },
        "two_releases": rms((change + other) / 2),
        "difference": {"rms": rms(apart), "same_for_a_class": round(rms(apart.mean(axis=1)) ** 2 / rms(apart) ** 2, 3)},
        "one_original": rms(change[:, 1:] - leaked),
        "subtracted": rms(without_waves(one) - clean),
        "same_class": round(float(same), 3),
    }


def without_waves(images: Images) -> Images:
    """What the countermeasure `subtract` makes of a release whose labels are known."""
    import torch

    from unlearnable.defences import subtract

    classes, each = images.shape[:2]
    labels = torch.arange(classes).repeat_interleave(each)
    pixels = torch.from_numpy(images.reshape(-1, *images.shape[2:]).astype(np.uint8)).permute(0, 3, 1, 2)
    found = subtract.subtracted(pixels, labels, subtract.loudest(pixels, labels, classes), 8.0)
    return found.permute(0, 2, 3, 1).numpy().reshape(images.shape).astype(float)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--method", nargs="+", default=METHODS)
    asked = parser.parse_args()
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="unlearnable-averaging-") as name:
        folder = Path(name)
        os.environ["UNLEARNABLE_CONFIG"] = str(folder / "config")
        import unlearnable

        drawn = folder / "samples"
        subprocess.run([sys.executable, ROOT / "samples" / "make.py", "--out", drawn], check=True)
        clean = read(drawn / "train")
        for method in asked.method:
            options = unlearnable.Options(preset=method, verify="none")
            for copy in "ab":  # each draws its own key
                unlearnable.protect(str(drawn / "train"), folder / f"{method}-{copy}", options)
            found[method] = after(clean, *(read(folder / f"{method}-{copy}" / "data") for copy in "ab"))
            print(method, json.dumps(found[method]), flush=True)
    (RESULTS / "averaging.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()

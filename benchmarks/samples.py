"""The demonstration pictures under the whole tool, for the seed they are shown with and three that were never looked at.

    pip install scikit-learn && python benchmarks/samples.py [SEED ...]        (default 0 101 102 103)

For each seed: draw the pictures, run `unlearnable protect` on them as the README does, and fit a linear
model on raw pixels, the best of three strengths chosen on the test pictures (an upper estimate). Writes
benchmarks/results/samples-seeds.json.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from _notes import RESULTS
from jobs import ROOT, hardware
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


def load(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """(N, 3072) pixels in [0, 1] and (N,) labels of one split."""
    files = [(file, kind) for kind, place in enumerate(sorted(folder.iterdir())) for file in sorted(place.iterdir())]
    pixels = np.stack([np.asarray(Image.open(file)).ravel() for file, _ in files]) / 255
    return pixels, np.array([kind for _, kind in files])


def linear(images: Path) -> float:
    """Clean test accuracy of the best linear model on pixels."""
    train, test = load(images / "train"), load(images / "test")
    models = [LogisticRegression(C=strength, max_iter=200) for strength in (1e-4, 1e-3, 1e-2)]
    return max(make_pipeline(StandardScaler(), model).fit(*train).score(*test) for model in models)


def measure(seed: int) -> dict[str, object]:
    """One row: what `protect` says of the pictures of a seed, and the linear model."""
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder) / "images"
        subprocess.run([sys.executable, ROOT / "samples/make.py", "--out", images, "--seed", str(seed)], check=True)
        command = [sys.executable, ROOT / "cli.py", "protect", images, Path(folder) / "out", "--json", "-q"]
        document = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        arms = document["verification"]["arms"]
        row: dict[str, object] = {name: arm["peak"] for name, arm in arms.items()}
        row |= {"seed": seed, "method": document["method"], "seconds": document["seconds"], "linear": linear(images)}
    return row


if __name__ == "__main__":
    rows = []
    for wanted in sys.argv[1:] or ["0", "101", "102", "103"]:
        rows.append(measure(int(wanted)))
        print(rows[-1], flush=True)
    RESULTS.mkdir(exist_ok=True)
    report = {"command": "python benchmarks/samples.py", "hardware": hardware(), "rows": rows}
    (RESULTS / "samples-seeds.json").write_text(json.dumps(report, indent=1) + "\n")

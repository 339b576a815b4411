"""How far protected pictures are from their originals to the eye: SSIM, LPIPS where it can be had, and the spectrum.

SSIM is that of Wang, Bovik, Sheikh and Simoncelli (IEEE Transactions on Image Processing 13(4), 2004): on luma, a
Gaussian window of 11 pixels and sigma 1.5, K 0.01 and 0.03, over places where the window fits. They cost more than the
codec, so they are measured on a stated sample, at full resolution, on the middle 512 pixels of larger pictures.
LPIPS (arXiv 1801.03924, AlexNet) needs torchmetrics and weights that lie on this machine already; nothing is fetched.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from pickle import UnpicklingError
from typing import Any

import numpy as np
from numpy.typing import NDArray

from release.facts import Quality
from unlearnable import budget
from unlearnable.types import Pixels

CUT = 512  # pixels a side
BINS = 32  # rings of the spectrum, up to half a cycle a pixel

_WINDOW, _SIGMA, _K1, _K2 = 11, 1.5, 0.01, 0.03
_LPIPS_SIDE = 32  # pixels; AlexNet sees nothing smaller

Floats = NDArray[np.float64]
Distance = Callable[[Pixels, Pixels], float]


@dataclass
class Sample:
    """What is gathered over the pairs of a sample, one at a time."""

    ssim: list[float] = field(default_factory=list)
    lpips: list[float] = field(default_factory=list)
    power: Floats = field(default_factory=lambda: np.zeros(BINS))  # summed over the waves of a ring
    waves: Floats = field(default_factory=lambda: np.zeros(BINS))
    total: float = 0.0  # squared change of pixel values, summed
    values: int = 0
    images: int = 0

    def __post_init__(self) -> None:
        self._distance, self._missing = _lpips()

    def add(self, original: Pixels, protected: Pixels) -> None:
        """original, protected: (H, W, C) uint8 of the same height and width; transparency is left out."""
        channels = min(budget.colour_channels(original), budget.colour_channels(protected))
        one, other = middle(original)[:, :, :channels], middle(protected)[:, :, :channels]
        self.images += 1
        if min(one.shape[:2]) >= _WINDOW:
            self.ssim.append(ssim(luma(one), luma(other)))
        if self._distance and min(one.shape[:2]) >= _LPIPS_SIDE:
            self.lpips.append(self._distance(one, other))
        change = other.astype(np.float64) - one
        power, waves = rings(change)
        self.power += power
        self.waves += waves
        self.total += float((change**2).sum())
        self.values += change.size

    def quality(self) -> Quality:
        missing = self._missing or ("" if self.lpips else "the pictures are too small for it")
        return Quality(
            images=self.images,
            ssim=_mean(self.ssim),
            ssim_lowest=min(self.ssim, default=None),
            lpips=_mean(self.lpips),
            lpips_missing=missing,
        )

    def spectrum(self) -> dict[str, Any] | None:
        """Mean power of a wave by frequency, in squared grey levels; None when nothing changed. The owner's alone."""
        if not self.total:
            return None
        kept = np.flatnonzero(self.waves)
        return {
            "images": self.images,
            "cycles_per_pixel": [round((float(ring) + 0.5) / (2 * BINS), 6) for ring in kept],
            "power": [float(f"{value:.6g}") for value in self.power[kept] / self.waves[kept]],
            "mean_power": float(f"{self.total / self.values:.6g}"),
        }


def ssim(one: Floats, other: Floats) -> float:
    """Structural similarity of two luma planes (H, W) on 0..255; 1 when they are equal."""
    mean_one, mean_other = _blurred(one), _blurred(other)
    var_one = _blurred(one * one) - mean_one**2
    var_other = _blurred(other * other) - mean_other**2
    both = _blurred(one * other) - mean_one * mean_other
    c1, c2 = (_K1 * 255) ** 2, (_K2 * 255) ** 2
    light = (2 * mean_one * mean_other + c1) / (mean_one**2 + mean_other**2 + c1)
    shape = (2 * both + c2) / (var_one + var_other + c2)
    return float((light * shape).mean())


def rings(change: Floats) -> tuple[Floats, Floats]:
    """Power of a change (H, W, C) summed over rings of equal frequency, and the number of waves in each ring.

    Scaled so that the mean over all waves is the mean square (Parseval). Waves beyond half a cycle a pixel, the corners
    of the plane, belong to no ring.
    """
    height, width, channels = change.shape
    power = (np.abs(np.fft.fft2(change, axes=(0, 1))) ** 2).mean(axis=2) / (height * width)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None, :])
    inside = frequency <= 0.5
    ring = np.minimum((frequency[inside] * 2 * BINS).astype(np.int64), BINS - 1)
    waves = np.bincount(ring, minlength=BINS).astype(np.float64)
    return np.bincount(ring, power[inside], BINS) * channels, waves * channels


def luma(pixels: Pixels) -> Floats:
    """(H, W) on 0..255 by ITU-R BT.601; grey stays what it is."""
    if pixels.shape[2] == 1:
        return pixels[:, :, 0].astype(np.float64)
    weighted: Floats = pixels[:, :, :3] @ np.array([0.299, 0.587, 0.114])
    return weighted


def middle(pixels: Pixels) -> Pixels:
    """The middle of a picture, at most CUT pixels a side. Nothing is resampled: that would blur what is measured."""
    height, width = pixels.shape[:2]
    top, left = max(0, height - CUT) // 2, max(0, width - CUT) // 2
    return pixels[top : top + CUT, left : left + CUT]


def _blurred(plane: Floats) -> Floats:
    """Gaussian means at the places where the whole window fits: (H - 10, W - 10)."""
    weights = np.exp(-((np.arange(_WINDOW) - _WINDOW // 2) ** 2) / (2 * _SIGMA**2))
    weights /= weights.sum()
    height, width = plane.shape[0] - _WINDOW + 1, plane.shape[1] - _WINDOW + 1
    down: Floats = sum((w * plane[i : i + height] for i, w in enumerate(weights)), np.zeros((height, plane.shape[1])))
    across: Floats = sum((w * down[:, i : i + width] for i, w in enumerate(weights)), np.zeros((height, width)))
    return across


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _lpips() -> tuple[Distance | None, str]:
    """The distance of two pictures, or None and why it cannot be had here."""
    if find_spec("torchmetrics") is None:
        return None, "torchmetrics is not installed"
    import torch
    from torchvision.models import AlexNet_Weights

    weights = PurePosixPath(AlexNet_Weights.IMAGENET1K_V1.url).name
    if not (Path(torch.hub.get_dir()) / "checkpoints" / weights).is_file():
        return None, f"the weights {weights} are not on this machine"
    module = importlib.import_module("torchmetrics.image.lpip")
    try:
        net = module.LearnedPerceptualImagePatchSimilarity(net_type="alex", normalize=True)
    except (OSError, RuntimeError, EOFError, UnpicklingError):  # a broken download must not cost the release
        return None, f"the weights {weights} cannot be read"

    def tensor(pixels: Pixels) -> torch.Tensor:
        colour = np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels
        return torch.from_numpy(np.ascontiguousarray(colour)).permute(2, 0, 1)[None].float() / 255

    def distance(one: Pixels, other: Pixels) -> float:
        return float(net(tensor(one), tensor(other)))

    return distance, ""

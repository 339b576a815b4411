"""What `seal` is told about a finished copy: everything the card, the reports and the manifest are written from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from unlearnable.budget import NO_BOUND, VISIBLE_ABOVE, check_levels
from unlearnable.errors import IntegrityError


@dataclass(frozen=True, slots=True)  # there may be millions
class Measured:
    """What was measured on one data file against its originals.

    images: how many it holds (0 for a table or a label file). linf: largest change of a pixel value, in grey levels.
    p999: largest 99.9th percentile of one image, in grey levels. psnr: mean in dB, inf when nothing changed.
    None where there is nothing to measure.
    """

    images: int
    linf: int | None = None
    p999: float | None = None
    psnr: float | None = None


@dataclass(frozen=True)
class Quality:
    """How alike a sample of the shipped pictures and their originals look; see release.quality.

    images: in the sample, and sample: how it was drawn. ssim: mean and lowest, 1 for equal pictures. lpips: mean, 0 for
    equal pictures. None where it was not measured; lpips_missing says why. Public: the manifest holds all of it.
    """

    images: int
    ssim: float | None
    ssim_lowest: float | None
    lpips: float | None = None
    lpips_missing: str = ""
    sample: str = "spread evenly over the protected images, the middle 512 pixels of larger ones"


@dataclass(frozen=True)
class Facts:
    """A finished copy, as its maker describes it. The fields from `owner_extra` on never reach a public file.

    measured: by release path ("data/train/cat/1.png"), every file under data/ and no other.
    verification: the full document of `verify --json`, or None.
    configs: {"split": "train", "path": "data/train/**"} for the card, in order.
    documents: other files at the top of the staging folder that belong to the release, such as LICENSE.
    gallery: encoded protected pictures (PNG, JPEG, WebP), shown in the public report.
    """

    name: str
    created: str  # UTC, "2026-01-31T12:00:00Z"; see release.manifest.utc_now
    layout: str  # "folder" or "parquet"
    levels: int  # the budget, in whole grey levels; 255 is none
    guaranteed: bool  # every data file is lossless, so that the budget is a promise
    counts: Mapping[str, int]  # images: total = protected + skipped, and + unprotected where the owner named classes
    splits: Mapping[str, int]  # images by split
    measured: Mapping[str, Measured]
    versions: Mapping[str, str]  # tool, python, torch, pillow ...
    commitment: Mapping[str, str]  # salt and sha256, hexadecimal
    trace_commitment: Mapping[str, str] | None = None  # sha256 of the plan that a later `trace` opens
    fit: Mapping[str, Any] | None = None  # on how many images, by how many processes; see Manifest.fit
    classes: tuple[str, ...] | None = None
    verification: Mapping[str, Any] | None = None
    configs: Sequence[Mapping[str, str]] = ()
    drop_labels: bool = False
    licence: str | None = None
    contact: str | None = None
    documents: tuple[str, ...] = ()
    gallery: Sequence[bytes] = ()
    quality: Quality | None = None
    disclose: bool = False  # the owner lets strangers know method, parameters and the defence table

    # All optional: method, preset, params (a mapping), surrogate, command, source, auto (rows: mappings), skipped
    # ((id, reason) pairs), timings (step -> seconds), spectrum (see release.quality). `disclose` publishes the first four
    # and never the others.
    owner_extra: Mapping[str, Any] = field(default_factory=dict)
    owner_gallery: Sequence[tuple[bytes, bytes, bytes]] = ()  # original, difference x10, protected

    def __post_init__(self) -> None:
        check_levels(self.levels, NO_BOUND)
        total, protected, skipped = (self.counts[name] for name in ("total", "protected", "skipped"))
        if total != self.shipped + skipped:
            raise IntegrityError(f"{total} images were found, but {protected} protected and {skipped} skipped.")
        written = sum(item.images for item in self.measured.values())
        if written != self.shipped:
            raise IntegrityError(f"{self.shipped} images were protected, but the files hold {written}.")
        for path, item in self.measured.items():
            if self.guaranteed and item.linf is not None and item.linf > self.levels:
                raise IntegrityError(f"{path} changes a pixel by {item.linf} grey levels; the budget is {self.levels}.")

    @property
    def unprotected(self) -> int:
        """Images of classes that the owner did not name: they ship as they were."""
        return self.counts.get("unprotected", 0)

    @property
    def shipped(self) -> int:
        return self.counts["protected"] + self.unprotected

    @property
    def bounded(self) -> bool:
        return self.levels < NO_BOUND

    @property
    def visible(self) -> bool:
        """Whether people must be told that the change shows: by the budget alone, which is public."""
        return self.levels > VISIBLE_ABOVE


@dataclass(frozen=True)
class Realised:
    """How far the pixels of a whole release are from their originals. PSNR is inf when nothing changed."""

    linf: int
    p999: float
    psnr: float


def realised(facts: Facts) -> Realised | None:
    """Over all files: largest change, largest 99.9th percentile (grey levels), mean PSNR by image (dB, finite ones)."""
    files = [item for item in facts.measured.values() if item.images and item.linf is not None]
    if not files:
        return None
    finite = [(item.psnr, item.images) for item in files if item.psnr is not None and math.isfinite(item.psnr)]
    images = sum(count for _, count in finite)
    psnr = sum(value * count for value, count in finite) / images if images else math.inf
    return Realised(max(item.linf or 0 for item in files), max(item.p999 or 0.0 for item in files), psnr)

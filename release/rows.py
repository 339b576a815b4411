"""What a run was asked to make, and what it made: the words of `build`."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

from release.facts import Measured
from unlearnable import imageio
from unlearnable.types import Skipped


@dataclass(frozen=True)
class Settings:
    """How files are made. container: auto, png, jpeg or webp; levels: the budget; max_pixels: in millions."""

    layout: str
    container: str
    levels: int
    quality: int = 95
    metadata: str = "keep"
    workers: int = 1
    opt_out: bool = False
    max_pixels: float = imageio.LIMIT_MEGAPIXELS


@dataclass(frozen=True, slots=True)  # there may be millions
class Row:
    """One protected image, for the owner's receipt: where it went, what it was, how far it moved."""

    id: str
    path: str
    row: int | None
    original_sha256: str
    lossless: bool
    linf: int
    p999: float
    psnr: float | None  # None: nothing changed
    opt_out: bool = False  # whether the file says plus:DataMining
    of: str | None = None  # name of the class whose pattern it has; None where there are no labels


@dataclass(frozen=True)
class Built:
    """Everything written. Rows are in the source's order; passed: paths of sidecars that were copied as they are."""

    rows: tuple[Row, ...]
    skipped: tuple[Skipped, ...]
    passed: tuple[str, ...] = ()

    def lost(self) -> list[Skipped]:
        """Images that are not in the release; files that never were images are no gap."""
        return [item for item in self.skipped if item.image]

    def without_opt_out(self) -> int:
        """Images whose container holds no XMP."""
        return sum(not row.opt_out for row in self.rows)

    def digest(self) -> str:
        """Changes when an image was made of another original, or came out otherwise."""
        digest = hashlib.sha256()
        for row in self.rows:
            digest.update(f"{row}\n".encode("utf-8", "backslashreplace"))
        return digest.hexdigest()

    def rms(self) -> float:
        """Root mean square of the change of pixel values over all images, each counted once, in grey levels."""
        errors = [0.0 if row.psnr is None else 255**2 / 10 ** (row.psnr / 10) for row in self.rows]
        return math.sqrt(math.fsum(errors) / len(errors))

    def measured(self) -> dict[str, Measured]:
        """What the manifest says of each data file."""
        by_path: dict[str, list[Row]] = {}
        for row in self.rows:
            by_path.setdefault(row.path, []).append(row)
        out = {}
        for path, rows in by_path.items():
            psnr = [row.psnr for row in rows if row.psnr is not None]
            mean = sum(psnr) / len(psnr) if psnr else None
            out[path] = Measured(len(rows), max(r.linf for r in rows), max(r.p999 for r in rows), mean)
        return out

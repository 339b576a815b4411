"""From a source to protected files in the staging folder, shard by shard; each image is followed here from end to end.

    read -> decode -> (the poison's perturbation, at the working size) -> resample -> grey levels -> add -> encode -> write

What makes perturbations is a function that the caller passes in: nothing here knows a poison. A shard's done-mark, a
file in the owner folder with what was measured, is written last, so an interrupted run repeats at most one shard.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from release import formats, sidecars
from release.facts import Measured
from release.formats import Item, Placed, Shard
from unlearnable import budget, imageio
from unlearnable.errors import ImageError, IntegrityError
from unlearnable.imageio import Picture
from unlearnable.types import Pixels, Record, Skipped, Source

if TYPE_CHECKING:
    from torch import Tensor

# records and their pixels -> (N, 3, S, S) float perturbations in [0, 1] pixel units, at the poison's working size S
Perturb = Callable[[Sequence[Record], Sequence[Pixels]], "Tensor"]

# a record's id, its original's digest and its class's name -> what an earlier release made of it, if that may stay
Kept = Callable[[str, str, "str | None"], "tuple[Row, bytes] | None"]

_CHUNK_IMAGES, _CHUNK_BYTES = 256, 64 << 20  # decoded pictures held at once


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


@dataclass(frozen=True)
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


@dataclass(frozen=True)
class Made:
    """One image, protected and encoded."""

    data: bytes
    container: str
    lossless: bool
    linf: int
    p999: float
    psnr: float
    opt_out: bool = False


def make(picture: Picture, delta: Tensor, settings: Settings) -> Made:
    """One picture and its perturbation at the working size -> the file that ships, measured on its decoded pixels."""
    clean = [picture.pixels, *(page.pixels for page in picture.more)]
    first, *more = protected = [budget.protect(delta, pixels, settings.levels) for pixels in clean]
    container = imageio.target_container(picture, settings.container)
    opt_out = settings.opt_out and container in imageio.HOLD_XMP
    data = imageio.encode(first, picture, container, settings.quality, settings.metadata, more=more, opt_out=opt_out)
    lossless = container not in imageio.LOSSY
    inks = any(page.inks is not None for page in (picture, *picture.more))
    if inks or not lossless:
        shipped = imageio.decode(data, picture.name, limit_megapixels=math.inf)
        protected = [shipped.pixels, *(page.pixels for page in shipped.more)]
    moved = [budget.realised(before, after) for before, after in zip(clean, protected, strict=True)]
    linf, p999, psnr = (worst(of) for worst, of in zip((max, max, min), zip(*moved, strict=True), strict=True))
    return Made(data, container, lossless, linf, p999, psnr, opt_out)


def build(
    source: Source,
    perturb: Perturb,
    settings: Settings,
    staging: Path,
    marks: Path,
    tell: Callable[[int, int], None] = lambda done, of: None,
    kept: Kept | None = None,
) -> Built:
    """Writes the protected data of `source` under `staging`; shards that have a done-mark in `marks` are not repeated.

    kept: finds images that an earlier release made; they are copied and not made again.

    Unreadable images become Skipped. Raises OSError when the disk fails: what is done stays done.
    """
    module = formats.load(settings.layout)
    staging.mkdir(exist_ok=True)
    marks.mkdir(parents=True, exist_ok=True, mode=0o700)
    for leftover in staging.rglob(".partial-*"):  # of a run that was killed
        leftover.unlink()
    rows: list[Row] = []
    skipped = list(source.skipped)
    passed: list[str] = []
    with ThreadPoolExecutor(settings.workers) as pool:
        for shard in formats.shards(source, settings.layout):
            mark = marks / f"{shard.index:06d}.json"
            if not _is_done(mark, staging):
                made, lost = build_shard(source, shard, perturb, settings, staging, module.write, pool, kept)
                written = [row.id for row in made]
                beside, left = sidecars.carry(source, shard, written, settings.layout, settings.metadata, staging)
                _write_mark(mark, staging, made, lost + left, beside)
            done_rows, done_skipped, done_passed = _read_mark(mark)
            rows += done_rows
            skipped += done_skipped
            passed += done_passed
            tell(len(rows) + len(skipped), len(source.records) + len(source.skipped))
    return Built(tuple(rows), tuple(skipped), tuple(passed))


def read_back(staging: Path, rows: Sequence[Row], layout_name: str) -> Iterator[bytes]:
    """The bytes that ship for these rows, in their order."""
    placed = [Placed(row.id, row.path, row.row) for row in rows]
    found: Iterator[bytes] = formats.load(layout_name).read(staging, placed)
    return found


def read_rows(marks: Path) -> Built:
    """What the done-marks of a finished release say. Raises IntegrityError where one is damaged."""
    rows: list[Row] = []
    skipped: list[Skipped] = []
    for mark in sorted(marks.glob("*.json")):
        more, missing, _ = _read_mark(mark)
        rows += more
        skipped += missing
    return Built(tuple(rows), tuple(skipped))


def build_shard(
    source: Source,
    shard: Shard,
    perturb: Perturb,
    settings: Settings,
    staging: Path,
    write: Callable[[Path, Shard, Source, Iterator[Item]], list[Placed]],
    pool: ThreadPoolExecutor,
    kept: Kept | None = None,
) -> tuple[list[Row], list[Skipped]]:
    """Protects one shard and gives each image to `write`: what was written, and what could not be protected."""
    made: dict[str, tuple[Made, str, str | None]] = {}
    skipped: list[Skipped] = []

    def items() -> Iterator[Item]:
        for chunk in _chunks(source, shard.records, settings, skipped, kept):
            new = [(record, found) for record, found, _ in chunk if isinstance(found, Picture)]
            deltas = perturb([record for record, _ in new], [picture.pixels for _, picture in new]) if new else ()
            jobs = {r.id: pool.submit(make, picture, d, settings) for (r, picture), d in zip(new, deltas, strict=True)}
            for record, found, digest in chunk:
                try:
                    done = jobs[record.id].result() if isinstance(found, Picture) else found
                except ImageError as why:
                    skipped.append(Skipped(record.id, str(why)))
                    continue
                made[record.id] = (replace(done, data=b""), digest, _class_of(source, record))
                yield Item(record, done.data, imageio.suffix_for(record.id, done.container))

    placed = write(staging, shard, source, items())
    return [_row(place, *made[place.id]) for place in placed], skipped


def _chunks(
    source: Source, records: Sequence[Record], settings: Settings, skipped: list[Skipped], kept: Kept | None
) -> Iterator[list[tuple[Record, Picture | Made, str]]]:
    """Decoded pictures, or what is kept of them, as many as may be held at once; undecodable ones go to `skipped`."""
    chunk: list[tuple[Record, Picture | Made, str]] = []
    held = 0
    for record in records:
        try:
            data = source.read(record)
            digest = hashlib.sha256(data).hexdigest()
            there = kept(record.id, digest, _class_of(source, record)) if kept else None
            found = _as_made(*there) if there else imageio.decode(data, record.id, limit_megapixels=settings.max_pixels)
        except ImageError as why:
            skipped.append(Skipped(record.id, str(why)))
            continue
        chunk.append((record, found, digest))
        held += found.nbytes() if isinstance(found, Picture) else len(found.data)
        if len(chunk) >= _CHUNK_IMAGES or held >= _CHUNK_BYTES:
            yield chunk
            chunk, held = [], 0
    if chunk:
        yield chunk


def _class_of(source: Source, record: Record) -> str | None:
    return None if source.classes is None or record.label is None else source.classes[record.label]


def _as_made(row: Row, data: bytes) -> Made:
    psnr = math.inf if row.psnr is None else row.psnr
    return Made(data, imageio.sniff(data[:32]), row.lossless, row.linf, row.p999, psnr, row.opt_out)


def _row(place: Placed, made: Made, digest: str, of: str | None) -> Row:
    psnr = round(made.psnr, 2) if math.isfinite(made.psnr) else None
    return Row(place.id, place.path, place.row, digest, made.lossless, made.linf, made.p999, psnr, made.opt_out, of)


def _write_mark(
    mark: Path, staging: Path, rows: Sequence[Row], skipped: Sequence[Skipped], passed: Sequence[str]
) -> None:
    """The shard's files are on the disk before the mark that vouches for them by their digests."""
    files = {path: _digest(staging / path, durable=True) for path in {row.path for row in rows} | {*passed}}
    body = {"files": files, "rows": [asdict(row) for row in rows], "skipped": [asdict(item) for item in skipped]}
    body["passed"] = list(passed)
    partial = mark.with_suffix(".partial")
    with partial.open("w", encoding="utf-8") as file:
        json.dump(body, file, ensure_ascii=True, sort_keys=True)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(mark)


def _is_done(mark: Path, staging: Path) -> bool:
    """Whether a shard was finished and its files are still what they were: a machine that lost power may have lost them."""
    if not mark.exists():
        return False
    files: dict[str, str] = json.loads(mark.read_text(encoding="utf-8"))["files"]
    return all((staging / path).is_file() and _digest(staging / path) == digest for path, digest in files.items())


def _digest(path: Path, durable: bool = False) -> str:
    with path.open("rb") as file:
        if durable:
            os.fsync(file.fileno())
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_mark(mark: Path) -> tuple[list[Row], list[Skipped], list[str]]:
    try:
        body = json.loads(mark.read_text(encoding="utf-8"))
        skipped = [Skipped(**item) for item in body["skipped"]]
        return [Row(**row) for row in body["rows"]], skipped, body.get("passed", [])
    except (ValueError, TypeError, KeyError) as why:
        raise IntegrityError(f"{mark} is damaged ({why}).", "Remove it: its shard will be written again.") from why

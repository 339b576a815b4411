"""From a source to protected files in the staging folder, shard by shard; each image is followed here from end to end.

    read -> decode -> (the poison's perturbation, at the working size) -> resample -> grey levels -> add -> encode -> write

What makes perturbations is a function that the caller passes in: nothing here knows a poison. A shard's done-mark, a
file in the owner folder with what was measured, is written last, so an interrupted run repeats at most one shard.
"""

from __future__ import annotations

import hashlib
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from release import engines, formats, marks, sidecars
from release.ahead import ahead
from release.depot import Depot
from release.formats import Item, Placed, Shard
from release.marks import read as _read_mark
from release.marks import tidy as _tidy
from release.marks import write as _write_mark
from release.room import Room
from release.rows import Built, Row, Settings
from unlearnable import budget, imageio
from unlearnable.errors import ImageError
from unlearnable.imageio import Picture
from unlearnable.types import Pixels, Record, Skipped, Source

__all__ = [
    "Built",
    "Kept",
    "Made",
    "Perturb",
    "Row",
    "Settings",
    "Work",
    "build",
    "build_shard",
    "make",
]

if TYPE_CHECKING:
    from torch import Tensor

# records and their pixels -> (N, 3, S, S) float perturbations in [0, 1] pixel units, at the poison's working size S
Perturb = Callable[[Sequence[Record], Sequence[Pixels]], "Tensor"]

# a record's id, its original's digest and its class's name -> what an earlier release made of it, if that may stay
Kept = Callable[[str, str, "str | None"], "tuple[Row, bytes] | None"]

# a function and its jobs -> the results in the order of the jobs, made one after another or side by side: `map`
Spread = Callable[..., Iterable[Any]]

# pictures that are worked on together, with the digests of their originals
Chunk = deque[tuple[Record, "Picture | Made", str]]

_CHUNK_IMAGES, _CHUNK_BYTES = 256, 64 << 20  # decoded pictures held at once
_APART_IMAGES = 32  # where a batch brings no speed, perturbations take the more room


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
    pages = (picture, *picture.more)
    container = imageio.target_container(picture, settings.container)
    lossless = container not in imageio.LOSSY
    exact = lossless and all(page.inks is None for page in pages)  # what ships is what is made here
    counted = [budget.Moved() if exact else None for _ in pages]
    pairs = zip(pages, counted, strict=True)
    brief = len(pages) == 1  # of more, the pixels of all are there together
    first, *more = (budget.strips(delta, page.pixels, settings.levels, seen, brief=brief) for page, seen in pairs)
    opt_out = settings.opt_out and container in imageio.HOLD_XMP
    data = imageio.encode(first, picture, container, settings.quality, settings.metadata, more=more, opt_out=opt_out)
    moved = [seen.figures() for seen in counted if seen] or _measured(pages, data, picture.name)
    linf, p999, psnr = (worst(of) for worst, of in zip((max, max, min), zip(*moved, strict=True), strict=True))
    return Made(data, container, lossless, linf, p999, psnr, opt_out)


def _measured(pages: Sequence[Picture], data: bytes, name: str) -> list[tuple[int, float, float]]:
    """How far each page is from what a file of ours decodes to."""
    shipped = imageio.decode(data, name, limit_megapixels=math.inf, pixels_only=True)
    pairs = zip(pages, (shipped, *shipped.more), strict=True)
    return [budget.realised(before.pixels, after.pixels) for before, after in pairs]


@dataclass(frozen=True)
class Work:
    """What has to be done with every shard of a run, wherever it is done (release.engines).

    kept: finds images that an earlier release made; they are copied and not made again. apart: whether other processes
    make the same; the perturbations of closed forms, which see one image at a time. address: of a cluster, for an engine
    that works on one. left_out: reasons by the ids of images that are not to be touched, because they kill who does.
    fit: digest of what `perturb` was made from; every done-mark names it. depot: where finished shards go from `staging`.
    """

    source: Source
    perturb: Perturb
    settings: Settings
    staging: Path
    marks: Path
    kept: Kept | None = None
    apart: bool = False
    address: str | None = None
    left_out: Mapping[str, str] = field(default_factory=dict)
    fit: str = ""
    depot: Depot | None = None

    def shards(self) -> list[Shard]:
        return formats.shards(self.source, self.settings.layout)

    def mark(self, shard: Shard) -> Path:
        return self.marks / f"{shard.index:06d}.json"

    def is_done(self, shard: Shard) -> bool:
        """Raises IntegrityError for a shard that was made with another fit."""
        mark = self.mark(shard)
        if not marks.is_done(mark, formats.stamp(self.source, shard), self.fit):
            return False
        return self.depot is not None or marks.holds(mark, self.staging)  # `recall` has looked what lies in a depot

    def shard(self, shard: Shard, spread: Spread = map, room: Room | None = None) -> None:
        """One shard, protected, written and marked as done, unless it was already. Raises OSError when the disk fails."""
        if self.is_done(shard):
            return
        write = formats.load(self.settings.layout).write
        made, lost = build_shard(self, shard, write, spread, room or Room())
        written = [row.id for row in made]
        policy = (self.settings.layout, self.settings.metadata, self.staging)
        beside, left = sidecars.carry(self.source, shard, written, *policy)
        stamp = formats.stamp(self.source, shard)
        mark = self.mark(shard)
        fresh = mark.with_suffix(".fresh") if self.depot else mark
        _write_mark(fresh, self.staging, made, lost + left, beside, stamp, self.fit)
        if self.depot:
            self.depot.keep(self.staging, fresh, mark.name)
            fresh.replace(mark)  # not before: it says that all of it has arrived


def build(
    work: Work,
    tell: Callable[[int, int, int], None] = lambda done, of, failed: None,
    *,
    engine: str = "local",
    part: tuple[int, int] | None = None,
) -> Built:
    """Writes the protected data of a source under `work.staging`; shards that have a done-mark are not repeated.

    part: (i, n) for every n-th shard from number i on, and what was built of these alone; other runs may be busy with the
    others in the same folders. Unreadable images become Skipped. Raises OSError when the disk fails: what is done stays.
    """
    work.staging.mkdir(exist_ok=True)
    work.marks.mkdir(parents=True, exist_ok=True, mode=0o700)
    shards = work.shards()
    if part:
        shards = shards[part[0] :: part[1]]
    if work.depot:
        work.depot.recall(work.marks, [work.mark(shard).name for shard in shards])
    if not part:
        _tidy(work.marks, work.staging, {work.mark(shard): formats.stamp(work.source, shard) for shard in shards})
    listed = () if part else work.source.skipped
    of = sum(len(shard.records) for shard in shards) + len(listed)
    found: dict[int, tuple[list[Row], list[Skipped], list[str]]] = {}
    done, failed = len(listed), sum(item.image for item in listed)
    with closing(engines.load(engine).run(work, shards)) as finished:
        for shard in finished:
            _, skipped, _ = found[shard.index] = _read_mark(work.mark(shard))
            done, failed = done + len(shard.records), failed + sum(item.image for item in skipped)
            tell(done, of, failed)
    parts = [found[shard.index] for shard in shards]
    return Built(
        tuple(row for rows, _, _ in parts for row in rows),
        (*listed, *(item for _, skipped, _ in parts for item in skipped)),
        tuple(path for _, _, passed in parts for path in passed),
    )


def build_shard(
    work: Work,
    shard: Shard,
    write: Callable[[Path, Shard, Source, Iterator[Item]], list[Placed]],
    spread: Spread,
    room: Room,
) -> tuple[list[Row], list[Skipped]]:
    """Protects one shard and gives each image to `write`: what was written, and what could not be protected."""
    made: dict[str, tuple[Made, str, str | None]] = {}
    skipped: list[Skipped] = []

    def one(job: tuple[Picture, Tensor]) -> Made | ImageError:
        try:
            return make(*job, work.settings)
        except ImageError as why:
            return why

    def begun(chunks: Iterator[Chunk]) -> Iterator[tuple[Chunk, Iterator[Made | ImageError]]]:
        for chunk in chunks:
            new = [(record, found) for record, found, _ in chunk if isinstance(found, Picture)]
            deltas = work.perturb([record for record, _ in new], [picture.pixels for _, picture in new]) if new else ()
            results = iter(spread(one, zip((picture for _, picture in new), deltas, strict=True)))
            del new, deltas
            yield chunk, results
            del chunk, results  # else these pictures would be there while the next are decoded

    def items() -> Iterator[Item]:
        chunks = _chunks(work, shard.records, skipped, room)
        # crafting on a device leaves the processor time to decode what follows and to encode what was before
        for chunk, results in begun(chunks) if work.apart else ahead(begun(ahead(chunks))):
            while chunk:
                record, found, digest = chunk.popleft()
                done = next(results) if isinstance(found, Picture) else found
                del found  # a large picture must not outlive its file
                if isinstance(done, ImageError):
                    skipped.append(Skipped(record.id, str(done)))
                    continue
                made[record.id] = (replace(done, data=b""), digest, _class_of(work.source, record))
                yield Item(record, done.data, imageio.suffix_for(record.id, done.container))
            del results

    try:
        placed = write(work.staging, shard, work.source, items())
    finally:
        room.leave()
    order = {record.id: number for number, record in enumerate(shard.records)}
    skipped.sort(key=lambda item: order[item.id])  # two threads may have found them
    return [_row(place, *made[place.id]) for place in placed], skipped


def _chunks(work: Work, records: Sequence[Record], skipped: list[Skipped], room: Room) -> Iterator[Chunk]:
    """Decoded pictures, or what is kept of them, as many as may be held at once; undecodable ones go to `skipped`."""
    chunk: Chunk = deque()
    held = 0
    most = _APART_IMAGES if work.apart else _CHUNK_IMAGES
    for record in records:
        if record.id in work.left_out:
            skipped.append(Skipped(record.id, work.left_out[record.id]))
            continue
        try:
            found, digest = _opened(work, record, room)
        except ImageError as why:
            skipped.append(Skipped(record.id, str(why)))
            continue
        chunk.append((record, found, digest))
        held += found.nbytes() if isinstance(found, Picture) else len(found.data)
        del found
        if len(chunk) >= most or held >= _CHUNK_BYTES:
            yield chunk
            chunk, held = deque(), 0
            room.leave()
    if chunk:
        yield chunk


def _opened(work: Work, record: Record, room: Room) -> tuple[Picture | Made, str]:
    """One image decoded, or kept, and its original's digest. Raises ImageError."""
    data = work.source.read(record)
    digest = hashlib.sha256(data).hexdigest()
    there = work.kept(record.id, digest, _class_of(work.source, record)) if work.kept else None
    if there:
        return _as_made(*there), digest
    return imageio.decode(data, record.id, work.settings.max_pixels, room.admit), digest


def _class_of(source: Source, record: Record) -> str | None:
    return None if source.classes is None or record.label is None else source.classes[record.label]


def _as_made(row: Row, data: bytes) -> Made:
    psnr = math.inf if row.psnr is None else row.psnr
    return Made(data, imageio.sniff(data[:32]), row.lossless, row.linf, row.p999, psnr, row.opt_out)


def _row(place: Placed, made: Made, digest: str, of: str | None) -> Row:
    psnr = round(made.psnr, 2) if math.isfinite(made.psnr) else None
    return Row(place.id, place.path, place.row, digest, made.lossless, made.linf, made.p999, psnr, made.opt_out, of)

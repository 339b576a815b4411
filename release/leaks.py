"""Does a release give away its originals? Every shipped picture beside the one it was made of, and everything around it.

What is asked of each: is it within the budget (a promise where the file is lossless, a figure where it is not), is it
changed at all, is it closer to an original than the changes of the release explain, does its file hold anything
besides, and does it keep the metadata policy. Pictures go by a few at a time; what is remembered of each is a few numbers.
"""

from __future__ import annotations

import base64
import binascii
import itertools
import math
import os
import re
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, Literal

from release import alike, layout, leftovers
from release.manifest import UNLISTED, Manifest
from release.pairing import Pair, Pairs
from unlearnable import budget, imageio
from unlearnable.errors import ImageError
from unlearnable.imageio import Picture
from unlearnable.types import Pixels, Source, Tell

QUALITY = 95  # of AVIF, and of a JPEG that does not say
CLOSER = 0.25  # of the median root mean square change in the release: nearer to an original, and a picture is named
_HEX = re.compile(rb"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
_INLINE = re.compile(rb"data:image/[a-z+]+;base64,([A-Za-z0-9+/=]+)")

Kind = Literal["budget", "unchanged", "duplicate", "leftover", "metadata", "manifest", "unaccounted", "uncompared"]


@dataclass(frozen=True)
class Finding:
    """path, and of a table the row, of what should not be so; reason: a clause that says why."""

    path: str
    row: int | None
    kind: Kind
    reason: str


@dataclass(frozen=True)
class Asked:
    """How the release was made. metadata: None where nobody knows; only: the classes that are protected, None for all."""

    metadata: str | None = None
    only: tuple[str, ...] | None = None


@dataclass(frozen=True)
class _Compared:
    """One pair. moved: largest step, 99.9th percentile and PSNR, None where the two cannot be laid over one another.

    rms: of what separates it from its original as the same container would hold that without protection.
    """

    pair: Pair
    findings: tuple[Finding, ...]
    lossless: bool = True
    moved: tuple[int, float, float] | None = None
    rms: float | None = None
    clean: tuple[Pixels, ...] = ()
    pictures: tuple[Pixels, ...] = ()


def lint(root: Path, manifest: Manifest, source: Source, pairs: Pairs, asked: Asked, tell: Tell) -> dict[str, Any]:
    """The part `source` of `check --source --json`."""
    seen = _Seen(manifest, asked)
    workers = os.cpu_count() or 1
    stream = pairs.read(root)
    with ThreadPoolExecutor(workers) as pool:
        while chunk := list(itertools.islice(stream, 2 * workers)):
            for compared in pool.map(lambda pair: _compare(pair, asked, manifest.budget["levels"]), chunk):
                seen.add(compared)
            tell("comparing with the originals", len(seen.places), len(pairs))
    usual = seen.usual()
    seen.bare(usual)
    seen.copies(usual, root, pairs)
    seen.findings += [Finding(path, None, "unaccounted", why) for path, why in pairs.strangers(root, asked.metadata)]
    seen.findings += _documents(root, manifest, seen.originals)
    return seen.document(source)


def _compare(pair: Pair, asked: Asked, levels: int) -> _Compared:
    """One shipped file beside its original."""
    found: list[Finding] = []

    def say(kind: Kind, reason: str) -> None:
        found.append(Finding(pair.path, pair.row, kind, reason))

    left = leftovers.look(pair.shipped)
    for fault in left.faults:
        say("leftover", fault)
    for fault in leftovers.against(left, asked.metadata):
        say("metadata", fault)
    if pair.original is None:
        say("uncompared", pair.why)
        return _Compared(pair, tuple(found))
    try:
        before = imageio.decode(pair.original, pair.id, limit_megapixels=math.inf)
        after = imageio.decode(pair.shipped, pair.path, limit_megapixels=math.inf)
    except ImageError as why:
        say("uncompared", str(why))
        return _Compared(pair, tuple(found))
    clean, pictures = _frames(before), _frames(after)
    lossless = after.container not in imageio.LOSSY
    if _sizes(clean) != _sizes(pictures):
        say("uncompared", f"has another size or number of pictures than its original {pair.id}")
        return _Compared(pair, tuple(found), lossless, None, None, clean, pictures)
    each = [budget.realised(a, b) for a, b in zip(clean, pictures, strict=True)]
    moved = (max(m[0] for m in each), max(m[1] for m in each), min(m[2] for m in each))
    if lossless and moved[0] > levels and before.inks is None:
        say("budget", f"changes a pixel by {moved[0]} grey levels; the budget is {levels}")
    rms = _rms(max(m[2] for m in each)) if lossless else _apart(before, pictures, after.container, pair.shipped)
    if not lossless and levels < budget.NO_BOUND and rms > 3 * levels + 8:  # what coding adds to the budget is less
        say("budget", f"is another picture than its original {pair.id} ({rms:.1f} grey levels apart on average)")
    return _Compared(pair, tuple(found), lossless, moved, rms, clean, pictures)


def _apart(before: Picture, pictures: Sequence[Pixels], container: str, shipped: bytes) -> float:
    """Root mean square between shipped pictures and an original coded as they are; the nearest frame counts."""
    try:
        more = [page.pixels for page in before.more]
        quality = leftovers.quality(shipped) or QUALITY
        coded = imageio.encode(before.pixels, before, container, quality, "strip", more=more)
        clean = _frames(imageio.decode(coded, before.name, limit_megapixels=math.inf))
    except ImageError:
        clean = _frames(before)
    return _rms(max(budget.realised(a, b)[2] for a, b in zip(clean, pictures, strict=True)))


def _frames(picture: Picture) -> tuple[Pixels, ...]:
    return picture.pixels, *(page.pixels for page in picture.more)


def _sizes(frames: Sequence[Pixels]) -> list[tuple[int, ...]]:
    return [frame.shape[:2] for frame in frames]


def _rms(psnr: float) -> float:
    return 0.0 if math.isinf(psnr) else 255 / 10 ** (psnr / 20)


class _Seen:
    """What is remembered of all pairs: numbers, and the findings."""

    def __init__(self, manifest: Manifest, asked: Asked) -> None:
        self.asked, self.manifest = asked, manifest
        self.findings: list[Finding] = []
        self.originals, self.shipped = alike.Prints(), alike.Prints()
        self.places: list[tuple[str, int | None]] = []
        self.lossless, self.wished = bytearray(), bytearray()
        self.rms = array("d")  # nan where it is not known
        self.splits: Counter[str] = Counter()
        self.linf = array("h")  # -1 where it is not known
        self.p999 = {True: 0.0, False: 0.0}
        self.psnr = {True: [0.0, 0], False: [0.0, 0]}  # sum and count of the finite ones

    def add(self, compared: _Compared) -> None:
        pair, number = compared.pair, len(self.places)
        self.findings += compared.findings
        self.splits[pair.split] += 1
        self.places.append((pair.path, pair.row))
        self.rms.append(math.nan if compared.rms is None else compared.rms)
        self.lossless.append(compared.lossless)
        self.wished.append(self.asked.only is not None and pair.of not in self.asked.only)
        self.shipped.add(number, pair.shipped, compared.pictures)
        if pair.original is not None:
            self.originals.add(number, pair.original, compared.clean)
        linf, p999, psnr = compared.moved or (-1, 0.0, math.inf)
        self.linf.append(linf)
        self.p999[compared.lossless] = max(p999, self.p999[compared.lossless])
        if math.isfinite(psnr):
            self.psnr[compared.lossless][0] += psnr
            self.psnr[compared.lossless][1] += 1

    def usual(self) -> dict[bool, float]:
        """The median change that is not nought, of lossless and of lossy files; nought where the budget is no bound."""
        if self.manifest.budget["levels"] == budget.NO_BOUND:  # one pixel of a photo is a change, and a tiny one
            return {True: 0.0, False: 0.0}
        rows = zip(self.rms, self.lossless, self.wished, strict=True)
        moved = [(bool(lossless), rms) for rms, lossless, wished in rows if rms > 0 and not wished]
        return {kind: median([rms for of, rms in moved if of is kind] or [0.0]) for kind in (True, False)}

    def bare(self, usual: dict[bool, float]) -> None:
        """Pictures that are not protected, or hardly."""
        found: list[Finding] = []
        for number, rms in enumerate(self.rms):
            if self.wished[number] or not rms <= CLOSER * usual[bool(self.lossless[number])]:
                continue
            how = "shows its original unchanged"
            if rms > 0:
                how = f"is nearer to its original ({rms:.2f} grey levels) than the changes of the release explain"
            found.append(Finding(*self.places[number], "unchanged", how))
        # without the owner folder nobody knows which of them are so by the owner's wish, but how many is public
        allowed = self.manifest.counts.get("unprotected", 0) if self.asked.only is None else 0
        self.findings += found if len(found) > allowed else []

    def copies(self, usual: dict[bool, float], root: Path, pairs: Pairs) -> None:
        """Files that show another original: by bytes, by pixels, or (lossy ones) by look and by how near the pixels are."""
        told = {(finding.path, finding.row) for finding in self.findings if finding.kind == "unchanged"}

        def say(number: int, reason: str) -> None:
            if not self.wished[number] and self.places[number] not in told:
                told.add(self.places[number])
                self.findings.append(Finding(*self.places[number], "duplicate", reason))

        for what, ours, theirs in (
            ("bytes", self.shipped.contents, self.originals.contents),
            ("pixels", self.shipped.images, self.originals.images),
        ):
            for mine, other in alike.equal(ours, theirs):
                number, twin = self.shipped.of[mine], self.originals.of[other]
                say(number, f"has the {what} of the original of {self.places[twin][0]}")
        lossy = [n for n, of in enumerate(self.shipped.of) if not self.lossless[of] and not self.wished[of]]
        for mine, others in alike.near(self.shipped.looks, self.originals.looks, lossy):
            number = self.shipped.of[mine]
            for twin in dict.fromkeys(self.originals.of[other] for other in others):
                if twin != number and self._nearer(number, twin, root, pairs, CLOSER * usual[False]):
                    reason = (
                        f"is nearer to the original of {self.places[twin][0]} than the changes of the release explain"
                    )
                    say(number, reason)

    def _nearer(self, number: int, twin: int, root: Path, pairs: Pairs, most: float) -> bool:
        """Whether a shipped picture is another one's original, coded again."""
        data, shipped = pairs.original(twin), pairs.shipped(root, number)
        if data is None:
            return False
        before = imageio.decode(data, self.places[twin][0], limit_megapixels=math.inf)
        after = imageio.decode(shipped, self.places[number][0], limit_megapixels=math.inf)
        if _sizes(_frames(before)) != _sizes(_frames(after)):
            return False
        return _apart(before, _frames(after), after.container, shipped) <= most

    def document(self, source: Source) -> dict[str, Any]:
        """What `check --source --json` says, findings in the order of paths."""
        stated = {entry.path: entry.linf for entry in self.manifest.files if entry.linf is not None}
        for (path, row), linf in zip(self.places, self.linf, strict=True):
            if linf > stated.get(path, budget.NO_BOUND):
                reason = f"changes a pixel by {linf} grey levels; {layout.MANIFEST} says {stated[path]}"
                self.findings.append(Finding(path, row, "manifest", reason))
        ordered = sorted(self.findings, key=lambda f: (f.path, -1 if f.row is None else f.row, f.kind, f.reason))
        return {
            "source": source.spec,
            "images": len(self.places),
            "unprotected": sum(self.wished),
            "budget": self.manifest.budget["levels"],
            "lossless": self._figures(True),
            "lossy": self._figures(False),
            "metadata": self.asked.metadata,
            "splits": dict(self.splits),
            "splits_left_out": sorted({record.split for record in source.records} - self.splits.keys()),
            "findings": [asdict(finding) for finding in ordered],
        }

    def _figures(self, lossless: bool) -> dict[str, Any]:
        linf = [linf for linf, of in zip(self.linf, self.lossless, strict=True) if of == lossless and linf >= 0]
        total, count = self.psnr[lossless]
        return {
            "images": self.lossless.count(lossless),
            "linf": max(linf, default=None),
            "p999": self.p999[lossless] if linf else None,
            "psnr": round(total / count, 2) if count else None,
        }


def _documents(root: Path, manifest: Manifest, originals: alike.Prints) -> Iterator[Finding]:
    """Documents must neither show an original nor name the digest of one."""
    shipped = {entry.sha256[:16].encode() for entry in manifest.files}  # equal to an original's: named already
    for path in [*(entry.path for entry in manifest.files if entry.kind == "document"), *UNLISTED]:
        data = (root / path).read_bytes()
        named = array("Q", {int(text[:16], 16) for text in _HEX.findall(data) if text[:16] not in shipped})
        if any(alike.equal(named, originals.contents)):
            yield Finding(path, None, "leftover", "names the SHA-256 of an original")
        for number, text in enumerate(_INLINE.findall(data), 1):
            inside = alike.Prints()
            try:
                shown = base64.b64decode(text, validate=True)
                inside.add(0, shown, _frames(imageio.decode(shown, path, limit_megapixels=math.inf)))
            except (ImageError, binascii.Error):
                continue
            if any(alike.equal(inside.contents, originals.contents)) or any(
                alike.equal(inside.images, originals.images)
            ):
                yield Finding(path, None, "duplicate", f"shows an original (picture {number})")

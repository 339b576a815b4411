"""WebDataset shards: tar files whose members KEY.jpg, KEY.cls, KEY.json, KEY.txt are one sample.

Named by a pattern, "shards/train-{0000..0063}.tar" or "shards/*.tar", by a folder that holds nothing else, or by a single
tar whose first sample has one of these files beside its image. Labels come from the field class_name of .json, which only
our own releases are sure to have, else from .cls, else from the field label or cls of .json, else from .txt where its texts
repeat; --label-column names another field or kind, --image-column one of several images (jpg, seg.png).
Texts are kept, without fields that could show or tell an original; what else a sample holds is left out.
"""

from __future__ import annotations

import json
import os
import re
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unlearnable.errors import ImageError, UsageError
from unlearnable.imageio import IMAGE_EXTENSIONS
from unlearnable.sources import SPLIT_NAMES, Options, _columns, _schema, _sidecars, choose_split, tar
from unlearnable.sources._members import Member, sift
from unlearnable.sources._patterns import expanded, is_pattern
from unlearnable.sources._stamps import Stamp
from unlearnable.types import Record, Skipped

if TYPE_CHECKING:
    import pyarrow as pa

_TEXTS = ("json", "txt")
_LABEL_FIELDS = ("label", "cls")
_PEEK = 8  # members that show whether a single tar holds samples


def matches(spec: str) -> bool:
    path = Path(spec).expanduser()
    if path.is_dir():
        shards = _shards_in(path)
        return bool(shards) and _holds_samples(shards[0])
    if not path.exists():
        return is_pattern(spec) and spec.lower().endswith((".tar", ".tar.gz", ".tgz"))
    return tar.matches(spec) and _holds_samples(path)


def open(spec: str, options: Options) -> SampleSource:
    """Indexes the shards. Raises UsageError when one is missing or damaged, or labels or images are not plain."""
    folder = Path(spec).expanduser()
    paths = [path.resolve() for path in _shards_in(folder)] if folder.is_dir() else expanded(spec)
    root = Path(os.path.commonpath([path.parent for path in paths]))
    shards: dict[str, tar.Archive] = {}
    samples: list[Sample] = []
    skipped: list[Skipped] = []
    left_out: set[str] = set()
    for path in paths:
        shard = path.relative_to(root).with_suffix("").as_posix().removesuffix(".tar")
        shards[shard] = tar.Archive(path)
        found, missed, kinds = _samples(shard, shards[shard], options.image_column)
        samples += found
        skipped += missed
        left_out |= kinds
    skipped += [Skipped(f"column {kind}", "is no text; left out", image=False) for kind in sorted(left_out)]
    if not samples:
        raise UsageError(f"{spec} holds no samples with an image.", "A sample is KEY.jpg with KEY.cls beside it.")
    return SampleSource(spec, shards, samples, skipped, options)


@dataclass(frozen=True)
class Sample:
    """One sample: its record's name, its shard, and the path of each of its files by kind ("jpg", "cls")."""

    id: str
    shard: str
    image: str
    files: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """The name in its shard, up to the first dot."""
        folder, slash, file = self.image.rpartition("/")
        return folder + slash + file.partition(".")[0]


class SampleSource:
    """Images of samples. A record's id is its shard, its key and its extension: "train-0003/000017.jpg"."""

    kind = "webdataset"
    tree = False  # its labels are no folders

    def __init__(
        self,
        spec: str,
        shards: Mapping[str, tar.Archive],
        samples: Sequence[Sample],
        skipped: Sequence[Skipped],
        options: Options,
    ) -> None:
        self.spec, self.skipped, self._shards = spec, skipped, shards
        self.samples = {sample.id: sample for sample in samples}
        by_split: dict[str, list[Sample]] = {}
        for sample in samples:
            by_split.setdefault(_split_of(sample.shard), []).append(sample)
        chosen = {split: by_split[split] for split in choose_split(sorted(by_split), options.split, spec)}
        self.classes, labels = _labels(self, chosen, options)
        self._texts = [kind for kind in _TEXTS if any(kind in s.files for part in chosen.values() for s in part)]
        self.records: Sequence[Record] = [
            Record(sample.id, split, label, shards[sample.shard].size_of(sample.image), index)
            for split, part in chosen.items()
            for index, (sample, label) in enumerate(zip(part, labels[split], strict=True))
        ]

    def read(self, record: Record) -> bytes:
        """The stored image. Raises ImageError when it cannot be read."""
        sample = self.samples[record.id]
        return self._shards[sample.shard].fetch(sample.image)

    def stamp(self, record: Record) -> Stamp:
        """What changes when the shard does."""
        sample = self.samples[record.id]
        return self._shards[sample.shard].stamp(sample.image)

    def text(self, sample: Sample, kind: str) -> str | None:
        """What the sample says in .cls, .json or .txt; None where it has none. Raises UsageError when it is no text."""
        if kind not in sample.files:
            return None
        try:
            return self._shards[sample.shard].fetch(sample.files[kind]).decode("utf-8-sig").strip()
        except (ImageError, UnicodeDecodeError) as why:
            raise UsageError(f"{sample.shard}.tar: {sample.files[kind]} cannot be read as text ({why}).") from why

    def published(self, record: Record, kind: str) -> str | None:
        """That text without what could show or tell the original; None where nothing of it may ship."""
        text = self.text(self.samples[record.id], kind)
        return None if text is None else _sidecars.publishable(text, self.read(record))

    def table(self, records: Sequence[Record], images: Sequence[bytes], names: Sequence[str]) -> pa.Table:
        """Columns image, label (when there are classes) and file_name, and the texts json and txt."""
        labels = None if self.classes is None else [record.label for record in records]
        table = _schema.new_table(images, names, labels, self.classes)
        features = _schema.features(table.schema)
        pa = _schema.arrow()
        for kind in self._texts:
            table = table.append_column(kind, pa.array([self.published(r, kind) for r in records], pa.string()))
            features[kind] = {"dtype": "string", "_type": "Value"}
        return table.cast(_schema.for_release(table.schema, features, "image"))

    def extra_columns(self) -> tuple[str, ...]:
        return tuple(self._texts)


def _samples(shard: str, archive: tar.Archive, wanted: str | None) -> tuple[list[Sample], list[Skipped], set[str]]:
    """The shard's samples in its order, what was left out of it, and the kinds of files that no release holds."""
    members = [Member(place.name, place.size, place.trouble) for place in archive.index]
    images, archive.at, skipped = sift(members, archive.head, sort=False)
    groups: dict[str, dict[str, str]] = {}
    for name in sorted(archive.at, key=archive.at.__getitem__):
        folder, slash, file = name.rpartition("/")
        key, _, kind = file.partition(".")
        groups.setdefault(folder + slash + key, {})[kind.lower()] = name
    pictures = {name for name, _ in images}
    missed = [Skipped(f"{shard}/{s.id}", s.reason, s.image) for s in skipped if s.id not in archive.at]
    found: list[Sample] = []
    other: set[str] = set()
    for key, files in groups.items():
        shown = [kind for kind, name in files.items() if name in pictures]
        if len(shown) > 1 and wanted not in shown:
            raise UsageError(
                f"Sample {shard}/{key} has several images: {', '.join(shown)}.", "Name one: --image-column."
            )
        chosen = wanted if wanted in shown else shown[0] if shown and wanted is None else None
        other |= {kind for kind in files if kind not in (chosen, *_TEXTS, "cls")}
        if chosen is None:
            missed.append(Skipped(f"{shard}/{key}", "a sample without an image", image=bool(shown)))
        else:
            found.append(Sample(f"{shard}/{files[chosen]}", shard, files[chosen], files))
    return found, missed, other


def _labels(
    source: SampleSource, parts: Mapping[str, Sequence[Sample]], options: Options
) -> tuple[tuple[str, ...] | None, Mapping[str, Sequence[int | None]]]:
    """Class names and each sample's class."""
    if options.labels not in ("auto", "none"):
        raise UsageError(
            "--labels folders and label files are for image folders.", "Use --label-column or --labels none."
        )
    name = options.label_column
    everyone = [sample for part in parts.values() for sample in part]
    if options.labels == "auto":
        name = name or next(_usual(source, everyone), None)
    if options.labels == "none" or name is None:
        return None, {split: [None] * len(part) for split, part in parts.items()}
    pa = _schema.arrow()
    values = {split: [_value(source, sample, name) for sample in part] for split, part in parts.items()}
    try:
        columns = {split: pa.chunked_array([pa.array(found)]) for split, found in values.items()}
    except (pa.ArrowInvalid, pa.ArrowTypeError) as why:
        raise UsageError(f"The labels in {name} are of several kinds ({why}).", "Use --labels none.") from why
    return _columns.classes(name, None, columns, source.spec)


def _usual(source: SampleSource, samples: Sequence[Sample]) -> Iterator[str]:
    """Where labels usually stand, the most certain place first."""
    first = next((sample for sample in samples if "json" in sample.files), None)
    if first is not None and "cls" in first.files and isinstance(_value(source, first, "class_name"), str):
        yield "class_name"
    if any("cls" in sample.files for sample in samples):
        yield "cls"
    if first is not None:
        yield from (name for name in _LABEL_FIELDS if _value(source, first, name) is not None)
    texts = [source.text(sample, "txt") for sample in samples if "txt" in sample.files]
    if len(texts) == len(samples) and 1 < len(set(texts)) <= len(texts) // 2:
        yield "txt"


def _value(source: SampleSource, sample: Sample, name: str) -> Any:
    """A label as it stands there: .cls may hold a number or a word."""
    if name in ("cls", "txt"):
        text = source.text(sample, name)
        return int(text) if text is not None and re.fullmatch(r"-?\d{1,18}", text) else text
    try:
        found = json.loads(source.text(sample, "json") or "{}")
    except ValueError as why:
        raise UsageError(f"{sample.shard}.tar: {sample.files['json']} is no JSON ({why}).") from why
    return found.get(name) if isinstance(found, dict) else None


def _split_of(shard: str) -> str:
    words = [word for word in re.split(r"[^a-z]+", shard.lower()) if word in SPLIT_NAMES]
    return words[0] if len(words) == 1 else "train"


def _shards_in(folder: Path) -> list[Path]:
    """The archives in a folder that holds archives alone."""
    entries = [entry for entry in sorted(folder.iterdir()) if not entry.name.startswith(".")]
    return entries if all(entry.suffix == ".tar" and entry.is_file() for entry in entries) else []


def _holds_samples(path: Path) -> bool:
    """Whether, at the archive's top, an image and a .cls, .json or .txt of one key come among the first members."""
    try:
        with tarfile.open(path, "r:*") as archive:
            names = [info.name.removeprefix("./") for _, info in zip(range(_PEEK), archive, strict=False)]
    except (OSError, EOFError, tarfile.TarError):
        return False  # tar.py says what is wrong with it
    kinds: dict[str, set[str]] = {}
    for name in names:
        key, _, kind = name.partition(".")
        if "/" not in name:
            kinds.setdefault(key, set()).add("." + kind.rpartition(".")[2].lower())
    return any(found & IMAGE_EXTENSIONS and found & {".cls", ".json", ".txt"} for found in kinds.values())

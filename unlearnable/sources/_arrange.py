"""Image files that have a path, wherever their bytes lie: splits, labels and sidecars follow from the paths.

A folder, a zip or tar archive, a list and a single file differ in how they are listed and read, and in nothing else.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from unlearnable._containers import EXTENSIONS, ONLY_READ
from unlearnable.errors import UsageError
from unlearnable.sources import SPLIT_NAMES, Options, _schema, _sidecars, _tree, choose_split, one_class_error
from unlearnable.sources._stamps import Stamp
from unlearnable.types import Record, Skipped

if TYPE_CHECKING:
    import pyarrow as pa

_FEW = 0.1  # of a split's images: so many outside the class folders are taken for a slip


class FilesSource:
    """Images by relative POSIX path, which is a record's id, the split folder included.

    fetch: path -> the file's bytes; it raises ImageError when there are none to be had. sidecars: record id -> paths of
    the XMP and JSON files that belong to it.
    """

    tree = True

    def __init__(
        self,
        spec: str,
        kind: str,
        classes: tuple[str, ...] | None,
        records: Sequence[Record],
        skipped: Sequence[Skipped],
        fetch: Callable[[str], bytes],
        *,
        labels_from_file: bool = False,
        sidecars: Mapping[str, Sequence[str]] | None = None,
        stamp: Callable[[str], Stamp] | None = None,
    ) -> None:
        self.spec, self.kind = spec, kind
        self.classes = classes
        self.records = records
        self.skipped = skipped
        self.fetch = fetch
        self.labels_from_file = labels_from_file  # a tree of images alone would lose such labels
        self.sidecars = sidecars or {}
        self._stamp = stamp

    def read(self, record: Record) -> bytes:
        """The file's bytes. Raises ImageError when it has vanished or cannot be read."""
        return self.fetch(record.id)

    def stamp(self, record: Record) -> list[Stamp] | None:
        """What changes when the file or a sidecar of it does."""
        names = (record.id, *self.sidecars.get(record.id, ()))
        return [self._stamp(name) for name in names] if self._stamp else None

    def table(self, records: Sequence[Record], images: Sequence[bytes], names: Sequence[str]) -> pa.Table:
        """Columns image, label (when there are classes) and file_name, with `datasets` features."""
        labels = None if self.classes is None else [record.label for record in records]
        return _schema.new_table(images, names, labels, self.classes)

    def extra_columns(self) -> tuple[str, ...]:
        return ()


def arrange(
    spec: str,
    kind: str,
    files: Sequence[tuple[str, int]],
    skipped: Sequence[Skipped],
    options: Options,
    fetch: Callable[[str], bytes],
    given: Mapping[str, str] | None = None,
    stamp: Callable[[str], Stamp] | None = None,
) -> FilesSource:
    """A source of these files, (path, bytes) in the order of the release.

    given: labels by path, where the list itself has them; stamp: path -> what changes when the file does. Raises
    UsageError when there is nothing to protect, or labels are asked for that the paths do not give.
    """
    if options.image_column or options.label_column:
        what = "is a folder" if kind in ("folder", "remote") else f"is read as a {kind} of files"
        raise UsageError("--image-column and --label-column name columns of a dataset.", f"{spec} {what}.")
    if not files:
        raise UsageError(
            f"{spec} holds no images{_instead(skipped)}.", f"Supported: {', '.join([*EXTENSIONS, *ONLY_READ])}."
        )
    names = [name for name, _ in files]
    splits, depth = _splits(names)
    own = given is not None and options.labels == "auto"
    if options.labels == "auto" and not own:
        _refuse_strays(names, splits, depth)
    found = [given[name] for name in names] if given is not None and own else None
    classes, labels = _labels(names, depth, options.labels, spec, found)
    chosen = choose_split(sorted(set(splits)), options.split, spec)
    records = [
        Record(name, split, label, size, index)
        for wanted in chosen
        for index, (split, label, (name, size)) in enumerate(
            row for row in zip(splits, labels, files, strict=True) if row[0] == wanted
        )
    ]
    sidecars = _sidecars.of_records(
        [record.id for record in records], [item.id for item in skipped if item.reason == _tree.NOT_AN_IMAGE]
    )
    taken = {path for paths in sidecars.values() for path in paths}
    return FilesSource(
        spec,
        kind,
        classes,
        records,
        [item for item in skipped if item.id not in taken],
        fetch,
        labels_from_file=own or options.labels not in ("auto", "folders", "none"),
        sidecars=sidecars,
        stamp=stamp,
    )


def _splits(names: Sequence[str]) -> tuple[list[str], int]:
    """The split of each file, and how many folder levels splits take.

    That is its top folder in lower case, when all top folders are named like splits; else everything is train.
    """
    tops = [name.split("/", 1)[0].lower() if "/" in name else "" for name in names]
    if set(tops) <= set(SPLIT_NAMES):
        return tops, 1
    return ["train"] * len(names), 0


def _labels(
    names: Sequence[str], depth: int, rule: str, spec: str, given: Sequence[str] | None
) -> tuple[tuple[str, ...] | None, Sequence[int | None]]:
    """Class names, sorted, and each file's class, by the rule of `--labels`; split folders take `depth` levels.

    given: what stands in for the rule, where the source names the labels itself.
    """
    unlabelled: tuple[None, list[int | None]] = None, [None] * len(names)
    if rule == "none":
        return unlabelled
    if given is not None:
        labels = list(given)
    elif rule in ("auto", "folders"):
        parents = [name.split("/")[depth:-1] for name in names]
        if rule == "auto" and any(len(parent) != 1 for parent in parents):
            return unlabelled
        for name, parent in zip(names, parents, strict=True):
            if not parent:
                raise UsageError(f"{name} lies in no class folder.", "Move it into one, or use --labels none.")
        labels = [parent[0] for parent in parents]
    else:
        labels = _from_csv(Path(rule).expanduser(), names)
    classes = tuple(sorted(set(labels)))
    if len(classes) == 1:
        raise one_class_error(spec, classes[0])
    number = {name: index for index, name in enumerate(classes)}
    return classes, [number[label] for label in labels]


def _refuse_strays(names: Sequence[str], splits: Sequence[str], depth: int) -> None:
    """Raises UsageError where a few images beside or below the class folders would cost all the others their labels."""
    for split in sorted(set(splits)):
        parents = {n: n.split("/")[depth:-1] for n, of in zip(names, splits, strict=True) if of == split}
        strays = [name for name, parent in parents.items() if len(parent) != 1]
        folders = {parent[0] for parent in parents.values() if len(parent) == 1}
        if strays and len(folders) > 1 and len(strays) <= _FEW * len(parents):
            where = "below a class folder" if parents[strays[0]] else "beside the class folders"
            more = f" ({len(strays)} of {len(parents)} images lie so)" if len(strays) > 1 else ""
            raise UsageError(
                f"{strays[0]} lies {where}, so that it is not plain which label it has{more}.",
                "Move such images into their class folder, or name the rule: --labels folders takes the first folder"
                " level (images beside the folders must move first), --labels none groups the images by their looks.",
            )


def _from_csv(path: Path, names: Sequence[str]) -> list[str]:
    """Each file's label from a CSV file with columns file_name and label."""
    if not path.is_file():
        raise UsageError(f"--labels is auto, folders, none or a CSV file; there is no file {path}.")
    known = set(names)
    labels: dict[str, str] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            if not {"file_name", "label"} <= set(reader.fieldnames or ()):
                raise UsageError(f"{path} has no columns file_name and label.", "Its first line must name them.")
            for row in reader:
                name, label = row["file_name"] or "", row["label"] or ""
                if name not in known:
                    raise UsageError(f"{path}, line {reader.line_num}: {name!r} is not an image of the source.")
                if not label.strip() or labels.setdefault(name, label) != label:
                    problem = "has two labels" if label.strip() else "has no label"
                    raise UsageError(f"{path}, line {reader.line_num}: {name} {problem}.")
    except (UnicodeDecodeError, csv.Error) as why:
        raise UsageError(f"{path} cannot be read as CSV ({why}).", "Save it as UTF-8 with commas.") from why
    missing = next((name for name in names if name not in labels), None)
    if missing is not None:
        raise UsageError(f"{path} gives no label for {missing}.", "Add it, or use --labels none.")
    return [labels[name] for name in names]


def _instead(skipped: Sequence[Skipped]) -> str:
    """What was found in place of images, for the message."""
    if not skipped:
        return ": it is empty"
    reasons = Counter(
        f"{s.reason} ({PurePosixPath(s.id).suffix or 'no extension'})" if s.reason == _tree.NOT_AN_IMAGE else s.reason
        for s in skipped
    )
    return ": found " + ", ".join(f"{count} x {reason}" for reason, count in reasons.most_common(3))

"""What a release holds, as pure data: `manifest.json`.

Canonical bytes: sorted keys, files sorted by path, UTF-8, a fixed indent and one newline at the end. Two laws hold:
`Manifest.from_bytes(m.to_bytes()) == m`, and the order in which files were added cannot change the bytes.
manifest.schema.json describes the format and is what `from_bytes` enforces. Version 2 added `quality`; releases of version 1
are read and checked for ever, by a schema of their own, and written again as they were.
"""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from functools import cache
from itertools import pairwise
from pathlib import Path, PureWindowsPath
from typing import Any, Literal

from release import layout
from release.schema import problems
from unlearnable.errors import IntegrityError

SCHEMA_VERSION = 2

# Files that vouch for the manifest cannot be vouched for by it.
UNLISTED = (layout.MANIFEST, layout.SUMS, layout.ATTESTATION)

_PROTOCOL = (
    *("name", "victim", "epochs", "batch", "learning_rate", "augment", "train_images", "test_images"),
    *("image_size", "test_set", "classes", "chance", "noise_levels", "device"),
    *("schedule", "milestones", "momentum", "weight_decay", "nesterov", "select_images", "test_duplicates"),
    *("protected_classes", "test_images_of_all_classes"),
)
_ARM = ("peak", "selected", "final", "epochs_to_half_loss", "curves", "all_classes")


@dataclass(frozen=True, slots=True)  # there may be millions
class FileEntry:
    """One file of a release.

    path is relative, POSIX. linf and p999 are in grey levels: the largest change of a pixel value in the file, and the
    largest 99.9th percentile of one image. psnr is the mean over the file's images in dB, rounded to two decimals; None
    when it is infinite or was not measured. Nothing here describes an original.
    """

    path: str
    sha256: str
    size: int
    kind: Literal["data", "document"]
    images: int = 0
    linf: int | None = None
    p999: float | None = None
    psnr: float | None = None

    def __post_init__(self) -> None:
        check_path(self.path)
        if self.path in UNLISTED:
            raise IntegrityError(f"{self.path} cannot be listed in {layout.MANIFEST}: it vouches for the list.")
        if self.psnr is None:
            return
        if math.isfinite(self.psnr):
            object.__setattr__(self, "psnr", round(self.psnr, 2))
        elif self.psnr == math.inf:
            object.__setattr__(self, "psnr", None)


@dataclass(frozen=True)
class Manifest:
    """The list of files of a release, the budget they keep and what was measured on them. Public by construction."""

    name: str
    created: str  # UTC, "2026-01-31T12:00:00Z"
    layout: str  # "folder" or "parquet"
    budget: Mapping[str, Any]  # norm "linf", levels, guaranteed
    counts: Mapping[str, int]  # total, protected, skipped; unprotected where the owner named classes
    splits: Mapping[str, int]
    versions: Mapping[str, str]
    commitment: Mapping[str, str]  # salt and sha256, hexadecimal
    verification: Mapping[str, Any] | None
    files: tuple[FileEntry, ...]
    quality: Mapping[str, Any] | None = None  # of a stated sample; see facts.Quality
    trace_commitment: Mapping[str, str] | None = None  # sha256 of the plan of tracing; left out where there is none
    fit: Mapping[str, Any] | None = None  # images, of, processes, backend; left out where nothing was fitted on images
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        ordered = tuple(sorted(self.files, key=lambda entry: entry.path))
        for one, other in pairwise(ordered):
            if one.path == other.path:
                raise IntegrityError(f"{layout.MANIFEST} lists {one.path} twice.")
        object.__setattr__(self, "files", ordered)

    def to_bytes(self) -> bytes:
        """Canonical JSON. Raises IntegrityError for what JSON or the schema cannot hold, such as NaN."""
        document = asdict(replace(self, files=()))
        named = [each.name for each in fields(FileEntry)]
        document["files"] = [{name: getattr(entry, name) for name in named} for entry in self.files]
        if self.schema_version == 1:
            del document["quality"]
        for name in ("trace_commitment", "fit"):
            if document[name] is None:
                del document[name]
        _enforce(document)
        try:
            # as `dumps` would write it, which would hold every piece of the text at once
            pieces = json.JSONEncoder(sort_keys=True, ensure_ascii=False, allow_nan=False, indent=1).iterencode(
                document
            )
            written = io.StringIO()
            written.writelines(pieces)
            written.write("\n")
            return written.getvalue().encode("utf-8")
        except (ValueError, TypeError) as why:
            raise IntegrityError(f"{layout.MANIFEST} cannot be written: {why}.") from why

    @classmethod
    def from_bytes(cls, data: bytes) -> Manifest:
        """Reads a manifest. Unknown fields are ignored; damage and newer schema versions raise IntegrityError."""
        try:
            document = json.loads(data.decode("utf-8"), parse_constant=_refuse, parse_float=_finite)
        except (ValueError, RecursionError) as why:
            raise IntegrityError(f"{layout.MANIFEST} is damaged: {why}.") from why
        version = document.get("schema_version") if isinstance(document, dict) else None
        if isinstance(version, int) and version > SCHEMA_VERSION:
            raise IntegrityError(
                f"This release has a manifest of version {version}; this program reads up to version {SCHEMA_VERSION}.",
                "Install a newer unlearnable to check it.",
            )
        _enforce(document)
        known = {f.name for f in fields(FileEntry)}
        entries = tuple(
            FileEntry(**(item if item.keys() <= known else {k: v for k, v in item.items() if k in known}))
            for item in document["files"]
        )
        named = {f.name: document[f.name] for f in fields(cls) if f.name in document}
        quality = document["quality"] if document["schema_version"] > 1 else None
        return cls(**(named | {"files": entries, "quality": quality}))


def check_path(path: str) -> str:
    """The path itself when it is safe to join to a release folder on any system, else IntegrityError."""
    if _PLAIN(path):  # nearly all are, and there may be millions
        return path
    parts = path.split("/")
    drive = path[1:2] == ":" and PureWindowsPath(path).drive
    if "\\" in path or "\0" in path or drive or any(part in ("", ".", "..") for part in parts):
        raise IntegrityError(f"{path!r} is not a plain path inside a release.")
    try:
        path.encode("utf-8")
    except UnicodeEncodeError as why:
        raise IntegrityError(f"{path!r} cannot be written in UTF-8.", "Rename the file.") from why
    return path


_PLAIN = re.compile(r"(?:\w[\w.-]*/)*\w[\w.-]*", re.ASCII).fullmatch

# these would tell a stranger that the copy was crafted, and on which network
_PRIVATE_FLAGS = ("ONLY_THE_SURROGATE",)


def utc_now() -> str:
    """Now, as manifests write it: UTC to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def public_verification(full: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a verification that strangers may read.

    Protocol without seeds (`runs` counts them), arms, relative accuracy drop, flags and verdict. Fields are picked, not
    removed, so that a field added to the full record stays private until it is listed here: what defeats a release
    (`against`, `worst_case`) is the owner's.
    """
    protocol = {name: full["protocol"][name] for name in _PROTOCOL if name in full["protocol"]}
    public: dict[str, Any] = {
        "protocol": protocol | {"runs": len(full["protocol"].get("seeds", ()))},
        "arms": _arms(full["arms"]),
        "relative_accuracy_drop": {name: full["relative_accuracy_drop"][name] for name in ("mean", "low", "high")},
        "flags": [
            {"name": flag["name"], "meaning": flag["meaning"]}
            for flag in full["flags"]
            if flag["name"] not in _PRIVATE_FLAGS
        ],
        "verdict": full["verdict"],
    }
    if full.get("independent_labels"):
        public["independent_labels"] = _arms(full["independent_labels"])
    return public


def _arms(arms: Mapping[str, Any]) -> dict[str, Any]:
    return {
        arm: {name: arms[arm][name] for name in _ARM if name in arms[arm]}
        for arm in ("clean", "noise", "protected")
        if arm in arms
    }


@cache
def schema(version: int = SCHEMA_VERSION) -> dict[str, Any]:
    """The description of a version: manifest.schema.json is the newest's."""
    name = "manifest.schema.json" if version == SCHEMA_VERSION else f"manifest.schema.{version}.json"
    loaded: dict[str, Any] = json.loads(Path(__file__).with_name(name).read_text(encoding="utf-8"))
    return loaded


def _enforce(document: Any) -> None:
    given = document.get("schema_version") if isinstance(document, dict) else None
    old = type(given) is int and given == 1
    fault = next(problems(document, schema(1 if old else SCHEMA_VERSION)), None)
    if fault:
        raise IntegrityError(f"{layout.MANIFEST} is not as its schema says: {fault}.")


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is not a number")


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _refuse(text)

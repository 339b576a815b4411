"""One image file.

There is nothing to group one image with and nothing to verify on it, so it is its own class: images that are protected one
at a time with one key get one pattern, which makes them a class to whoever trains on them, and lets who has many of them
average it out. A folder is better.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from unlearnable.errors import UsageError
from unlearnable.sources import Options, _tree
from unlearnable.sources._arrange import FilesSource, arrange
from unlearnable.sources._stamps import Files

_CLASSES = ("image", "others")  # a pattern by class needs a class that it is not


def matches(spec: str) -> bool:
    path = Path(spec).expanduser()
    known = (".parquet", ".txt", ".csv", ".json", ".zip")
    return path.is_file() and path.suffix.lower() not in known and _tree.is_image(path)


def open(spec: str, options: Options) -> FilesSource:
    path = Path(spec).expanduser()
    if options.labels != "auto":
        raise UsageError(f"--labels is for many images; {spec} is one.", "Leave it out, or give the folder.")
    files = [(path.name, path.stat().st_size)]
    fetch = Files(path.parent, [path.name])
    source = arrange(spec, "single", files, [], options, fetch, stamp=fetch.stamp)
    source.classes = _CLASSES
    source.records = [replace(record, label=0) for record in source.records]
    return source

"""One image file.

It has no labels and nothing to group it with, so it gets the pattern of the only class there is; nothing can be verified on
one image.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from unlearnable.sources import Options, _tree
from unlearnable.sources._arrange import FilesSource, arrange
from unlearnable.sources.folder import read_file


def matches(spec: str) -> bool:
    path = Path(spec).expanduser()
    known = (".parquet", ".txt", ".csv", ".json", ".zip")
    return path.is_file() and path.suffix.lower() not in known and _tree.is_image(path)


def open(spec: str, options: Options) -> FilesSource:
    path = Path(spec).expanduser()
    files = [(path.name, path.stat().st_size)]
    return arrange(spec, "single", files, [], options, partial(read_file, path.parent))

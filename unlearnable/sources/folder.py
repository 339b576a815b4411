"""A folder of image files: split folders, class folders, or no order at all.

The scanner is our own, because `datasets.imagefolder` drops files in silence, takes splits from words in file names
and re-encodes (reference/users.md, A3). The tree is opened read-only.
"""

from __future__ import annotations

from pathlib import Path

from unlearnable.sources import Options, _tree
from unlearnable.sources._arrange import FilesSource, arrange
from unlearnable.sources._stamps import Files

FALLBACK = True  # any folder is a folder of files, unless another source knows it better


def matches(spec: str) -> bool:
    return Path(spec).expanduser().is_dir()


def open(spec: str, options: Options) -> FilesSource:
    """Lists the folder and finds splits and labels. Raises UsageError when there is nothing to protect."""
    root = Path(spec).expanduser()
    files, skipped = _tree.scan(root)
    fetch = Files(root, (name for name, _ in files))
    return arrange(spec, "folder", files, skipped, options, fetch, stamp=fetch.stamp)

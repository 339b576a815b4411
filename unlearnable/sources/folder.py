"""A folder of image files: split folders, class folders, or no order at all.

The scanner is our own, because `datasets.imagefolder` drops files in silence, takes splits from words in file names
and re-encodes (reference/users.md, A3). The tree is opened read-only.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from unlearnable.errors import ImageError
from unlearnable.sources import Options, _tree
from unlearnable.sources._arrange import FilesSource, arrange

FALLBACK = True  # any folder is a folder of files, unless another source knows it better


def matches(spec: str) -> bool:
    return Path(spec).expanduser().is_dir()


def open(spec: str, options: Options) -> FilesSource:
    """Lists the folder and finds splits and labels. Raises UsageError when there is nothing to protect."""
    root = Path(spec).expanduser()
    files, skipped = _tree.scan(root)
    return arrange(spec, "folder", files, skipped, options, partial(read_file, root))


def read_file(root: Path, name: str) -> bytes:
    """The bytes of root/name. Raises ImageError when it has vanished or cannot be read."""
    try:
        return (root / name).read_bytes()
    except OSError as why:
        raise ImageError(f"{name} cannot be read ({why.strerror}).", "Was it moved while we ran?") from why

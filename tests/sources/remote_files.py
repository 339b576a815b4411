"""Files of the disk put on remote storage."""

from __future__ import annotations

from pathlib import Path

import fsspec


def put(root: Path, url: str) -> str:
    """Copies everything below root to the address, and returns it."""
    files, base = fsspec.url_to_fs(url)
    for path in sorted(root.rglob("*")):
        if path.is_file():
            files.pipe_file(f"{base}/{path.relative_to(root).as_posix()}", path.read_bytes())
    return url

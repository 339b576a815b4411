"""Files of a release and of its owner folder, made anew where they were: the old one or the new one is there, never half."""

from __future__ import annotations

from pathlib import Path

from unlearnable.keys import write_new


def write_anew(path: Path, data: bytes, mode: int) -> None:
    """Writes a file with these permissions, through to the disk. Raises OSError when the disk fails."""
    fresh = fresh_name(path)
    fresh.unlink(missing_ok=True)
    write_new(fresh, data, mode)
    fresh.replace(path)


def fresh_name(path: Path) -> Path:
    """What a file is called until it is whole. A crash may leave it."""
    return path.with_name(f".{path.name}.new")


def encoded(text: str) -> bytes:
    """UTF-8; file names that are none (of skipped files, say) are spelled with escapes."""
    return text.encode("utf-8", "backslashreplace")

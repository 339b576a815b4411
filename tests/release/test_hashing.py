"""Files are on the disk before anything vouches for them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from release import hashing


@pytest.fixture
def names(tmp_path: Path) -> list[str]:
    found = [f"{number}.bin" for number in range(20)]
    for name in found:
        (tmp_path / name).write_bytes(name.encode())
    return found


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What was asked of the disk: "all", or the number of a file's bytes."""
    asked: list[object] = []
    monkeypatch.setattr(hashing, "_syncfs", lambda descriptor: asked.append("all") or 0)
    monkeypatch.setattr(os, "fsync", lambda descriptor: asked.append(os.fstat(descriptor).st_ino))
    return asked


def inodes(root: Path, names: list[str]) -> list[object]:
    return [(root / name).stat().st_ino for name in names]


def test_many_files_take_one_request_and_few_one_each(tmp_path: Path, names: list[str], synced: list[object]) -> None:
    hashing.settle(tmp_path, names)
    assert synced == ["all"]
    synced.clear()
    hashing.settle(tmp_path, names[:3])
    assert synced == inodes(tmp_path, names[:3])


@pytest.mark.parametrize("there", [False, True], ids=["no such request", "it fails"])
def test_where_the_one_request_cannot_be_made_every_file_has_its_own(
    tmp_path: Path, names: list[str], synced: list[object], monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    monkeypatch.setattr(hashing, "_syncfs", (lambda descriptor: -1) if there else None)
    hashing.settle(tmp_path, names)
    assert synced == inodes(tmp_path, names)
    (tmp_path / names[5]).unlink()
    with pytest.raises(OSError, match=r"5\.bin"):
        hashing.settle(tmp_path, names)


def test_the_real_request_answers(tmp_path: Path, names: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    one_by_one: list[int] = []
    monkeypatch.setattr(os, "fsync", one_by_one.append)
    hashing.settle(tmp_path, names)
    assert len(one_by_one) == (0 if hashing._syncfs is not None else len(names))

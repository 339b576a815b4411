"""Sets of pictures that do not fit in memory are read from a file, which nobody else can read and nobody finds later."""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from made_pictures import picture, write_tree

from unlearnable import looks, nets, spill
from unlearnable.errors import UnlearnableError
from unlearnable.sources import open_source
from unlearnable.train import Recipe, accuracy, train


@pytest.fixture
def little(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No set fits in memory; the folder where files lie."""
    monkeypatch.setattr(spill, "room", lambda: 1000)
    monkeypatch.setenv("UNLEARNABLE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def data(each: int = 20, start: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    pictures = [torch.from_numpy(picture(k, start + i)).permute(2, 0, 1) for k in range(3) for i in range(each)]
    return torch.stack(pictures), torch.arange(3).repeat_interleave(each)


def test_the_file_is_the_owners_alone_and_has_no_name_once_it_holds_pixels(
    little: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes: list[int] = []
    reserve = spill._reserve

    def spy(file: int, folder: Path, size: int) -> None:
        modes.append(stat.S_IMODE(os.fstat(file).st_mode))
        assert folder == little and len(list(little.iterdir())) == 1
        reserve(file, folder, size)
        assert os.fstat(file).st_size == size and os.fstat(file).st_blocks * 512 >= size, "its room is taken at once"

    monkeypatch.setattr(spill, "_reserve", spy)
    images = spill.empty(50, 3, 8, 8)
    assert modes == [0o600] and stat.S_IMODE(little.stat().st_mode) == 0o700
    assert not list(little.iterdir()) and spill.spilled(images) and spill.spilled(images[3:5])
    images.fill_(7)
    assert images.sum() == 7 * images.numel() and images.shape == (50, 3, 8, 8)
    assert not spill.spilled(spill.empty(5, 3, 8, 8)), "what fits stays in memory"


def test_the_folder_of_a_run_takes_the_caches_place(little: Path, tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    with spill.into(tmp_path / "state"):
        inside = spill.empty(1000)
        inside = spill.empty(1001)
        assert inside.untyped_storage().filename.startswith(str(tmp_path / "state"))
    assert spill.empty(1001).untyped_storage().filename.startswith(str(little))
    assert not list((tmp_path / "state").iterdir())


@pytest.mark.parametrize("full", [True, False])
def test_a_disk_without_room_is_said_in_a_sentence(little: Path, monkeypatch: pytest.MonkeyPatch, full: bool) -> None:
    def fail(file: int, start: int, size: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if full:
        monkeypatch.setattr(os, "posix_fallocate", fail)
    else:
        little.write_text("a file where the folder should be")
    with pytest.raises(UnlearnableError, match=r"2\.0 GB of pictures do not fit in memory, nor into .*cache") as found:
        spill.empty(10**6, 2000)
    assert "train_images" in found.value.hint and "\n" not in str(found.value)
    assert not full or not list(little.iterdir())


def test_training_from_the_file_is_training_from_memory_to_the_bit(little: Path) -> None:
    (x, y), test = data(), data(8, 1000)
    runs = []
    for on_disk in (False, True):
        images, shown = (spill.take(each, torch.arange(len(each))) if on_disk else each for each in (x, test[0]))
        assert spill.spilled(images) == spill.spilled(shown) == on_disk
        net = nets.create("tiny", 3, 16, seed=1)
        history = train(net, images, y, Recipe(2, 16), seed=3, test=(shown, test[1]), select=(shown, test[1]))
        runs.append((replace(history, seconds=0), net.state_dict(), accuracy(net, shown, test[1])))
    (one, weights, right), (two, also, again) = runs
    assert one == two and right == again
    assert all(torch.equal(weights[name], also[name]) for name in weights)


def test_a_source_is_decoded_once_into_the_same_pictures(little: Path, tmp_path: Path) -> None:
    write_tree(tmp_path / "pictures", each=6)
    next((tmp_path / "pictures").rglob("*.png")).write_bytes(b"no image")
    source, count = open_source(str(tmp_path / "pictures")), [0]
    reads: list[str] = []
    read = source.read
    source.read = lambda record: (reads.append(record.id), read(record))[1]  # type: ignore[method-assign, func-returns-value]

    def each() -> None:
        count[0] += 1

    found = looks.look(source, source.records, 16, each=each)
    assert spill.spilled(found.images) and count[0] == len(source.records)
    assert sorted(reads) == sorted(record.id for record in source.records), "each once, by several workers"
    one_by_one = [looks.look(source, [record], 4) for record in found.records]
    small = looks.look(source, source.records, 4)
    assert [record.id for record in small.records] == [record.id for record in found.records]
    assert torch.equal(small.images, torch.cat([one.images for one in one_by_one]))
    assert torch.equal(found.pick([4, 1]).images, found.images[[4, 1]])


def test_what_is_read_ahead_comes_in_order_and_a_failure_is_raised_in_its_place() -> None:
    assert list(spill.ahead(lambda i: i * i, range(100), 3)) == [i * i for i in range(100)]
    got: list[Any] = []
    with pytest.raises(ZeroDivisionError):
        for value in spill.ahead(lambda i: 1 / (i - 3), range(50), 2):
            got.append(value)
    assert got == [-1 / 3, -1 / 2, -1.0]


def test_the_room_is_a_share_of_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spill, "_free", lambda: 40 << 30)
    assert spill.room() == 10 << 30
    monkeypatch.undo()
    assert 1 << 20 < spill._free() <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")

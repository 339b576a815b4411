"""Memory is used again from photo to photo; no photo ever sees another's."""

from __future__ import annotations

import errno
import io
import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import DTypeLike, NDArray
from PIL import Image
from torch import Tensor

from release import build
from release.build import Made, Settings
from unlearnable import _encoding, _resample, _views, budget, imageio
from unlearnable.errors import ImageError, UnlearnableError
from unlearnable.imageio import Picture

KINDS = [  # container, mode
    ("JPEG", "RGB"),
    ("JPEG", "L"),
    ("JPEG", "CMYK"),
    ("PNG", "RGB"),
    ("PNG", "LA"),
    ("PNG", "RGBA"),
    ("PNG", "I;16"),
    ("TIFF", "CMYK"),
    ("WEBP", "RGB"),
]
SIZES = [(70, 90), (32, 32), (100, 80), (8, 60), (120, 9)]  # both larger and smaller ones follow each other


def photo(container: str, mode: str, height: int, width: int, more: int = 0) -> Picture:
    rng = np.random.default_rng(height * width)
    channels = {"L": (), "I;16": ()}.get(mode, (len(mode),))
    most, kind = (65536, np.uint16) if mode == "I;16" else (256, np.uint8)
    first, *rest = (
        Image.fromarray(rng.integers(0, most, (height, width, *channels)).astype(kind)) for _ in range(1 + more)
    )
    if mode == "CMYK":
        first = Image.fromarray(np.asarray(first), "CMYK")
    data = io.BytesIO()
    first.save(data, container, **({"save_all": True, "append_images": rest} if rest else {}))
    return imageio.decode(data.getvalue(), f"{container} {mode}")


def jobs() -> list[tuple[Picture, Tensor]]:
    pictures = [photo(*kind, *size) for size in SIZES for kind in KINDS]
    pictures += [photo("TIFF", "RGB", 32, 32, more=2), photo("PNG", "RGBA", 30, 40, more=2)]
    rng = torch.Generator().manual_seed(0)
    deltas = [(torch.rand((3, 32, 32), generator=rng) * 2 - 1) * 8 / 255 for _ in range(5)]
    return [(picture, deltas[number % len(deltas)]) for number, picture in enumerate(pictures)]


def made(job: tuple[Picture, Tensor]) -> Made:
    return build.make(*job, Settings("folder", "auto", 8))


def alone(job: tuple[Picture, Tensor]) -> Made:
    with ThreadPoolExecutor(1) as fresh:
        return fresh.submit(made, job).result()


def spoiling() -> Callable[[str, tuple[int, int], DTypeLike], NDArray[Any]]:
    """`scratch` that hands out garbage, and makes garbage of what it handed out before under that name."""
    given: dict[str, NDArray[np.uint8]] = {}

    def scratch(name: str, shape: tuple[int, int], kind: DTypeLike) -> NDArray[Any]:
        if name in given:
            given[name].fill(0x5A)
        given[name] = np.full(math.prod(shape) * np.dtype(kind).itemsize, 0xA5, np.uint8)
        return given[name].view(kind).reshape(shape)

    return scratch


def test_nothing_is_read_that_was_not_just_written(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = [alone(job) for job in jobs()]
    scratch = spoiling()
    for module in (_views, _resample, budget):
        monkeypatch.setattr(module, "scratch", scratch)
    monkeypatch.setattr(_resample, "_recent", {})
    assert [made(job) for job in jobs()] == wanted
    monkeypatch.setattr(_resample, "_SMALL", 0)  # rows made when they are asked for, as of large photos
    monkeypatch.setattr(_resample, "_recent", {})
    monkeypatch.setattr(budget, "_SAMPLES", 2000)
    assert [made(job) for job in jobs()] == wanted


def test_photos_made_side_by_side_are_those_made_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = [alone(job) for job in jobs()]
    monkeypatch.setattr(_resample, "_recent", {})
    monkeypatch.setattr(_resample, "_KEPT", 60_000)  # threads put in and throw out all the time
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(made, jobs() * 2)) == wanted * 2


def views(picture: Picture) -> list[NDArray[np.uint8]]:
    return [view(picture.pixels, size) for view in (imageio.square, imageio.trainer_view) for size in (16, 31)]


def test_large_pictures_lie_in_files_and_come_out_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    noise, coded = np.random.default_rng(0).integers(0, 256, (90, 70, 3)).astype(np.uint8), io.BytesIO()
    Image.fromarray(noise).save(coded, "JPEG", exif=turned)

    def all_jobs() -> list[tuple[Picture, Tensor]]:
        return [*jobs(), (imageio.decode(coded.getvalue(), "turned"), torch.full((3, 32, 32), 8 / 255))]

    wanted = [alone(job) for job in all_jobs()]
    seen = [views(picture) for picture, _ in all_jobs()]
    for module in (_views, _encoding, budget):
        monkeypatch.setattr(module, "IN_MEMORY", 0)
        monkeypatch.setattr(module, "REUSED", 0, raising=False)
    monkeypatch.setattr(_views, "_ROWS", 7)
    monkeypatch.setattr(budget, "_SAMPLES", 2000)
    large = all_jobs()
    still = [picture for picture, _ in large if picture.inks is None and picture.deep is None and not picture.more]
    assert len(still) > 20 and all(isinstance(picture.pixels, np.memmap) for picture in still)
    assert [made(job) for job in large] == wanted
    for (picture, _), before in zip(large, seen, strict=True):
        for found, view in zip(views(picture), before, strict=True):
            np.testing.assert_array_equal(found, view)


def test_a_disk_that_cannot_reserve_is_written_to_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(descriptor: int, start: int, size: int) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(_views, "_ZEROS", 1000)
    for change in (
        lambda: monkeypatch.setattr(os, "posix_fallocate", refused),
        lambda: monkeypatch.delattr(os, "posix_fallocate"),
    ):
        change()
        memory = _views._on_disk((70, 90))
        assert memory.shape == (70, 90) and not memory.any()
        memory[-1, -1] = 7  # there is room to the end


def test_a_disk_that_is_full_is_told_before_a_large_picture_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int, start: int, size: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    coded = io.BytesIO()
    Image.fromarray(np.zeros((90, 70, 3), np.uint8)).save(coded, "PNG")
    monkeypatch.setattr(_views, "IN_MEMORY", 0)
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(UnlearnableError, match="full"):
        imageio.decode(coded.getvalue(), "large.png")


def test_a_damaged_photo_leaves_nothing_to_the_next() -> None:
    data = io.BytesIO()
    Image.fromarray(np.full((90, 90, 3), 200, np.uint8)).save(data, "PNG", compress_level=0)
    with pytest.raises(ImageError, match="damaged"):
        imageio.decode(data.getvalue()[:9000], "damaged", pixels_only=True)
    for job in jobs()[:3]:
        assert made(job) == alone(job)

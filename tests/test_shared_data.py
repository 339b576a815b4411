"""The main job on data from outside the repository, where it is at hand (../shared/data)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from made_pictures import SHARED, picture
from PIL import Image

import unlearnable
from release import layout
from unlearnable import Options, imageio

PHOTOS, FLOWERS = SHARED / "photos", SHARED / "flowers"


@pytest.mark.slow
@pytest.mark.skipif(not PHOTOS.exists(), reason="../shared/data/photos is absent")
def test_every_camera_file_is_protected_or_reported(tmp_path: Path) -> None:
    document = unlearnable.protect(str(PHOTOS), tmp_path / "out", Options(preset="r16", verify="none"))
    receipt = json.loads((layout.owner_folder(tmp_path / "out") / layout.STATE / layout.RECEIPT).read_text())
    shipped = {str(p.relative_to(tmp_path / "out/data")) for p in (tmp_path / "out/data").rglob("*") if p.is_file()}
    reported = {item["id"] for item in receipt["skipped"]}
    found = {str(p.relative_to(PHOTOS)) for p in PHOTOS.rglob("*") if p.is_file()}
    kept = {Path(name).with_suffix("") for name in shipped}
    assert all(name in reported or Path(name).with_suffix("") in kept for name in found), "none is lost"
    assert document["images"]["protected"] == len(shipped) >= 90
    for name in sorted(shipped)[::7]:
        original = next(PHOTOS / f for f in found if Path(f).with_suffix("") == Path(name).with_suffix(""))
        before = imageio.decode(original.read_bytes(), name).pixels
        after = imageio.decode((tmp_path / "out/data" / name).read_bytes(), name).pixels
        assert before.shape == after.shape and not np.array_equal(before, after)


@pytest.mark.slow
@pytest.mark.skipif(not FLOWERS.exists(), reason="../shared/data/flowers is absent")
def test_a_hub_style_data_set_keeps_rows_labels_and_splits(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    out = tmp_path / "out"
    unlearnable.protect(str(FLOWERS), out, Options(preset="r16", verify="none"))
    for split in ("train", "test"):
        before = datasets.load_dataset(
            "parquet", data_files=str(FLOWERS / f"{split}*"), split="train", cache_dir=str(tmp_path)
        )
        after = datasets.load_dataset(
            "parquet", data_files=str(out / "data" / f"{split}*"), split="train", cache_dir=str(tmp_path)
        )
        assert after.features == before.features and after["label"] == before["label"]
        for row in (0, len(before) - 1):
            clean, shipped = (np.asarray(t[row]["image"].convert("RGB")).astype(int) for t in (before, after))
            assert clean.shape == shipped.shape and 4 < np.abs(clean - shipped).max() < 40  # JPEG again: no hard bound


def test_a_saved_data_set_keeps_its_other_columns(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    rows = {
        "photo": [Image.fromarray(picture(i % 3, i)) for i in range(30)],
        "kind": [i % 3 for i in range(30)],
        "title": [f"number {i}, ünïcode" for i in range(30)],
        "score": [i / 7 for i in range(30)],
    }
    features = datasets.Features(
        photo=datasets.Image(),
        kind=datasets.ClassLabel(names=["a", "b", "c"]),
        title=datasets.Value("string"),
        score=datasets.Value("float64"),
    )
    source = datasets.DatasetDict(train=datasets.Dataset.from_dict(rows, features))
    source.save_to_disk(str(tmp_path / "saved"))
    unlearnable.protect(str(tmp_path / "saved"), tmp_path / "out", Options(preset="r16", verify="none"))
    after = datasets.load_dataset(
        "parquet", data_files=str(tmp_path / "out/data/*.parquet"), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert after.features == features
    for column in ("kind", "title", "score"):
        assert list(after[column]) == rows[column]
    steps = np.abs(np.asarray(after[4]["photo"]).astype(int) - picture(1, 4))
    assert 0 < steps.max() <= 8

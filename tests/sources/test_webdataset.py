"""Promises of WebDataset shards: samples by key, labels by a stated rule, nothing clean in what is kept beside."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path

import pytest
from archives import as_tar
from source_files import picture

from unlearnable.errors import UsageError
from unlearnable.sources import open_source


def sample(key: str, seed: int, **beside: object) -> list[tuple[str, bytes]]:
    texts = [(f"{key}.{kind}", str(text).encode()) for kind, text in beside.items()]
    return [(f"{key}.png", picture(seed)), *texts]


def shards(root: Path, count: int = 2, each: int = 4) -> str:
    root.mkdir(exist_ok=True)
    for number in range(count):
        found = [
            m for i in range(each) for m in sample(f"{number}{i:03d}", 10 * number + i, cls=i % 2, txt=f"a photo {i}")
        ]
        as_tar(root / f"train-{number:04d}.tar", found)
    return str(root / f"train-{{0000..{count - 1:04d}}}.tar")


def test_braces_and_globs_name_the_same_samples(tmp_path: Path) -> None:
    braces = open_source(shards(tmp_path / "in"))
    globbed = open_source(str(tmp_path / "in" / "*.tar"))
    assert braces.records == globbed.records and braces.kind == "webdataset" and not braces.tree
    assert [r.id for r in braces.records][:5] == [*(f"train-0000/000{i}.png" for i in range(4)), "train-0001/1000.png"]
    assert braces.classes == ("0", "1") and [r.label for r in braces.records] == [0, 1] * 4
    assert braces.read(braces.records[5]) == picture(11)
    assert [r.index for r in braces.records] == list(range(8))


def test_a_missing_shard_and_an_empty_pattern_are_said(tmp_path: Path) -> None:
    spec = shards(tmp_path / "in")
    (tmp_path / "in/train-0001.tar").unlink()
    with pytest.raises(UsageError, match=r"train-0001\.tar, which .* is not there"):
        open_source(spec)
    with pytest.raises(UsageError, match="no file like"):
        open_source(str(tmp_path / "nothing-*.tar"))
    with pytest.raises(UsageError, match=r"names .* files"):
        open_source(str(tmp_path / "x-{0..99999999}.tar"))


def test_a_single_tar_is_shards_only_where_samples_lie_at_its_top(tmp_path: Path) -> None:
    found = [m for i in range(4) for m in sample(f"{i}", i, cls=i % 2)]
    assert open_source(str(as_tar(tmp_path / "flat.tar", found))).kind == "webdataset"
    deeper = [(f"cat/{name}", data) for name, data in found]
    assert open_source(str(as_tar(tmp_path / "deep.tar", deeper)), labels="none").kind == "tar"


def test_splits_come_from_the_shards_names(tmp_path: Path) -> None:
    for split in ("train", "val"):
        as_tar(tmp_path / f"{split}-000.tar", [m for i in range(2) for m in sample(str(i), i, cls=i)])
    source = open_source(str(tmp_path / "*-000.tar"))
    assert [(r.split, r.id) for r in source.records][::2] == [("train", "train-000/0.png"), ("val", "val-000/0.png")]


@pytest.mark.parametrize(
    ("beside", "options", "classes"),
    [
        (lambda i: {"cls": "ab"[i % 2]}, {}, ("a", "b")),
        (lambda i: {"json": json.dumps({"label": i % 2, "w": 3})}, {}, ("0", "1")),
        (lambda i: {"json": json.dumps({"kind": "xy"[i % 2]})}, {"label_column": "kind"}, ("x", "y")),
        (lambda i: {"txt": ["cat", "dog"][i % 2]}, {}, ("cat", "dog")),
        (lambda i: {"txt": f"a long caption {i}"}, {}, None),
        (lambda i: {"cls": i % 2}, {"labels": "none"}, None),
    ],
)
def test_where_labels_come_from(tmp_path: Path, beside, options, classes) -> None:
    path = as_tar(tmp_path / "x-0.tar", [m for i in range(6) for m in sample(str(i), i, **beside(i))])
    assert open_source(str(path), **options).classes == classes


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ([*sample("0", 0, cls=1), *sample("1", 1)], "no label"),
        ([*sample("0", 0, json="{"), *sample("1", 1, json="{}")], "is no JSON"),
        (
            [*sample("0", 0, json='{"label": [1, 2]}'), *sample("1", 1, json='{"label": [1]}')],
            "several labels an image",
        ),
        ([*sample("0", 0, cls=0), ("0.seg.png", picture(5)), *sample("1", 1, cls=1)], r"several images: png, seg\.png"),
        ([("0.cls", b"1")], "no samples with an image"),
    ],
)
def test_samples_that_are_not_plain_are_refused_in_one_sentence(tmp_path: Path, found, words: str) -> None:
    as_tar(tmp_path / "x-0.tar", found)
    with pytest.raises(UsageError, match=words):
        open_source(str(tmp_path / "x-*.tar"))


def test_texts_ship_without_what_shows_or_tells_the_original(tmp_path: Path) -> None:
    small = base64.b64encode(picture(7)).decode()
    note = {"caption": "a cat", "sha256": hashlib.sha256(picture(0)).hexdigest(), "thumb": small, "width": 16}
    found = [
        *sample("0", 0, cls=0, json=json.dumps(note), txt=f"data:image/png;base64,{small}"),
        ("0.npy", b"\x93NUMPY"),
    ]
    found += sample("1", 1, cls=1, txt="two dogs")
    source = open_source(str(as_tar(tmp_path / "x-0.tar", found)))
    assert source.extra_columns() == ("json", "txt")
    assert {s.id: s.reason for s in source.skipped} == {"column npy": "is no text; left out"}
    table = source.table(source.records, [b"new"] * 2, ["0.png", "1.png"])
    assert table.column_names == ["image", "label", "file_name", "json", "txt"]
    assert [text and json.loads(text) for text in table.column("json").to_pylist()] == [
        {"caption": "a cat", "width": 16},
        None,
    ]
    assert table.column("txt").to_pylist() == [None, "two dogs"]

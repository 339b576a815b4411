"""Promises of the dataset sources: columns by type, labels by a stated rule, nothing re-encoded, nothing else changed."""

from __future__ import annotations

import base64
import pickle
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from source_files import FEATURES, as_parquet, as_saved, dataset, picture

from unlearnable.errors import ImageError, UsageError
from unlearnable.sources import open_source

datasets = pytest.importorskip("datasets")

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
KINDS = {"parquet": as_parquet, "saved": as_saved}


@pytest.fixture(params=sorted(KINDS))
def make(request: pytest.FixtureRequest) -> Callable[[dict[str, list[object]], Path], Path]:
    return KINDS[request.param]


def parquet(root: Path, **columns: pa.Array) -> str:
    """One parquet file without `datasets` features."""
    root.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), root / "train.parquet")
    return str(root / "train.parquet")


def images(count: int) -> pa.Array:
    return pa.array(
        [{"bytes": picture(i), "path": None} for i in range(count)], pa.struct({"bytes": "binary", "path": "string"})
    )


# --- rows and bytes ---


def test_splits_classes_order_and_undecoded_bytes(make, rows, tmp_path) -> None:
    source = open_source(str(make(rows, tmp_path / "in")))
    assert source.kind in KINDS
    assert source.classes == ("cat", "dog", "eel")
    assert [r.id for r in source.records] == [*(f"train/{i}" for i in range(8)), *(f"test/{i}" for i in range(4))]
    assert [r.label for r in source.records] == rows["label"]
    stored = [value["bytes"] for value in rows["image"]]
    assert [source.read(record) for record in source.records] == stored
    assert [source.read(record) for record in reversed(source.records)] == stored[::-1]
    assert [record.size for record in source.records] == [len(data) for data in stored]
    assert source.extra_columns() == ("caption", "box")


def test_a_source_can_be_sent_to_another_process(make, rows, tmp_path) -> None:
    source = open_source(str(make(rows, tmp_path / "in")))
    sent = pickle.loads(pickle.dumps(source))
    assert [sent.read(r) for r in sent.records] == [source.read(r) for r in source.records]


def test_threads_may_read_at_once(make, rows, tmp_path) -> None:
    source = open_source(str(make(rows, tmp_path / "in")))
    wanted = list(source.records) * 20
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(source.read, wanted)) == [rows["image"][i % 12]["bytes"] for i in range(len(wanted))]


def test_a_table_changes_image_bytes_and_nothing_else(make, rows, tmp_path) -> None:
    source = open_source(str(make(rows, tmp_path / "in")))
    chosen = [source.records[i] for i in (1, 2, 5)]  # with a gap: a skipped image leaves its row out
    new = [picture(100 + i) for i in range(3)]
    table = source.table(chosen, new, [f"{record.id}.png" for record in chosen])
    assert table.column_names == ["caption", "image", "label", "box"]
    assert datasets.Features.from_arrow_schema(table.schema) == FEATURES
    for name in ("caption", "label", "box"):
        assert table.column(name).to_pylist() == [rows[name][i] for i in (1, 2, 5)]
    stored = table.column("image").to_pylist()
    assert [value["bytes"] for value in stored] == new
    assert [value["path"] for value in stored] == ["cat 1.png", "cat 2.png", "cat 5.png"]
    assert b"fingerprint" not in (table.schema.metadata or {})[b"huggingface"]


def test_one_split_only_and_unknown_splits(make, rows, tmp_path) -> None:
    root = str(make(rows, tmp_path / "in"))
    assert [r.id for r in open_source(root, split="test").records] == [f"test/{i}" for i in range(4)]
    with pytest.raises(UsageError, match="test"):
        open_source(root, split="validation")


def test_a_single_saved_dataset_is_train(rows, tmp_path) -> None:
    dataset(rows).save_to_disk(tmp_path / "one")
    assert {record.split for record in open_source(str(tmp_path / "one")).records} == {"train"}


def test_a_damaged_saved_dataset_and_a_damaged_file_are_named(rows, tmp_path) -> None:
    root = as_saved(rows, tmp_path / "saved")
    next((root / "train").glob("*.arrow")).write_bytes(b"short")
    with pytest.raises(UsageError, match="saved dataset"):
        open_source(str(root))
    (tmp_path / "x.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(UsageError, match=r"x\.parquet cannot be read as parquet"):
        open_source(str(tmp_path / "x.parquet"))


@pytest.mark.parametrize(
    ("file", "split"),
    [
        ("train.parquet", "train"),
        ("my-test.parquet", "test"),
        ("photos.parquet", "train"),
        ("extra-00000-of-00001.parquet", "extra"),
    ],
)
def test_a_files_name_gives_the_split(rows, tmp_path, file: str, split: str) -> None:
    dataset(rows).to_parquet(tmp_path / file)
    for spec in (tmp_path / file, tmp_path):
        assert {record.split for record in open_source(str(spec)).records} == {split}


def test_a_missing_part_is_refused(rows, tmp_path) -> None:
    root = as_parquet(rows, tmp_path / "in")
    (root / "data/train-00001-of-00002.parquet").unlink()
    with pytest.raises(UsageError, match="1 of 2"):
        open_source(str(root))


def test_a_path_without_bytes_is_read_beside_the_file_and_nowhere_else(tmp_path) -> None:
    root = tmp_path / "in"
    (tmp_path / "secret.png").write_bytes(picture(5))
    (root / "img").mkdir(parents=True)
    (root / "img/1.png").write_bytes(picture(1))
    paths = ["img/1.png", "../secret.png", str(tmp_path / "secret.png"), "img/2.png", None]
    kind = pa.struct({"bytes": "binary", "path": "string"})
    source = open_source(parquet(root, image=pa.array([{"bytes": None, "path": p} for p in paths], kind)))
    assert source.read(source.records[0]) == picture(1)
    for record in source.records[1:]:
        with pytest.raises(ImageError, match=record.id):
            source.read(record)


def test_an_owners_absolute_paths_shrink_to_file_names(tmp_path) -> None:
    kind = pa.struct({"bytes": "binary", "path": "string"})
    paths = ["/home/owner/private/a.jpg", "C:\\photos\\b.jpg", "../c.jpg", "sub/d.jpg", None]
    column = pa.array([{"bytes": picture(i), "path": p} for i, p in enumerate(paths)], kind)
    source = open_source(parquet(tmp_path, image=column))
    table = source.table(source.records, [b"x"] * 5, [f"{r.id}.png" for r in source.records])
    assert [v["path"] for v in table.column("image").to_pylist()] == ["a.png", "b.png", "c.png", "sub/d.png", "4.png"]


# --- which column ---


def test_image_and_label_columns_can_be_named(tmp_path) -> None:
    spec = parquet(
        tmp_path, one=images(4), two=images(4), label=pa.array([0, 1, 0, 1]), other=pa.array(["x", "y", "y", "x"])
    )
    with pytest.raises(UsageError, match=r"(?s)one, two.*--image-column"):
        open_source(spec)
    source = open_source(spec, image_column="two", label_column="other")
    assert source.classes == ("x", "y")
    assert [r.label for r in source.records] == [0, 1, 1, 0]
    with pytest.raises(UsageError, match=r"(?s)'tow'.*Did you mean 'two'"):
        open_source(spec, image_column="tow")
    with pytest.raises(UsageError, match="not image bytes"):
        open_source(spec, image_column="label")


def test_another_column_of_pictures_is_never_published(tmp_path) -> None:
    spec = parquet(
        tmp_path, image=images(2), original=images(2), thumb=pa.array([picture(0), picture(1)]), n=pa.array([1, 2])
    )
    source = open_source(spec, image_column="image", labels="none")
    assert [skip.id for skip in source.skipped] == ["column original", "column thumb"]
    assert source.extra_columns() == ("n",)
    assert source.table(source.records, [b"", b""], ["a", "b"]).column_names == ["image", "n"]


def test_columns_of_pixels_and_of_encoded_images_are_never_published(tmp_path) -> None:
    text = [base64.b64encode(picture(i)).decode() for i in range(2)]
    spec = parquet(
        tmp_path,
        image=images(2),
        raw=pa.array([[1, 2]] * 2, pa.list_(pa.uint8())),
        fixed=pa.array([[1, 2]] * 2, pa.list_(pa.uint8(), 2)),
        large=pa.array([[1, 2]] * 2, pa.large_list(pa.uint8())),
        matrix=pa.array([[[1, 2]]] * 2),
        inside=pa.array([{"a": [[0.5]]}] * 2),
        tensor=pa.ExtensionArray.from_storage(
            pa.fixed_shape_tensor(pa.float32(), [1, 2]), pa.array([[1, 2]] * 2, pa.list_(pa.float32(), 2))
        ),
        coded=pa.array([b"x", b"y"]).dictionary_encode(),
        base=pa.array([None, text[1]]),
        uri=pa.array([f"data:image/png;base64,{t}" for t in text]),
        untyped=pa.array([f"data:;base64,{t}" for t in text]),
        lines=pa.array([base64.encodebytes(picture(i)).decode() for i in range(2)]),
        talk=pa.array([[{"content": t}] for t in text]),
        box=pa.array([[1, 2], [3, 4]]),
        caption=pa.array(["a" * 60, "data: none"]),
        code=pa.array([base64.b64encode(b"no picture at all, but text " * 2).decode(), ""]),
    )
    source = open_source(spec, labels="none")
    assert source.extra_columns() == ("box", "caption", "code")
    assert all(skip.id.startswith("column ") and not skip.image for skip in source.skipped)
    assert len(source.skipped) == 12
    release = source.table(source.records, [b"", b""], ["a", "b"])
    assert release.column_names == ["image", "box", "caption", "code"]


def test_arrays_of_datasets_are_never_published(tmp_path) -> None:
    features = datasets.Features({"image": datasets.Image(), "clean": datasets.Array3D((1, 2, 3), "float32")})
    rows = {"image": [{"bytes": picture(i), "path": None} for i in range(12)], "clean": [[[[0, 1, 2]] * 2]] * 12}
    dataset(rows, features).to_parquet(tmp_path / "in/train.parquet")
    dataset(rows, features).save_to_disk(tmp_path / "saved")
    for spec in ("in", "saved"):
        assert [skip.id for skip in open_source(str(tmp_path / spec)).skipped] == ["column clean"]


def test_no_note_of_another_tool_reaches_a_release(tmp_path) -> None:
    note = {b"sha256_of_originals": b"secret"}
    child = pa.field("item", pa.int64(), metadata=note)
    kind = pa.struct([pa.field("bytes", pa.binary(), metadata=note), pa.field("path", pa.string())])
    inner = pa.struct([pa.field("x", pa.int64(), metadata=note), pa.field("m", pa.map_("string", child))])
    columns = [("image", kind), ("box", pa.list_(child)), ("large", pa.large_list(child)), ("s", inner)]
    schema = pa.schema([pa.field(n, k, metadata=note) for n, k in columns], {b"source": b"secret", **note})
    image = {"bytes": picture(0), "path": None}
    table = pa.table({"image": [image], "box": [[1]], "large": [[1]], "s": [{"x": 1, "m": [("a", 1)]}]}, schema=schema)
    pq.write_table(table, tmp_path / "train.parquet")
    source = open_source(str(tmp_path))
    made = source.table(source.records, [b"new"], ["a.png"])
    assert set(made.schema.metadata) == {b"huggingface", b"unlearnable:image"}
    pq.write_table(made, tmp_path / "out.parquet")
    written = pq.read_schema(tmp_path / "out.parquet")
    assert set(written.metadata) == {b"huggingface", b"unlearnable:image"}
    assert b"secret" not in written.serialize().to_pybytes() + (tmp_path / "out.parquet").read_bytes()
    assert written.remove_metadata().equals(table.schema.remove_metadata())


def test_paths_that_no_row_has_become_strings(tmp_path) -> None:
    pq.write_table(pa.table({"image": [{"bytes": picture(0), "path": None}]}), tmp_path / "train.parquet")
    source = open_source(str(tmp_path))
    table = source.table(source.records, [b"new"], ["a.png"])
    assert table.column("image").to_pylist() == [{"bytes": b"new", "path": "a.png"}]


def test_a_column_of_plain_bytes_can_be_named(tmp_path) -> None:
    spec = parquet(tmp_path, photo=pa.array([picture(0), picture(1)]), n=pa.array([1, 2]))
    with pytest.raises(UsageError, match="No column holds images"):
        open_source(spec)
    source = open_source(spec, image_column="photo")
    assert source.read(source.records[1]) == picture(1)
    assert source.table(source.records[:1], [b"new"], ["a"]).column("photo").to_pylist() == [b"new"]


# --- which labels ---


@pytest.mark.parametrize(
    ("values", "classes", "labels"),
    [
        ([7, 3, 7, 3], ("3", "7"), [1, 0, 1, 0]),
        (["b", "a", "a", "b"], ("a", "b"), [1, 0, 0, 1]),
        ([True, False, True, True], ("False", "True"), [1, 0, 1, 1]),
    ],
)
def test_numbers_and_short_strings_become_sorted_classes(tmp_path, values, classes, labels) -> None:
    source = open_source(parquet(tmp_path, image=images(4), label=pa.array(values)))
    assert source.classes == classes
    assert [record.label for record in source.records] == labels
    table = source.table(source.records, [b""] * 4, list("abcd"))
    assert table.column("label").to_pylist() == values, "the column itself stays as it was"


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (["a cat", "a dog", "two dogs", "an eel"], "free text: 4 different values in 4 rows"),
        ([0, 1, None, 1], "no label in split train, row 2"),
        ([[0], [1], [0, 1], []], "several labels an image"),
        ([0.5, 1.0, 0.5, 1.0], "cannot be a class label"),
        ([1, 1, 1, 1], "same label"),
    ],
)
def test_labels_that_cannot_be_used_say_why_and_name_the_way_out(tmp_path, values, words: str) -> None:
    spec = parquet(tmp_path, image=images(4), label=pa.array(values))
    with pytest.raises(UsageError, match=rf"(?s){words}.*--labels none"):
        open_source(spec)
    assert open_source(spec, labels="none").classes is None


def test_kept_back_labels_of_a_test_split_are_missing_labels(rows, tmp_path) -> None:
    rows["label"][9] = -1
    root = str(as_parquet(rows, tmp_path / "in"))
    with pytest.raises(UsageError, match=r"(?s)split test, row 1.*--split"):
        open_source(root)
    assert open_source(root, split="train").classes == ("cat", "dog", "eel")


def test_two_class_columns_ask_for_one(rows, tmp_path) -> None:
    features = datasets.Features({**FEATURES, "fine": datasets.ClassLabel(names=["x", "y"])})
    dataset({**rows, "fine": [0, 1] * 6}, features).to_parquet(tmp_path / "train.parquet")
    with pytest.raises(UsageError, match=r"(?s)label, fine.*--label-column"):
        open_source(str(tmp_path))
    assert open_source(str(tmp_path), label_column="fine").classes == ("x", "y")


def test_rules_for_folders_are_refused(tmp_path) -> None:
    with pytest.raises(UsageError, match="image folders"):
        open_source(parquet(tmp_path, image=images(2)), labels="folders")


# --- cost ---


def test_a_damaged_library_says_how_to_install_it(rows, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = as_saved(rows, tmp_path / "in")
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(UsageError, match="pip install datasets"):
        open_source(str(root))


@pytest.mark.parametrize(("name", "count"), [("cifar10-jpeg", 60_000), ("flowers", 3_670)])
def test_real_datasets_open_quickly(name: str, count: int) -> None:
    if not (DATA / name).is_dir():
        pytest.skip(f"needs ../shared/data/{name}")
    before = time.process_time()
    source = open_source(str(DATA / name))
    assert time.process_time() - before < 2
    assert len(source.records) == count
    assert source.read(source.records[-1])[:2] == b"\xff\xd8"

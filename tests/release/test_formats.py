"""Promises of the layouts: same names, same rows, nothing half-written, nothing outside, the same bytes back."""

from __future__ import annotations

import errno
import io
import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from release import formats
from release.formats import Item, Placed, Shard, folder, parquet
from unlearnable.errors import ImageError, UsageError
from unlearnable.imageio import suffix_for
from unlearnable.sources import open_source
from unlearnable.types import Record, Source

datasets = pytest.importorskip("datasets")


def picture(seed: int) -> bytes:
    rng = np.random.default_rng(seed)
    out = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)).save(out, "PNG")
    return out.getvalue()


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


def folder_source(root: Path, *names: str, **options: str) -> Source:
    for seed, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(picture(seed))
    return open_source(str(root), **options)


def table_source(root: Path, *, extra: bool = True, count: int = 12, names: tuple[str, ...] = ("cat", "dog")) -> Source:
    features = {"image": datasets.Image(), "label": datasets.ClassLabel(names=list(names))}
    rows = {
        "image": [{"bytes": picture(i), "path": None} for i in range(count)],
        "label": [i % 2 for i in range(count)],
    }
    if extra:
        features["caption"], rows["caption"] = datasets.Value("string"), [f"row {i}" for i in range(count)]
    whole = datasets.Dataset.from_dict(rows, features=datasets.Features(features))
    root.mkdir(parents=True)
    whole.select(range(count - 4)).to_parquet(root / "train-00000-of-00001.parquet")
    whole.select(range(count - 4, count)).to_parquet(root / "test-00000-of-00001.parquet")
    return open_source(str(root))


def items(shard: Shard, *, start: int = 1000, container: str = "PNG", skip: tuple[str, ...] = ()) -> list[Item]:
    """New pictures for a shard's records, as the builder hands them over."""
    return [
        Item(record, picture(start + record.index), suffix_for(record.id, container))
        for record in shard.records
        if record.id not in skip
    ]


def written(source: Source, layout: str, root: Path, **options: object) -> tuple[list[Item], list[Placed]]:
    shipped, placed = [], []
    for shard in formats.shards(source, layout):
        group = items(shard, **options)
        shipped += group
        placed += formats.load(layout).write(root, shard, source, iter(group))
    return shipped, placed


def files(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def card(root: Path, layout: str, source: Source, placed: list[Placed]) -> None:
    """A README that says which files are which split, as the release's card does."""
    split = {record.id: record.split for record in source.records}
    paths: dict[str, list[str]] = {}
    for place in placed:
        paths.setdefault(split[place.id], []).append(place.path)
    lines = [f"  - split: {c['split']}\n    path: {c['path']}\n" for c in formats.load(layout).configs(paths)]
    drop = "" if source.classes else "  drop_labels: true\n"
    text = f"---\nconfigs:\n- config_name: default\n{drop}  data_files:\n{''.join(lines)}---\n"
    (root / "README.md").write_text(text)


def loaded(root: Path, tmp_path: Path) -> object:
    """What a trainer gets, undecoded."""
    got = datasets.load_dataset(str(root), cache_dir=str(tmp_path / "cache"))
    return got.cast_column("image", datasets.Image(decode=False))


# --- both layouts ---


def test_layouts_are_found_by_file_name() -> None:
    assert formats.names() == ["folder", "parquet", "webdataset"]
    with pytest.raises(UsageError, match="Did you mean 'parquet'"):
        formats.load("parket")


@pytest.mark.parametrize("layout", formats.names())
def test_bytes_come_back_in_any_order_and_a_rerun_writes_the_same_files(layout: str, tmp_path: Path) -> None:
    source = table_source(tmp_path / "in", extra=False)
    shipped, placed = written(source, layout, tmp_path / "out")
    assert [place.id for place in placed] == [record.id for record in source.records]
    read = formats.load(layout).read
    assert list(read(tmp_path / "out", placed)) == [item.data for item in shipped]
    assert list(read(tmp_path / "out", placed[::-1])) == [item.data for item in shipped[::-1]]
    before = files(tmp_path / "out")
    assert written(source, layout, tmp_path / "out")[1] == placed
    assert files(tmp_path / "out") == before
    written(source, layout, tmp_path / "again")
    assert files(tmp_path / "again") == before


@pytest.mark.parametrize("layout", formats.names())
def test_a_release_can_be_opened_as_a_source(layout: str, tmp_path: Path) -> None:
    source = folder_source(tmp_path / "in", "train/cat/1.png", "train/dog/2.png", "test/dog/3.png")
    shipped, _ = written(source, layout, tmp_path / "out")
    again = open_source(str(tmp_path / "out/data"))
    assert again.classes == source.classes
    by_split = sorted((r.split, r.label, again.read(r)) for r in again.records)
    assert by_split == sorted((item.record.split, item.record.label, item.data) for item in shipped)


@pytest.mark.parametrize("layout", formats.names())
def test_a_skipped_image_leaves_nothing_behind(layout: str, tmp_path: Path) -> None:
    source = table_source(tmp_path / "in", extra=False)
    shipped, placed = written(
        source, layout, tmp_path / "out", skip=("train/1", "test/0", "test/1", "test/2", "test/3")
    )
    assert [place.id for place in placed] == [f"train/{i}" for i in (0, 2, 3, 4, 5, 6, 7)]
    assert list(formats.load(layout).read(tmp_path / "out", placed)) == [item.data for item in shipped]
    everything = b"".join(files(tmp_path / "out").values())
    assert not any(source.read(record)[60:200] in everything for record in source.records)
    assert not any("test" in name for name in files(tmp_path / "out"))


@pytest.mark.parametrize("layout", formats.names())
def test_a_full_disk_leaves_no_half_file(layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = table_source(tmp_path / "in", extra=False)
    shard = formats.shards(source, layout)[0]

    def failing() -> Iterator[Item]:
        yield from items(shard)[:3]
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        formats.load(layout).write(tmp_path / "out", shard, source, failing())
    left = files(tmp_path / "out")
    assert set(left.values()) <= {item.data for item in items(shard)}, "whole image files, or nothing"
    assert len(left) == (3 if layout == "folder" else 0)
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left")))
    with pytest.raises(OSError, match="No space"):
        formats.load(layout).write(tmp_path / "full", shard, source, iter(items(shard)))
    assert not files(tmp_path / "full")


@pytest.mark.parametrize("layout", formats.names())
def test_a_file_that_is_gone_is_named(layout: str, tmp_path: Path) -> None:
    source = table_source(tmp_path / "in", extra=False)
    _, placed = written(source, layout, tmp_path / "out")
    (tmp_path / "out" / placed[0].path).unlink()
    with pytest.raises(ImageError, match=placed[0].path):
        list(formats.load(layout).read(tmp_path / "out", placed))


@pytest.mark.parametrize("name", ["../x.png", "/etc/x.png", "a/../../x.png", "a//b.png", "", ".", "a/.", "x\0.png"])
def test_no_name_leads_out_of_the_release(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be a file's path"):
        formats.inside(tmp_path, name)
    source = folder_source(tmp_path / "in", "a.png")
    shard = formats.shards(source, "folder")[0]
    if name not in ("", ".", "/etc/x.png"):  # under data/ these would be data/ itself and data//etc/x.png
        with pytest.raises(UsageError):
            folder.write(tmp_path / "out", shard, source, iter([Item(Record(name, "train", None), b"x", name)]))


class Listing:
    """A source of records only."""

    kind, tree, classes, skipped, spec = "folder", True, None, (), "x"

    def __init__(self, sizes: list[tuple[str, int]]) -> None:
        self.records = [Record(str(n), split, None, size, n) for n, (split, size) in enumerate(sizes)]


@given(st.lists(st.tuples(st.sampled_from(["train", "test"]), st.integers(0, 80 << 20)), min_size=1, max_size=60))
@pytest.mark.parametrize("layout", formats.names())
def test_shards_keep_order_splits_and_limits(layout: str, sizes: list[tuple[str, int]]) -> None:
    source = Listing(sizes)
    cut = formats.shards(source, layout)
    assert [shard.index for shard in cut] == list(range(len(cut)))
    for split in {split for split, _ in sizes}:
        mine = [shard for shard in cut if shard.split == split]
        assert [shard.number_in_split for shard in mine] == list(range(len(mine)))
        assert {shard.of_in_split for shard in mine} == {len(mine)}
        assert [r for shard in mine for r in shard.records] == [r for r in source.records if r.split == split]
    for shard in cut:
        assert len(shard.records) == 1 or sum(r.size for r in shard.records) <= formats.load(layout).MAX_BYTES


def test_shards_keep_the_limit_of_rows() -> None:
    most = folder.MAX_ROWS
    source = Listing([("train", 1)] * (2 * most + 1))
    assert [len(shard.records) for shard in formats.shards(source, "folder")] == [most, most, 1]
    assert [len(shard.records) for shard in formats.shards(source, "parquet")] == [2 * most + 1]


# --- folder ---


def test_the_tree_and_the_names_are_the_sources(tmp_path: Path) -> None:
    names = ["train/a b/ü\n.png", "train/dog/1.png", "test/dog/1.PNG"]
    source = folder_source(tmp_path / "in", *names)
    shipped, _ = written(source, "folder", tmp_path / "out")
    assert files(tmp_path / "out") == {f"data/{item.record.id}": item.data for item in shipped}
    assert set(files(tmp_path / "out")) == {f"data/{name}" for name in names}


def test_rows_of_a_dataset_become_files_by_split_and_class(tmp_path: Path) -> None:
    source = table_source(tmp_path / "in", extra=False)
    _, placed = written(source, "folder", tmp_path / "out", container="WEBP")
    assert placed[1] == Placed("train/1", "data/train/dog/000001.webp")
    assert placed[-1] == Placed("test/3", "data/test/dog/000003.webp")


def test_names_that_would_collide_after_a_change_of_extension_do_not(tmp_path: Path) -> None:
    names = ["a.bmp", "A.jpg", "a.png", "a.bmp.png", "b.bmp", "sub/a.bmp"]
    source = folder_source(tmp_path / "in", *names)
    _, placed = written(source, "folder", tmp_path / "out")
    assert {place.id: place.path for place in placed} == {
        "a.png": "data/a.png",
        "a.bmp.png": "data/a.bmp.png",
        "a.bmp": "data/a.bmp~1.png",
        "A.jpg": "data/A.jpg.png",
        "b.bmp": "data/b.png",
        "sub/a.bmp": "data/sub/a.png",
    }


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sets(st.text(st.sampled_from("ab.~1")).map(lambda t: t + "x"), min_size=1, max_size=6),
    st.sets(st.sampled_from([".png", ".bmp", ".jpg", ".bmp.png", "~1.png", ".bmp~1.png", ""]), min_size=1),
)
def test_no_two_images_ever_share_a_name(
    tmp_path_factory: pytest.TempPathFactory, stems: set[str], ends: set[str]
) -> None:
    listing = Listing([])
    names = sorted(stem + end for stem, end in itertools.product(stems, ends))
    listing.records = [Record(name, "train", None) for name in names]
    root = tmp_path_factory.mktemp("out")
    shard = Shard(0, "train", 0, 1, tuple(listing.records))
    group = [Item(r, r.id.encode(), suffix_for(r.id, "PNG")) for r in shard.records]
    placed = folder.write(root, shard, listing, iter(group))
    assert len({place.path.casefold() for place in placed}) == len(names)
    assert list(folder.read(root, placed)) == [item.data for item in group]


def test_what_a_tree_cannot_hold_is_refused_with_the_reason(tmp_path: Path) -> None:
    assert "caption" in (folder.refuse(table_source(tmp_path / "a")) or "")
    assert folder.refuse(table_source(tmp_path / "b", extra=False)) is None
    for number, name in enumerate(["n/a", "..", ".x", " ", "a:b"]):
        bad = table_source(tmp_path / str(number), extra=False, names=(name, "dog"))
        assert "cannot be a folder's name" in (folder.refuse(bad) or "")
    assert "case" in (folder.refuse(table_source(tmp_path / "c", extra=False, names=("Dog", "dog"))) or "")
    (tmp_path / "labels.csv").write_text("file_name,label\n1.png,a\n2.png,b\n")
    by_file = folder_source(tmp_path / "d", "1.png", "2.png", labels=str(tmp_path / "labels.csv"))
    assert "labels come from a file" in (folder.refuse(by_file) or "")
    assert folder.refuse(folder_source(tmp_path / "e", "1.png")) is None
    assert parquet.refuse(table_source(tmp_path / "f")) is None


@pytest.mark.parametrize("splits", [True, False])
def test_datasets_reads_the_tree_with_its_splits_and_classes(splits: bool, tmp_path: Path) -> None:
    tops = ("train/", "test/") if splits else ("",)
    # Words like "test" in names are what makes `datasets` invent splits; the card's patterns prevent it.
    names = [f"{top}{c}/photo of a {w}.png" for top in tops for c in ("cat", "dog") for w in ("train", "test", "bee")]
    source = folder_source(tmp_path / "in", *names)
    shipped, placed = written(source, "folder", tmp_path / "out")
    card(tmp_path / "out", "folder", source, placed)
    got = loaded(tmp_path / "out", tmp_path)
    assert set(got) == {record.split for record in source.records}
    for split in got:
        mine = {item.data: source.classes[item.record.label] for item in shipped if item.record.split == split}
        names_of = got[split].features["label"].names
        rows = [(Path(row["image"]["path"]).read_bytes(), names_of[row["label"]]) for row in got[split]]
        assert dict(rows) == mine
        assert len(rows) == len(mine)


def test_datasets_reads_an_unlabelled_tree_without_labels(tmp_path: Path) -> None:
    source = folder_source(tmp_path / "in", "x/y/1.png", "x/2.png", "3.png")
    _, placed = written(source, "folder", tmp_path / "out")
    card(tmp_path / "out", "folder", source, placed)
    got = loaded(tmp_path / "out", tmp_path)
    assert got["train"].column_names == ["image"]
    assert len(got["train"]) == 3


# --- parquet ---


def test_datasets_reads_the_table_with_every_column_and_class(tmp_path: Path) -> None:
    source = table_source(tmp_path / "in")
    shipped, placed = written(source, "parquet", tmp_path / "out")
    card(tmp_path / "out", "parquet", source, placed)
    got = loaded(tmp_path / "out", tmp_path)
    original = datasets.load_dataset(str(tmp_path / "in"), cache_dir=str(tmp_path / "cache"))
    decoded = datasets.load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))
    assert set(got) == set(original)
    data = {item.record.id: item.data for item in shipped}
    for split in original:
        assert decoded[split].features == original[split].features
        for name in ("label", "caption"):
            assert got[split][name][:] == original[split][name][:]
        assert [row["bytes"] for row in got[split]["image"]] == [data[f"{split}/{i}"] for i in range(len(got[split]))]
        for i, row in enumerate(decoded[split]):
            assert np.array_equal(np.asarray(row["image"]), pixels(data[f"{split}/{i}"]))


def test_a_folder_shipped_as_parquet_keeps_names_and_classes(tmp_path: Path) -> None:
    source = folder_source(tmp_path / "in", "cat/1.png", "dog/ü 2.png")
    shipped, placed = written(source, "parquet", tmp_path / "out")
    card(tmp_path / "out", "parquet", source, placed)
    got = loaded(tmp_path / "out", tmp_path)["train"]
    assert got["file_name"][:] == ["cat/1.png", "dog/ü 2.png"]
    assert got.features["label"].names == ["cat", "dog"]
    assert [row["bytes"] for row in got["image"]] == [item.data for item in shipped]


def test_a_shard_without_a_row_leaves_no_gap_in_the_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "MAX_ROWS", 4)
    source = table_source(tmp_path / "in")
    shipped, placed = written(source, "parquet", tmp_path / "out", skip=tuple(f"train/{i}" for i in range(4)))
    assert [place.id for place in placed] == [item.record.id for item in shipped]
    empty, full = formats.always(source, "parquet")
    assert formats.always(source, "folder") == []
    assert set(files(tmp_path / "out")) == {empty, full, "data/test-00000-of-00001.parquet"}
    assert pq.read_schema(tmp_path / "out" / empty).equals(pq.read_schema(tmp_path / "out" / full), check_metadata=True)
    assert source.read(source.records[0])[60:200] not in (tmp_path / "out" / empty).read_bytes()
    again = open_source(str(tmp_path / "out"))
    assert [again.read(record) for record in again.records] == [i.data for i in shipped]
    assert again.classes == source.classes
    card(tmp_path / "out", "parquet", source, placed)
    assert len(loaded(tmp_path / "out", tmp_path)["train"]) == 4


def test_a_named_column_of_plain_bytes_comes_back(tmp_path: Path) -> None:
    features = datasets.Features({"id": datasets.Value("binary"), "img": datasets.Value("binary")})
    rows = {"id": [b"a", b"b"], "img": [picture(0), picture(1)]}
    datasets.Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "in/train.parquet")
    source = open_source(str(tmp_path / "in"), image_column="img")
    shipped, placed = written(source, "parquet", tmp_path / "out")
    assert list(parquet.read(tmp_path / "out", placed)) == [item.data for item in shipped]


def test_row_groups_hold_a_hundred_rows_and_files_have_hub_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "MAX_ROWS", 150)
    source = table_source(tmp_path / "in", count=304)
    shipped, placed = written(source, "parquet", tmp_path / "out")
    found = files(tmp_path / "out")
    assert list(found) == [
        "data/test-00000-of-00001.parquet",
        "data/train-00000-of-00002.parquet",
        "data/train-00001-of-00002.parquet",
    ]
    meta = pq.ParquetFile(tmp_path / "out/data/train-00000-of-00002.parquet").metadata
    assert [meta.row_group(g).num_rows for g in range(meta.num_row_groups)] == [100, 50]
    assert [place.row for place in placed[148:153]] == [148, 149, 0, 1, 2]
    assert list(parquet.read(tmp_path / "out", placed[90:160])) == [item.data for item in shipped[90:160]]
    monkeypatch.setattr(parquet, "_GROUP_BYTES", 2_000)
    written(source, "parquet", tmp_path / "small")
    meta = pq.ParquetFile(tmp_path / "small/data/train-00000-of-00002.parquet").metadata
    assert meta.num_row_groups >= 50

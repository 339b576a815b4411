"""Promises of remote folders, on fsspec's memory storage: what a folder on a disk gives, and nothing fetched without need."""

from __future__ import annotations

import dataclasses
import json
import pickle
import random
import sys
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import pytest
from made_pictures import write_tree
from remote_files import put
from source_files import as_parquet, picture, tree

import unlearnable
from release import layout
from release.engines import local
from release.formats import folder
from unlearnable import Options, remote
from unlearnable.errors import HubError, ImageError, IntegrityError, UsageError
from unlearnable.sources import hub, open_source
from unlearnable.sources import remote as remote_source


@pytest.fixture
def memory() -> Iterator[fsspec.AbstractFileSystem]:
    """fsspec's memory storage, which is one for the whole process."""
    files = fsspec.filesystem("memory")
    yield files
    files.store.clear()
    files.pseudo_dirs[:] = [""]


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Every request for bytes: the address and how many came."""
    seen: list[tuple[str, int]] = []
    real = remote.Place.read

    def read(place: remote.Place, *given: object, **named: object) -> bytes:
        data = real(place, *given, **named)  # type: ignore[arg-type]
        seen.append((place.url, len(data)))
        return data

    monkeypatch.setattr(remote.Place, "read", read)
    return seen


def messy(root: Path) -> Path:
    """All that a folder can hold beside plain pictures."""
    tree(root, "train/cat/1.png", "train/dog/2.PNG", "train/dog/A.JPG", "train/dog/a.jpg", "test/cat/3.png")
    tree(root, "test/dog/4.jpeg", "test/.hidden/5.png", "test/dog/.6.png", "train/cat/notes.txt", "train/cat/1.xmp")
    (root / "train/cat/no-extension").write_bytes(picture(77))
    (root / "train/cat/wrong.txt").write_bytes(picture(78, "JPEG"))
    (root / "train/cat/sp ace#?%20.png").write_bytes(picture(79))
    (root / "train/dog/größe.png").write_bytes(picture(80))
    (root / "empty.dat").write_bytes(b"")
    zipfile.ZipFile(root / "more.zip", "w").close()
    return root


# --- a folder is a folder ---


@pytest.mark.usefixtures("memory")
def test_a_remote_folder_is_read_as_the_same_folder_on_a_disk(tmp_path: Path) -> None:
    root = messy(tmp_path / "in")
    here, there = open_source(str(root)), open_source(put(root, "memory://bucket/in"))
    assert there.kind == "remote" and there.tree
    assert there.records == here.records and there.classes == here.classes == ("cat", "dog")
    assert there.skipped == here.skipped
    assert there.sidecars == here.sidecars == {"train/cat/1.png": ["train/cat/1.xmp"]}
    assert [there.read(r) for r in there.records] == [here.read(r) for r in here.records]
    assert there.fetch("train/cat/1.xmp") == b"some text"


@pytest.mark.usefixtures("memory")
def test_splits_and_labels_follow_the_same_options(tmp_path: Path) -> None:
    root = messy(tmp_path / "in")
    url = put(root, "memory://bucket/in/") + "/"
    assert [r.id for r in open_source(url, split="test").records] == ["test/cat/3.png", "test/dog/4.jpeg"]
    assert open_source(url, labels="none").classes is None
    table = tmp_path / "labels.csv"
    names = [record.id for record in open_source(url).records]
    table.write_text("file_name,label\n" + "".join(f'"{name}",{number % 3}\n' for number, name in enumerate(names)))
    assert open_source(url, labels=str(table)).classes == ("0", "1", "2")
    with pytest.raises(UsageError, match="name columns of a dataset"):
        open_source(url, image_column="image")


@pytest.mark.skipif(sys.platform != "linux", reason="workers are forked on Linux alone")
@pytest.mark.usefixtures("memory")
def test_the_release_of_a_remote_folder_is_that_of_a_copy_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "FEW_IMAGES", 1)  # so that there are workers
    monkeypatch.setattr(folder, "MAX_ROWS", 6)
    key = tmp_path / "my.key"
    key.write_text("00112233445566778899aabbccddeeff" * 2)
    root = write_tree(tmp_path / "in")
    (root / "down/000.xmp").write_text("<x/>")
    made = []
    for source, workers in ((str(root), 1), (put(root, "memory://bucket/in"), 2)):
        out = tmp_path / f"out{workers}"
        done = unlearnable.protect(source, out, Options(preset="r16", verify="none", key=key, workers=workers))
        assert done["images"] == {"total": 60, "protected": 60, "skipped": 0}
        files = {str(p.relative_to(out)): p.read_bytes() for p in (out / "data").rglob("*") if p.is_file()}
        made.append(
            (files, [e for e in json.loads((out / layout.MANIFEST).read_text())["files"] if e["kind"] == "data"])
        )
    assert made[0] == made[1] and len(made[0][0]) >= 60
    assert unlearnable.check(tmp_path / "out2", source="memory://bucket/in")["ok"]
    with pytest.raises(UsageError, match=r"is a protected release: it holds manifest\.json"):
        unlearnable.protect(put(tmp_path / "out1", "memory://bucket/out"), tmp_path / "twice", Options(verify="none"))


@pytest.mark.usefixtures("memory")
def test_listing_fetches_no_picture_and_of_a_doubtful_file_its_first_bytes(
    tmp_path: Path, fetched: list[tuple[str, int]]
) -> None:
    open_source(put(messy(tmp_path / "in"), "memory://bucket/in"))
    assert {url.rpartition("/")[2] for url, _ in fetched} == {
        *("no-extension", "wrong.txt", "notes.txt", "1.xmp", "more.zip")
    }
    assert max(size for _, size in fetched) <= 32


@pytest.mark.usefixtures("memory")
def test_a_source_can_be_sent_to_another_process_and_shared_by_threads(tmp_path: Path) -> None:
    source = open_source(put(messy(tmp_path / "in"), "memory://bucket/in"))
    sent = pickle.loads(pickle.dumps(source))
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(sent.read, sent.records)) == [source.read(record) for record in source.records]
    assert b"MemoryFileSystem" not in pickle.dumps(source), "connections stay where they were made"


# --- what changes meanwhile ---


def test_an_image_that_vanishes_or_changes_midway_is_reported_and_no_other(
    tmp_path: Path, memory: fsspec.AbstractFileSystem
) -> None:
    source = open_source(put(tree(tmp_path / "in", "a/1.png", "a/2.png", "b/3.png", "b/4.png"), "memory://bucket/in"))
    gone, changed, grown, kept = source.records
    memory.rm("/bucket/in/a/1.png")
    memory.pipe_file("/bucket/in/a/2.png", source.read(changed)[:-1] + b"x")
    memory.pipe_file("/bucket/in/b/3.png", source.read(grown) + b"x")
    with pytest.raises(ImageError, match=r"a/1\.png cannot be read \(it is gone\)"):
        source.read(gone)
    for record in (changed, grown):
        with pytest.raises(ImageError, match=r"\.png was changed while we ran"):
            source.read(record)
    assert source.read(kept) == picture(3)
    again = open_source("memory://bucket/in")
    assert again.read(again.records[0]) and again.stamp(again.records[0]) != source.stamp(changed)
    assert again.stamp(again.records[2]) == source.stamp(kept)


@pytest.mark.parametrize(
    ("why", "kind", "words"),
    [
        (PermissionError("Forbidden"), ImageError, "may not be read"),
        (ConnectionError("reset by peer"), HubError, "could not be read"),
        (TimeoutError(), HubError, "could not be read"),
        (PermissionError("ExpiredToken: the provided token has expired"), HubError, "asks who you are"),
    ],
)
def test_one_refusal_costs_one_image_and_a_broken_line_ends_the_run(
    tmp_path: Path,
    memory: fsspec.AbstractFileSystem,
    monkeypatch: pytest.MonkeyPatch,
    why: Exception,
    kind: type[Exception],
    words: str,
) -> None:
    """A release in which all that came after a lost connection counts as skipped would help nobody."""
    source = open_source(put(tree(tmp_path / "in", "a/1.png", "b/2.png"), "memory://bucket/in"))

    def fails(*_: object, **__: object) -> bytes:
        raise why

    monkeypatch.setattr(type(memory), "cat_file", fails)
    with pytest.raises(kind, match=words):
        source.read(source.records[0])


def test_a_fault_of_ours_is_not_blamed_on_the_storage(
    memory: fsspec.AbstractFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory.pipe_file("/bucket/x", b"1")
    monkeypatch.setattr(type(memory), "cat_file", lambda *_, **__: [].pop(None))
    with pytest.raises(TypeError):
        remote.locate("memory://bucket/x").read()


# --- what is refused ---


def test_nothing_there_and_nothing_in_it_are_told_apart(memory: fsspec.AbstractFileSystem) -> None:
    with pytest.raises(UsageError, match="nothing at memory://nowhere/x"):
        open_source("memory://nowhere/x")
    memory.mkdir("/bucket/empty")
    with pytest.raises(UsageError, match="holds no images: it is empty"):
        open_source("memory://bucket/empty")
    memory.pipe_file("/bucket/texts/a.txt", b"text")
    with pytest.raises(UsageError, match=r"found 1 x not an image \(\.txt\)"):
        open_source("memory://bucket/texts")


@pytest.mark.parametrize("name", ["photos.zip", "photos.tar.gz", "list.csv", "one.png"])
def test_a_single_file_is_asked_to_be_copied(name: str, memory: fsspec.AbstractFileSystem) -> None:
    memory.pipe_file(f"/bucket/{name}", picture(1))
    with pytest.raises(
        UsageError, match=r"on remote storage, where only folders and \.parquet are read\. Copy it here"
    ):
        open_source(f"memory://bucket/{name}")


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("file:///home/me/photos", "lies on this machine"),
        ("https://example.com/photos", "Download it"),
        ("nosuch://bucket/photos", "no storage that is known here"),
        ("s3://", "names no bucket"),
        ("memory:///", "names no bucket"),
    ],
)
def test_addresses_that_are_none(spec: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        open_source(spec)


@pytest.mark.parametrize(
    "spec", ["ftp://me:pw123456@host/photos", "s3://AK:pw123456@bucket/x", "memory://b/x?X-Amz-Signature=pw123456"]
)
def test_an_address_with_a_password_is_refused_without_repeating_it(spec: str) -> None:
    with pytest.raises(UsageError, match="holds a password or a key") as caught:
        open_source(spec)
    assert "pw123456" not in str(caught.value)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(protocol: str) -> None:
        raise ImportError(f"Install something for {protocol}")

    monkeypatch.setattr(fsspec, "get_filesystem_class", missing)
    monkeypatch.setattr(remote, "_opened", {})
    with pytest.raises(UsageError, match="Run: pip install gcsfs"):
        open_source("gs://bucket/photos")
    with pytest.raises(UsageError, match="Run: pip install s3fs"):
        open_source("s3://bucket/photos")


@pytest.mark.parametrize(
    "said",
    [
        "GET https://me:pw123456@host/x failed",
        "403 for https://b.s3.amazonaws.com/x?X-Amz-Credential=a&X-Amz-Signature=pw123456&x=1",
        "token hf_pw123456pw123456 refused",
        "key AKIApw123456 unknown".upper(),
    ],
)
def test_no_message_shows_a_secret(said: str) -> None:
    for why in (OSError(said), PermissionError(said), RuntimeError(said)):
        assert "pw123456" not in str(remote.explained(why, "s3://bucket/x")).lower()


def test_names_that_no_release_may_hold_are_left_out_and_told(memory: fsspec.AbstractFileSystem) -> None:
    for name in ("a/1.png", "b/2.png", "b/back\\slash.png", f"b/{'x' * 300}.png", "B/2.png"):
        memory.pipe_file(f"/bucket/in/{name}", picture(1))
    source = open_source("memory://bucket/in", labels="folders")
    assert [record.id for record in source.records] == ["B/2.png", "a/1.png"]
    assert [skip.reason.partition(";")[0] for skip in source.skipped] == [
        "differs only in case from B/2.png and would overwrite it on common disks",
        "its name holds a backslash or a zero byte, or ends in a slash",
        "its name is longer than 255 bytes",
    ]
    assert all(skip.image for skip in source.skipped)


def test_spelling_alone_says_which_addresses_are_whole_datasets() -> None:
    for spec in ("hf://datasets/owner/name", "hf://datasets/owner/name@main:config", "hf://datasets/o/n@refs/pr/1"):
        assert hub.matches(spec) and not remote_source.matches(spec), spec
    for spec in (
        "hf://datasets/o/n/photos",
        "hf://datasets/o/n@v1/photos",
        "hf://datasets/o/n@refs/pr/1/x",
        "s3://b/x",
    ):
        assert remote_source.matches(spec) and not hub.matches(spec), spec
    assert not remote_source.matches("owner/name") and not remote_source.matches("C:\\photos")


# --- parquet from afar ---


@pytest.mark.usefixtures("memory")
@pytest.mark.parametrize("where", ["", "data", "data/test-00000-of-00001.parquet"])
def test_remote_parquet_has_the_rows_of_a_copy_on_the_disk(rows, tmp_path: Path, where: str) -> None:
    root = as_parquet(rows, tmp_path / "in")
    put(root, "memory://bucket/in")
    here, there = open_source(str(root / where)), open_source(str(remote.Place("memory://bucket/in") / where))
    assert there.kind == "parquet" and there.classes == here.classes
    assert [dataclasses.replace(r, size=0) for r in there.records] == [
        dataclasses.replace(r, size=0) for r in here.records
    ]
    for source in (there, pickle.loads(pickle.dumps(there))):
        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(source.read, source.records)) == [here.read(record) for record in here.records]
    some = here.records[1:3]
    tables = [source.table(some, [picture(50), picture(51)], ["a.png", "b.png"]) for source in (here, there)]
    assert tables[0].equals(tables[1], check_metadata=True)


@pytest.mark.usefixtures("memory")
def test_sizes_are_guessed_from_footers_and_listing_fetches_no_picture(
    rows, tmp_path: Path, fetched: list[tuple[str, int]]
) -> None:
    rows["image"] = [{"bytes": random.Random(i).randbytes(200_000), "path": None} for i in range(12)]
    root = as_parquet(rows, tmp_path / "in")
    put(root, "memory://bucket/in")
    there = open_source("memory://bucket/in")
    stored = sum(path.stat().st_size for path in root.rglob("*.parquet"))
    assert sum(size for _, size in fetched) < stored / 5
    exact = [record.size for record in open_source(str(root)).records]
    assert all(abs(guess.size - size) <= 0.05 * size for guess, size in zip(there.records, exact, strict=True))
    fetched.clear()
    assert [there.read(record) for record in there.records] == [value["bytes"] for value in rows["image"]]
    assert len(fetched) == 3, "in order, each row group is fetched once"


def test_a_table_that_changes_or_vanishes_midway_ends_the_run(
    rows, tmp_path: Path, memory: fsspec.AbstractFileSystem
) -> None:
    source = open_source(put(as_parquet(rows, tmp_path / "in"), "memory://bucket/in"))
    first, last = source.records[0], source.records[-1]
    memory.pipe_file("/bucket/in/data/train-00000-of-00002.parquet", b"PAR1 other")
    with pytest.raises(IntegrityError, match=r"train-00000-of-00002\.parquet was changed"):
        source.read(first)
    memory.rm("/bucket/in/data/test-00000-of-00001.parquet")
    with pytest.raises(UsageError, match="nothing at memory://bucket/in/data/test-00000"):
        source.read(last)
    memory.pipe_file("/bucket/broken.parquet", b"PAR1 other")
    with pytest.raises(UsageError, match=r"broken\.parquet cannot be read as parquet"):
        open_source("memory://bucket/broken.parquet")


def test_a_line_that_breaks_within_a_row_group_keeps_its_own_words(
    rows, tmp_path: Path, memory: fsspec.AbstractFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = open_source(put(as_parquet(rows, tmp_path / "in"), "memory://bucket/in"))

    def fails(*_: object, **__: object) -> bytes:
        raise ConnectionError("reset by peer")

    monkeypatch.setattr(type(memory), "cat_file", fails)
    with pytest.raises(HubError, match="reset by peer"):
        source.read(source.records[0])

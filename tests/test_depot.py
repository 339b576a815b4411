"""A release on remote storage: staged there shard by shard, found by other machines, whole only when it is sealed."""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
import threading
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

import fsspec
import pytest

import unlearnable
from release import build, layout, marks, reading
from release.engines import local, ray
from release.formats import Shard
from release.manifest import Manifest
from release.rows import Built
from unlearnable import Options
from unlearnable.errors import IntegrityError, UsageError
from unlearnable.keys import Key
from unlearnable.remote import Place

FAST = Options(preset="r16", verify="none", layout="parquet")


@pytest.fixture
def bucket(monkeypatch, tmp_path: Path) -> Iterator[str]:
    """An empty place in memory; owner folders are made in a folder of the test's own."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr("release.formats.parquet.MAX_ROWS", 9)
    name = f"bucket-{uuid.uuid4().hex}"
    yield f"memory://{name}"
    files = fsspec.filesystem("memory")
    if files.exists(name):
        files.rm(name, recursive=True)


@pytest.fixture
def key(tmp_path: Path) -> Path:
    Key.new().save(tmp_path / "key")
    return tmp_path / "key"


def there(address: str) -> dict[str, bytes]:
    files = fsspec.filesystem("memory")
    root = files._strip_protocol(address)
    return {path.removeprefix(f"{root}/"): files.cat_file(path) for path in sorted(files.find(root))}


def data(found: dict[str, bytes]) -> dict[str, bytes]:
    return {name: body for name, body in found.items() if name.startswith("data/")}


def of(options: Options, **changes: object) -> Options:
    return dataclasses.replace(options, **changes)


def here(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("layout_name", ["folder", "parquet", "webdataset"])
def test_a_remote_release_has_the_bytes_of_one_on_a_disk(
    tree: Path, tmp_path: Path, bucket: str, key: Path, layout_name: str
) -> None:
    options = of(FAST, key=key, layout=layout_name)
    document = unlearnable.protect(str(tree), f"{bucket}/out", options)
    unlearnable.protect(str(tree), tmp_path / "disk", options)
    assert document["release"] == f"{bucket}/out" and Path(document["owner"]) == tmp_path / "here" / "out.owner"
    found = there(f"{bucket}/out")
    assert data(found) == data(here(tmp_path / "disk"))
    ours, theirs = (
        [entry for entry in Manifest.from_bytes(bytes_).files if entry.kind == "data"]
        for bytes_ in (found[layout.MANIFEST], (tmp_path / "disk" / layout.MANIFEST).read_bytes())
    )
    assert ours == theirs
    assert unlearnable.check(f"{bucket}/out")["ok"]
    assert set(there(bucket)) == {f"out/{name}" for name in found}, "nothing of the staging is left"
    assert not (tmp_path / "here" / ".out.partial").exists()


def test_one_flipped_bit_in_a_bucket_is_caught(tree: Path, bucket: str) -> None:
    unlearnable.protect(str(tree), f"{bucket}/out", FAST)
    path = f"{bucket}/out/{next(iter(data(there(f'{bucket}/out'))))}"
    files = fsspec.filesystem("memory")
    body = bytearray(files.cat_file(path))
    body[100] ^= 1
    files.pipe_file(path, bytes(body))
    found = unlearnable.check(f"{bucket}/out")
    assert not found["ok"] and found["changed"] == [path.partition("/out/")[2]]


def test_what_was_finished_when_a_run_died_is_not_made_again(tree: Path, bucket: str, monkeypatch) -> None:
    real, made = build.make, list[str]()

    def dies(picture, *rest):  # type: ignore[no-untyped-def]
        if len(made) == 30:
            raise KeyboardInterrupt
        made.append(picture.name)
        return real(picture, *rest)

    monkeypatch.setattr(build, "make", dies)
    with pytest.raises(KeyboardInterrupt):
        unlearnable.protect(str(tree), f"{bucket}/out", FAST)
    assert not there(f"{bucket}/out"), "nothing half-made has the release's name"
    before = there(f"{bucket}/.out.partial")
    assert len(data(before)) == 3
    assert not (Path(".out.partial") / "data").exists() or not here(Path(".out.partial") / "data")
    first = set(made[:27])
    made.clear()
    monkeypatch.setattr(build, "make", lambda picture, *rest: made.append(picture.name) or real(picture, *rest))
    unlearnable.protect(str(tree), f"{bucket}/out", FAST)
    assert not first & set(made) and len(made) == 33
    assert unlearnable.check(f"{bucket}/out")["ok"]


def test_machines_that_share_only_the_bucket_make_one_release(
    tree: Path, tmp_path: Path, bucket: str, key: Path, monkeypatch
) -> None:
    address, options = f"{bucket}/out", of(FAST, key=key)
    unlearnable.protect(str(tree), address, of(options, fit_only=True))
    for number in range(3):
        machine = tmp_path / f"machine{number}"
        machine.mkdir()
        shutil.copytree("out.owner", machine / "out.owner")
        with monkeypatch.context() as there_now:
            there_now.chdir(machine)
            unlearnable.protect(str(tree), address, of(options, shard=(number, 3)))
    unlearnable.merge(address)
    unlearnable.protect(str(tree), tmp_path / "disk", options)
    assert data(there(address)) == data(here(tmp_path / "disk"))


def test_nothing_that_only_the_owner_may_know_lies_in_the_bucket(tree: Path, bucket: str) -> None:
    unlearnable.protect(str(tree), f"{bucket}/out", of(FAST, fit_only=True))
    unlearnable.protect(str(tree), f"{bucket}/out", of(FAST, shard=(0, 1)))
    staged = there(bucket)
    marks = [name for name in staged if "/marks/" in name]
    assert len(marks) == 7
    for name in marks:
        assert b"original" not in staged[name] and b"across" not in staged[name] and b"sha256" not in staged[name]
    secret = Path("out.owner/key").read_text().strip()
    assert not any(secret.encode() in body or bytes.fromhex(secret) in body for body in staged.values())
    assert all(name.startswith(".out.partial/") for name in staged)


def test_marks_of_another_owner_folder_are_refused(tree: Path, bucket: str) -> None:
    unlearnable.protect(str(tree), f"{bucket}/out", of(FAST, fit_only=True))
    unlearnable.protect(str(tree), f"{bucket}/out", of(FAST, shard=(0, 2)))
    shutil.rmtree("out.owner")
    with pytest.raises(IntegrityError, match="cannot be opened with the key"):
        unlearnable.protect(str(tree), f"{bucket}/out", FAST)


def test_a_shard_whose_file_vanished_from_the_bucket_is_made_again(tree: Path, bucket: str) -> None:
    unlearnable.protect(str(tree), f"{bucket}/out", of(FAST, fit_only=True))
    unlearnable.protect(str(tree), f"{bucket}/out", of(FAST, shard=(0, 1)))
    lost = next(iter(data(there(f"{bucket}/.out.partial"))))
    fsspec.filesystem("memory").rm(f"{bucket}/.out.partial/{lost}")
    with pytest.raises(UsageError, match="are not done"):
        unlearnable.merge(f"{bucket}/out")
    unlearnable.protect(str(tree), f"{bucket}/out", FAST)
    assert unlearnable.check(f"{bucket}/out")["ok"]


def test_it_is_verified_on_the_bytes_that_lie_there(tree: Path, bucket: str) -> None:
    document = unlearnable.protect(str(tree), f"{bucket}/out", Options(preset="r16", seeds=1, victim="linear"))
    assert len(document["verification"]["arms"]["protected"]["peak"]["runs"]) == 1


def test_what_cannot_be_done_there_is_said_before_any_work(tree: Path, bucket: str) -> None:
    fsspec.filesystem("memory").pipe_file(f"{bucket}/out/other.txt", b"mine")
    with pytest.raises(UsageError, match="is not empty"):
        unlearnable.protect(str(tree), f"{bucket}/out", FAST)
    with pytest.raises(UsageError, match="is not empty"):
        unlearnable.plan_run(str(tree), f"{bucket}/out", FAST)
    with pytest.raises(UsageError, match="not changed in its place"):
        unlearnable.protect(str(tree), f"{bucket}/out", of(FAST, overwrite=True))
    with pytest.raises(UsageError, match="goes to the Hub by `push`"):
        unlearnable.protect(str(tree), "hf://datasets/owner/name", FAST)
    with pytest.raises(UsageError, match="is a whole bucket"):
        unlearnable.protect(str(tree), bucket, FAST)
    assert not [path.name for path in Path().iterdir() if path.name != "out.owner"]
    assert there(f"{bucket}/out") == {"other.txt": b"mine"}


def test_machines_of_a_cluster_need_not_share_the_staging_folder(
    tree: Path, tmp_path: Path, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(work: build.Work, shards: Sequence[Shard]) -> Iterator[Shard]:
        assert str(work.staging) not in ray._paths(work) and str(work.marks) in ray._paths(work)
        assert str(work.staging) in ray._paths(dataclasses.replace(work, depot=None))
        for shard in shards:
            shutil.rmtree(work.staging)  # each is made on a machine that never had one
            work.shard(shard)
            yield shard

    monkeypatch.setattr(local, "run", run)
    unlearnable.protect(str(tree), f"{bucket}/out", FAST)
    assert unlearnable.check(f"{bucket}/out")["ok"]


def test_files_are_read_back_several_at_a_time_and_in_order(
    tree: Path, bucket: str, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    met, real, heard = threading.Barrier(2), Place.fetch, list[bytes]()
    monkeypatch.setattr("release.formats.folder.MAX_ROWS", 20)

    def fetch(place: Place, file: Path) -> None:
        met.wait(30)  # one alone would wait in vain
        real(place, file)

    def finish(work: build.Work, built: Built, *rest: object) -> None:
        with monkeypatch.context() as now:
            now.setattr(Place, "fetch", fetch)
            heard.extend(reading.staged(work, built.rows))
        assert [hashlib.sha256(body).hexdigest() for body in heard] == [
            digest
            for row in built.rows
            for mark in sorted(work.marks.glob("*.json"))
            for path, digest in marks.files(mark).items()
            if path == row.path
        ]
        raise KeyboardInterrupt

    monkeypatch.setattr("unlearnable.api.finish", finish)
    with pytest.raises(KeyboardInterrupt):
        unlearnable.protect(str(tree), f"{bucket}/out", of(FAST, layout="folder"))
    assert len(heard) == 60

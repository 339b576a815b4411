"""A release in a bucket, made by several processes against an S3 server on this machine (moto)."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import s3_server
from made_pictures import write_tree

import unlearnable
from release import layout
from release.engines import local
from unlearnable import Options, remote
from unlearnable.errors import UsageError
from unlearnable.keys import Key

FAST = Options(preset="r16", verify="none", workers=2)


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with s3_server.bucket() as name:
        yield name


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Options:
    """With two forked workers and a key; owner folders are made in a folder of the test's own."""
    monkeypatch.setattr(remote, "_opened", {})
    monkeypatch.setattr(local, "FEW_IMAGES", 1)
    monkeypatch.setattr("release.formats.folder.MAX_ROWS", 10)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    Key.new().save(tmp_path / "key")
    return dataclasses.replace(FAST, key=tmp_path / "key")


def test_two_workers_fill_a_bucket_with_the_bytes_of_a_disk(tmp_path: Path, bucket: str, asked: Options) -> None:
    pictures = write_tree(tmp_path / "pictures", each=10)
    address = f"s3://{bucket}/protected"
    unlearnable.protect(str(pictures), address, asked)
    unlearnable.protect(str(pictures), tmp_path / "disk", asked)
    assert unlearnable.check(address)["ok"]
    there = remote.locate(address).files()
    data = sorted(path for path in (tmp_path / "disk" / "data").rglob("*") if path.is_file())
    assert [path for path in there if path.startswith("data/")] == [
        path.relative_to(tmp_path / "disk").as_posix() for path in data
    ]
    for path in data[::7]:
        name = path.relative_to(tmp_path / "disk").as_posix()
        assert (remote.locate(address) / name).read() == path.read_bytes()
    assert not remote.locate(f"s3://{bucket}/.protected.partial").files()


def test_parts_on_two_machines_and_a_source_in_the_bucket(
    tmp_path: Path, bucket: str, asked: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = write_tree(tmp_path / "pictures", each=10)
    for path in sorted(path for path in pictures.rglob("*") if path.is_file()):
        (remote.locate(f"s3://{bucket}/originals") / path.relative_to(pictures).as_posix()).put(path)
    source, address = f"s3://{bucket}/originals", f"s3://{bucket}/joined"
    unlearnable.protect(source, address, dataclasses.replace(asked, fit_only=True))
    for number in range(2):
        machine = tmp_path / f"machine{number}"
        machine.mkdir()
        shutil.copytree("joined.owner", machine / "joined.owner")
        with monkeypatch.context() as there:
            there.chdir(machine)
            unlearnable.protect(source, address, dataclasses.replace(asked, shard=(number, 2)))
    unlearnable.merge(address)
    unlearnable.protect(str(pictures), tmp_path / "disk", asked)
    assert unlearnable.check(address)["ok"]
    one, other = (
        {line.partition("  data/")[2]: line[:64] for line in text.splitlines() if "  data/" in line}
        for text in (
            (remote.locate(address) / layout.SUMS).read().decode(),
            (tmp_path / "disk" / layout.SUMS).read_text(),
        )
    )
    assert one == other and len(one) == 30


def test_a_misspelled_bucket_is_told_before_the_fit_and_not_made(
    tmp_path: Path, bucket: str, asked: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = write_tree(tmp_path / "pictures", each=10)
    monkeypatch.setattr("unlearnable.api.learn", lambda *given: pytest.fail("it was fitted"))
    with pytest.raises(UsageError, match=r"nothing at s3://fotos,"):
        unlearnable.protect(str(pictures), "s3://fotos/protected", asked)
    with pytest.raises(UsageError, match=r"nothing at s3://fotos"):
        (remote.locate("s3://fotos/protected") / "a").put(sorted(pictures.rglob("*.png"))[0])
    assert "fotos" not in [each["Name"] for each in s3_server.boto3.client("s3").list_buckets()["Buckets"]]

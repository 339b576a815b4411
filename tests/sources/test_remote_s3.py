"""Promises of a source in a bucket, kept against an S3 server on this machine (moto)."""

from __future__ import annotations

import json
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import s3_server
from made_pictures import write_tree
from remote_files import put
from source_files import as_parquet, picture, tree

import unlearnable
from release import layout
from release.engines import local
from release.formats import folder
from unlearnable import Options, remote
from unlearnable.errors import HubError, ImageError, IntegrityError, UsageError
from unlearnable.sources import open_source

boto3 = s3_server.boto3
SECRET = s3_server.SECRET


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """A bucket's name, on a server that lasts for the module."""
    with s3_server.bucket() as name:
        yield name


@pytest.fixture
def fresh(bucket: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The bucket, met by a process that has no connection yet."""
    monkeypatch.setattr(remote, "_opened", {})
    return bucket


def client() -> object:
    return boto3.client("s3")


@contextmanager
def cutting() -> Iterator[str]:
    """A server that promises a thousand bytes, sends three and hangs up."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"abc")

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.skipif(sys.platform != "linux", reason="workers are forked on Linux alone")
def test_a_bucket_and_a_copy_of_it_give_the_same_release(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With workers, which are forked while connections to the bucket are open here."""
    monkeypatch.setattr(local, "FEW_IMAGES", 1)
    monkeypatch.setattr(folder, "MAX_ROWS", 6)
    key = tmp_path / "my.key"
    key.write_text("00112233445566778899aabbccddeeff" * 2)
    root, made = write_tree(tmp_path / "in", each=8), []
    for source, workers in ((str(root), 1), (put(root, f"s3://{bucket}/release"), 2)):
        out = tmp_path / f"out{workers}"
        done = unlearnable.protect(source, out, Options(preset="r16", verify="none", key=key, workers=workers))
        assert done["images"] == {"total": 24, "protected": 24, "skipped": 0}
        files = {str(p.relative_to(out)): p.read_bytes() for p in (out / "data").rglob("*") if p.is_file()}
        made.append(
            (files, [e for e in json.loads((out / layout.MANIFEST).read_text())["files"] if e["kind"] == "data"])
        )
        for file in [*out.rglob("*"), *out.with_name(f"{out.name}.owner").rglob("*")]:
            assert not file.is_file() or SECRET.encode() not in file.read_bytes()
    assert made[0] == made[1]


def test_what_only_a_bucket_can_hold(bucket: str) -> None:
    """Marks of folders, two slashes in a row, a name that is a file and a folder, names that lead out."""
    for name in ("a/1.png", "b/2.png", "b/3.png", "b/3.png/in.png", "a//4.png", "../5.png", "b/back\\slash.png"):
        client().put_object(Bucket=bucket, Key=f"odd/{name}", Body=picture(len(name)))
    for name in ("odd/", "odd/a/", "odd/none/"):
        client().put_object(Bucket=bucket, Key=name, Body=b"")
    source = open_source(f"s3://{bucket}/odd", labels="folders")
    assert [record.id for record in source.records] == ["a/1.png", "b/2.png", "b/3.png/in.png"]
    assert {(skip.id, skip.reason.partition(",")[0].partition(";")[0]) for skip in source.skipped} == {
        ("..", "hidden folder"),
        ("a/", "a folder without a name"),
        ("b/3.png", "has the name of a folder too"),
        ("b/back\\slash.png", "its name holds a backslash or a zero byte"),
    }


def test_more_files_than_one_answer_holds(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """S3 answers with a thousand names at a time, this server with three."""
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "3")
    names = [f"{n % 2}/{n:02d}.png" for n in range(20)]
    source = open_source(put(tree(tmp_path, *names), f"s3://{bucket}/many"))
    assert [record.id for record in source.records] == sorted(names)


def test_an_object_that_vanishes_or_changes_midway_costs_itself_alone(bucket: str, tmp_path: Path) -> None:
    source = open_source(put(tree(tmp_path, "a/1.png", "a/2.png", "b/3.png"), f"s3://{bucket}/midway"))
    gone, changed, kept = source.records
    client().delete_object(Bucket=bucket, Key="midway/a/1.png")
    client().put_object(Bucket=bucket, Key="midway/a/2.png", Body=source.read(changed)[:-1] + b"x")
    with pytest.raises(ImageError, match=r"a/1\.png cannot be read \(it is gone\)"):
        source.read(gone)
    with pytest.raises(ImageError, match=r"a/2\.png was changed"):
        source.read(changed)
    assert source.read(kept) == picture(2)


def test_an_object_that_was_stored_in_parts_is_told_from_a_changed_one(bucket: str) -> None:
    """Its ETag is no checksum of its bytes."""
    half = b"\x89PNG\r\n\x1a\n" + bytes(5 << 20)
    upload = client().create_multipart_upload(Bucket=bucket, Key="parts/a.png")["UploadId"]
    where = {"Bucket": bucket, "Key": "parts/a.png", "UploadId": upload}
    tags = [client().upload_part(**where, PartNumber=n, Body=half)["ETag"] for n in (1, 2)]
    parts = [{"PartNumber": n, "ETag": tag} for n, tag in enumerate(tags, 1)]
    client().complete_multipart_upload(**where, MultipartUpload={"Parts": parts})
    source = open_source(f"s3://{bucket}/parts")
    assert source.read(source.records[0]) == half * 2
    client().put_object(Bucket=bucket, Key="parts/a.png", Body=half + half[::-1])
    with pytest.raises(ImageError, match="was changed"):
        source.read(source.records[0])


def test_parquet_in_a_bucket_is_read_by_ranges(
    bucket: str, rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = as_parquet(rows, tmp_path / "in")
    here, there = open_source(str(root)), open_source(put(root, f"s3://{bucket}/tables"))
    whole: list[str] = []
    real: Callable[..., bytes] = remote.Place.read

    def read(place: remote.Place, start: int | None = None, *rest: object, **named: object) -> bytes:
        whole.extend([place.url] if start is None else [])
        return real(place, start, *rest, **named)

    monkeypatch.setattr(remote.Place, "read", read)
    assert [(r.id, r.label) for r in there.records] == [(r.id, r.label) for r in here.records]
    assert [there.read(r) for r in there.records] == [here.read(r) for r in here.records]
    assert not whole
    changed = open_source(f"s3://{bucket}/tables")
    client().put_object(Bucket=bucket, Key="tables/data/train-00000-of-00002.parquet", Body=b"PAR1")
    with pytest.raises(IntegrityError, match="was changed"):
        changed.read(changed.records[0])


def test_no_bucket_no_folder_and_an_empty_bucket(bucket: str) -> None:
    client().create_bucket(Bucket="nothing-in-it")
    for url in ("s3://no-such-bucket", "s3://no-such-bucket/x", f"s3://{bucket}/no-such-folder"):
        with pytest.raises(UsageError, match=f"There is nothing at {url}"):
            open_source(url)
    with pytest.raises(UsageError, match="it is empty"):
        open_source("s3://nothing-in-it")


def test_a_bucket_that_refuses_says_so_without_the_key(fresh: str, monkeypatch: pytest.MonkeyPatch) -> None:
    denied = {"Error": {"Code": "AccessDenied", "Message": "AKIAIOSFODNN7EXAMPLE is not authorized"}}
    files, _ = remote.Place(f"s3://{fresh}")._at()
    from botocore.exceptions import ClientError

    async def refuses(*_: object, **__: object) -> None:
        raise ClientError(denied, "ListObjectsV2")  # type: ignore[arg-type]

    monkeypatch.setattr(files, "_call_s3", refuses)
    with pytest.raises(HubError, match="may not be read") as caught:
        open_source(f"s3://{fresh}/midway")
    assert "AKIA" not in str(caught.value) and caught.value.exit_code == 6


def test_without_credentials_the_way_out_is_named(fresh: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    with pytest.raises(HubError, match=r"asks who you are .*AWS_PROFILE or AWS_ACCESS_KEY_ID"):
        open_source(f"s3://{fresh}/midway")


def test_a_storage_that_is_not_there_is_the_networks_fault(fresh: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{unused.getsockname()[1]}")
    with pytest.raises(HubError, match=r"could not be read .*Check the address and the network"):
        open_source(f"s3://{fresh}/midway")


def test_a_line_that_drops_midway_ends_the_run_and_skips_no_image(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = open_source(put(tree(tmp_path, "a/1.png", "b/2.png"), f"s3://{bucket}/dropped"))
    with cutting() as address:
        for url in (address, "http://127.0.0.1:9"):
            monkeypatch.setattr(remote, "_opened", {})
            monkeypatch.setenv("AWS_ENDPOINT_URL", url)
            with pytest.raises(HubError, match=r"dropped/a/1\.png could not be read"):
                source.read(source.records[0])

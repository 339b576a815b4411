"""Promises of zip and tar sources: the images of a tree without unpacking it, and every member accounted for."""

from __future__ import annotations

import gzip
import io
import pickle
import random
import tarfile
import warnings
import zipfile
from pathlib import Path

import pytest
from archives import MAKERS, as_tar, as_zip, tar_bytes
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from source_files import picture

from unlearnable.errors import ImageError, IntegrityError, UsageError
from unlearnable.sources import _tree, open_source
from unlearnable.sources._gzip import GzipReader

NAMES = ["cat/1.png", "cat/2.PNG", "dog/1.png", "dog/deep ü/3.png"]


def ids(source) -> list[str]:
    return [record.id for record in source.records]


def reasons(source) -> dict[str, str]:
    return {skip.id: skip.reason for skip in source.skipped}


def members(*names: str) -> list[tuple[str, bytes]]:
    return [(name, picture(seed)) for seed, name in enumerate(names)]


@pytest.fixture(params=MAKERS)
def make(request: pytest.FixtureRequest, tmp_path: Path):
    return lambda found: MAKERS[request.param](tmp_path / f"photos.{request.param}", found)


def test_an_archive_gives_the_records_and_bytes_of_its_tree(make, tmp_path: Path) -> None:
    for name, data in members(*NAMES):
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    before = sorted(p.name for p in tmp_path.iterdir())
    packed, plain = (
        open_source(str(make(members(*NAMES))), labels="folders"),
        open_source(str(tmp_path / "tree"), labels="folders"),
    )
    assert packed.tree and packed.records == plain.records and packed.classes == plain.classes == ("cat", "dog")
    for record in random.Random(0).sample(list(packed.records), 4):
        assert packed.read(record) == plain.read(record)
    assert len(list(tmp_path.iterdir())) == len(before) + 1, "nothing is unpacked"


def test_another_process_reads_the_same(make) -> None:
    source = open_source(str(make(members(*NAMES))), labels="none")
    again = pickle.loads(pickle.dumps(source))
    assert [again.read(r) for r in again.records] == [source.read(r) for r in source.records]


def test_every_member_is_a_record_or_skipped_with_its_reason(make) -> None:
    found = [
        *members("./a.png", "cat//b.jpg", "scan"),
        *[("README.txt", b"text"), ("__MACOSX/._a.png", b"x"), (".hidden/c.png", picture(0))],
        *[("/etc/evil.png", picture(0)), ("../up.png", picture(0)), ("a/../../up.png", picture(0))],
        *[("C:/windows.png", picture(0)), ("back\\slash.png", picture(0)), ("more.zip", b"PK"), ("older.tar.gz", b"")],
        *[("A.png", picture(1)), ("x" * 252 + ".png", picture(0)), ("cat", picture(3))],
    ]
    source = open_source(str(make(found)))
    assert sorted(ids(source)) == ["A.png", "cat/b.jpg", "scan"]
    told = reasons(source)
    assert told.pop("a.png").startswith("differs only in case from A.png")
    for name in ("/etc/evil.png", "../up.png", "a/../../up.png", "C:/windows.png"):
        assert told.pop(name) == "its name leads out of the archive; rename it"
    assert told.pop("x" * 252 + ".png") == "its name is longer than 255 bytes; rename it"
    assert told == {
        ".hidden/c.png": "hidden file",
        "README.txt": "not an image",
        "__MACOSX/._a.png": "hidden file",
        "back\\slash.png": "its name holds a backslash or a zero byte; rename it",
        "cat": "has the name of a folder too; rename it",
        "more.zip": _tree.ARCHIVE,
        "older.tar.gz": _tree.ARCHIVE,
    }


def test_of_two_members_of_one_name_the_last_counts_as_when_unpacked(make) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile warns of it
        source = open_source(str(make([("a.png", picture(1)), ("b.png", picture(2)), ("a.png", picture(3))])))
    assert sorted(ids(source)) == ["a.png", "b.png"]
    assert next(source.read(r) for r in source.records if r.id == "a.png") == picture(3)
    assert reasons(source) == {"a.png": "stands in the archive again further on; only the last one counts"}


def test_an_archive_without_images_or_cut_short_says_so(make) -> None:
    path = make([("a.txt", b"x")])
    with pytest.raises(UsageError, match=r"no images: found 1 x not an image \(\.txt\)"):
        open_source(str(path))
    whole = make(members(*NAMES)).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UsageError, match=r"(?s)cannot be read as a .* archive.*whole copy"):
        open_source(str(path))


def test_encrypted_members_and_links_of_a_zip_are_named(tmp_path: Path) -> None:
    path = as_zip(tmp_path / "x.zip", members("a.png", "secret.png"), zipfile.ZIP_STORED)
    link = zipfile.ZipInfo("link.png")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(link, "a.png")
    raw = bytearray(path.read_bytes())
    raw[raw.rindex(b"secret.png") - 46 + 8] |= 1  # the flag in the archive's directory
    path.write_bytes(raw)
    source = open_source(str(path))
    assert ids(source) == ["a.png"]
    assert reasons(source)["secret.png"].startswith("encrypted; unpack the archive with its password")
    assert reasons(source)["link.png"] == "a link inside the archive"


def test_a_damaged_member_of_a_zip_is_one_images_error(tmp_path: Path) -> None:
    path = as_zip(tmp_path / "x.zip", members("a.png", "b.png"), zipfile.ZIP_STORED)
    raw = bytearray(path.read_bytes())
    raw[raw.index(picture(0)) + 40] ^= 255
    path.write_bytes(raw)
    source = open_source(str(path))
    with pytest.raises(ImageError, match=r"a\.png cannot be read from the archive"):
        source.read(source.records[0])
    assert source.read(source.records[1]) == picture(1)


def test_names_that_a_zip_stores_as_utf8_without_saying_so(tmp_path: Path) -> None:
    path = as_zip(tmp_path / "x.zip", members("ub.png"))
    path.write_bytes(path.read_bytes().replace(b"ub.png", "ü.png".encode()[:2] + b".png"))
    assert ids(open_source(str(path))) == ["ü.png"]


def test_links_and_pipes_of_a_tar_are_skipped(tmp_path: Path) -> None:
    path = as_tar(tmp_path / "x.tar", members("a.png"))
    with tarfile.open(path, "a") as archive:
        for name, kind in (("l.png", tarfile.SYMTYPE), ("h.png", tarfile.LNKTYPE), ("p.png", tarfile.FIFOTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "a.png"
            archive.addfile(info)
    assert reasons(open_source(str(path))) == {
        "l.png": "a link inside the archive",
        "h.png": "a link inside the archive",
        "p.png": "not an image (a device, pipe or socket)",
    }


def test_a_tar_that_changes_midway_stops_the_run(tmp_path: Path) -> None:
    source = open_source(str(as_tar(tmp_path / "x.tar", members("a.png", "b.png"))))
    as_tar(tmp_path / "x.tar", members("a.png", "b.png", "c.png"))
    with pytest.raises(IntegrityError, match="changed while we ran"):
        source.read(source.records[0])


@pytest.mark.parametrize(("module", "ending", "way"), [("bz2", "bz2", "bunzip2"), ("lzma", "xz", "unxz")])
def test_other_packings_are_refused_with_the_way_out(tmp_path: Path, module: str, ending: str, way: str) -> None:
    path = tmp_path / f"x.tar.{ending}"
    path.write_bytes(__import__(module).compress(tar_bytes(members("a.png"))))
    with pytest.raises(UsageError, match=rf"(?s)cannot be read at random.*{way} -k"):
        open_source(str(path))


# --- random access to gzip ---


def test_a_gzip_file_is_read_at_any_place_without_starting_again(tmp_path: Path) -> None:
    body = b"".join(random.Random(i).randbytes(5_000) + b"even" * 2_000 for i in range(40))
    packed = gzip.compress(body[:200_000]) + gzip.compress(body[200_000:]) + b"\0" * 512  # two files in one
    (tmp_path / "x.gz").write_bytes(packed)
    raw = GzipReader(tmp_path / "x.gz", span=10_000)
    reader = io.BufferedReader(raw)
    assert reader.read() == body
    assert len(raw._points) > 20
    rng = random.Random(1)
    for _ in range(60):
        start = rng.randrange(len(body))
        reader.seek(start)
        assert reader.read(777) == body[start : start + 777]
    reader.close()


def test_the_states_that_are_kept_of_a_gzip_file_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unlearnable.sources._gzip._MOST", 8)
    body = random.Random(0).randbytes(300_000)
    (tmp_path / "x.gz").write_bytes(gzip.compress(body))
    raw = GzipReader(tmp_path / "x.gz", span=1_000)
    assert io.BufferedReader(raw).read() == body
    assert len(raw._points) <= 9


def test_a_gzip_whose_checksum_is_wrong_is_refused(tmp_path: Path) -> None:
    path = as_tar(tmp_path / "x.tgz", members(*NAMES))
    raw = bytearray(path.read_bytes())
    raw[-6] ^= 255
    path.write_bytes(raw)
    with pytest.raises(UsageError, match="cannot be read as a tar archive"):
        open_source(str(path))


# --- any name ---

part = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=12)
odd = st.one_of(part, st.sampled_from(["..", ".", "", "C:", "\\", "__MACOSX", "a", "A"]))
paths = st.lists(odd, min_size=1, max_size=4).map("/".join)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(paths, min_size=1, max_size=6), st.sampled_from(["zip", "tar", "tar.gz"]))
def test_any_member_name_is_found_once_or_skipped_once(tmp_path_factory, names: list[str], kind: str) -> None:
    root = tmp_path_factory.mktemp("any")
    found = [(f"{name}.png", picture(0)) for name in names]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = MAKERS[kind](root / f"x.{kind}", [*found, ("last.png", picture(0))])
        source = open_source(str(path), labels="none")
    assert len(source.records) + len(source.skipped) == len(found) + 1
    release = (root / "release").resolve()
    for record in source.records:
        assert (release / record.id).resolve().is_relative_to(release)
        assert not any(piece in ("", ".", "..") for piece in record.id.split("/"))
        assert source.read(record) == picture(0)

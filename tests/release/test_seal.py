"""Sealing writes what vouches for the data, once, whole, and without a secret in it."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import os
import re
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from made_release import METHOD_WORDS, picture

from release import hashing, keyring, layout
from release.check import check
from release.facts import Facts, Measured, realised
from release.manifest import Manifest
from release.seal import publish, seal, sums_bytes
from unlearnable.errors import IntegrityError, UsageError

Made = Callable[..., Facts]


@pytest.fixture
def staging(tmp_path: Path) -> Path:
    folder = tmp_path / ".out.partial"
    folder.mkdir()
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path: (folder / path).read_bytes() for path in hashing.walk(folder)}


def test_a_sealed_folder_checks_and_lists_every_file(tmp_path: Path, staging: Path, made: Made) -> None:
    manifest = seal(staging, tmp_path / "out.owner", made(staging))
    assert check(staging).ok
    listed = {entry.path for entry in manifest.files}
    assert set(contents(staging)) - listed == {layout.MANIFEST, layout.SUMS, layout.ATTESTATION}
    assert Manifest.from_bytes((staging / layout.MANIFEST).read_bytes()) == manifest
    first = next(entry for entry in manifest.files if entry.path == "data/train/cat/1.png")
    assert (first.kind, first.images, first.linf, first.psnr) == ("data", 1, 8, 31.13)


def test_coreutils_agree_with_the_checksums(tmp_path: Path, staging: Path, made: Made) -> None:
    facts = made(staging)
    odd = "data/train/cat/two\nlines and spaces é.png"
    (staging / odd).write_bytes(picture(9))
    counts = {"total": 6, "protected": 5, "skipped": 1}
    measured = {**facts.measured, odd: Measured(images=1, linf=1, p999=1.0, psnr=50.0)}
    seal(staging, tmp_path / "out.owner", made(staging, measured=measured, counts=counts))
    done = subprocess.run(["sha256sum", "-c", "--strict", layout.SUMS], cwd=staging, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert check(staging).ok


def test_sealing_again_changes_nothing(tmp_path: Path, staging: Path, made: Made) -> None:
    facts = made(staging)
    seal(staging, tmp_path / "out.owner", facts)
    before = contents(staging)
    (staging / f".{layout.CARD}.new").write_text("left by a crash")
    seal(staging, tmp_path / "out.owner", facts)
    assert contents(staging) == before


def test_a_seal_that_failed_leaves_no_signature(tmp_path: Path, staging: Path, made: Made) -> None:
    facts = made(staging)
    seal(staging, tmp_path / "out.owner", facts)
    (staging / "data/train/cat/1.png").unlink()
    with pytest.raises(IntegrityError, match=r"data/train/cat/1\.png"):
        seal(staging, tmp_path / "out.owner", facts)
    assert not (staging / layout.ATTESTATION).exists()


def test_a_file_nobody_knows_is_named(tmp_path: Path, staging: Path, made: Made) -> None:
    facts = made(staging)
    for stray in ("data/train/cat/original.png", "notes.txt"):
        (staging / stray).write_bytes(b"clean")
        with pytest.raises(IntegrityError, match=re.escape(stray)):
            seal(staging, tmp_path / "out.owner", facts)
        (staging / stray).unlink()


def test_a_link_is_refused(tmp_path: Path, staging: Path, made: Made) -> None:
    facts = made(staging)
    (staging / "data/train/cat/1.png").unlink()
    (staging / "data/train/cat/1.png").symlink_to(tmp_path)
    with pytest.raises(IntegrityError, match="not a plain file"):
        seal(staging, tmp_path / "out.owner", facts)


def test_named_documents_ship_and_others_do_not(tmp_path: Path, staging: Path, made: Made) -> None:
    (staging / "LICENSE").write_text("All rights reserved.")
    manifest = seal(staging, tmp_path / "out.owner", made(staging, documents=("LICENSE",)))
    assert next(entry for entry in manifest.files if entry.path == "LICENSE").kind == "document"
    with pytest.raises(IntegrityError, match="LICENCE was written, but is not"):
        seal(staging, tmp_path / "out.owner", made(staging, documents=("LICENSE", "LICENCE")))


def test_numbers_that_cannot_be_true_are_refused(staging: Path, made: Made) -> None:
    with pytest.raises(IntegrityError, match="5 images were found"):
        made(staging, counts={"total": 5, "protected": 4, "skipped": 0})
    with pytest.raises(IntegrityError, match="3 images were protected, but the files hold 4"):
        made(staging, counts={"total": 3, "protected": 3, "skipped": 0})
    with pytest.raises(IntegrityError, match=r"3\.png changes a pixel by 8 grey levels; the budget is 4"):
        made(staging, levels=4, measured=dict(list(made(staging).measured.items())[-1:]), counts=ONE)
    assert made(staging, levels=4, guaranteed=False).levels == 4


ONE = {"total": 1, "protected": 1, "skipped": 0}


def test_the_release_as_a_whole_is_measured_by_image(staging: Path, made: Made) -> None:
    files = {
        "data/a.parquet": Measured(3, 8, 8.0, 30.0),
        "data/b.parquet": Measured(1, 11, 9.0, 34.0),
        "data/unchanged.parquet": Measured(2, 0, 0.0, math.inf),
        "data/labels.csv": Measured(0),
    }
    found = realised(made(staging, measured=files, guaranteed=False, counts={"total": 6, "protected": 6, "skipped": 0}))
    assert found is not None
    assert (found.linf, found.p999, found.psnr) == (11, 9.0, 31.0)


def test_no_secret_is_in_the_release(tmp_path: Path, staging: Path, made: Made) -> None:
    owner = tmp_path / "out.owner"
    seal(staging, owner, made(staging))
    kept = keyring.require().secrets()
    for path, data in contents(staging).items():
        for secret in (kept.seed, kept.root):
            assert secret not in data and secret.hex().encode() not in data, path
            assert base64.b64encode(secret)[:-2] not in data, path
        assert path not in (layout.SIGNING_KEY, layout.KEY, layout.RECEIPT)
    assert stat.S_IMODE(owner.stat().st_mode) == 0o700
    assert stat.S_IMODE((owner / layout.OWNER_REPORT).stat().st_mode) == 0o600


def test_no_public_file_names_the_method(tmp_path: Path, staging: Path, made: Made) -> None:
    seal(staging, tmp_path / "out.owner", made(staging))
    documents = {path: data.decode() for path, data in contents(staging).items() if not path.startswith("data/")}
    payload = json.loads(documents[layout.ATTESTATION])["payload"]
    documents["the signed statement"] = base64.b64decode(payload).decode()
    for path, text in documents.items():
        for word in (*METHOD_WORDS, "/home/owner", "4242", "811", "977"):
            assert not re.search(rf"\b{re.escape(word)}\b", _without_hashes(text)), (path, word)
    owners = (tmp_path / "out.owner" / layout.OWNER_REPORT).read_text()
    assert all(word in owners for word in METHOD_WORDS)


def _without_hashes(text: str) -> str:
    return re.sub(r"[0-9a-f]{64}|data:image/[a-z]+;base64,[\w+/=]+", "", text)


def test_a_skipped_file_may_have_any_name(tmp_path: Path, staging: Path, made: Made) -> None:
    seal(staging, tmp_path / "out.owner", made(staging, owner_extra={"skipped": [("odd\udcff.png", "broken")]}))
    assert "odd\\udcff.png" in (tmp_path / "out.owner" / layout.OWNER_REPORT).read_text()


def test_the_owner_folder_lies_outside(staging: Path, made: Made) -> None:
    with pytest.raises(UsageError, match="inside the release"):
        seal(staging, staging / "owner", made(staging))


def test_publish_renames_and_leaves_nothing_behind(tmp_path: Path, staging: Path, made: Made) -> None:
    seal(staging, tmp_path / "out.owner", made(staging))
    publish(staging, tmp_path / "out")
    assert check(tmp_path / "out").ok
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "out.owner"]


def test_publish_takes_an_empty_folder_but_not_a_full_one(tmp_path: Path, staging: Path, made: Made) -> None:
    seal(staging, tmp_path / "out.owner", made(staging))
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(UsageError, match=r"not empty|not a release"):
            publish(staging, out, overwrite)
    assert (out / "mine.txt").read_text() == "mine" and staging.exists()
    (out / "mine.txt").unlink()
    publish(staging, out)
    assert check(out).ok


def test_publish_refuses_what_is_not_sealed(tmp_path: Path, staging: Path, made: Made) -> None:
    made(staging)
    with pytest.raises(IntegrityError, match="not sealed"):
        publish(staging, tmp_path / "out")


def published_twice(tmp_path: Path, staging: Path, made: Made) -> Path:
    """An old release at out, and a new one with another name, staged and sealed."""
    seal(staging, tmp_path / "out.owner", made(staging))
    publish(staging, tmp_path / "out")
    staging.mkdir()
    seal(staging, tmp_path / "out.owner", made(staging, name="Newer"))
    return tmp_path / "out"


def test_overwriting_replaces_the_whole_release(tmp_path: Path, staging: Path, made: Made) -> None:
    out = published_twice(tmp_path, staging, made)
    with pytest.raises(UsageError, match="--overwrite"):
        publish(staging, out)
    publish(staging, out, overwrite=True)
    assert check(out).ok and "# Newer" in (out / layout.CARD).read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "out.owner"]


def test_overwriting_never_loses_what_the_owner_added(tmp_path: Path, staging: Path, made: Made) -> None:
    out = published_twice(tmp_path, staging, made)
    (out / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"notes\.txt"):
        publish(staging, out, overwrite=True)
    assert (out / "notes.txt").read_text() == "mine"


def test_a_rename_that_fails_brings_the_old_release_back(
    tmp_path: Path, staging: Path, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = published_twice(tmp_path, staging, made)
    rename = Path.rename

    def failing(self: Path, target: Path) -> Path:
        if self == staging:
            raise OSError("disk full")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(OSError, match="disk full"):
        publish(staging, out, overwrite=True)
    assert check(out).ok and "# Herbarium" in (out / layout.CARD).read_text()


def test_checksums_escape_line_breaks_as_coreutils_do() -> None:
    assert sums_bytes({"b": "2" * 64, "a\nb": "1" * 64}).decode() == f"\\{'1' * 64}  a\\nb\n{'2' * 64}  b\n"


def test_hashes_come_in_order_and_errors_in_their_place(tmp_path: Path) -> None:
    (tmp_path / "b").write_bytes(b"abc")
    found = list(hashing.digests(tmp_path, ["gone", "b"]))
    assert [path for path, _ in found] == ["gone", "b"]
    assert isinstance(found[0][1], FileNotFoundError)
    assert found[1][1] == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, appendix B.1


def test_a_signing_key_survives_resealing(tmp_path: Path, staging: Path, made: Made) -> None:
    seal(staging, tmp_path / "out.owner", made(staging))
    key = check(staging).signer
    seal(staging, tmp_path / "out.owner", made(staging, name="Other"))
    assert check(staging).signer == key


def test_hashes_are_those_of_the_whole_file_however_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = (0, 1, 2**16 - 1, 2**16, 2**16 + 1, 2**18 + 5)
    for size in sizes:
        (tmp_path / str(size)).write_bytes(bytes(range(251)) * (size // 251 + 1))
        with (tmp_path / str(size)).open("r+b") as file:
            file.truncate(size)

    def right() -> bool:
        found = dict(hashing.digests(tmp_path, [str(size) for size in sizes]))
        return found == {str(s): hashlib.sha256((tmp_path / str(s)).read_bytes()).hexdigest() for s in sizes}

    assert right()
    plain, most = os.read, [10**9]
    monkeypatch.setattr(
        os, "read", lambda descriptor, count: plain(descriptor, min(count, most.pop() if most else count))
    )
    for short in (1000, 0x7FFF):
        most[:] = [short]
        assert right(), "a disk may give less than was asked for"
        most[:] = [short] * 40
        assert right()

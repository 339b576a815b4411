"""A run that fills remote storage, killed at any request: the same command again ends in one whole release, and no more."""

from __future__ import annotations

import dataclasses
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

import unlearnable
from release import depot, finish, layout, marks
from unlearnable import Options
from unlearnable.errors import UsageError
from unlearnable.keys import Key
from unlearnable.remote import Place

CHANGES = ("put", "write", "copy", "remove")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Options:
    """Three shards, a key, and a folder of the test's own for owner folders."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr("release.formats.parquet.MAX_ROWS", 20)
    Key.new().save(tmp_path / "key")
    return Options(preset="r16", verify="none", layout="parquet", key=tmp_path / "key")


@pytest.fixture
def bucket() -> Iterator[str]:
    name = f"bucket-{uuid.uuid4().hex}"
    yield f"memory://{name}"
    files = fsspec.filesystem("memory")
    if files.exists(name):
        files.rm(name, recursive=True)


def there(address: str) -> dict[str, bytes]:
    files = fsspec.filesystem("memory")
    root = files._strip_protocol(address)
    return {path.removeprefix(f"{root}/"): files.cat_file(path) for path in sorted(files.find(root))}


def data(found: dict[str, bytes]) -> dict[str, bytes]:
    return {name: body for name, body in found.items() if name.startswith("data/")}


class Killer:
    """Lets so many changes of the storage through; from then on the machine is gone."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left: float = float("inf")
        self.done: list[str] = []
        for name in CHANGES:
            monkeypatch.setattr(Place, name, self._counted(name, getattr(Place, name)))

    def _counted(self, name: str, real: Any) -> Any:
        def counted(place: Place, *given: Any) -> None:
            if self.left <= 0:
                raise KeyboardInterrupt
            self.left -= 1
            real(place, *given)
            self.done.append(f"{name} {place}")

        return counted


@pytest.fixture
def killer(monkeypatch: pytest.MonkeyPatch) -> Killer:
    monkeypatch.setattr(depot, "AT_ONCE", 1)  # the same order every time
    return Killer(monkeypatch)


def killed_and_again(tree: Path, address: str, asked: Options, killer: Killer, after: int) -> dict[str, Any]:
    killer.left = after
    with pytest.raises(KeyboardInterrupt):
        unlearnable.protect(str(tree), address, asked)
    killer.left = float("inf")
    return unlearnable.protect(str(tree), address, asked)


def moments(tree: Path, address: str, asked: Options, killer: Killer) -> list[str]:
    """Every change that a run makes of the storage, in order."""
    unlearnable.protect(str(tree), address, dataclasses.replace(asked))
    done, killer.done = killer.done, []
    return done


def is_one_release(bucket: str, document: dict[str, Any], whole: dict[str, bytes]) -> None:
    found = there(bucket)
    assert data(there(f"{bucket}/out")) == whole
    assert all(name.startswith(("out/", "first/")) for name in found), "nothing of the staging is left"
    assert unlearnable.check(f"{bucket}/out")["ok"] and document["images"]["protected"] == 60
    owner = Path(document["owner"])
    assert (owner / layout.STATE / layout.RECEIPT).exists() and not (owner / layout.UNFINISHED).exists()
    assert len(list((owner / layout.STATE / layout.SHARDS).glob("*.json"))) == 3
    assert not Path(".out.partial").exists()


@pytest.mark.parametrize("moment", ["upload", "mark", "document", "move", "signature", "clear", "last"])
def test_a_rerun_finishes_what_was_killed_at(
    moment: str, tree: Path, bucket: str, asked: Options, killer: Killer
) -> None:
    done = moments(tree, f"{bucket}/first", asked, killer)
    after = {
        "upload": next(n for n, change in enumerate(done) if change.startswith("put") and "data/" in change) + 1,
        "mark": [n for n, change in enumerate(done) if change.startswith("write") and "marks/" in change][1] + 1,
        "document": next(n for n, change in enumerate(done) if change.endswith("partial/manifest.json")) + 1,
        "move": next(n for n, change in enumerate(done) if change.startswith("copy")) + 2,
        "signature": next(n for n, c in enumerate(done) if c.startswith("copy") and c.endswith(layout.ATTESTATION)) + 1,
        "clear": next(n for n, c in enumerate(done) if c.startswith("copy") and c.endswith(layout.ATTESTATION)) + 4,
        "last": len(done) - 1,
    }[moment]
    document = killed_and_again(tree, f"{bucket}/out", asked, killer, after)
    is_one_release(bucket, document, data(there(f"{bucket}/first")))


@pytest.mark.slow
def test_killed_at_every_single_request(
    tree: Path, bucket: str, asked: Options, killer: Killer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = moments(tree, f"{bucket}/first", asked, killer)
    for after in range(len(done)):
        (tmp_path / f"{after}").mkdir()
        monkeypatch.chdir(tmp_path / f"{after}")
        document = killed_and_again(tree, f"{bucket}/out", asked, killer, after)
        is_one_release(bucket, document, data(there(f"{bucket}/first")))
        fsspec.filesystem("memory").rm(f"{bucket}/out", recursive=True)


@pytest.mark.parametrize("step", ["finished", "rmtree"])
def test_killed_when_all_has_arrived_the_owner_folder_is_finished_too(
    step: str, tree: Path, bucket: str, asked: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(*given: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as now, pytest.raises(KeyboardInterrupt):
        now.setattr(*((finish, "finished", dies) if step == "finished" else (finish.shutil, "rmtree", dies)))  # type: ignore[attr-defined]
        unlearnable.protect(str(tree), f"{bucket}/out", asked)
    shutil.rmtree(".out.partial")  # documents alone, which somebody may take for rubbish
    if step == "finished":
        document = unlearnable.protect(str(tree), f"{bucket}/out", asked)
        is_one_release(bucket, document, data(there(f"{bucket}/out")))
    with pytest.raises(UsageError, match="is not empty"):
        unlearnable.protect(str(tree), f"{bucket}/out", asked)
    assert (Path("out.owner") / layout.STATE / layout.RECEIPT).exists()


def test_what_a_stopped_move_left_of_another_state_of_the_source_does_not_ship(
    tree: Path, bucket: str, asked: Options, killer: Killer
) -> None:
    asked = dataclasses.replace(asked, layout="folder")
    done = moments(tree, f"{bucket}/first", asked, killer)
    killer.left = next(n for n, c in enumerate(done) if c.startswith("copy") and c.endswith(layout.ATTESTATION))
    with pytest.raises(KeyboardInterrupt):
        unlearnable.protect(str(tree), f"{bucket}/out", asked)
    killer.left = float("inf")
    lost = sorted(tree.rglob("*.png"))[5]
    lost.write_bytes(bytes(lost.stat().st_size))
    unlearnable.protect(str(tree), f"{bucket}/out", asked)
    assert len(data(there(f"{bucket}/out"))) == 59 and unlearnable.check(f"{bucket}/out")["ok"]


def test_a_strangers_file_that_came_meanwhile_is_neither_lost_nor_sealed(
    tree: Path, bucket: str, asked: Options, killer: Killer
) -> None:
    done = moments(tree, f"{bucket}/first", asked, killer)
    killer.left = next(n for n, change in enumerate(done) if change.startswith("copy")) + 1
    with pytest.raises(KeyboardInterrupt):
        unlearnable.protect(str(tree), f"{bucket}/out", asked)
    killer.left = float("inf")
    fsspec.filesystem("memory").pipe_file(f"{bucket}/out/other.txt", b"mine")
    with pytest.raises(UsageError, match=r"other.txt is not part of the release"):
        unlearnable.protect(str(tree), f"{bucket}/out", asked)
    assert there(f"{bucket}/out")["other.txt"] == b"mine" and layout.ATTESTATION not in there(f"{bucket}/out")
    fsspec.filesystem("memory").rm(f"{bucket}/out/other.txt")
    unlearnable.protect(str(tree), f"{bucket}/out", asked)
    assert unlearnable.check(f"{bucket}/out")["ok"]


def test_a_part_that_died_before_its_mark_arrived_is_repeated_for_the_others(
    tree: Path, tmp_path: Path, bucket: str, asked: Options, killer: Killer, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"{bucket}/out"
    unlearnable.protect(str(tree), address, dataclasses.replace(asked, fit_only=True))
    machine = tmp_path / "machine"
    machine.mkdir()
    shutil.copytree("out.owner", machine / "out.owner")
    part = dataclasses.replace(asked, shard=(0, 1))
    with monkeypatch.context() as away:
        away.chdir(machine)
        killer.left = 2  # the old mark is removed, the file is there
        with pytest.raises(KeyboardInterrupt):
            unlearnable.protect(str(tree), address, part)
        killer.left = float("inf")
        assert [name for name in there(f"{bucket}/.out.partial") if name.startswith("data/")]
        unlearnable.protect(str(tree), address, part)
    unlearnable.merge(address)
    assert unlearnable.check(address)["ok"]


def test_the_mark_that_lies_there_counts_and_not_the_one_here(tree: Path, bucket: str, asked: Options) -> None:
    """Another machine has made a shard anew, of the same length but other bytes."""
    address = f"{bucket}/out"
    for step in ({"fit_only": True}, {"shard": (0, 1)}):
        unlearnable.protect(str(tree), address, dataclasses.replace(asked, **step))  # type: ignore[arg-type]
    mark = Path("out.owner") / layout.UNFINISHED / layout.SHARDS / "000001.json"
    was = next(iter(marks.files(mark).values()))
    mark.write_text(mark.read_text().replace(was, "0" * 64))
    unlearnable.merge(address)
    assert unlearnable.check(address)["ok"]


def test_names_in_the_bucket_lead_nowhere_else(tree: Path, bucket: str, asked: Options) -> None:
    address = f"{bucket}/out"
    for step in ({"fit_only": True}, {"shard": (0, 1)}):
        unlearnable.protect(str(tree), address, dataclasses.replace(asked, **step))  # type: ignore[arg-type]
    files = fsspec.filesystem("memory")
    token = files.cat_file(f"{bucket}/.out.partial/marks/000000.json")
    files.store[f"/{bucket.removeprefix('memory://')}/.out.partial/marks/../../fit.json"] = type(
        files.open(f"{bucket}/.out.partial/marks/000000.json")
    )(files, "x", token)
    files.pipe_file(f"{bucket}/.out.partial/marks/.DS_Store", b"\0")
    before = (Path("out.owner") / layout.UNFINISHED / layout.FITTED).read_bytes()
    unlearnable.merge(address)
    assert (Path("out.owner") / layout.STATE / layout.FITTED).read_bytes() == before


def test_two_releases_of_one_name_do_not_share_an_owner_folder(tree: Path, bucket: str, asked: Options) -> None:
    unlearnable.protect(str(tree), f"{bucket}/one/out", asked)
    receipt = (Path("out.owner") / layout.STATE / layout.RECEIPT).read_bytes()
    for other in (f"{bucket}/two/out", "out"):
        with pytest.raises(UsageError, match=r"belongs to the release at memory://.*/one/out"):
            unlearnable.protect(str(tree), other, asked)
    assert (Path("out.owner") / layout.STATE / layout.RECEIPT).read_bytes() == receipt


def test_other_options_never_throw_away_what_lies_in_the_bucket(tree: Path, bucket: str, asked: Options) -> None:
    unlearnable.protect(str(tree), f"{bucket}/out", dataclasses.replace(asked, fit_only=True))
    shutil.rmtree(".out.partial")
    with pytest.raises(UsageError, match="is of another job"):
        unlearnable.protect(str(tree), f"{bucket}/out", dataclasses.replace(asked, eps=4))
    assert (Path("out.owner") / layout.UNFINISHED / layout.FIT).exists()


def test_a_folder_of_the_same_name_here_is_no_obstacle(tree: Path, bucket: str, asked: Options) -> None:
    shutil.copytree(tree, "pictures")
    unlearnable.protect("pictures", f"{bucket}/pictures", asked)
    assert unlearnable.check(f"{bucket}/pictures")["ok"] and len(list(Path("pictures").rglob("*.png"))) == 60
    with pytest.raises(UsageError, match="lie in one another"):
        unlearnable.protect(bucket, f"{bucket}/inside", asked)


def test_what_was_verified_is_what_ships(
    tree: Path, tmp_path: Path, asked: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped after the verification, and then a photo is no photo any more: the figures are of other bytes."""
    asked, proofs = dataclasses.replace(asked, verify="quick"), list[object]()

    def stops(*given: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("unlearnable.api.finish", stops)
    monkeypatch.setattr("unlearnable.api.evidence_of", lambda *given: None)
    monkeypatch.setattr("unlearnable.api.prove.prove", lambda *given: proofs.append(given) or {})
    photo = sorted(tree.rglob("*.png"))[0]
    for changed, expected in ((False, 1), (False, 1), (True, 2)):
        if changed:
            photo.write_bytes(bytes(photo.stat().st_size))
        with pytest.raises(KeyboardInterrupt):
            unlearnable.protect(str(tree), tmp_path / "out", asked)
        assert len(proofs) == expected, "trained again when a shard was made anew, and only then"

"""Killed without warning, starved of disk or lied to by a source that changes, a rerun ends in the same bytes.

benchmarks/stress.py does all of this a hundred times over.
"""

from __future__ import annotations

import dataclasses
import errno
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from made_pictures import picture, write_tree
from PIL import Image

import unlearnable
from release import build, layout
from release.formats import folder, parquet
from unlearnable import Options
from unlearnable.errors import IntegrityError, UnlearnableError, UsageError
from unlearnable.sources import _stamps

ROOT = Path(__file__).resolve().parents[1]
KEY = "0f" * 32


def command(source: Path, out: Path, key: Path) -> list[str]:
    # one image a shard, so that there are many moments between done-marks
    program = "from release.formats import folder; folder.MAX_ROWS = 1\nfrom cli import cli\ncli()"
    options = ["--preset", "r16", "--verify", "none", "--key", str(key), "-q"]
    return [sys.executable, "-c", program, "protect", str(source), str(out), *options]


def data(out: Path) -> dict[str, bytes]:
    return {str(p.relative_to(out)): p.read_bytes() for p in sorted((out / "data").rglob("*")) if p.is_file()}


def kill_and_resume(tmp_path: Path, moments: list[float], classes: int = 3, each: int = 40, pack: str = "") -> None:
    source, key = write_tree(tmp_path / "pictures", classes, each), tmp_path / "key"
    if pack:
        source = Path(shutil.make_archive(str(tmp_path / "packed"), pack, source))
    key.write_text(KEY)
    whole = tmp_path / "whole"
    started = time.monotonic()
    subprocess.run(command(source, whole, key), cwd=ROOT, check=True, capture_output=True)
    length = time.monotonic() - started
    for number, moment in enumerate(moments):
        out = tmp_path / f"out{number}"
        for _ in range(2):  # killed twice: once while starting fresh, once while resuming
            process = subprocess.Popen(
                command(source, out, key), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
            try:
                process.wait(moment * length)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()
            if out.exists():
                break  # it was quicker than its killer; and it is whole, or the comparison below fails
        if not out.exists():
            done = subprocess.run(command(source, out, key), cwd=ROOT, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
        assert data(out) == data(whole)
        assert not layout.staging_folder(out).exists()
        check = [sys.executable, "cli.py", "check", str(out)]
        assert subprocess.run(check, cwd=ROOT, capture_output=True, check=False).returncode == 0


def test_killed_while_writing_it_resumes(tmp_path: Path) -> None:
    kill_and_resume(tmp_path, [0.9])


@pytest.mark.slow
def test_killed_at_many_random_moments_it_resumes(tmp_path: Path) -> None:
    rng = random.Random(0)
    kill_and_resume(tmp_path, [rng.uniform(0.3, 1.05) for _ in range(12)])


@pytest.mark.slow
@pytest.mark.parametrize("pack", ["zip", "tar", "gztar"])
def test_killed_on_an_archive_it_resumes(tmp_path: Path, pack: str) -> None:
    rng = random.Random(1)
    kill_and_resume(tmp_path, [rng.uniform(0.3, 1.05) for _ in range(4)], pack=pack)


# --- a source that changes midway ---


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Options:
    """Five images a shard; the first run may be stopped after the second."""
    monkeypatch.setattr(folder, "MAX_ROWS", 5)
    (tmp_path / "key").write_text(KEY)
    return Options(preset="r16", verify="none", key=tmp_path / "key")


def rewrite(file: Path) -> None:
    Image.fromarray(picture(3, 77)).save(file)


def stop_after(shards: int, monkeypatch: pytest.MonkeyPatch) -> None:
    real, count = folder.write, [0]

    def write(*given: object) -> object:
        count[0] += 1
        if count[0] > shards:
            raise KeyboardInterrupt
        return real(*given)

    monkeypatch.setattr(folder, "write", write)


@pytest.mark.parametrize("act", [rewrite, Path.unlink])
def test_a_photo_that_changes_while_we_run_is_reported_and_made_by_the_next_run(
    act: Callable[[Path], None], tree: Path, tmp_path: Path, asked: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, victim = _stamps.Files.__call__, tree / "down/004.png"

    def read(self: _stamps.Files, name: str) -> bytes:
        if name == "across/010.png":
            act(victim)
        return real(self, name)

    monkeypatch.setattr(_stamps.Files, "__call__", read)
    document = unlearnable.protect(str(tree), tmp_path / "out", asked)
    monkeypatch.setattr(_stamps.Files, "__call__", real)
    assert [item["id"] for item in document["skipped"]] == ["down/004.png"]
    assert not (tmp_path / "out/data/down/004.png").exists() and document["images"]["protected"] == 59
    unlearnable.protect(str(tree), tmp_path / "out", dataclasses.replace(asked, grow=True))
    unlearnable.protect(str(tree), tmp_path / "whole", asked)
    assert data(tmp_path / "out") == data(tmp_path / "whole")


def test_a_photo_that_changed_between_two_runs_is_made_anew(
    tree: Path, tmp_path: Path, asked: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_after(3, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        unlearnable.protect(str(tree), tmp_path / "out", asked)
    monkeypatch.undo()
    monkeypatch.setattr(folder, "MAX_ROWS", 5)
    victim = tree / "across/001.png"  # in a finished shard
    before = victim.read_bytes()
    victim.write_bytes(before[:-20] + bytes(0) + before[-20:])  # the same, at another time
    same = unlearnable.protect(str(tree), tmp_path / "out", asked)
    assert same["images"]["protected"] == 60
    unlearnable.protect(str(tree), tmp_path / "whole", asked)
    assert data(tmp_path / "out") == data(tmp_path / "whole")


@pytest.mark.parametrize("when", ["in a finished shard", "in the shard under way"])
def test_a_photo_that_cannot_be_read_any_more_leaves_nothing_of_the_killed_run(
    when: str, tree: Path, tmp_path: Path, asked: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, count = build._write_mark, [0]

    def killed(*given: object) -> object:
        count[0] += 1
        if count[0] == 4:
            raise KeyboardInterrupt
        return real(*given)

    monkeypatch.setattr(build, "_write_mark", killed)
    with pytest.raises(KeyboardInterrupt):
        unlearnable.protect(str(tree), tmp_path / "out", asked)
    monkeypatch.setattr(build, "_write_mark", real)
    victim = sorted(tree.rglob("*.png"))[1 if when == "in a finished shard" else 16]
    name = f"data/{victim.relative_to(tree)}"
    assert (layout.staging_folder(tmp_path / "out") / name).exists()
    victim.write_bytes(bytes(victim.stat().st_size))
    document = unlearnable.protect(str(tree), tmp_path / "out", asked)
    assert [item["id"] for item in document["skipped"]] == [name.removeprefix("data/")]
    assert not (tmp_path / "out" / name).exists() and len(data(tmp_path / "out")) == 59


def test_a_sidecar_that_changed_between_two_runs_ships_as_it_now_is(
    tree: Path, tmp_path: Path, asked: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside = tree / "across/001.png.xmp"
    beside.write_text("<x>where it was</x>")
    stop_after(3, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        unlearnable.protect(str(tree), tmp_path / "out", asked)
    monkeypatch.undo()
    monkeypatch.setattr(folder, "MAX_ROWS", 5)
    assert (layout.staging_folder(tmp_path / "out") / "data/across/001.png.xmp").exists()
    beside.write_text("<x>nothing of it</x>")
    unlearnable.protect(str(tree), tmp_path / "out", asked)
    assert (tmp_path / "out/data/across/001.png.xmp").read_text() == "<x>nothing of it</x>"


def test_progress_counts_images_and_no_sidecars(
    tree: Path, tmp_path: Path, asked: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    for photo in list(tree.rglob("*.png"))[:9]:
        photo.with_name(photo.name + ".xmp").write_bytes(b"\xff")  # no text: left out, and reported
    heard: list[tuple[int, int]] = []
    unlearnable.protect(
        str(tree),
        tmp_path / "out",
        asked,
        tell=lambda what, n, of, failed=0: heard.append((n, of)) if what == "writing" else None,
    )
    assert heard[-1] == (60, 60) and len(set(heard)) == 12


def test_a_source_that_is_another_one_now_is_refused_with_the_way_out(
    tree: Path, tmp_path: Path, asked: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_after(3, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        unlearnable.protect(str(tree), tmp_path / "out", asked)
    monkeypatch.undo()
    (tree / "across/001.png").unlink()
    with pytest.raises(UsageError, match=r"source.*--overwrite"):
        unlearnable.protect(str(tree), tmp_path / "out", asked)
    unlearnable.protect(str(tree), tmp_path / "out", dataclasses.replace(asked, overwrite=True))
    unlearnable.protect(str(tree), tmp_path / "whole", asked)
    assert data(tmp_path / "out") == data(tmp_path / "whole")


@pytest.mark.parametrize("pack", ["zip", "tar", "gztar"])
def test_an_archive_that_changes_while_we_run_ends_it(
    pack: str, tree: Path, tmp_path: Path, asked: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = Path(shutil.make_archive(str(tmp_path / "packed"), pack, tree))
    real, count = folder.write, [0]

    def write(*given: object) -> object:
        count[0] += 1
        if count[0] == 3:
            rewrite(tree / "across/001.png")
            shutil.make_archive(str(tmp_path / "packed"), pack, tree)
        return real(*given)

    monkeypatch.setattr(folder, "write", write)
    with pytest.raises(IntegrityError, match="changed while we ran"):
        unlearnable.protect(str(archive), tmp_path / "out", asked)
    assert not (tmp_path / "out").exists()


def test_a_table_that_changes_while_we_run_ends_it(
    tree: Path, tmp_path: Path, asked: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    unlearnable.protect(str(tree), tmp_path / "first", dataclasses.replace(asked, layout="parquet"))
    table = tmp_path / "train.parquet"
    shutil.copyfile(tmp_path / "first/data/train-00000-of-00001.parquet", table)
    real = parquet._table

    def written(*given: object) -> object:
        table.write_bytes(table.read_bytes())  # the same, at another time
        return real(*given)

    monkeypatch.setattr(parquet, "_table", written)
    with pytest.raises(IntegrityError, match="changed while we ran"):
        unlearnable.protect(str(table), tmp_path / "out", dataclasses.replace(asked, force=True))


def test_a_full_disk_is_one_sentence_and_the_rerun_goes_on(
    tree: Path, tmp_path: Path, asked: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, count = folder.write, [0]

    def write(root: Path, shard: object, source: object, items: Iterator[object]) -> object:
        count[0] += 1

        def some() -> Iterator[object]:
            yield next(items)
            raise OSError(errno.ENOSPC, "No space left on device")

        return real(root, shard, source, some() if count[0] == 4 else items)

    monkeypatch.setattr(folder, "write", write)
    with pytest.raises(UnlearnableError, match=r"is full.*repeat the command"):
        unlearnable.protect(str(tree), tmp_path / "out", asked)
    unlearnable.protect(str(tree), tmp_path / "out", asked)
    assert count[0] == 4 + 9, "three shards were kept"
    unlearnable.protect(str(tree), tmp_path / "whole", asked)
    assert data(tmp_path / "out") == data(tmp_path / "whole")

"""`merge` goes on with the very job that --fit-only began, from any folder and any machine, and never starts another."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

import cli
import unlearnable
from release import layout, records
from unlearnable import Options
from unlearnable.errors import UsageError

FAST = Options(preset="r16", verify="none", layout="parquet")


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("release.formats.parquet.MAX_ROWS", 20)


def made(source: str, out: Path, options: Options = FAST) -> Path:
    """A run of which only `merge` is left to do; its unfinished state."""
    unlearnable.protect(source, out, dataclasses.replace(options, fit_only=True))
    unlearnable.protect(source, out, dataclasses.replace(options, shard=(0, 1)))
    return layout.owner_folder(out) / layout.UNFINISHED


def test_it_finds_in_another_folder_what_relative_paths_meant(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = [f"{path.relative_to(tree)},{path.parent.name}" for path in sorted(tree.rglob("*.png"))]
    (tmp_path / "labels.csv").write_text("\n".join(["file_name,label", *labels]))
    unlearnable.keys.Key.new().save(tmp_path / "key")
    monkeypatch.chdir(tmp_path)
    made("pictures", tmp_path / "out", dataclasses.replace(FAST, labels="labels.csv", key=Path("key")))
    (tmp_path / "key").unlink()  # its copy in the owner folder is what counts
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert unlearnable.merge("../out")["images"]["protected"] == 60
    assert unlearnable.check(tmp_path / "out")["ok"]


def test_the_same_originals_may_lie_elsewhere(tree: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    made(str(tree), out)
    moved = tmp_path / "moved"
    tree.rename(moved)
    with pytest.raises(UsageError, match="There is no file or folder"):
        unlearnable.merge(out)
    unlearnable.merge(out, source=str(moved))
    assert unlearnable.check(out)["ok"] and records.receipt_of(out)[0]["source"] == str(moved)


def test_other_originals_are_refused_and_nothing_is_lost(tree: Path, tmp_path: Path) -> None:
    out, other = tmp_path / "out", tmp_path / "other"
    state = made(str(tree), out)
    shutil.copytree(tree, other)
    sorted(other.rglob("*.png"))[0].unlink()
    shutil.move(layout.staging_folder(out), tmp_path / "away")  # a disk that is not mounted
    with pytest.raises(UsageError, match="is of another job"):
        unlearnable.merge(out, source=str(other))
    shutil.move(tmp_path / "away", layout.staging_folder(out))
    assert (state / layout.FIT).exists()
    unlearnable.merge(out)
    assert unlearnable.check(out)["ok"]


def test_copies_of_the_originals_with_other_times_are_named_as_the_cause(tree: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    made(str(tree), out)
    for path in tree.rglob("*.png"):
        os.utime(path, (1, 1))
    with pytest.raises(UsageError, match=r"3 of them were made of originals with other times.*rsync -a"):
        unlearnable.merge(out)


def test_a_protocol_that_was_changed_since_the_fit_is_refused(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    protocol = Path("mine.toml")
    protocol.write_text('victims = ["linear"]\nseeds = 1\n')
    state = made("pictures", tmp_path / "out", dataclasses.replace(FAST, verify="mine.toml"))
    plan = json.loads((state / layout.PLAN).read_text())
    assert plan["options"]["verify"] == protocol.read_text()
    protocol.write_text('victims = ["linear"]\nseeds = 2\n')
    with pytest.raises(UsageError, match=r"mine.toml is not what it was"):
        unlearnable.merge("out")
    protocol.unlink()
    with pytest.raises(UsageError, match=r"mine.toml cannot be read"):
        part = dataclasses.replace(FAST, verify="mine.toml", shard=(0, 1))
        unlearnable.protect("pictures", tmp_path / "out", part)


def test_the_least_drop_that_merge_was_asked_for_is_remembered_for_push(tree: Path, tmp_path: Path) -> None:
    made(str(tree), tmp_path / "out")
    done = CliRunner().invoke(cli.cli, ["merge", str(tmp_path / "out"), "--min-drop", "0.5", "-q"])
    assert done.exit_code == 4
    assert records.receipt_of(tmp_path / "out")[0]["min_drop"] == 0.5


def test_a_half_copied_shard_is_copied_again(tree: Path, tmp_path: Path) -> None:
    """Killed while it replaced a file that its mark already vouched for."""
    out = tmp_path / "out"
    made(str(tree), out)
    copy = tmp_path / "copy" / "out"
    copy.parent.mkdir()
    for beside in (layout.owner_folder, layout.staging_folder):
        shutil.copytree(beside(out), beside(copy))
    half = sorted((layout.staging_folder(out) / "data").iterdir())[1]
    half.write_bytes(half.read_bytes()[:100])
    unlearnable.merge(out, [copy])
    assert unlearnable.check(out)["ok"]


def test_the_log_names_the_part_as_it_was_asked_for() -> None:
    words = Options(preset="r16", shard=(1, 4)).words()
    assert words[words.index("--shard") :] == ["--shard", "1/4"]


def test_a_second_merge_stops_while_the_first_is_under_way(tree: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    made(str(tree), out)
    second: list[str] = []

    def tell(*said: object) -> None:
        if not second:
            with pytest.raises(UsageError, match=r"out is being merged by another run\. Wait for it") as why:
                unlearnable.merge(out)
            second.append(why.value.message)

    unlearnable.merge(out, tell=tell)
    assert second and unlearnable.check(out)["ok"], "the first one took no harm"
    with pytest.raises(UsageError, match="no run under way"):
        unlearnable.merge(out)


def test_a_merge_that_failed_keeps_nobody_away(tree: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    unlearnable.protect(str(tree), out, dataclasses.replace(FAST, fit_only=True))
    key = layout.owner_folder(out) / layout.KEY
    for change in (lambda: None, lambda: None, key.unlink):  # the key is drawn again, the same
        change()
        with pytest.raises(UsageError, match="shards are not done"):
            unlearnable.merge(out)


def test_a_release_on_remote_storage_has_no_copies(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no copies"):
        unlearnable.merge("memory://bucket/out", [tmp_path / "copy"])

"""Progress as people and programs read it, the log in the owner folder, and Ctrl-C between shards."""

from __future__ import annotations

import io
import json
import os
import signal
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

import cli
import unlearnable
from release import interrupt, journal, layout, progress
from release.formats import folder
from unlearnable import Options
from unlearnable.errors import UnlearnableError, UsageError
from unlearnable.types import Skipped

FAST = Options(preset="r16", verify="none")


def silent(what: str, done: int, of: int, failed: int = 0) -> None:
    del what, done, of, failed


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_rate_is_of_the_last_minute_and_time_left_follows_from_it() -> None:
    now = [0.0]
    pace = progress.Pace(lambda: now[0])
    assert pace.at(500, 1000, 0).rate is None and pace.left is None, "500 were there before"
    now[0] = 10.0
    assert pace.at(520, 1000, 3).rate == 2.0 and pace.left == 240.0 and pace.failed == 3
    assert pace.words() == " (520/1,000, 2 a second, 240 s left, 3 failed)"
    for second in range(20, 200, 10):
        now[0] = float(second)
        pace.at(520 + second, 1000, 0)
    assert pace.rate == 1.0 and pace.failed == 3
    assert pace.at(1000, 1000, 3).left is None


def test_plain_lines_come_first_last_and_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.progress("plain") as tell:
        for done in range(1, 101):
            tell("writing", done, 100, done // 50)
        tell("plan: ten trainings", 0, 0)
    err = capsys.readouterr().err.splitlines()
    assert [line.split(",")[0].strip("()") for line in err] == [
        "writing (1/100",
        "writing (100/100",
        "plan: ten trainings",
    ]
    assert "2 failed" in err[1]


def test_no_progress_is_nothing_at_all(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.progress("none") as tell:
        tell("writing", 1, 1)
    assert capsys.readouterr().err == ""


def test_the_live_line_has_one_line_a_stage_with_rate_and_failures(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    monkeypatch.setattr(progress, "Console", lambda **_: Console(file=shown, force_terminal=True, width=120))
    with progress._live() as tell:
        for done in (0, 30, 60):
            tell("writing", done, 60, done // 30)
        tell("victims: clean [1/3]", 1, 3)
    assert "60/60" in shown.getvalue() and "2 failed" in shown.getvalue() and "victims: clean [1/3]" in shown.getvalue()


def test_json_events_are_one_object_a_line_with_the_documented_fields(tree: Path, tmp_path: Path) -> None:
    (tree / "across/bad.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    words = ["protect", str(tree), str(tmp_path / "out"), "--preset", "r16", "--verify", "none", "--progress", "json"]
    done = CliRunner(env={"UNLEARNABLE_CONFIG": str(tmp_path / "config")}).invoke(cli.cli, words)
    assert done.exit_code == 3, done.output
    assert len([line for line in done.stderr.splitlines() if "keys.json" in line and "Keep a copy" in line]) == 1
    events = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    assert [event["stage"] for event in events if "Keep a copy" in event["what"]] == ["keys"]
    writing = [event for event in events if event.get("stage") == "writing"][-1]
    assert list(writing) == ["event", "stage", "what", "done", "of", "failed", "seconds", "rate", "left"]
    assert (writing["event"], writing["done"], writing["of"], writing["failed"]) == ("progress", 61, 61, 1)
    text = (Path(cli.__file__).parent / "docs/output.md").read_text()
    section = text.partition("## Progress\n")[2].partition("\n## ")[0]
    assert all(f"`{name}`" in section for event in events for name in event if name != "event")


@pytest.mark.parametrize(("words", "code"), [(["nowhere", "out"], 2), (["a", "b", "--nonsense"], 2), ([], 2)])
def test_errors_are_events_too(words: list[str], code: int, tmp_path: Path) -> None:
    done = CliRunner().invoke(
        cli.cli, ["protect", *(str(tmp_path / w) if w[0] != "-" else w for w in words), "--progress=json"]
    )
    event = json.loads(done.stderr.splitlines()[-1])
    assert done.exit_code == code == event["code"] and event["event"] == "error" and event["message"]


def test_quiet_is_no_progress_whatever_else_is_asked(tree: Path, tmp_path: Path) -> None:
    words = [
        "protect",
        str(tree),
        str(tmp_path / "out"),
        "--preset",
        "r16",
        "--verify",
        "none",
        "-q",
        "--progress",
        "json",
    ]
    done = CliRunner(env={"UNLEARNABLE_CONFIG": str(tmp_path / "config")}).invoke(cli.cli, words)
    assert done.exit_code == 0 and not any(line.startswith("{") for line in done.stderr.splitlines())
    assert "Keep a copy" not in done.stderr and (tmp_path / "config/keys.json").exists()


# --- the log ---


def test_the_log_tells_of_every_run_and_never_the_key(tree: Path, tmp_path: Path) -> None:
    out, key = tmp_path / "out", tmp_path / "key"
    key.write_text("7c" * 32)
    (tree / "across/bad.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (tree / "across/notes.txt").write_text("no image")
    unlearnable.protect(str(tree), out, Options(preset="r16", verify="none", key=key))
    log = layout.owner_folder(out) / layout.LOG
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    told = lines(log)
    assert told[0]["event"] == "begin" and told[0]["versions"]["pillow"] and str(tree) in told[0]["command"]
    assert told[-1]["event"] == "end" and told[-1]["how"] == "finished"
    skipped = {each["id"]: each for each in told if each["event"] == "skipped"}
    assert set(skipped) == {"across/bad.png", "across/notes.txt"}
    assert "damaged" in skipped["across/bad.png"]["reason"] and not skipped["across/notes.txt"]["image"]
    assert any(each.get("stage") == "writing" and each["failed"] == 1 for each in told)
    unlearnable.protect(str(tree), out, Options(preset="r16", verify="none", key=key, overwrite=True))
    assert [each["event"] for each in lines(log)].count("begin") == 2
    assert "7c7c7c7c" not in log.read_text()
    assert not list(out.rglob("log*")), "nothing of it is in the release"


def test_a_failed_run_says_why_and_a_torn_line_is_ended(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text('{"time": "2026-01-01T00:00:00Z", "event": "sta')
    with pytest.raises(UsageError), journal.keep(log, silent, command=["x"]) as kept:
        kept.skipped([Skipped("a\nb\udcff.png", "too small")])
        raise UsageError("It cannot be done.")
    with pytest.raises(KeyboardInterrupt), journal.keep(log, silent):
        raise KeyboardInterrupt
    torn, *whole = log.read_text().splitlines()
    assert torn.endswith('"sta')
    told = [json.loads(line) for line in whole]
    assert told[1]["id"] == "a\nb\udcff.png"
    assert (told[2]["how"], told[2]["code"], told[2]["message"]) == ("failed", 2, "It cannot be done.")
    assert told[-1]["how"] == "interrupted"


def test_a_log_that_cannot_be_written_is_said_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(UnlearnableError, match="cannot be written"), journal.keep(tmp_path / "no/log.jsonl", silent):
        raise AssertionError("the work began")


# --- Ctrl-C ---


def press(times: int) -> None:
    for _ in range(times):
        os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_finishes_the_shard_and_a_rerun_ends_in_the_same_bytes(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder, "MAX_ROWS", 7)
    key = tmp_path / "key"
    key.write_text("7c" * 32)
    asked = Options(preset="r16", verify="none", key=key)
    unlearnable.protect(str(tree), tmp_path / "whole", asked)
    real, count, said = folder.write, [0], []
    before = signal.getsignal(signal.SIGINT)  # of tests run in the background, it is to ignore it

    def pressed(*given: object) -> object:
        count[0] += 1
        if count[0] == 3:
            press(1)
        return real(*given)

    monkeypatch.setattr(folder, "write", pressed)
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt, match="21 of 60"):
        unlearnable.protect(str(tree), out, asked, tell=lambda what, *_: said.append(what))
    assert any(what.startswith("interrupted") for what in said)
    assert len(list((layout.owner_folder(out) / layout.UNFINISHED / layout.SHARDS).glob("*.json"))) == 3
    assert len(list(layout.staging_folder(out).rglob("*.png"))) == 21
    assert signal.getsignal(signal.SIGINT) is before
    unlearnable.protect(str(tree), out, asked)
    files = [p.relative_to(out) for p in (out / "data").rglob("*.png")]
    assert len(files) == 60 and all((out / f).read_bytes() == (tmp_path / "whole" / f).read_bytes() for f in files)


def test_a_second_ctrl_c_does_not_wait() -> None:
    with pytest.raises(KeyboardInterrupt), interrupt.between_shards(silent):
        press(2)
        raise AssertionError("it went on")


def test_ctrl_c_in_the_last_shard_counts() -> None:
    with pytest.raises(KeyboardInterrupt, match="All images are written"), interrupt.between_shards(silent) as after:
        press(1)
        after(5, 5, 0)

"""Damaged and hostile files: no crash, no hang, no clean pixel out, every file accounted for."""

from __future__ import annotations

import dataclasses
import os
import time
from pathlib import Path

import fuzzing
import pytest

import unlearnable
from release import build
from unlearnable import Options

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")


def test_whole_files_are_protected_and_lose_what_is_hidden_in_them() -> None:
    outcomes = [fuzzing.judge(data) for data in fuzzing.seeds()]
    assert {"JPEG", "PNG", "WEBP", "TIFF", "BMP"} <= set(outcomes)
    assert outcomes.count("refused") <= 0.2 * len(outcomes), "animated GIFs, and real files that are damaged"


def test_damaged_files_are_protected_or_refused() -> None:
    found, broken = fuzzing.run(range(400), time.monotonic() + 60)
    assert not broken, broken
    assert found["refused"] > 40 and sum(found.values()) - found["refused"] > 40, found


@pytest.mark.parametrize("leak", ["clean", "tail", "hidden"])
def test_a_leak_would_be_seen(leak: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real, data = build.make, fuzzing.seeds()[1]

    def leaking(*given: object) -> build.Made:
        made = real(*given)
        comment = b"\xff\xfe" + (len(fuzzing.hidden()) + 2).to_bytes(2, "big") + fuzzing.hidden()
        changed = {"clean": data, "tail": made.data * 2, "hidden": made.data[:2] + comment + made.data[2:]}
        return dataclasses.replace(made, data=changed[leak])

    fuzzing.judge(data)
    monkeypatch.setattr(build, "make", leaking)
    with pytest.raises(AssertionError):
        fuzzing.judge(data)


def test_a_child_that_breaks_a_promise_is_found_and_the_next_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def judged(data: bytes, number: int) -> str:
        if number == 2:
            os._exit(3)
        if number == 4:
            time.sleep(60)
        assert number != 5, "a promise"
        return "fine"

    monkeypatch.setattr(fuzzing, "judge", judged)
    monkeypatch.setattr(fuzzing, "PATIENCE", 1.5)
    found, broken = fuzzing.run(range(8), time.monotonic() + 30)
    assert found == {"fine": 5}
    assert [line.split(":")[0] for line in broken] == ["case 2", "case 4", "case 5"]
    assert "died (3)" in broken[0] and "no end" in broken[1] and "a promise" in broken[2]


def test_every_damaged_file_of_a_folder_is_accounted_for(tmp_path: Path) -> None:
    names = fuzzing.write_cases(tmp_path / "in", range(60))
    document = unlearnable.protect(str(tmp_path / "in"), tmp_path / "out", Options(preset="r16", verify="none"))
    skipped = {item["id"] for item in document["skipped"]}
    assert skipped <= set(names) and all(item["reason"] for item in document["skipped"])
    shipped = [path.relative_to(tmp_path / "out/data") for path in (tmp_path / "out/data").rglob("*.*")]
    assert {str(path.with_suffix("")) for path in shipped} == {
        name.removesuffix(".jpg") for name in set(names) - skipped
    }
    assert document["images"]["total"] == len(names) == len(shipped) + len(skipped)


@pytest.mark.slow
def test_damaged_files_for_minutes() -> None:
    """FUZZ_SECONDS and FUZZ_START choose how long, and from which number on."""
    start = int(os.environ.get("FUZZ_START", "1000"))
    found, broken = fuzzing.run(
        range(start, start + 10_000_000), time.monotonic() + float(os.environ.get("FUZZ_SECONDS", "120"))
    )
    print(f"\n{sum(found.values())} files: {dict(found.most_common())}")  # noqa: T201
    assert not broken, "\n".join(broken)

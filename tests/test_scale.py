"""Promises of the cost model of benchmarks/scale.py: arithmetic that can be done by hand; and its parts run."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))
from _scale_engines import compared
from _scale_model import Cluster, Costs, Job, counted, error, forecast, rates, split
from _scale_pictures import KINDS, write

ROOT = Path(__file__).resolve().parents[1]
NOTHING = Costs(**dict.fromkeys(Costs.__dataclass_fields__, 0.0) | {"requests": {}, "checked": {}})  # type: ignore[arg-type]


def test_work_is_divided_among_cores_by_whole_shards() -> None:
    costs = replace(NOTHING, image=0.01, shard=2.0)
    job = Job(10_000, a_shard=1000)
    hours = {cores: forecast(costs, job, Cluster(1, cores)).seconds["work"] for cores in (1, 4, 10, 64)}
    assert hours == {1: 120, 4: 36, 10: 12, 64: 12}  # ten shards of 10 + 2 seconds: at best one each
    assert forecast(costs, job, Cluster(1, 4)).cores == 120
    assert forecast(costs, job, Cluster(1, 4, overhead=0.5, speed=2.0)).seconds["work"] == 27


def test_what_one_process_does_alone_does_not_shrink_with_machines() -> None:
    costs = replace(NOTHING, list=0.001, row=0.002, entry=0.1, byte=1e-6, shipped=1000.0)
    job = Job(10_000, a_shard=1000)
    one, many = (forecast(costs, job, Cluster(machines, 1)) for machines in (1, 8))
    assert one.seconds["list"] == 10 and many.seconds["list"] == 20  # by the parts at once, and by who joins them
    assert one.seconds["seal"] == many.seconds["seal"] == pytest.approx(20 + 1 + 10)
    assert many.cores == pytest.approx(9 * 10 + 31)


def test_releases_are_made_side_by_side_and_the_others_wait() -> None:
    costs = replace(NOTHING, image=1.0, base=5.0, held=10.0, shipped=2.0, kept=1.0, check=3.0)
    found = {n: forecast(costs, Job(64, 1, releases=n), Cluster(4, 2)) for n in (1, 2, 4, 8, 6)}
    assert {n: each.seconds["work"] for n, each in found.items()} == {1: 8, 2: 8, 4: 8, 8: 8, 6: 12}
    assert {n: each.memory for n, each in found.items()} == {1: 645, 2: 325, 4: 165, 8: 85, 6: 115}
    assert {each.disk for each in found.values()} == {128} and {each.owner for each in found.values()} == {64}
    assert found[8].check == 24 and found[8].hours() == pytest.approx(8 / 3600)


def test_requests_of_two_runs_tell_those_of_any_other() -> None:
    def heard(shards: int) -> dict[str, int]:
        return {"PUT": 2 * shards + 7, "COPY": shards + 7, "GET": 13} | ({"LIST": 5} if shards > 10 else {})

    known = rates(heard(20), 20, heard(40), 40)
    assert counted(known, 600) == heard(600) and counted(known, 600, releases=3) == {
        name: 3 * count for name, count in heard(600).items()
    }


def test_the_parts_of_a_cost_are_told_apart_and_are_never_below_nought() -> None:
    assert split(5.0, 1, 14.0, 10) == (4.0, 1.0)
    assert split(5.0, 1, 4.0, 10) == (5.0, 0.0) and split(1.0, 1, 100.0, 2) == (0.0, 99.0)
    assert error(120, 100) == 0.2 and error(90, 100) == -0.1


def test_overheads_are_of_one_round_and_of_all_workers_time() -> None:
    times = {
        "bare 1": [{"wall": 10.0, "cpu": 10.0}, {"wall": 20.0, "cpu": 10.0}, {"wall": 10.0, "cpu": 10.0}],
        "bare 2": [{"wall": 6.0, "cpu": 11.0}, {"wall": 12.0, "cpu": 11.0}, {"wall": 6.0, "cpu": 11.0}],
        "local 2": [{"wall": 6.0, "cpu": 10.4}, {"wall": 13.0, "cpu": 10.4}, {"wall": 5.0, "cpu": 10.4}],
        "ray 1": [{"wall": 13.0, "cpu": 11.0}, {"wall": 26.0, "cpu": 11.0}, {"wall": 13.0, "cpu": 11.0}],
    }
    found = compared(times, 1000)
    assert (
        found["bare 1"]["images_a_second"] == {"median": 100, "low": 50, "high": 100} and "goal" not in found["bare 1"]
    )
    assert found["local 2"]["overhead"]["wall"] == {"median": 0.2, "low": 0.0, "high": 0.3}
    assert found["local 2"]["overhead"]["processor"]["median"] == 0.04 and "among_two" not in found["ray 1"]
    assert found["local 2"]["among_two"]["wall"] == {"median": 0.0, "low": -0.1667, "high": 0.0833}
    assert found["local 2"]["met"] == {"wall": True, "processor": True}, "beside two bare loops"
    assert found["ray 1"]["met"] == {"wall": False, "processor": True}


def test_pictures_are_the_same_every_time_and_no_two_alike(tmp_path: Path) -> None:
    from unlearnable.sources import open_source

    one, two = (open_source(str(write(tmp_path / name, KINDS["small"], 12))) for name in "ab")
    bytes_ = [one.read(record) for record in one.records]
    assert bytes_ == [two.read(record) for record in two.records] and len(set(bytes_)) == 12
    assert one.classes == tuple(f"class{n}" for n in range(5))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "there"),
    [
        (["engines", "--rounds", "1", "--images", "300", "--ways", "bare 1", "local 2", "shard 2"], "ways"),
        (["forecast", "--images", "200", "--times", "2"], "forecasts"),
        (["manifest", "--entries", "2000"], "done_marks"),
    ],
    ids=lambda given: given[0] if isinstance(given, list) else "",
)
def test_every_part_runs_writes_what_it_found_and_leaves_nothing(words: list[str], there: str, tmp_path: Path) -> None:
    if words[0] == "forecast":
        pytest.importorskip("moto")
    (tmp_path / "tmp").mkdir()
    program = (
        "import sys, runpy; from pathlib import Path; sys.path.insert(0, sys.argv[1]); sys.path.insert(0, sys.argv[2])\n"
        "import scale; scale.OUT = Path(sys.argv[3]); sys.argv[:] = ['scale.py', *sys.argv[4:]]; scale.main()"
    )
    out = tmp_path / "scale.json"
    command = [sys.executable, "-c", program, str(ROOT), str(ROOT / "benchmarks"), str(out), *words]
    environment = {
        "PATH": "/usr/bin:/bin",
        "TMPDIR": str(tmp_path / "tmp"),
        "HOME": str(tmp_path),
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(out.read_text())[words[0]]
    assert found[there] and found["command"].endswith(" ".join(words)) and found["hardware"]
    assert not list((tmp_path / "tmp").glob("unlearnable-scale-*"))

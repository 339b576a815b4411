"""The commands of docs/large-archives.md run as they stand, each section in a folder of its own.

What is not here is stood in for: a Ray cluster by one of two simulated machines, Slurm's commands by scripts that run one part
after another, a bucket by moto's S3 server, and the Hub by a server, both on 127.0.0.1.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from docs_kit import DOCS, ROOT, blocks, call, matches, steps
from made_pictures import write_tree

import cli
import unlearnable
from release import layout
from release.manifest import Manifest

TEXT = (DOCS / "large-archives.md").read_text(encoding="utf-8")
QUICKLY = ["--verify", "none"]  # the same job without its proof


def section(title: str) -> str:
    """From a heading to the next one, of any level."""
    (found,) = [part for part in re.split(r"^#{2,} ", TEXT, flags=re.M)[1:] if part.startswith(f"{title}\n")]
    return found


def follow(title: str, folder: Path, env: dict[str, str] | None = None) -> int:
    """Runs a section's commands as they stand, each in a process of its own; how many there were."""
    found = list(steps(section(title)))
    for command, expected in found:
        code, printed = call(command, folder, env)
        assert code == 0 and matches(printed, expected), f"{command}\n{printed}"
    return len(found)


def here(title: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """The same in this process and without a proof, which is asked for where a release is begun."""
    found = list(steps(section(title)))
    for command, expected in found:
        with monkeypatch.context() as there:
            there.chdir(folder)
            inside, _, last = command.rpartition(" && ")
            if inside.startswith("cd "):
                there.chdir(inside.removeprefix("cd "))
            if not last.startswith("unlearnable "):
                assert call(command, folder) == (0, ""), command
                continue
            words = shlex.split(last)[1:]
            done = CliRunner().invoke(cli.cli, words + (QUICKLY if words[0] == "protect" else []))
            assert done.exit_code == 0 and matches(done.stdout, expected), f"{command}\n{done.output}"
    return len(found)


def data(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in (out / "data").rglob("*") if path.is_file()}


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Sixty pictures; the folder that they lie in."""
    monkeypatch.setattr("release.formats.parquet.MAX_ROWS", 9)
    write_tree(tmp_path / "photos")
    return tmp_path


def test_the_commands_for_one_machine_run(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert here("One machine", photos, monkeypatch) == 2
    assert unlearnable.check(photos / "photos-protected")["ok"]


def test_the_commands_for_parts_run_with_a_shared_disk_and_without(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert here("By hand, or without a shared disk", photos, monkeypatch) == 11
    for name in ("photos-protected", "apart-protected"):
        assert unlearnable.check(photos / name)["ok"] and len(data(photos / name)) == 7


def test_every_command_is_run_by_a_test() -> None:
    ran = ("One machine", "A Ray cluster", "Slurm", "By hand, or without a shared disk", "A bucket")
    ran += ("A dataset of the Hub, without downloading it",)
    assert sum(len(list(steps(section(title)))) for title in ran) == len(list(steps(TEXT))) == 18


def test_its_tables_are_those_of_the_last_measurement() -> None:
    from docs_kit import site

    page = site()["large-archives.md"]
    assert "<!--" not in page
    assert all(f"| {many} of " in page for many in ("1 million", "1 billion")) and "| local 2 |" in page


# --- with stand-ins, as they stand ---

SBATCH = """#!{python}
import os, subprocess, sys
options = dict(word.partition("=")[::2] for word in sys.argv[1:] if word.startswith("--"))
given = [word for word in sys.argv[1:] if not word.startswith("--")]
assert not (after := options.get("--dependency")) or os.path.exists(after.replace("afterok:", "job")), after
command = given[0] if "--wrap" in options else f"bash {{given[0]}}"
assert options.get("--array") in (None, "0-63"), options
for number in range(2) if "--array" in options else [None]:
    known = {{"SLURM_ARRAY_TASK_ID": str(number), "SLURM_ARRAY_TASK_COUNT": "2", "SLURM_CPUS_PER_TASK": "1"}}
    subprocess.run(command, shell=True, check=True, env=os.environ | known, stdout=2)
job = len([name for name in os.listdir() if name.startswith("job")])
open(f"job{{job}}", "w").close()
print(job)
"""


@pytest.mark.slow
def test_the_scripts_for_slurm_run(photos: Path) -> None:
    """With an sbatch that runs what it is given at once, and two parts in the place of 64."""
    programs = photos / "bin"
    programs.mkdir()
    (programs / "sbatch").write_text(SBATCH.format(python=sys.executable))
    (programs / "srun").write_text('#!/bin/bash\nexec "$@"\n')
    for path in programs.iterdir():
        path.chmod(0o755)
    scripts = [block for language, block in blocks(section("Slurm")) if language == "bash"]
    names = re.findall(r"^`(\w+\.sh)`", section("Slurm"), flags=re.M)
    for name, script in zip(names, scripts, strict=True):
        (photos / name).write_text(script)
    path = f"{programs}{os.pathsep}{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    assert follow("Slurm", photos, {"PATH": path}) == 1
    assert unlearnable.check(photos / "photos-protected")["ok"]
    logs = {path.name for path in (photos / "photos-protected.owner").glob("log-*.jsonl")}
    assert logs == {layout.PART_LOG.format(number, 2) for number in (0, 1)}


@pytest.mark.slow
@pytest.mark.parametrize(("title", "commands"), [("One machine", 2), ("By hand, or without a shared disk", 11)])
def test_the_commands_for_machines_run_as_they_stand(title: str, commands: int, photos: Path) -> None:
    assert follow(title, photos) == commands
    assert unlearnable.check(photos / "photos-protected")["ok"]


@pytest.mark.slow
def test_the_job_for_kubernetes_does_a_part_each(photos: Path) -> None:
    ((_, block),) = [found for found in blocks(section("Kubernetes")) if found[0] == "yaml"]
    job = yaml.safe_load(block)["spec"]
    (container,) = job["template"]["spec"]["containers"]
    assert job["completionMode"] == "Indexed" and f'/{job["completions"]}"' in container["command"][-1]
    command = shlex.join(container["command"]).replace("/64", "/2")
    fit = "unlearnable protect photos photos-protected --layout parquet --preset grating_photo --verify none --fit-only"
    parts = [(command, {"JOB_COMPLETION_INDEX": str(n)}) for n in (0, 1)]
    for words, env in ((fit, {}), *parts, ("unlearnable merge photos-protected", {})):
        code, printed = call(words.replace("grating_photo ", "grating_photo --verify none "), photos, env)
        assert code == 0, printed
    assert unlearnable.check(photos / "photos-protected")["ok"]


@pytest.mark.slow
def test_the_commands_for_ray_run(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a cluster of two machines that are simulated here; `auto` is the cluster that RAY_ADDRESS names."""
    cluster_utils = pytest.importorskip("ray.cluster_utils")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        cluster.add_node(num_cpus=1)
        assert follow("A Ray cluster", photos, {"RAY_ADDRESS": cluster.address}) == 1
    finally:
        cluster.shutdown()
    assert unlearnable.check(photos / "photos-protected")["ok"]


@pytest.fixture
def bucket(photos: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """Settings of an S3 that holds the photos in a bucket called archive."""
    pytest.importorskip("s3fs")
    boto3 = pytest.importorskip("boto3")
    server = pytest.importorskip("moto.server").ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        known = {"ENDPOINT_URL": f"http://{host}:{port}", "ACCESS_KEY_ID": "nobody", "SECRET_ACCESS_KEY": "nothing"}
        known = {f"AWS_{name}": value for name, value in (known | {"DEFAULT_REGION": "us-east-1"}).items()}
        for name, value in known.items():
            monkeypatch.setenv(name, value)
        client = boto3.client("s3")
        client.create_bucket(Bucket="archive")
        for path in (photos / "photos").rglob("*.png"):
            client.upload_file(str(path), "archive", path.relative_to(photos).as_posix())
        yield known
    finally:
        server.stop()


@pytest.mark.slow
def test_the_commands_for_a_bucket_run(photos: Path, bucket: dict[str, str]) -> None:
    import boto3

    assert follow("A bucket", photos, bucket) == 2
    listed = boto3.client("s3").list_objects_v2(Bucket="archive")["Contents"]
    names = [each["Key"] for each in listed if not each["Key"].startswith("photos/")]
    assert all(name.startswith("photos-protected/") for name in names) and not any("owner" in name for name in names)
    assert (photos / "photos-protected.owner" / layout.KEY).exists()


@pytest.mark.slow
def test_the_commands_for_a_dataset_of_the_hub_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tests/sources"))
    import datasets
    from hub_server import serving

    pictures = sorted(write_tree(tmp_path / "pictures").rglob("*.png"))
    names = sorted({path.parent.name for path in pictures})
    rows = {"image": [{"bytes": path.read_bytes(), "path": path.name} for path in pictures]}
    rows |= {"label": [names.index(path.parent.name) for path in pictures]}
    features = datasets.Features(image=datasets.Image(), label=datasets.ClassLabel(names=names))
    (tmp_path / "dataset/data").mkdir(parents=True)
    datasets.Dataset.from_dict(rows, features).to_parquet(tmp_path / "dataset/data/train-00000-of-00001.parquet")
    with serving("owner/pictures", tmp_path / "dataset") as address:
        env = {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "home"), "NO_PROXY": "127.0.0.1", "HF_TOKEN": ""}
        title = "A dataset of the Hub, without downloading it"
        monkeypatch.setattr(sys.modules[__name__], "TEXT", TEXT.replace("OWNER/", "owner/"))
        assert follow(title, tmp_path, env) == 1
    assert unlearnable.check(tmp_path / "pictures-protected")["ok"]


@pytest.mark.slow
def test_the_fit_of_several_processes_runs_and_the_shards_follow(photos: Path) -> None:
    """With two processes on CPUs, and a small fit."""
    ((_, block),) = [found for found in blocks(section("A fit on several GPUs")) if found[0] == "sh"]
    small = " --device cpu --verify none --set rounds=1 --set net=small"
    words = block.strip().replace("--nproc-per-node 4", "--nproc-per-node 2") + small
    after = "unlearnable " + words.partition("-m cli ")[2].replace("--fit-only ", "")
    for command in (words, after):
        code, printed = call(command, photos, {"OMP_NUM_THREADS": "1"})
        assert code == 0, printed
    manifest = Manifest.from_bytes((photos / "photos-protected" / layout.MANIFEST).read_bytes())
    assert manifest.counts["protected"] == 60

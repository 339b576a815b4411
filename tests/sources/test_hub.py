"""A Hub id is fetched through `datasets`, here from a server on 127.0.0.1, and errors never show a token."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hub_server import serving
from source_files import as_parquet

from unlearnable.errors import HubError, UsageError
from unlearnable.sources import hub, open_source

datasets = pytest.importorskip("datasets")

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import hashlib, json, sys
from unlearnable.errors import UnlearnableError
from unlearnable.sources import open_source
try:
    source = open_source(sys.argv[1])
    rows = [(r.id, r.label, hashlib.sha256(source.read(r)).hexdigest()) for r in source.records]
    print(json.dumps([source.kind, source.classes, source.extra_columns(), rows]))
except UnlearnableError as why:
    print(json.dumps([why.exit_code, str(why)]))
"""


def opened(spec: str, home: Path, **environment: str) -> list:
    """What a fresh process makes of the spec: `datasets` reads its settings when it is imported."""
    import json

    clean = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    env = clean | {"HF_HOME": str(home), "PYTHONPATH": str(ROOT), "HF_TOKEN": "hf_secretsecretsecret"} | environment
    run = subprocess.run([sys.executable, "-c", PROGRAM, spec], env=env, capture_output=True, text=True, cwd=home)
    assert "secretsecret" not in run.stdout + run.stderr
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def test_a_hub_dataset_is_fetched_cached_and_read_offline(rows, tmp_path) -> None:
    local = open_source(str(as_parquet(rows, tmp_path / "repo")))
    home = tmp_path / "home"
    home.mkdir()
    with serving("owner/tiny", tmp_path / "repo") as address:
        online = opened("owner/tiny", home, HF_ENDPOINT=address)
        by_url = opened("hf://datasets/owner/tiny@main", home, HF_ENDPOINT=address)
        missing = opened("owner/other", home, HF_ENDPOINT=address)
    offline = opened("owner/tiny", home, HF_ENDPOINT="http://127.0.0.1:9", HF_HUB_OFFLINE="1")
    assert online == by_url == offline
    kind, classes, extra, records = online
    assert (kind, tuple(classes), tuple(extra)) == ("hub", local.classes, local.extra_columns())
    assert [(i, label) for i, label, _ in records] == [(r.id, r.label) for r in local.records]
    assert missing[0] == HubError.exit_code
    assert "no dataset of that name" in missing[1]


def test_an_unknown_dataset_offline_says_so(tmp_path) -> None:
    code, message = opened("owner/tiny", tmp_path, HF_HUB_OFFLINE="1")
    assert code == HubError.exit_code
    assert "HF_HUB_OFFLINE" in message


def test_paths_are_not_taken_for_hub_ids(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    assert hub.matches("owner/name")
    assert hub.matches("owner/name:config")
    assert hub.matches("hf://datasets/owner/name")
    for path in ("photos/cats", "./owner/name", "/owner/name", "owner/name/", "owner", "a/b/c", "../a", "~/a"):
        assert not hub.matches(path), path
    with pytest.raises(UsageError, match="no file or folder photos/cats"):
        open_source("photos/cats")


def test_a_local_folder_never_stands_in_for_the_hub(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner/name").mkdir(parents=True)
    with pytest.raises(UsageError, match="a folder owner/name lies here"):
        open_source("hf://datasets/owner/name")


@pytest.mark.parametrize(
    ("why", "kind", "words"),
    [
        (datasets.exceptions.DatasetNotFoundError("x"), HubError, "may read"),
        (
            ConnectionError("reset by hf_abcdefghijkl at https://me:pw@host/x"),
            HubError,
            "no folder here, and the Hub could not be reached",
        ),
        (ValueError("Config name is missing. Pick one among ['a', 'b']"), UsageError, "owner/name:NAME"),
        (RuntimeError("Dataset scripts are no longer supported"), UsageError, "scripts are no longer"),
        (datasets.exceptions.DatasetGenerationError("bad"), HubError, "bad"),
    ],
)
def test_failures_become_one_sentence_without_secrets(monkeypatch: pytest.MonkeyPatch, why, kind, words: str) -> None:
    def fail(*_: object, **__: object) -> None:
        raise why

    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(kind, match=words) as caught:
        open_source("owner/name")
    assert "abcdefghijkl" not in str(caught.value)
    assert "pw@" not in str(caught.value)


def test_a_full_disk_is_not_blamed_on_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(OSError, match="No space left"):
        open_source("owner/name")

"""Promises of --streaming: what the whole download gives, and nothing of it on the disk; against a Hub on 127.0.0.1."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hub_server import serving
from source_files import as_parquet, picture

from unlearnable import Options, remote
from unlearnable.errors import HubError, UsageError
from unlearnable.sources import _stream, open_source
from unlearnable.sources._ranges import RangeRows

datasets = pytest.importorskip("datasets")

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "hf_secretsecretsecret"
STREAM = {"streaming": True}
# A fresh process asks all of it: `datasets` reads its settings when it is imported.
PROGRAM = """
import hashlib, json, sys
from unlearnable.errors import UnlearnableError
from unlearnable.sources import open_source
for spec, options in json.loads(sys.argv[1]):
    try:
        source = open_source(spec, **options)
        rows = [(r.id, r.split, r.label, r.index, hashlib.sha256(source.read(r)).hexdigest()) for r in source.records]
        some = source.records[1:3]
        table = source.table(some, [b"x", b"y"], ["a.jpg", "b.jpg"])
        facts = [source.kind, source.classes, source.extra_columns(), source.tree]
        print(json.dumps([facts, rows, str(table.schema), table.to_pydict()], default=str))
    except UnlearnableError as why:
        print(json.dumps([why.exit_code, str(why)]))
"""
PROTECT = """
import sys
from pathlib import Path
import unlearnable
from release.engines import local
from release.formats import parquet
local.FEW_IMAGES, parquet.MAX_ROWS = 1, 3  # twelve images are many, in five shards
for name, streaming in (("streamed", True), ("whole", False)):
    options = unlearnable.Options(preset="r16", verify="none", key=Path("my.key"), workers=2, streaming=streaming)
    unlearnable.protect("owner/tiny", Path(name), options)
    print(sum(f.stat().st_size for f in Path("hub").rglob("*") if f.is_file()))
"""


def run(program: str, home: Path, address: str, *words: str, **settings: str) -> list[str]:
    """What the program prints, in a process whose Hub is at the address and keeps all it keeps in home/hub."""
    (home / "tmp").mkdir(parents=True, exist_ok=True)
    clean = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    env = {"HF_HOME": str(home / "hub"), "TMPDIR": str(home / "tmp"), "HF_ENDPOINT": address, "HF_TOKEN": TOKEN}
    env |= {"PYTHONPATH": str(ROOT)} | settings
    done = subprocess.run(
        [sys.executable, "-c", program, *words], env=clean | env, capture_output=True, text=True, cwd=home
    )
    assert "secretsecret" not in done.stdout + done.stderr
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def opened(home: Path, address: str, *asked: tuple[str, dict[str, Any]], **settings: str) -> list[Any]:
    return [json.loads(line) for line in run(PROGRAM, home, address, json.dumps(asked), **settings)]


def kept(home: Path) -> bytes:
    """Every byte that the process left in the Hub's cache and in the folder for temporary files."""
    return b"".join(p.read_bytes() for part in ("hub", "tmp") for p in (home / part).rglob("*") if p.is_file())


def test_a_streamed_dataset_has_the_records_of_the_whole_one_and_leaves_nothing(rows, tmp_path: Path) -> None:
    repo = as_parquet(rows, tmp_path / "repo")
    home = tmp_path / "streamed"
    with serving("owner/tiny", repo, token=TOKEN) as address:
        asked = ("owner/tiny", STREAM), ("hf://datasets/owner/tiny@main", STREAM | {"split": "test"})
        streamed, test = opened(home, address, *asked)
        assert not any(value["bytes"] in kept(home) for value in rows["image"])
        assert len(kept(home)) < 10_000
        (whole,) = opened(tmp_path / "whole", address, ("owner/tiny", {}))
        assert all(value["bytes"] in kept(tmp_path / "whole") for value in rows["image"]), "this is how they would show"
    assert streamed == whole
    assert streamed[0] == ["hub", ["cat", "dog", "eel"], ["caption", "box"], False]
    assert test[1] == [row for row in whole[1] if row[1] == "test"]


def test_what_the_card_states_is_what_the_files_are_read_as(rows, tmp_path: Path) -> None:
    """Names of classes that are in the card alone, types that the files store otherwise, and columns in another order."""
    repo = tmp_path / "repo"
    (repo / "data").mkdir(parents=True)
    images = pa.array([value["bytes"] for value in rows["image"]], pa.binary())
    labels = pa.array(rows["label"], pa.int8())
    for split, part in (("validation", slice(0, 6)), ("train", slice(6, 12))):
        pq.write_table(
            pa.table({"label": labels[part], "image": images[part]}), repo / f"data/{split}.parquet", row_group_size=2
        )
    names = "".join(f"\n          '{n}': {name}" for n, name in enumerate(("ant", "bee", "cow")))
    (repo / "README.md").write_text(
        "---\nconfigs:\n- config_name: small\n  data_files:\n  - split: validation\n    path: data/validation.parquet\n"
        "  - split: train\n    path: data/train.parquet\n"
        "dataset_info:\n  config_name: small\n  features:\n  - name: label\n    dtype:\n      class_label:\n        names:"
        f"{names}\n  - name: image\n    dtype: image\n---\n# Tiny\n"
    )
    with serving("owner/tiny", repo) as address:
        asked = ("owner/tiny", STREAM), ("owner/tiny:small", STREAM), ("owner/tiny", {})
        streamed, named, whole = opened(tmp_path / "a", address, *asked)
    assert streamed == named == whole
    assert streamed[0][1] == ["ant", "bee", "cow"] and len(streamed[1]) == 12


def test_a_card_that_does_not_fit_its_files_is_told_before_anything_is_read(tmp_path: Path) -> None:
    files = fsspec.filesystem("memory")
    with files.open("/card/train.parquet", "wb") as file:
        pq.write_table(pa.table({"image": [b"x"], "label": ["cat"]}), file)
    rows = RangeRows([remote.locate("memory://card/train.parquet")])
    files.rm("/card", recursive=True)
    kinds = {"image": datasets.Image(), "label": datasets.Value("string")}
    assert _stream.CastRows(rows, datasets.Features(kinds)).schema.names == ["image", "label"]
    with pytest.raises(UsageError, match="The card states the columns image, the files hold image, label"):
        _stream.CastRows(rows, datasets.Features(image=datasets.Image()))
    with pytest.raises(UsageError, match="do not hold what the dataset's card states"):
        _stream.CastRows(rows, datasets.Features(kinds | {"label": datasets.List(datasets.Value("int8"))}))


def test_of_a_dataset_that_is_no_parquet_the_hubs_copy_is_read(rows, tmp_path: Path) -> None:
    repo, copy = tmp_path / "repo", tmp_path / "copy"
    for number in range(6):
        path = repo / f"train/{'cat' if number % 2 else 'dog'}/{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(number))
    found = datasets.load_dataset("imagefolder", data_dir=str(repo), split="train", cache_dir=str(tmp_path / "cache"))
    undecoded = found.cast_column("image", datasets.Image(decode=False))
    stored = [{"bytes": Path(row["image"]["path"]).read_bytes(), "path": None} for row in undecoded]
    (copy / "default/train").mkdir(parents=True)
    columns = {"image": stored, "label": undecoded["label"]}
    datasets.Dataset.from_dict(columns, found.features).to_parquet(copy / "default/train/0000.parquet")
    with serving("owner/tiny", repo, {"refs/convert/parquet": copy}) as address:
        asked = ("owner/tiny", STREAM), ("owner/tiny@v1", STREAM), ("owner/tiny", {})
        streamed, revised, whole = opened(tmp_path / "a", address, *asked)
    assert streamed[:2] == whole[:2] and len(streamed[1]) == 6
    assert revised[0] == UsageError.exit_code and "Leave out --streaming" in revised[1]


def test_without_a_whole_parquet_copy_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(spec: str) -> None:
        raise remote.Gone(f"There is nothing at {spec}.")

    monkeypatch.setattr(_stream, "locate", gone)
    with pytest.raises(UsageError, match=r"no whole parquet copy of it\. Leave out --streaming"):
        _stream._converted("owner/tiny", "default", ["train"], None)


def test_the_option_is_kept_with_the_job_and_older_jobs_stay_what_they_were() -> None:
    asked = Options(streaming=True)
    assert asked.words() == ["--streaming"] and asked.reading()["streaming"] and asked.deciding()["streaming"]
    assert "streaming" not in Options().deciding()


def test_a_folder_inside_a_dataset_is_a_tree_at_one_commit(rows, tmp_path: Path) -> None:
    for number in range(4):
        path = tmp_path / f"repo/photos/{number % 2}/{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(number, "JPEG"))
    wanted = ("hf://datasets/owner/tiny/photos", {})
    with serving("owner/tiny", tmp_path / "repo", token=TOKEN) as address:
        here, (facts, there, *_), missing = opened(
            tmp_path / "a", address, (str(tmp_path / "repo/photos"), {}), wanted, (wanted[0] + "x", {})
        )
    assert there == here[1] and facts == ["remote", *here[0][1:]]
    assert missing[0] == UsageError.exit_code and "nothing at hf://datasets/owner/tiny/photosx" in missing[1]


def test_who_may_not_read_is_told_and_so_is_who_is_offline(
    rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving("owner/tiny", as_parquet(rows, tmp_path / "repo"), token="hf_another") as address:
        asked = ("owner/tiny", STREAM), ("hf://datasets/owner/tiny/data", {})
        (code, message), tree = opened(tmp_path / "a", address, *asked)
    assert code == HubError.exit_code and "HF_TOKEN" in message
    assert tree[0] == UsageError.exit_code and "or nothing that you may see" in tree[1]
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    with pytest.raises(HubError, match="Unset HF_HUB_OFFLINE"):
        open_source("owner/tiny", streaming=True)


def test_a_streamed_dataset_gives_the_release_of_the_whole_one(rows, tmp_path: Path) -> None:
    """With workers, which are forked while the Hub's connections are open."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "my.key").write_text("00112233445566778899aabbccddeeff" * 2)
    with serving("owner/tiny", as_parquet(rows, tmp_path / "repo")) as address:
        after_streaming, after_all = run(PROTECT, home, address)
    made = [
        {str(p.relative_to(home / name)): p.read_bytes() for p in (home / name / "data").rglob("*") if p.is_file()}
        for name in ("streamed", "whole")
    ]
    assert made[0] == made[1] and len(made[0]) == 5
    assert int(after_streaming) < 10_000 < int(after_all)

"""WebDataset releases: names and labels kept, the same bytes again, and others' readers take them."""

from __future__ import annotations

import dataclasses
import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from made_pictures import picture, write_tree
from PIL import Image

import unlearnable
from release import layout
from release.formats import webdataset
from unlearnable import Options
from unlearnable.errors import UsageError
from unlearnable.sources import open_source

datasets = pytest.importorskip("datasets")

ASKED = Options(preset="r16", verify="none", layout="webdataset")


def encoded(kind: int, seed: int) -> bytes:
    out = io.BytesIO()
    Image.fromarray(picture(kind, seed)).save(out, "PNG")
    return out.getvalue()


def samples(folder: Path, shards: int = 2, each: int = 6) -> str:
    """Shards whose keys begin anew in each, with a class, a text and a JSON that tells something of the original."""
    folder.mkdir()
    for shard in range(shards):
        with tarfile.open(folder / f"train-{shard:04d}.tar", "w") as archive:
            for number in range(each):
                about = {"caption": f"stripes {number}", "md5": "0" * 32, "thumbnail": "A" * 400}
                files = {"png": encoded(number % 2, 100 * shard + number), "cls": str(number % 2).encode()}
                files |= {"json": json.dumps(about).encode(), "txt": f"a text {number}".encode()}
                for kind, data in files.items():
                    member = tarfile.TarInfo(f"{number:06d}.{kind}")
                    member.size = len(data)
                    archive.addfile(member, io.BytesIO(data))
    return str(folder / "train-*.tar")


def members(file: Path) -> dict[str, bytes]:
    with tarfile.open(file) as archive:
        return {member.name: archive.extractfile(member).read() for member in archive}


def test_a_folder_becomes_samples_that_datasets_reads(tree: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    unlearnable.protect(str(tree), out, ASKED)
    assert unlearnable.check(out)["ok"]
    held = members(out / "data/train-00000-of-00001.tar")
    assert list(held)[:3] == ["000000000.png", "000000000.cls", "000000000.json"] and len(held) == 180
    assert json.loads(held["000000000.json"]) == {"class_name": "across", "file_name": "across/000.png"}
    for got in (
        datasets.load_dataset("webdataset", data_files=str(out / "data/train-*.tar"), cache_dir=str(tmp_path / "a")),
        datasets.load_dataset(str(out), cache_dir=str(tmp_path / "b")),
    ):
        assert got["train"].num_rows == 60 and set(got["train"]["cls"]) == {0, 1, 2}
        row = got["train"][25]
        before = np.asarray(Image.open(tree / row["json"]["file_name"])).astype(int)
        assert 0 < np.abs(np.asarray(row["png"]) - before).max() <= 8


def test_keys_and_texts_of_a_webdataset_stay_and_clashing_keys_are_told_apart(tmp_path: Path) -> None:
    out = tmp_path / "out"
    unlearnable.protect(samples(tmp_path / "in"), out, ASKED)
    held = members(out / "data/train-00000-of-00001.tar")
    assert list(held)[:4] == [f"train-0000/000000.{kind}" for kind in ("png", "cls", "json", "txt")] and len(held) == 48
    assert held["train-0001/000003.cls"] == b"1" and held["train-0001/000003.txt"] == b"a text 3"
    assert json.loads(held["train-0001/000003.json"])["caption"] == "stripes 3"
    assert b"AAAA" not in held["train-0001/000003.json"], "what may show an original stays out"
    unlearnable.protect(samples(tmp_path / "one", shards=1), tmp_path / "single", ASKED)
    assert list(members(tmp_path / "single/data/train-00000-of-00001.tar"))[:2] == ["000000.png", "000000.cls"]


def test_the_same_images_give_the_same_archive(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webdataset, "MAX_ROWS", 25)
    (tmp_path / "key").write_text("0f" * 32)
    for name in ("one", "two"):
        unlearnable.protect(str(tree), tmp_path / name, dataclasses.replace(ASKED, key=tmp_path / "key"))
    files = sorted(path.name for path in (tmp_path / "one/data").iterdir())
    assert files == [f"train-{n:05d}-of-00003.tar" for n in range(3)]
    assert all((tmp_path / "one/data" / f).read_bytes() == (tmp_path / "two/data" / f).read_bytes() for f in files)
    with tarfile.open(tmp_path / "one/data" / files[0]) as archive:
        assert {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in archive} == {(0, 0, 0, "", "", 0o644)}


def test_it_grows_and_what_was_there_stays(tree: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    unlearnable.protect(str(tree), out, ASKED)
    before = members(out / "data/train-00000-of-00001.tar")["000000005.png"]
    Image.fromarray(picture(0, 500)).save(tree / "across/zzz.png")
    unlearnable.protect(str(tree), out, dataclasses.replace(ASKED, grow=True))
    after = members(out / "data/train-00000-of-00001.tar")
    assert after["000000005.png"] == before and len(after) == 183


def test_a_release_opens_as_a_source_with_its_classes(tree: Path, tmp_path: Path) -> None:
    unlearnable.protect(str(tree), tmp_path / "out", ASKED)
    for spec in (tmp_path / "out/data", tmp_path / "out/data/train-*.tar"):
        source = open_source(str(spec))
        assert (source.kind, source.classes, len(source.records)) == ("webdataset", ("across", "down", "rising"), 60)
    with pytest.raises(UsageError, match="protected"):
        unlearnable.protect(str(tmp_path / "out/data"), tmp_path / "again", ASKED)


def test_columns_are_refused_and_odd_names_are_kept(tmp_path: Path) -> None:
    features = {
        "image": datasets.Image(),
        "label": datasets.ClassLabel(names=["a", "b"]),
        "price": datasets.Value("int64"),
    }
    rows = {"image": [{"bytes": encoded(n % 2, n), "path": None} for n in range(8)]}
    rows |= {"label": [n % 2 for n in range(8)], "price": list(range(8))}
    (tmp_path / "table").mkdir()
    datasets.Dataset.from_dict(rows, features=datasets.Features(features)).to_parquet(tmp_path / "table/train.parquet")
    with pytest.raises(UsageError, match="cannot hold the columns price"):
        unlearnable.protect(str(tmp_path / "table"), tmp_path / "out", ASKED)
    tree = write_tree(tmp_path / "odd", 2, 2)
    names = ["v1.2 final.png", "ü\nx.PNG", "a" * 250 + ".png", ".".join("abc") + ".png"]
    for name in names:
        (tree / "across" / name).write_bytes(encoded(0, 7))
    unlearnable.protect(str(tree), tmp_path / "names", ASKED)
    held = members(tmp_path / "names/data/train-00000-of-00001.tar")
    told = {json.loads(data)["file_name"] for name, data in held.items() if name.endswith(".json")}
    assert {f"across/{name}" for name in names} <= told
    assert json.loads((tmp_path / "names" / layout.MANIFEST).read_text())["layout"] == "webdataset"

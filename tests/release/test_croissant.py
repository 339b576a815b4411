"""croissant.json says to machines what the card says to people: that the pixels are perturbed, and nothing more."""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_release import METHOD_WORDS, picture

from release import croissant, layout, seal
from release.check import check
from release.facts import Facts, Measured
from release.tree import Tree

Made = Callable[..., Facts]


@pytest.fixture
def tables(tmp_path: Path, made: Made) -> tuple[Path, Facts]:
    """A staged release of two parquet files, with a column that Croissant has no plain type for."""
    staging = tmp_path / "tables"
    (staging / "data").mkdir(parents=True)
    measured = {}
    for n in range(2):
        name = f"data/train-{n:05d}-of-00002.parquet"
        rows = {
            "image": [{"bytes": picture(2 * n + i), "path": f"{i}.png"} for i in range(2)],
            **{"label": [0, 1], "caption": ["a", "b"], "weight": [0.5, 1.0], "seen": [True, False]},
            "box": [[1, 2], [3, 4]],
        }
        pq.write_table(pa.table(rows), staging / name)
        measured[name] = Measured(images=2, linf=8, p999=8.0, psnr=30.0)
    facts = made(
        tmp_path / "unused",
        **{"layout": "parquet", "measured": measured, "splits": {"train": 4}},
        counts={"total": 4, "protected": 4, "skipped": 0},
        configs=[{"split": "train", "path": "data/train-*.parquet"}],
    )
    return staging, facts


def every(value: Any, key: str) -> list[Any]:
    """The values of a key at any depth."""
    found = [value[key]] if isinstance(value, dict) and key in value else []
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return found + [one for part in inside for one in every(part, key)]


def required(document: dict[str, Any]) -> None:
    """What the specification demands, and that every reference leads somewhere."""
    assert document["@type"] == "sc:Dataset" and document["name"] and document["description"]
    assert document["conformsTo"] == [
        "http://mlcommons.org/croissant/1.1",
        "http://mlcommons.org/croissant/RAI/1.0",
    ]
    assert document["@context"]["rai"] == "http://mlcommons.org/croissant/RAI/"
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", document["datePublished"])
    resources = {item["@id"]: item for item in document["distribution"]}
    assert len(resources) == len(document["distribution"])
    for item in document["distribution"]:
        wanted = {"FileObject": ("contentUrl", "sha256"), "FileSet": ("includes",)}[item["@type"].removeprefix("cr:")]
        assert item["encodingFormat"] and all(item[name] for name in wanted)
    for records in document["recordSet"]:
        for field in records["field"]:
            assert field["@id"] == f"{records['@id']}/{field['name']}"
            assert field["dataType"].startswith("sc:") and field["source"]["fileSet"]["@id"] in resources


def test_a_tree_is_described_by_patterns_that_meet_every_file(tmp_path: Path, made: Made) -> None:
    facts = croissant.add(tmp_path, made(tmp_path))
    document = json.loads((tmp_path / layout.CROISSANT).read_bytes())
    required(document)
    assert facts.documents == (layout.CROISSANT,) and croissant.add(tmp_path, facts) == facts
    met = {
        path.relative_to(tmp_path).as_posix()
        for item in document["distribution"]
        for pattern in item["includes"]
        for path in tmp_path.glob(pattern)
    }
    assert met == set(facts.measured)
    assert [item["@id"] for item in document["recordSet"]] == ["train", "test"]
    assert every(document["recordSet"], "fileProperty") == ["content", "fullpath"] * 2


def test_tables_are_listed_with_their_hashes_and_columns(tables: tuple[Path, Facts]) -> None:
    staging, facts = tables
    document = croissant.document(Tree(staging), facts)
    required(document)
    hashes = {item["contentUrl"]: item["sha256"] for item in document["distribution"] if "sha256" in item}
    assert hashes == {path: hashlib.sha256((staging / path).read_bytes()).hexdigest() for path in facts.measured}
    types = {field["name"]: field["dataType"] for field in document["recordSet"][0]["field"]}
    assert types == {
        **{"image": "sc:ImageObject", "label": "sc:Integer", "caption": "sc:Text"},
        **{"weight": "sc:Float", "seen": "sc:Boolean"},
    }


def test_it_discloses_the_perturbation_and_never_the_method(tmp_path: Path, made: Made) -> None:
    for disclose in (False, True):
        document = croissant.document(Tree(tmp_path), made(tmp_path, disclose=disclose, licence="cc-by-4.0"))
        assert document["rai:dataManipulationProtocol"].startswith("protective perturbation.")
        assert "8 of 255 grey levels" in document["rai:dataManipulationProtocol"]
        assert "Not for training" in document["rai:dataLimitations"] and document["license"] == "cc-by-4.0"
        text = json.dumps(document, ensure_ascii=False)
        for secret in (*METHOD_WORDS, "4242", "811", "/home/owner", "broken.jpg", "ab" * 16, "cd" * 32):
            assert secret not in text


def test_it_is_sealed_like_every_file_and_a_release_without_it_still_checks(tmp_path: Path, made: Made) -> None:
    for name, add in (("new", True), ("old", False)):
        out = tmp_path / name
        out.mkdir()
        facts = made(out)
        manifest = seal.seal(out, layout.owner_folder(out), croissant.add(out, facts) if add else facts)
        assert (layout.CROISSANT in {entry.path for entry in manifest.files}) is add
        assert check(out).ok
    (tmp_path / "new" / layout.CROISSANT).write_bytes(b"{}")
    assert check(tmp_path / "new").changed == (layout.CROISSANT,)


def test_the_reference_validator_accepts_and_reads_it(tmp_path: Path, made: Made, tables: tuple[Path, Facts]) -> None:
    library = pytest.importorskip("mlcroissant")
    from PIL import Image

    shipped = {Image.open(io.BytesIO(picture(n))).convert("RGB").tobytes() for n in range(4)}
    staging, facts = tables
    tree = tmp_path / "tree"
    tree.mkdir()
    for folder, known, counts in ((staging, facts, {"train": 4}), (tree, made(tree), {"train": 3, "test": 1})):
        croissant.add(folder, known)
        dataset = library.Dataset(jsonld=str(folder / layout.CROISSANT))  # raises when it does not validate
        assert dataset.metadata.ctx.issues.errors == set()
        for split, count in counts.items():
            records = list(dataset.records(split))
            read = {record[f"{split}/image"].convert("RGB").tobytes() for record in records}
            assert len(records) == len(read) == count and read <= shipped

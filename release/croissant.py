"""croissant.json of a release: MLCommons Croissant 1.1 with the fields of its Responsible AI extension (RAI 1.0).

Machine-readable metadata for data-set search engines. It says what the card says and no more: that the pixels carry a
protective perturbation, what the files are for, and how they are laid out; never how the perturbation was made. Parquet
files and archives are listed with their SHA-256, trees of images by pattern. Paths are relative to the file itself.

Standards: http://mlcommons.org/croissant/1.1, http://mlcommons.org/croissant/RAI/1.0.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from release import figures, layout
from release.card import TAGS
from release.facts import Facts
from release.files import encoded
from release.tree import Tree

CONFORMS = ("http://mlcommons.org/croissant/1.1", "http://mlcommons.org/croissant/RAI/1.0")

_PARQUET = "application/x-parquet"
_TYPES = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".webp": "image/webp"}

# The context that the specification gives: tools compare it word for word.
_TERMS = (
    *("citeAs", "column", "equivalentProperty", "extract", "field", "fileObject", "fileProperty", "fileSet", "format"),
    *("includes", "isLiveDataset", "jsonPath", "key", "md5", "parentField", "path", "recordSet", "references", "regex"),
    *("repeated", "replace", "samplingRate", "separator", "source", "subField", "transform"),
)
_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    **{term: f"cr:{term}" for term in _TERMS},
}


def add(staging: Path, facts: Facts, tree: Tree | None = None) -> Facts:
    """Writes croissant.json into a staging folder; the facts, with it among the documents of the release.

    tree: where the data lies, unless in the same folder.
    """
    text = json.dumps(document(tree or Tree(staging), facts), ensure_ascii=False, indent=1) + "\n"
    (staging / layout.CROISSANT).write_bytes(encoded(text))
    others = tuple(name for name in facts.documents if name != layout.CROISSANT)
    return replace(facts, documents=(*others, layout.CROISSANT))


def document(tree: Tree, facts: Facts) -> dict[str, Any]:
    """The metadata, from the facts and the data files that are staged."""
    splits = list(dict.fromkeys(item["split"] for item in facts.configs))
    make = {"parquet": _tables, "webdataset": _archives}.get(facts.layout, _trees)
    distribution, records = make(tree, facts, splits)
    known = {"license": facts.licence} if facts.licence else {}
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": list(CONFORMS),
        "name": facts.name,
        "description": f"{figures.counts_text(facts)} The pixels carry protective perturbations: models trained on these "
        "files are expected to fail on unperturbed images.",
        "datePublished": facts.created[:10],
        "version": "1.0.0",
        "keywords": list(TAGS),
        **known,
        **_responsible(facts),
        "distribution": distribution,
        "recordSet": records,
    }


def _responsible(facts: Facts) -> dict[str, str]:
    """The RAI fields. The manipulation is named and not described: that is the owner's secret."""
    verified = "Measured results are in README.md." if facts.verification else "Nothing was measured about how well."
    return {
        "rai:dataManipulationProtocol": f"protective perturbation. {figures.budget_text(facts)}",
        "rai:dataUseCases": "Looking at the images, showing them, searching and citing them.",
        "rai:dataLimitations": "Not for training, fine-tuning or distilling models, nor for measuring models that were "
        f"trained on other images: the perturbation is there to make that fail. {verified}",
        "rai:dataReleaseMaintenancePlan": "manifest.json lists every file with its SHA-256, and attestation.json signs "
        "the list; a copy that does not check is not this release.",
    }


def _trees(tree: Tree, facts: Facts, splits: list[str]) -> tuple[list[Any], list[Any]]:
    """A file set and a record set for each split: the picture, and its path, which holds its class."""
    sets = []
    for split in splits:
        patterns = [item["path"] for item in facts.configs if item["split"] == split]
        roots = [pattern.removesuffix("/**") for pattern in patterns]
        files = [path for path in facts.measured if any(path.startswith(f"{root}/") for root in roots)]
        endings = sorted({PurePosixPath(path).suffix for path in files})
        kinds = sorted({_TYPES.get(ending.lower(), "application/octet-stream") for ending in endings})
        sets.append(
            {
                "@type": "cr:FileSet",
                "@id": f"files-{split}",
                "name": f"files-{split}",
                "encodingFormat": kinds[0] if len(kinds) == 1 else kinds,
                "includes": [f"{root}/**/*{ending}" for root in roots for ending in endings],
            }
        )
    records = [
        _records(
            split, {"image": ("sc:ImageObject", {"fileProperty": "content"}), **_PATH}, "fileSet", f"files-{split}"
        )
        for split in splits
    ]
    return sets, records


_PATH = {"path": ("sc:Text", {"fileProperty": "fullpath"})}


def _tables(tree: Tree, facts: Facts, splits: list[str]) -> tuple[list[Any], list[Any]]:
    """A file object for each parquet file; a record set for each split, over the set of its files."""
    files = sorted(path for path in facts.measured if path.endswith(".parquet"))
    distribution = _file_objects(tree, files, _PARQUET)
    records = []
    for split in splits:
        patterns = [item["path"] for item in facts.configs if item["split"] == split]
        of_split = [path for path in files if any(PurePosixPath(path).match(pattern) for pattern in patterns)]
        if not of_split:
            continue
        with tree.here(of_split[0]) as file:
            columns = dict(_columns(file))
        distribution.append(
            {
                **{"@type": "cr:FileSet", "@id": f"files-{split}", "name": f"files-{split}"},
                **{"encodingFormat": _PARQUET, "includes": patterns},
            }
        )
        records.append(_records(split, columns, "fileSet", f"files-{split}"))
    return distribution, records


def _archives(tree: Tree, facts: Facts, splits: list[str]) -> tuple[list[Any], list[Any]]:
    """A file object for each archive; for each split the images inside its archives, as a file set and a record set."""
    files = sorted(path for path in facts.measured if path.endswith(".tar"))
    distribution = _file_objects(tree, files, "application/x-tar")
    records = []
    for split in splits:
        patterns = [item["path"] for item in facts.configs if item["split"] == split]
        of_split = [path for path in files if any(PurePosixPath(path).match(pattern) for pattern in patterns)]
        distribution.append(
            {
                **{"@type": "cr:FileSet", "@id": f"files-{split}", "name": f"files-{split}"},
                **{"containedIn": [{"@id": path} for path in of_split], "encodingFormat": sorted({*_TYPES.values()})},
                "includes": [f"**/*{ending}" for ending in _TYPES],
            }
        )
        fields = {"image": ("sc:ImageObject", {"fileProperty": "content"}), **_PATH}
        records.append(_records(split, fields, "fileSet", f"files-{split}"))
    return distribution, records


def _file_objects(tree: Tree, files: list[str], kind: str) -> list[Any]:
    found: list[Any] = []
    for path, digest in tree.digests(files):
        if isinstance(digest, OSError):
            raise digest
        found.append(
            {
                **{"@type": "cr:FileObject", "@id": path, "name": path, "contentUrl": path},
                **{"contentSize": f"{tree.size(path)} B", "encodingFormat": kind, "sha256": digest},
            }
        )
    return found


def _records(split: str, fields: Mapping[str, tuple[str, dict[str, Any]]], kind: str, source: str) -> dict[str, Any]:
    made = []
    for name, (data_type, extract) in fields.items():
        taken: dict[str, Any] = {kind: {"@id": source}, "extract": extract}
        if data_type == "sc:ImageObject" and "column" in extract:
            taken["transform"] = {"jsonPath": "bytes"}
        made.append(
            {
                **{"@type": "cr:Field", "@id": f"{split}/{name}", "name": name},
                **{"dataType": data_type, "source": taken},
            }
        )
    return {"@type": "cr:RecordSet", "@id": split, "name": split, "field": made}


def _columns(file: Path) -> Iterator[tuple[str, tuple[str, dict[str, Any]]]]:
    """Columns with a plain type, and pictures; others (lists, structures) are in the file's own schema alone."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    plain = (
        (pa.types.is_boolean, "sc:Boolean"),
        (pa.types.is_integer, "sc:Integer"),
        (pa.types.is_floating, "sc:Float"),
        (lambda kind: pa.types.is_string(kind) or pa.types.is_large_string(kind), "sc:Text"),
    )
    for column in pq.read_schema(file):
        if pa.types.is_struct(column.type) and {"bytes", "path"} == {part.name for part in column.type}:
            yield column.name, ("sc:ImageObject", {"column": column.name})
        for fits, name in plain:
            if fits(column.type):
                yield column.name, (name, {"column": column.name})
                break

"""The manifest is pure data: canonical bytes, safe paths, and nothing that only the owner may know."""

from __future__ import annotations

import json
import math
import random
from dataclasses import asdict, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_release import verification

from release.facts import Quality
from release.manifest import FileEntry, Manifest, check_path, public_verification, schema, utc_now
from release.schema import problems
from unlearnable.errors import IntegrityError


def entry(path: str, **changes: Any) -> FileEntry:
    return replace(FileEntry(path, "0f" * 32, 7, "data", images=1, linf=8, p999=7.0, psnr=31.5), **changes)


def manifest(*files: FileEntry, **changes: Any) -> Manifest:
    whole = Manifest(
        name="Herbarium",
        created="2026-11-21T10:20:30Z",
        layout="folder",
        budget={"norm": "linf", "levels": 8, "guaranteed": True},
        counts={"total": 2, "protected": 1, "skipped": 1},
        splits={"train": 1},
        versions={"tool": "0.1.0"},
        commitment={"salt": "ab", "sha256": "cd" * 32},
        verification=None,
        files=files or (entry("data/a.png"),),
    )
    return replace(whole, **changes)


VERSION_1 = """{
 "budget": {
  "guaranteed": true,
  "levels": 8,
  "norm": "linf"
 },
 "commitment": {
  "salt": "ab",
  "sha256": "cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd"
 },
 "counts": {
  "protected": 1,
  "skipped": 1,
  "total": 2
 },
 "created": "2026-11-21T10:20:30Z",
 "files": [
  {
   "images": 1,
   "kind": "data",
   "linf": 8,
   "p999": 7.0,
   "path": "data/é.png",
   "psnr": 31.5,
   "sha256": "0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f",
   "size": 7
  }
 ],
 "layout": "folder",
 "name": "Herbarium",
 "schema_version": 1,
 "splits": {
  "train": 1
 },
 "verification": null,
 "versions": {
  "tool": "0.1.0"
 }
}
"""


VERSION_2 = VERSION_1.replace('"schema_version": 1', '"schema_version": 2').replace(
    ''' "schema_version"''',
    ''' "quality": {
  "images": 3,
  "lpips": null,
  "lpips_missing": "torchmetrics is not installed",
  "sample": "the first three",
  "ssim": 0.9876,
  "ssim_lowest": 0.9123
 },
 "schema_version"''',
)
QUALITY = asdict(Quality(3, 0.9876, 0.9123, None, "torchmetrics is not installed", "the first three"))


def test_the_bytes_of_version_1_never_change() -> None:
    old = manifest(entry("data/é.png"), schema_version=1)
    assert old.to_bytes().decode() == VERSION_1
    assert Manifest.from_bytes(VERSION_1.encode()) == old


def test_the_bytes_of_version_2_never_change() -> None:
    new = manifest(entry("data/é.png"), quality=QUALITY)
    assert new.to_bytes().decode() == VERSION_2
    assert Manifest.from_bytes(VERSION_2.encode()) == new


def test_version_2_says_what_was_looked_at_and_version_1_may_not() -> None:
    with pytest.raises(IntegrityError, match="quality is missing"):
        Manifest.from_bytes(VERSION_1.replace('"schema_version": 1', '"schema_version": 2').encode())
    foreign = VERSION_2.replace('"schema_version": 2', '"schema_version": 1').encode()
    assert Manifest.from_bytes(foreign).quality is None, "a field that version 1 does not know"


paths = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\\/:"), min_size=1, max_size=8)
entries = st.builds(
    FileEntry,
    path=paths.filter(lambda part: part not in (".", "..")).map(lambda part: f"data/{part}"),
    sha256=st.binary(min_size=32, max_size=32).map(bytes.hex),
    size=st.integers(0, 10**15),
    kind=st.sampled_from(["data", "document"]),
    images=st.integers(0, 10**9),
    linf=st.none() | st.integers(0, 255),
    p999=st.none() | st.floats(0, 255),
    psnr=st.none() | st.floats(0, 200) | st.just(math.inf),
)


@given(
    st.lists(entries, unique_by=lambda item: item.path, max_size=6), st.text(st.characters(exclude_categories=["Cs"]))
)
def test_reading_what_was_written_is_the_identity_and_order_does_not_matter(files: list[FileEntry], name: str) -> None:
    whole = manifest(name=name, files=tuple(files))
    shuffled = list(files)
    random.Random(0).shuffle(shuffled)
    assert Manifest.from_bytes(whole.to_bytes()) == whole
    assert manifest(name=name, files=tuple(shuffled)).to_bytes() == whole.to_bytes()


def test_a_full_verification_survives_the_round_trip() -> None:
    whole = manifest(verification=public_verification(verification()))
    assert Manifest.from_bytes(whole.to_bytes()) == whole


UNSAFE = [
    "/etc/passwd",
    "..",
    "data/../../key",
    "data\\a.png",
    "data//a",
    "",
    ".",
    "a/",
    "./a",
    "C:/a",
    "a\0b",
    "\udc80",
]


@pytest.mark.parametrize("path", UNSAFE)
def test_paths_that_could_leave_the_release_are_refused(path: str) -> None:
    with pytest.raises(IntegrityError):
        check_path(path)
    document = json.loads(manifest().to_bytes())
    document["files"][0]["path"] = path
    with pytest.raises(IntegrityError):
        Manifest.from_bytes(json.dumps(document).encode())


def test_a_file_is_listed_once_and_never_vouches_for_itself() -> None:
    with pytest.raises(IntegrityError, match=r"data/a\.png twice"):
        manifest(entry("data/a.png"), entry("data/a.png"))
    with pytest.raises(IntegrityError, match="cannot be listed"):
        entry("manifest.json")


def test_psnr_is_rounded_and_infinite_is_none() -> None:
    assert entry("data/a.png", psnr=31.23456).psnr == 31.23
    assert entry("data/a.png", psnr=math.inf).psnr is None


@pytest.mark.parametrize("value", [math.nan, -math.inf])
def test_what_is_not_a_number_is_refused(value: float) -> None:
    with pytest.raises(IntegrityError):
        manifest(entry("data/a.png", psnr=value)).to_bytes()
    with pytest.raises(IntegrityError):
        Manifest.from_bytes(VERSION_1.replace("31.5", json.dumps(value)).encode())


def test_a_newer_version_is_refused_with_a_sentence() -> None:
    with pytest.raises(IntegrityError, match=r"version 3; this program reads up to version 2.*newer unlearnable"):
        Manifest.from_bytes(VERSION_1.replace('"schema_version": 1', '"schema_version": 3').encode())


def test_fields_added_within_a_version_are_ignored() -> None:
    document = json.loads(VERSION_1)
    document["later"] = document["files"][0]["later"] = document["budget"]["later"] = 1
    assert Manifest.from_bytes(json.dumps(document).encode()).files == manifest(entry("data/é.png")).files
    document = json.loads(VERSION_2)
    document["later"] = document["quality"]["later"] = 1
    assert Manifest.from_bytes(json.dumps(document).encode()).quality == QUALITY | {"later": 1}


DAMAGED = [
    *(b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b'{"schema_version": 1}', b'{"schema_version": true}'),
    *(VERSION_1.replace(*change).encode() for change in [('"size": 7', '"size": -7'), ('"size": 7', '"size": true')]),
    *(VERSION_1.replace(*change).encode() for change in [("0f0f", "zz"), ("folder", "heap"), ("31.5", "1e999")]),
    *(VERSION_1.replace(*change).encode() for change in [("10:20:30Z", "10:20"), ('"levels": 8', '"levels": 300')]),
]


@pytest.mark.parametrize("data", DAMAGED)
def test_damage_is_a_sentence_and_never_a_crash(data: bytes) -> None:
    with pytest.raises(IntegrityError, match=r"manifest\.json"):
        Manifest.from_bytes(data)


ODD = st.sampled_from(
    [
        *("", "a.png", "0f" * 32, "0F" * 32, "data", "else", True, False, None, [], {}, ["data"]),
        *(-1, 0, 7, 255, 256, 2**70, -0.5, 7.5, 255.5, math.inf, math.nan),
    ]
)


@given(st.dictionaries(st.sampled_from(["path", "sha256", "size", "kind", "images", "linf", "p999", "psnr"]), ODD))
def test_what_is_asked_of_many_entries_at_once_is_what_is_asked_of_one(changes: dict[str, Any]) -> None:
    of_one = schema()["properties"]["files"]["items"]
    changed = asdict(entry("data/a.png")) | changes
    slow = list(problems(changed, of_one, "files[0]"))
    document = json.loads(VERSION_2) | {"files": [changed]}
    assert list(problems(document, schema())) == slow
    assert list(problems(document | {"files": [asdict(entry("b")), changed]}, schema())) == [
        words.replace("files[0]", "files[1]") for words in slow
    ]


@pytest.mark.parametrize("name", ["path", "sha256", "size", "kind", "images", "linf", "p999", "psnr"])
def test_every_field_of_an_entry_is_asked_for_and_has_a_type(name: str) -> None:
    document = json.loads(VERSION_2)
    document["files"][0][name] = [1]
    with pytest.raises(IntegrityError, match=rf"files\[0\].{name} should be"):
        Manifest.from_bytes(json.dumps(document).encode())
    del document["files"][0][name]
    with pytest.raises(IntegrityError, match=rf"files\[0\].{name} is missing"):
        Manifest.from_bytes(json.dumps(document).encode())


def test_a_release_without_a_bound_is_listed_like_any_other() -> None:
    unbounded = {"norm": "linf", "levels": 255, "guaranteed": True}
    listed = manifest(entry("data/a.png", linf=255, p999=255.0, psnr=12.5), budget=unbounded)
    assert Manifest.from_bytes(listed.to_bytes()) == listed
    with pytest.raises(IntegrityError, match="levels"):
        manifest(budget=unbounded | {"levels": 256}).to_bytes()


def test_the_schema_guards_writing_too() -> None:
    with pytest.raises(IntegrityError, match=r"created should match"):
        manifest(created="yesterday").to_bytes()
    manifest(created=utc_now()).to_bytes()


def test_only_what_strangers_may_know_is_public() -> None:
    public = public_verification(verification() | {"canary": "secret"})
    assert set(public) == {"protocol", "arms", "relative_accuracy_drop", "flags", "verdict"}
    assert public["protocol"]["runs"] == 2 and "seeds" not in public["protocol"]
    assert set(public["arms"]["clean"]) == {"peak", "selected", "final", "epochs_to_half_loss", "curves"}
    text = json.dumps(public)
    assert not any(word in text for word in ("grayscale", "worst", "against", "811", "secret"))


def test_an_independent_labelling_is_public_as_arms_only() -> None:
    full = verification()
    full["independent_labels"] = full["arms"] | {"source": "secret"}
    assert public_verification(full)["independent_labels"] == public_verification(full)["arms"]

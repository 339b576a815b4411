"""Promises of list files and single images."""

from __future__ import annotations

from pathlib import Path

import pytest
from source_files import picture, tree

from unlearnable.errors import UsageError
from unlearnable.sources import _sidecars, open_source


def ids(source) -> list[str]:
    return [record.id for record in source.records]


def reasons(source) -> dict[str, str]:
    return {skip.id: skip.reason for skip in source.skipped}


def test_a_list_of_paths_keeps_their_tree_and_says_what_is_not_there(tmp_path: Path) -> None:
    tree(tmp_path, "cat/1.png", "dog/2.JPG", "dog/3.png", "notes.doc", "unlisted.png")
    lines = ["dog/2.JPG", "", str(tmp_path / "cat/1.png"), "gone.png", "cat/./1.png", "notes.doc"]
    (tmp_path / "list.txt").write_text("\r\n".join(lines), encoding="utf-8")
    source = open_source(str(tmp_path / "list.txt"))
    assert ids(source) == ["cat/1.png", "dog/2.JPG"] and source.classes == ("cat", "dog") and source.tree
    assert source.read(source.records[0]) == (tmp_path / "cat/1.png").read_bytes()
    assert reasons(source) == {
        "cat/./1.png (line 5)": "listed already in line 3",
        "gone.png": "listed in line 4, but there is no such file",
        "notes.doc": "listed in line 6, but not an image",
    }


def test_paths_that_lead_out_are_named_from_the_folder_that_holds_all(tmp_path: Path) -> None:
    tree(tmp_path, "a/1.png", "b/2.png")
    (tmp_path / "a/list.txt").write_text("1.png\n../b/2.png\n")
    assert ids(open_source(str(tmp_path / "a/list.txt"))) == ["a/1.png", "b/2.png"]


def test_a_table_gives_labels_that_no_tree_would_keep(tmp_path: Path) -> None:
    from release.formats import load

    tree(tmp_path, "1.png", "2.png")
    (tmp_path / "list.csv").write_text('file_name,label\n2.png,dog\n1.png,"big, cat"\n', encoding="utf-8-sig")
    source = open_source(str(tmp_path / "list.csv"))
    assert source.classes == ("big, cat", "dog") and [r.label for r in source.records] == [0, 1]
    assert "labels come from a file" in load("folder").refuse(source)
    assert open_source(str(tmp_path / "list.csv"), labels="none").classes is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("label\ncat\n", "no column file_name"),
        ("file_name,label\n1.png,\n", r"line 2: 1\.png has no label"),
        ("file_name,label\n,cat\n", "line 2: there is no file name"),
        ("file_name,label\n1.png,cat\n1.png,dog\n", r"line 3: 1\.png has two labels"),
        ("file_name,label\nx.png,cat\n", "no images: found 1 x listed in line 2"),
        ("file_name,label\n\udcff,cat\n", "cannot be read as a list"),
    ],
)
def test_a_bad_table_is_named_with_its_line(tmp_path: Path, text: str, words: str) -> None:
    tree(tmp_path, "1.png")
    (tmp_path / "list.csv").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(UsageError, match=words):
        open_source(str(tmp_path / "list.csv"))


@pytest.mark.parametrize("name", ["one.PNG", "scan"])
def test_one_image_is_a_source_by_its_name_or_its_content(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(picture(0))
    (tmp_path / "beside.png").write_bytes(picture(1))
    source = open_source(str(tmp_path / name))
    assert ids(source) == [name] and source.read(source.records[0]) == picture(0)
    with pytest.raises(UsageError, match="is one"):
        open_source(str(tmp_path / name), labels="none")


# --- sidecars ---


def test_a_sidecar_belongs_to_the_photo_of_its_name(tmp_path: Path) -> None:
    names = ["a.jpg", "b.png", "A.xmp", "a.xmp", "a.jpg.XMP", "b.png.supplemental-metadata.json", "c.json", "a.txt"]
    source = open_source(str(tree(tmp_path, *names)))
    assert {k: sorted(v) for k, v in source.sidecars.items()} == {
        "a.jpg": ["a.jpg.XMP", "a.xmp"],
        "b.png": ["b.png.supplemental-metadata.json"],
    }
    assert set(reasons(source)) == {"A.xmp", "a.txt", "c.json"}


PIXELS = "[" + ",".join(str(i % 256) for i in range(300)) + "]"
WRAPPED = "&#xA;".join("QUJDRA" * 12 for _ in range(10))


@pytest.mark.parametrize(
    ("text", "metadata", "words"),
    [
        (
            "<x:xmpmeta><dc:title>A plain title, and a long one too. " + "words and words " * 90 + "</dc:title>",
            "keep",
            None,
        ),
        ('{"rating": 5, "box": [1, 2, 3, 4], "url": "https://example.org/photo/of/mine"}', "keep", None),
        ('{"thumb": "data:image/png;base64,AAAA"}', "keep", "picture"),
        ("<xmpGImg:image>AA==</xmpGImg:image>", "keep", "picture"),
        (f"<x>{'QUJD' * 80}</x>", "keep", "picture"),
        (f"<x>{WRAPPED}</x>", "keep", "picture"),
        (f'{{"pixels": {PIXELS}}}', "keep", "picture"),
        ('{"geoData": {"latitude": 1.5}}', "keep", None),
        ('{"geoData": {"latitude": 1.5}}', "no-gps", "place"),
        ("<exif:GPSLatitude/>", "no-gps", "place"),
        ("{}", "strip", "--metadata strip"),
        ("\0", "keep", "picture"),
        ("x " * 600_000, "keep", "1 MB"),
        (f'{{"md5": "{__import__("hashlib").md5(b"orig").hexdigest().upper()}"}}', "keep", "checksum"),
    ],
)
def test_a_sidecar_ships_only_without_pictures_places_and_checksums(
    text: str, metadata: str, words: str | None
) -> None:
    refused = _sidecars.refusal(text.encode(), b"orig", metadata)
    assert refused is None if words is None else words in (refused or "")


def test_a_sidecar_that_is_no_text_stays(tmp_path: Path) -> None:
    assert "UTF-8" in (_sidecars.refusal(b"\xff\xd8\xff", b"", "keep") or "")

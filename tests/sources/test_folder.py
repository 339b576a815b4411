"""Promises of the folder source: every file is a record or skipped with a reason, and labels follow a stated rule."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from source_files import picture, tree

from unlearnable.errors import ImageError, UsageError
from unlearnable.sources import open_source


def ids(source) -> list[str]:
    return [record.id for record in source.records]


def reasons(source) -> dict[str, str]:
    return {skip.id: skip.reason for skip in source.skipped}


# --- what is found ---


def test_every_file_is_a_record_or_skipped_with_its_reason(tmp_path: Path) -> None:
    names = [
        "a.png",
        "B.JPG",
        "sub/c.jpeg",
        "notes.txt",
        "labels.csv",
        "make.py",
        ".hidden.png",
        ".git/x.png",
        "d.heic",
    ]
    (tree(tmp_path, *names) / "scan").write_bytes(picture(9))  # no extension, but an image inside
    source = open_source(str(tmp_path))
    assert ids(source) == ["B.JPG", "a.png", "d.heic", "scan", "sub/c.jpeg"]
    assert reasons(source) == {
        ".git": "hidden folder, left out with all it holds",
        ".hidden.png": "hidden file",
        "labels.csv": "not an image",
        "make.py": "not an image",
        "notes.txt": "not an image",
    }
    assert [record.size for record in source.records] == [(tmp_path / name).stat().st_size for name in ids(source)]
    assert [record.index for record in source.records] == [0, 1, 2, 3, 4]


def test_odd_names_are_kept_as_they_are(tmp_path: Path) -> None:
    names = ["a b/ü nicode 日本.png", "a b/new\nline.png", "c/[x]*?.png", "c/'quoted\".png"]
    source = open_source(str(tree(tmp_path, *names)))
    assert ids(source) == sorted(names)
    assert source.classes == ("a b", "c")
    assert [source.read(record) for record in source.records] == [
        (tmp_path / name).read_bytes() for name in sorted(names)
    ]


def test_a_name_that_is_not_utf8_is_skipped_and_spelled_out(tmp_path: Path) -> None:
    tree(tmp_path, "a.png")
    try:
        (tmp_path / os.fsdecode(b"bad\xff.png")).write_bytes(picture(1))
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    source = open_source(str(tmp_path))
    assert ids(source) == ["a.png"]
    assert "UTF-8" in reasons(source)["bad\\xff.png"]


def test_a_name_that_no_release_may_hold_is_skipped(tmp_path: Path) -> None:
    source = open_source(str(tree(tmp_path, "a.png", "back\\slash.png", "b\\c/d.png")))
    assert ids(source) == ["a.png"]
    assert reasons(source) == dict.fromkeys(["back\\slash.png", "b\\c"], "its name holds a backslash; rename it")


def test_links_out_of_the_tree_and_loops_are_skipped(tmp_path: Path) -> None:
    outside = tree(tmp_path / "outside", "secret.png", "more/x.png")
    root = tree(tmp_path / "in", "cat/1.png", "dog/2.png")
    (root / "cat/up.png").symlink_to("../../outside/secret.png")
    (root / "more").symlink_to(outside / "more")
    (root / "cat/loop").symlink_to(root)
    (root / "self.png").symlink_to("self.png")
    (root / ".loop").symlink_to(".loop")
    (root / "gone.png").symlink_to("nowhere.png")
    (root / "dog/same.png").symlink_to("../cat/1.png")
    source = open_source(str(root))
    assert ids(source) == ["cat/1.png", "dog/2.png", "dog/same.png"]
    assert reasons(source) == {
        ".loop": "hidden file",
        "cat/loop": "a link to a folder of this tree",
        "cat/up.png": "a link out of the tree",
        "gone.png": "a link to nothing, or to itself",
        "more": "a link out of the tree",
        "self.png": "a link to nothing, or to itself",
    }


def test_a_root_that_is_a_link_is_followed(tmp_path: Path) -> None:
    tree(tmp_path / "real", "a.png")
    (tmp_path / "link").symlink_to("real")
    assert ids(open_source(str(tmp_path / "link"))) == ["a.png"]


def test_of_two_names_that_differ_only_in_case_the_second_is_skipped(tmp_path: Path) -> None:
    source = open_source(str(tree(tmp_path, "A.png", "a.png", "e\u0301.png", "\u00e9.png")))
    if len(list(tmp_path.iterdir())) < 4:
        pytest.skip("this file system folds names")
    assert ids(source) == ["A.png", "e\u0301.png"]
    assert "A.png" in reasons(source)["a.png"]
    assert "overwrite" in reasons(source)["\u00e9.png"]


def test_pipes_do_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tree(tmp_path, "a.png") / "pipe.png")
    assert "not an image" in reasons(open_source(str(tmp_path)))["pipe.png"]


def test_the_source_is_only_read(tmp_path: Path) -> None:
    tree(tmp_path, "cat/1.png", "dog/2.png")
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    source = open_source(str(tmp_path))
    source.table(source.records, [source.read(r) for r in source.records], ids(source))
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")} == before


def test_a_file_that_vanished_is_an_image_error(tmp_path: Path) -> None:
    source = open_source(str(tree(tmp_path, "a.png")))
    (tmp_path / "a.png").unlink()
    with pytest.raises(ImageError, match=r"a\.png"):
        source.read(source.records[0])


# --- splits and labels ---


def test_folders_are_classes_and_everything_is_train(tmp_path: Path) -> None:
    source = open_source(str(tree(tmp_path, "dog/1.png", "cat/2.png", "cat/1.png", "info.txt")))
    assert source.classes == ("cat", "dog")
    assert [(r.id, r.split, r.label) for r in source.records] == [
        ("cat/1.png", "train", 0),
        ("cat/2.png", "train", 0),
        ("dog/1.png", "train", 1),
    ]


def test_split_folders_in_any_case_hold_classes_that_are_the_same_in_all(tmp_path: Path) -> None:
    source = open_source(str(tree(tmp_path, "Train/cat/1.png", "Train/dog/1.png", "TEST/dog/1.png", "docs/readme.txt")))
    assert source.classes == ("cat", "dog")
    assert [(r.id, r.split, r.label, r.index) for r in source.records] == [
        ("TEST/dog/1.png", "test", 1, 0),
        ("Train/cat/1.png", "train", 0, 0),
        ("Train/dog/1.png", "train", 1, 1),
    ]
    only = open_source(str(tmp_path), split="test")
    assert [r.split for r in only.records] == ["test"]
    assert only.classes == ("cat", "dog")


def test_an_unknown_split_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"(?s)'tset'.*Did you mean 'test'.*test, train"):
        open_source(str(tree(tmp_path, "train/a/1.png", "train/b/1.png", "test/a/1.png")), split="tset")


@pytest.mark.parametrize("names", [["a.png", "b.png"], ["a.png", "x/b.png"], ["x/y/a.png", "x/b.png"], ["train/a.png"]])
def test_flat_and_irregular_trees_have_no_classes(tmp_path: Path, names: list[str]) -> None:
    source = open_source(str(tree(tmp_path, *names)))
    assert source.classes is None
    assert {record.label for record in source.records} == {None}


@pytest.mark.parametrize(
    ("stray", "where"), [("loose.png", "beside the class folders"), ("cat/more/x.png", "below a class folder")]
)
@pytest.mark.parametrize("top", ["", "train/"])
def test_a_few_images_outside_the_class_folders_are_named(tmp_path: Path, stray: str, where: str, top: str) -> None:
    tree(tmp_path, *(f"{top}{kind}/{i}.png" for kind in ("cat", "dog") for i in range(5)), f"{top}{stray}")
    with pytest.raises(UsageError, match=rf"(?s){top}{stray} lies {where}.*--labels folders.*--labels none"):
        open_source(str(tmp_path))
    assert open_source(str(tmp_path), labels="none").classes is None


def test_labels_folders_takes_the_first_level_and_none_takes_nothing(tmp_path: Path) -> None:
    tree(tmp_path, "x/y/a.png", "x/b.png", "z/c.png")
    assert [r.label for r in open_source(str(tmp_path), labels="folders").records] == [0, 0, 1]
    assert open_source(str(tmp_path), labels="none").classes is None
    tree(tmp_path, "loose.png")
    with pytest.raises(UsageError, match=r"loose\.png lies in no class folder"):
        open_source(str(tmp_path), labels="folders")


def test_one_class_is_a_usage_error_with_a_way_out(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"(?s)same label \(cat\).*--labels none"):
        open_source(str(tree(tmp_path, "cat/1.png", "cat/2.png")))


def test_labels_from_a_file(tmp_path: Path) -> None:
    tree(tmp_path / "in", "1.png", "sub/2, x.png")
    table = tmp_path / "labels.csv"
    table.write_text('file_name,label,other\n"sub/2, x.png",dog,x\n1.png,cat,y\n', encoding="utf-8-sig")
    source = open_source(str(tmp_path / "in"), labels=str(table))
    assert source.classes == ("cat", "dog")
    assert [record.label for record in source.records] == [0, 1]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("file_name,label\n1.png,cat\n", r"no label for 2\.png"),
        ("file_name,label\n1.png,cat\n2.png,\n", r"line 3: 2\.png has no label"),
        ("file_name,label\n1.png,cat\n2.png\n", r"line 3: 2\.png has no label"),
        ("file_name,label\n1.png,cat\n9.png,dog\n", r"line 3: '9\.png' is not an image"),
        ("file_name,label\n1.png,cat\n1.png,dog\n", r"line 3: 1\.png has two labels"),
        ("name,label\n1.png,cat\n", "no columns file_name and label"),
        ("", "no columns file_name and label"),
        ("file_name,label\n1.png,cat\n2.png,cat\n", "same label"),
        ("file_name,label\n1.png,\udcff\n2.png,cat\n", "cannot be read as CSV"),
    ],
)
def test_a_bad_label_file_is_named_with_line_and_reason(tmp_path: Path, text: str, words: str) -> None:
    tree(tmp_path / "in", "1.png", "2.png")
    (tmp_path / "labels.csv").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(UsageError, match=words):
        open_source(str(tmp_path / "in"), labels=str(tmp_path / "labels.csv"))


def test_a_label_rule_that_is_no_rule_and_no_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="auto, folders, none or a CSV file"):
        open_source(str(tree(tmp_path, "1.png")), labels="foldrs")


# --- nothing to open ---


def test_missing_empty_and_imageless_sources_say_what_was_found(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no file or folder"):
        open_source(str(tmp_path / "nowhere"))
    with pytest.raises(UsageError, match="no name"):
        open_source(" ")
    with pytest.raises(UsageError, match="no images: it is empty"):
        open_source(str(tmp_path))
    with pytest.raises(UsageError, match=r"no images: found 2 x not an image \(\.txt\)"):
        open_source(str(tree(tmp_path, "a.txt", "b.txt")))
    with pytest.raises(UsageError, match="single file that is no image"):
        open_source(str(tree(tmp_path, "a.doc") / "a.doc"))
    with pytest.raises(UsageError, match="columns of a dataset"):
        open_source(str(tmp_path), label_column="x")


# --- what it gives to a parquet release ---


def test_the_table_gives_image_class_label_and_name_back_through_datasets(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    source = open_source(str(tree(tmp_path, "cat/1.png", "dog/2.png")))
    table = source.table(source.records, [picture(7), picture(8)], ["cat/1.png", "dog/2.png"])
    features = datasets.Features.from_arrow_schema(table.schema)
    assert isinstance(features["image"], datasets.Image)
    assert features["label"].names == ["cat", "dog"]
    assert table.column("file_name").to_pylist() == ["cat/1.png", "dog/2.png"]
    assert table.column("image").to_pylist()[1] == {"bytes": picture(8), "path": "dog/2.png"}
    unlabelled = open_source(str(tmp_path), labels="none")
    assert unlabelled.table(unlabelled.records, [b"", b""], ["x", "y"]).column_names == ["image", "file_name"]


names = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=30)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sets(names, min_size=1, max_size=5))
def test_any_file_name_is_found_once_or_skipped_once(tmp_path_factory: pytest.TempPathFactory, stems: set[str]) -> None:
    root = tmp_path_factory.mktemp("names")
    for stem in stems:
        if len(f"{stem}.png".encode()) < 255:
            (root / f"{stem}.png").write_bytes(picture(0))
    on_disk = sorted(p.name for p in root.iterdir())
    if all(name.startswith(".") or "\\" in name for name in on_disk):
        return
    source = open_source(str(root))
    assert sorted(ids(source) + list(reasons(source))) == on_disk

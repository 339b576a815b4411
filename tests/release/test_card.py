"""The card is valid for the Hub, says first what these files are, and cannot be hijacked by a name."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import DatasetCard
from hypothesis import given, settings
from hypothesis import strategies as st
from made_release import METHOD_WORDS, make_facts, verification

from release.card import TAGS, card
from release.facts import Facts
from release.seal import seal

Made = Callable[..., Facts]


def front_matter(text: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(text.split("\n---\n")[0].removeprefix("---\n"))
    return loaded


def first_paragraph(text: str) -> str:
    return text.split("\n---\n", 1)[1].strip().split("\n\n")[1]


def test_the_first_paragraph_discloses(tmp_path: Path, made: Made) -> None:
    for facts in (made(tmp_path), made(tmp_path, verification=None, classes=None)):
        paragraph = first_paragraph(card(facts))
        assert "protective perturbations" in paragraph
        assert "expected to fail on unperturbed images" in " ".join(paragraph.split())


def test_the_hub_reads_the_front_matter(tmp_path: Path, made: Made) -> None:
    data = DatasetCard(card(made(tmp_path, licence="CC-BY-4.0"))).data
    assert data.pretty_name == "Herbarium" and data.tags == list(TAGS) and data.license == "cc-by-4.0"
    assert data.size_categories == ["n<1K"] and data.task_categories == ["image-classification"]
    assert data.to_dict()["configs"] == [
        {
            "config_name": "default",
            "data_files": [{"split": "train", "path": "data/train/**"}, {"split": "test", "path": "data/test/**"}],
            "drop_labels": False,
        }
    ]


def test_any_other_licence_is_named_and_none_is_left_out(tmp_path: Path, made: Made) -> None:
    matter = front_matter(card(made(tmp_path, licence="All rights reserved", documents=("LICENSE",))))
    assert (matter["license"], matter["license_name"], matter["license_link"]) == (
        *("other", "all-rights-reserved", "LICENSE"),
    )
    assert not {"license", "license_name"} & front_matter(card(made(tmp_path))).keys()


def test_without_labels_there_is_no_task_and_folders_are_no_labels(tmp_path: Path, made: Made) -> None:
    matter = front_matter(card(made(tmp_path, classes=None, drop_labels=True)))
    assert "task_categories" not in matter and matter["configs"][0]["drop_labels"] is True
    assert "drop_labels" not in front_matter(card(made(tmp_path, layout="parquet")))["configs"][0]


@pytest.mark.parametrize(
    ("count", "size"), [(999, "n<1K"), (1000, "1K<n<10K"), (60_000, "10K<n<100K"), (10**7, "10M<n<100M")]
)
def test_size_categories(tmp_path: Path, made: Made, count: int, size: str) -> None:
    facts = made(tmp_path)
    object.__setattr__(facts, "counts", {"total": count, "protected": count, "skipped": 0})
    assert front_matter(card(facts))["size_categories"] == [size]


def test_accuracies_come_with_spread_runs_and_protocol(tmp_path: Path, made: Made) -> None:
    text = card(made(tmp_path))
    selected, final = "17.0% ± 1.0% (2 runs)", "18.5% ± 1.0% (2 runs)"
    assert f"| This release | 20.5% ± 1.0% (2 runs) | 15.5% to 25.5% | {selected} | {final} | never |" in text
    assert "74.0% (interval 70.0% to 78.0%)" in text
    assert "ONE\\_NETWORK" in text and "| Independent runs | 2 |" in text
    assert "4 of 5 images are protected. 1 image could not be protected and is not in this release." in text
    assert "sha256sum -c SHA256SUMS" in text and "unlearnable check" in text
    assert "average a pattern that is shared by a class" in text


def test_an_unproven_release_says_so(tmp_path: Path, made: Made) -> None:
    text = card(made(tmp_path, verification=None))
    assert "**Not verified.**" in text and "Nothing is claimed" in text and "%" not in text.split("## Verification")[1]


def test_a_lossy_release_promises_no_bound(tmp_path: Path, made: Made) -> None:
    text = card(made(tmp_path, guaranteed=False))
    assert "before lossy compression" in text and "No pixel value differs" not in text
    assert "99.9% of the pixel values of every image lie within 8" in text


@pytest.mark.parametrize("guaranteed", [True, False])
def test_a_change_without_a_bound_is_told_in_the_first_paragraph(tmp_path: Path, made: Made, guaranteed: bool) -> None:
    text = card(made(tmp_path, levels=255, guaranteed=guaranteed))
    paragraph = first_paragraph(text)
    assert "The change of a pixel is not bounded, and it is visible" in paragraph
    assert "Pixel values were changed without a bound. Measured on the shipped files: largest change 8" in text
    for word in ("nearly the same", "No pixel value differs", "255 grey levels", *METHOD_WORDS):
        assert word not in text


def test_a_change_is_called_visible_by_its_budget_alone(tmp_path: Path, made: Made) -> None:
    for levels, words in (
        (8, "look nearly the same"),
        (16, "look nearly the same"),
        (17, "is visible"),
        (200, "is visible"),
    ):
        text = card(made(tmp_path, levels=levels))
        assert words in first_paragraph(text)
        assert f"by more than {levels} of 255 grey levels" in text


def test_noise_of_another_size_than_the_budget_is_called_by_its_own(tmp_path: Path, made: Made) -> None:
    full = verification()
    full["protocol"]["noise_levels"] = 6
    text = card(made(tmp_path, levels=255, verification=full))
    assert "of the same size" not in text and "the originals with random noise of up to 6 grey levels" in text
    assert "| Random noise of up to 6 grey levels | 89.5%" in text
    full["protocol"]["noise_levels"] = 8
    assert "| Random noise of the same size | 89.5%" in card(made(tmp_path, verification=full))


def test_pseudo_labels_get_their_second_table(tmp_path: Path, made: Made) -> None:
    full = verification()
    text = card(made(tmp_path, verification=full | {"independent_labels": full["arms"]}))
    assert "independent labelling" in text and text.count("| This release |") == 2


def test_the_method_is_named_only_when_disclosed(tmp_path: Path, made: Made) -> None:
    hidden, told = card(made(tmp_path)), card(made(tmp_path, disclose=True))
    for word in METHOD_WORDS:
        assert not re.search(rf"\b{re.escape(word)}\b", hidden)
    assert "Method: regions" in told and "noise\\_count: 4242" in told
    assert "| grayscale | 85.0% (1 run) | 43.0% (1 run) |" in told
    for word in ("photos/ copy/", "/home/owner", "broken.jpg", "811"):  # never, not even then
        assert word not in told


ATTACKS = [
    "---\nlicense: mit\n---",
    "x\n\n# Train on this",
    "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "[click](https://evil.example) https://evil.example www.evil.example",
    "a | b | c\n|---|",
    "`code` **bold** _it_ ~~no~~ $x$",
    "{{ 7*7 }}{% raw %}",
    "'\": !!python/object {a: [b",
    "\udc80\x00\x1b[31m\u2028",
]


@pytest.mark.parametrize("text", ATTACKS)
def test_a_name_cannot_become_anything_else(tmp_path: Path, made: Made, text: str) -> None:
    plain = card(made(tmp_path, contact="x", licence="x", splits={"train": 4}))
    names = {"name": text, "classes": (text, "cat"), "contact": text, "licence": text, "splits": {text: 4}}
    attacked = card(made(tmp_path, **names))
    matter = front_matter(attacked)
    assert matter["tags"] == list(TAGS) and matter.keys() <= {*front_matter(plain), "license"}
    body = attacked.split("\n---\n", 1)[1]
    headings = [line for line in body.split("\n") if line.startswith("#")]
    assert len(headings) == len([line for line in plain.split("\n") if line.startswith("#")])
    assert len(body.split("\n")) == len(plain.split("\n---\n", 1)[1].split("\n"))
    for forbidden in ("<script", "<img", "\x1b", "\x00"):
        assert forbidden not in body
    unescaped = re.sub(r"\\.", "", body)
    assert (
        "https://" not in unescaped and "](" not in unescaped and "**bold**" not in unescaped and "49" not in unescaped
    )


@settings(max_examples=60, deadline=None)
@given(name=st.text(min_size=1))
def test_any_name_leaves_a_card_the_hub_can_read(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    facts = make_facts(tmp_path_factory.mktemp("any"), name=name, verification=None)
    text = card(facts)
    text.encode("utf-8")
    data = DatasetCard(text).data
    assert data.tags == list(TAGS) and "protective perturbations" in first_paragraph(text)


def test_datasets_loads_a_release_with_splits_and_labels(
    tmp_path: Path, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", True)
    staging = tmp_path / "out"
    staging.mkdir()
    seal(staging, tmp_path / "out.owner", made(staging))
    loaded = datasets.load_dataset(str(staging), cache_dir=str(tmp_path / "cache"))
    assert {split: rows.num_rows for split, rows in loaded.items()} == {"train": 3, "test": 1}
    assert loaded["train"].features["label"].names == ["a dog é", "cat"]

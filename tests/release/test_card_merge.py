"""A card that meets another on the Hub: no word of the owner's is lost, and what readers must know comes first."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import DatasetCard
from hypothesis import given, settings
from hypothesis import strategies as st
from made_release import make_facts

from release.card import card, merged
from release.facts import Facts
from unlearnable.errors import UsageError

Made = Callable[..., Facts]
SPLITS = {"train": 3, "test": 1}


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> str:
    return card(make_facts(tmp_path_factory.mktemp("made"), licence="cc-by-4.0"))


def matter_of(text: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(text.split("\n---\n")[0].removeprefix("---\n"))
    return loaded


def test_front_matter_is_merged_key_by_key(ours: str) -> None:
    theirs = (
        "---\nlicense: mit\nlanguage: [de]\npretty_name: Mine\ntags: [herbs, data-protection]\nsize_categories: [n<1K]\n"
        "extra_gated_prompt: Ask me.\n---\n# Mine\n"
    )
    matter = matter_of(merged(theirs, ours, SPLITS))
    assert (matter["license"], matter["language"], matter["pretty_name"]) == ("mit", ["de"], "Mine")
    assert matter["tags"] == ["herbs", "data-protection", "no-ai-training", "unlearnable-examples"]
    assert matter["extra_gated_prompt"] == "Ask me." and matter["extra_gated_fields"]
    assert matter["configs"] == matter_of(ours)["configs"] and matter["size_categories"] == ["n<1K"]


def test_a_licence_is_taken_whole_from_one_of_them(tmp_path: Path, made: Made) -> None:
    ours = card(made(tmp_path, licence="All rights reserved"))
    assert "license_name" not in matter_of(merged("---\nlicense: mit\n---\n", ours, SPLITS))
    assert matter_of(merged("# Mine\n", ours, SPLITS))["license_name"] == "all-rights-reserved"


def test_files_are_where_the_release_has_them(ours: str) -> None:
    few = {"config_name": "few", "data_files": "data/few/**"}
    theirs = f"---\n{yaml.safe_dump({'configs': [{'config_name': 'default', 'data_files': 'old/*.png'}, few]})}---\n"
    found = matter_of(merged(theirs, ours, SPLITS))["configs"]
    assert found == [*matter_of(ours)["configs"], few]


def test_row_counts_that_would_break_loading_are_refused(ours: str) -> None:
    theirs = "---\ndataset_info:\n  splits:\n  - name: train\n    num_examples: {}\n---\n"
    assert "dataset_info" in matter_of(merged(theirs.format(3), ours, SPLITS))
    with pytest.raises(UsageError, match="train has 5 rows; it has 3"):
        merged(theirs.format(5), ours, SPLITS)


@pytest.mark.parametrize("matter", ["- a\n- b", "a: [", "a: !!python/object/apply:os.system [ls]"])
def test_front_matter_that_is_none_is_refused(ours: str, matter: str) -> None:
    with pytest.raises(UsageError, match="cannot be read as YAML"):
        merged(f"---\n{matter}\n---\n", ours, SPLITS)


def test_the_disclosure_comes_first_and_every_word_follows(ours: str) -> None:
    text = merged("---\nlicense: mit\n---\n# Mine\n\nCollected  since 1987.\n\n<b>é</b>\n", ours, SPLITS)
    body = text.split("\n---\n", 1)[1]
    assert body.strip().split("\n\n")[1].startswith("**The pixels of these images carry protective perturbations.**")
    assert body.rstrip().endswith("# Mine\n\nCollected  since 1987.\n\n<b>é</b>")
    assert DatasetCard(text).data.license == "mit"


def test_words_around_an_earlier_text_of_ours_stay(tmp_path: Path, made: Made, ours: str) -> None:
    front, body = ours.split("\n---\n", 1)
    edited = f"{front}\n---\n\nBefore.\n{body}\nAfter.\n".replace("\n", "\r\n")
    newer = card(made(tmp_path, name="Newer"))
    text = merged(edited, newer, SPLITS)
    assert "Before." in text and "After." in text and "# Newer" in text and "# Herbarium" not in text


def test_words_inside_our_text_are_not_replaced(ours: str) -> None:
    with pytest.raises(UsageError, match="edited between the lines") as caught:
        merged(ours.replace("## Uses", "## My uses"), ours, SPLITS)
    assert "above or below" in caught.value.hint


def test_our_own_card_is_not_changed_by_itself(ours: str) -> None:
    assert merged(ours, ours, SPLITS) == ours


@settings(max_examples=40, deadline=None)
@given(st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=60), st.text("ab \n#-", max_size=60))
def test_merging_again_changes_nothing(ours: str, title: str, words: str) -> None:
    theirs = f"---\n{yaml.safe_dump({'pretty_name': title, 'tags': [title]})}---\n{words}"
    once = merged(theirs, ours, SPLITS)
    assert merged(once, ours, SPLITS) == once
    assert words.strip() in once and matter_of(once)["pretty_name"] == title

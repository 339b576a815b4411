"""The report is one page that needs nothing else, and its public edition shows nothing that is only the owner's."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import made_release
import pytest
from made_release import METHOD_WORDS, measured, picture, stat, verification

from release import curves, report
from release.card import card
from release.facts import Facts, Quality
from release.seal import seal
from unlearnable.errors import IntegrityError, UsageError

Made = Callable[..., Facts]


class Page(HTMLParser):
    """Tags, attributes and visible text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in ("meta", "img", "input"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        self.text += data


def inlined(text: str) -> list[bytes]:
    return [base64.b64decode(found) for found in re.findall(r"data:[\w/+.-]+;base64,([\w+/=]+)", text)]


def test_every_picture_in_the_release_is_a_protected_one(tmp_path: Path, made: Made) -> None:
    staging = tmp_path / "out"
    staging.mkdir()
    for disclose in (False, True):
        facts = made(staging, disclose=disclose)
        seal(staging, tmp_path / "out.owner", facts)
        shown = [data for path in staging.iterdir() if path.is_file() for data in inlined(path.read_text())]
        assert shown == list(facts.gallery)
        for path in staging.iterdir():
            if path.is_file():
                text = path.read_text()
                assert text.count("data:image") == len(inlined(text))  # no other spelling slips through
                assert "Original," not in text and "Difference × 10" not in text


def test_the_owner_sees_original_difference_and_protected(tmp_path: Path, made: Made) -> None:
    text = report.owner(made(tmp_path))
    assert inlined(text) == [picture(50), picture(52), picture(51)]
    assert all(word in text for word in ("Original", "Difference × 10", "not for publication"))


def test_the_public_edition_knows_nothing_of_the_method(tmp_path: Path, made: Made) -> None:
    text = Page(report.public(made(tmp_path))).text
    for word in (*METHOD_WORDS, "/home/owner", "broken.jpg", "811", "977", "ountermeasure", "pectrum", "clean alone"):
        assert word not in text
    for word in (
        "A network trained on this release",
        "20.5% ± 1.0% (2 runs)",
        "ONE_NETWORK",
        "31.6 dB",
        "4 of 5 images",
    ):
        assert word in text


def test_the_owners_edition_has_all_of_it(tmp_path: Path, made: Made) -> None:
    text = Page(report.owner(made(tmp_path))).text
    for word in (
        *METHOD_WORDS,
        "/home/owner/photos",
        "broken.jpg",
        "811, 977",
        "Worst case: grayscale",
        "1.2 s",
        "0.281",
        "Spectrum of the change",
        "clean alone peak: 61.0%",
    ):
        assert word in text


def test_candidates_that_were_given_up_have_no_figure(tmp_path: Path, made: Made) -> None:
    html = report.owner(made(tmp_path))
    assert "<td>grating</td><td>0.281</td><td></td>" in html and "<td>r16</td><td></td><td>given up</td>" in html


def test_disclosing_adds_method_and_countermeasures_but_no_path(tmp_path: Path, made: Made) -> None:
    text = Page(report.public(made(tmp_path, disclose=True))).text
    assert "regions" in text and "grayscale" in text
    assert not any(word in text for word in ("/home/owner", "photos/ copy/", "broken.jpg", "811"))


@pytest.mark.parametrize("edition", [report.public, report.owner])
@pytest.mark.parametrize(
    "changes", [{}, {"verification": None}, {"owner_extra": {}, "gallery": (), "owner_gallery": ()}]
)
def test_the_page_needs_nothing_else(
    tmp_path: Path, made: Made, edition: Callable[[Facts], str], changes: dict[str, object]
) -> None:
    page = Page(edition(made(tmp_path, **changes)))
    assert page.open == []
    assert not {"link", "iframe", "object", "form", "base"} & set(page.tags)
    policy = next(value for _, value in page.attributes if "default-src" in value)
    assert policy.startswith("default-src 'none'; img-src data:")
    assert ("script" in page.tags) == ("script-src" in policy)
    for name, value in page.attributes:
        assert name not in ("href", "srcset", "style") and not name.startswith("on")
        assert name != "src" or value.startswith("data:image/")
        assert "http" not in value.lower() or value == "Content-Security-Policy"


def test_a_change_without_a_bound_is_said_and_shown_as_it_is(tmp_path: Path, made: Made) -> None:
    full = verification()
    full["protocol"]["noise_levels"] = 6
    facts = made(tmp_path, levels=255, verification=full)
    for text in (report.public(facts), report.owner(facts)):
        page = " ".join(Page(text).text.split())
        assert "Pixel values were changed without a bound." in page
        assert "The change of a pixel is not bounded, and it is visible." in page
        assert "Random noise of up to 6 grey levels" in page and "of the same size" not in page
        assert "255 grey levels" not in page and "× 10" not in page and "ten times" not in page
    assert not any(word in report.public(facts) for word in METHOD_WORDS)
    assert "<figcaption>Difference</figcaption>" in report.owner(facts)


def policy_of(text: str) -> str:
    return next(value for _, value in Page(text).attributes if "default-src" in value)


def test_the_one_script_is_the_owners_and_its_hash_is_in_the_policy(tmp_path: Path, made: Made) -> None:
    facts = made(tmp_path)
    text = report.owner(facts)
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy_of(text)
    assert not re.search(r"fetch|XMLHttp|import|eval|innerHTML|location|http", script)
    for disclose in (False, True):
        shown = report.public(made(tmp_path, disclose=disclose))
        assert "<script" not in shown and "script-src" not in policy_of(shown) and "<input" not in shown


def test_every_slider_has_a_name_and_works_without_the_script(tmp_path: Path, made: Made) -> None:
    text = report.owner(made(tmp_path, owner_gallery=[(picture(1), picture(2), picture(3))] * 3))
    sliders = re.findall(r'<input type="range"[^>]*>', text)
    assert len(sliders) == 3 and len(set(re.findall(r'aria-label="(Picture [^"]+)"', text))) == 3
    # both pictures are there, and only the script's class lays the one over the other
    style = text[text.index("<style>") : text.index("</style>")]
    assert all("clip-path" not in line or ".live" in line for line in style.splitlines())


def test_what_serves_a_trainer_best_comes_first_and_is_marked(tmp_path: Path, made: Made) -> None:
    full = verification()
    weak = {"clean": {"peak": stat(0.9)}, "protected": {"peak": stat(0.2)}}
    full["against"] = {"cutout": weak, **full["against"]}
    text = report.owner(made(tmp_path, verification=full))
    table = text[text.index('<table class="heat">') :]
    table = table[: table.index("</table>")]
    assert table.index("plain training") < table.index("grayscale") < table.index("cutout")
    (marked,) = re.findall(r'<tr class="worst">(.*?)</tr>', table, re.DOTALL)
    assert "grayscale" in marked and "worst case" in marked
    # 43.0% is step 4 of ten; (90.5 - 43) / 90.5 is left of the drop
    assert re.search(r'<td class="h4">43\.0% ', marked) and "52.5%" in marked


def test_how_close_the_pictures_are_is_public_and_says_what_was_not_measured(tmp_path: Path, made: Made) -> None:
    for edition in (report.public, report.owner):
        text = Page(edition(made(tmp_path))).text
        assert "Mean SSIM, sample of 3" in text and "0.9876 (lowest 0.9123)" in text
        assert "not measured: torchmetrics is not installed" in text
        page = Page(edition(made(tmp_path, quality=Quality(4, None, None, 0.0321)))).text
        assert "Mean LPIPS, all images" in page and "0.0321" in page and "the pictures are too small" in page


def test_an_unproven_release_says_so(tmp_path: Path, made: Made) -> None:
    page = Page(report.public(made(tmp_path, verification=None)))
    assert "Not verified." in page.text and "svg" not in page.tags


def test_names_are_text(tmp_path: Path, made: Made) -> None:
    bad = "<script>alert(1)</script>\"'&{{ 7*7 }}"
    skipped = {"skipped": [(bad, bad)], "method": bad, "params": {bad: bad}, "command": bad}
    for edition in (report.public, report.owner):
        text = edition(made(tmp_path, name=bad, splits={bad: 4}, owner_extra=skipped, owner_gallery=()))
        page = Page(text)
        assert "script" not in page.tags and bad in page.text and "49" not in page.text


def test_long_skip_lists_are_cut_and_counted(tmp_path: Path, made: Made) -> None:
    skipped = [(f"{index}.jpg", "broken") for index in range(205)]
    text = report.owner(made(tmp_path, owner_extra={"skipped": skipped}))
    assert "199.jpg" in text and "200.jpg" not in text and "And 5 more" in text


def test_a_gallery_of_anything_else_is_refused(tmp_path: Path, made: Made) -> None:
    for data in (b"", b"<svg xmlns='http://www.w3.org/2000/svg'/>", picture(1, "GIF")):
        with pytest.raises(UsageError, match="not a PNG, JPEG or WebP"):
            report.public(made(tmp_path, gallery=[data]))


def test_the_page_is_the_same_every_time(tmp_path: Path, made: Made) -> None:
    assert report.public(made(tmp_path)) == report.public(made(tmp_path))


def test_curves_show_mean_band_and_chance(tmp_path: Path, made: Made) -> None:
    text = report.public(made(tmp_path))
    assert text.count("<polyline") == 6 and text.count("<polygon") == 6
    assert text.count('<line class="chance"') == 4  # one of the accuracies, one for each arm of the peaks


def test_a_curve_goes_through_its_values() -> None:
    svg = str(curves.accuracy({"clean": [[0.0, 1.0], [0.5, 1.0]]}, chance=None).svg())
    found = re.search(r'<polyline class="line clean" points="([^"]+)"', svg)
    assert found is not None
    (x0, y0), (x1, y1) = (tuple(map(float, point.split(","))) for point in found[1].split())
    zero, full = (float(y) for y in re.findall(r'<line class="grid"[^>]* y1="([\d.]+)"', svg)[::4])
    assert y0 == pytest.approx(zero + 0.25 * (full - zero), abs=0.1) and y1 == full
    assert (x0, x1) == (46.0, 410.0)
    assert "polygon" in svg and "chance" not in svg


@pytest.mark.parametrize("runs", [[[0.5]], [[0.5], [0.6]], [[0.1] * 100], [[0.1, 0.2], [0.3]], [[]], []])
def test_curves_of_any_length_are_drawn(runs: list[list[float]]) -> None:
    for drawing in (curves.accuracy({"clean": runs}, 0.1), curves.loss({"clean": runs})):
        svg = drawing.svg()
        assert svg.endswith("</svg>") and "nan" not in svg
        assert drawing.png().startswith(b"\x89PNG")


@pytest.mark.parametrize("top", [0.0, 1e-9, 0.04, 0.9999999, 1.0, 2.303, 4.0, 9.99, 6800.0])
def test_the_scale_of_the_loss_holds_its_values(top: float) -> None:
    svg = str(curves.loss({"clean": [[top, top / 2]]}).svg())
    marks = [float(mark) for mark in re.findall(r'text-anchor="end">([^<]+)<', svg)]
    assert len(marks) == 5 and marks[-1] >= top * 0.999


def test_what_is_missing_from_a_record_is_left_out(tmp_path: Path, made: Made) -> None:
    full = verification()
    for arm in full["arms"].values():
        del arm["curves"], arm["epochs_to_half_loss"]
    del full["against"], full["worst_case"]
    for edition in (report.public, report.owner):
        text = edition(made(tmp_path, verification=full, quality=None, owner_extra={}))
        assert Page(text).tags.count("svg") == 1 and "Peak test accuracy, every run" in text
        assert not any(word in text for word in ("<polyline", "SSIM,", "Spectrum", "ountermeasure"))


def asked_for_more() -> dict[str, Any]:
    """A record of two networks, diagnosed, of which two classes of five are protected."""
    full = verification()
    for arms in full["arms"].values():
        arms["all_classes"] = {"peak": measured(0.66, 0.68), "final": stat(0.6, 0.6)}
    full["protocol"] |= {"protected_classes": 2, "classes": 5, "test_images_of_all_classes": 1000, "select_images": 77}
    full["plan"] = {"trainings": 20, "epochs": 60}
    full["within_noise"] = ["grayscale"]
    full["worst_case"]["words"] = "Conversion to grey raises it to 43%."
    other = {"arms": {name: made_release.arm(0.8, 2) for name in full["arms"]}, "against": {}}
    other |= {"worst_case": full["worst_case"], "relative_accuracy_drop": {"mean": 0.1, "low": 0.05, "high": 0.15}}
    full["victims"] = {"small": full | {}, "resnet18": other}
    full["diagnosis"] = {
        "transfer": {name: {which: stat(0.11, 0.13) for which in full["arms"]} for name in ("small", "resnet18")},
        "linear_probe": {name: {"train": 0.991, "held_out": 0.872} for name in ("protected", "noise")},
        "frequency": {"cycles_per_pixel": [0.0, 0.25, 0.5, 0.7], "protected": [9.0, 4.0, 1.0, 0.5], "noise": [2.0] * 4},
    }
    return full


def test_intervals_and_the_honestly_chosen_epoch_stand_beside_the_peak_in_both_editions(
    tmp_path: Path, made: Made
) -> None:
    for edition in (report.public, report.owner):
        table = edition(made(tmp_path)).split("<table")[1]
        (row,) = re.findall(r"<tr><th scope=.row.>This release</th>(.*?)</tr>", table)
        assert re.findall(r">([^<>]+)</td>", row) == [
            *("20.5% ± 1.0% (2 runs)", "15.5% to 25.5%", "17.0% ± 1.0% (2 runs)", "18.5% ± 1.0% (2 runs)", "never"),
        ]


def test_the_owner_reads_of_every_network_and_what_was_diagnosed(tmp_path: Path, made: Made) -> None:
    text = " ".join(Page(report.owner(made(tmp_path, verification=asked_for_more()))).text.split())
    for words in (
        "resnet18: relative accuracy drop 10.0% (interval 5.0% to 15.0%)",
        "The originals79.5% ± 1.0% (2 runs)74.5% to 84.5%76.0% ± 1.0% (2 runs)",
        "Mean of the networks12.0%12.0%12.0%",
        "This release99.1%87.2%",
        "as a trainer sees it",
        "Conversion to grey raises it to 43%.",
        "grayscale worst case no difference beyond noise",
        "The networks small, resnet18 were trained from scratch for 3 epochs on 1,200 images",
        "In all 20 trainings, as much work as 60 epochs",
    ):
        assert words in text, words


def test_strangers_read_the_plan_and_nothing_of_other_networks_or_the_diagnosis(tmp_path: Path, made: Made) -> None:
    full = asked_for_more()
    text = " ".join(Page(report.public(made(tmp_path, verification=full))).text.split())
    for words in (
        "The network small was trained from scratch for 3 epochs on 1,200 images, 64 a step, 2 times on each kind",
        "77 other unperturbed images chose the epoch",
        "2 protected of 5 classes; over all classes it was tested on 1,000 images",
        "This release67.0% ± 1.0% (2 runs), 95 % interval 62.0% to 72.0%",
        "Test accuracy: mean ± standard deviation over independent runs, on the protected classes",
    ):
        assert words in text, words
    for word in ("resnet18", "Seen from outside", "99.1%", "12.0%", "trainings", "grey raises", "beyond noise"):
        assert word not in text, word
    assert "resnet18" in report.public(made(tmp_path, verification=full, disclose=True))


def test_images_of_other_classes_are_counted_and_said_to_be_unperturbed(tmp_path: Path, made: Made) -> None:
    facts = made(tmp_path, counts={"total": 5, "protected": 3, "unprotected": 1, "skipped": 1})
    for text in (Page(report.public(facts)).text, Page(report.owner(facts)).text, card(facts)):
        assert "3 of 5 images are protected. 1 image of other classes is not" in text
        assert "the pixels of the others are unperturbed" in text
    assert "**The pixels of 3 of these 4 images carry protective perturbations.**" in card(facts)
    with pytest.raises(IntegrityError, match="5 images were found"):
        made(tmp_path, counts={"total": 5, "protected": 3, "unprotected": 2, "skipped": 1})


def test_weights_that_a_network_began_with_are_not_called_scratch(tmp_path: Path, made: Made) -> None:
    full = verification()
    full["protocol"]["victim"] = "resnet18@DEFAULT"
    facts = made(tmp_path, verification=full)
    for text in (report.public(facts), card(facts)):
        assert "from scratch" not in text and "starting from given weights" in " ".join(text.split())

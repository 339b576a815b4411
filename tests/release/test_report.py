"""The report is one page that needs nothing else, and its public edition shows nothing that is only the owner's."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest
from made_release import METHOD_WORDS, picture, stat, verification

from release import curves, report
from release.facts import Facts, Quality
from release.seal import seal
from unlearnable.errors import UsageError

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
        "24.0%",
        "Spectrum of the change",
        "clean alone peak: 61.0%",
    ):
        assert word in text


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

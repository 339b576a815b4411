"""The report as a person sees it: it loads nothing from elsewhere, fits a phone and paper, and its slider moves."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import chromium
import numpy as np
import pytest
from chromium import Chromium
from made_pictures import write_tree
from PIL import Image

import unlearnable
from release import layout

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(chromium.PROGRAM is None, reason="no Chromium: apt-get install chromium"),
]


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("browser")
    options = unlearnable.Options(preset="r16", seeds=2, against=("grayscale",))
    out = root / "out"
    unlearnable.protect(str(write_tree(root / "pictures", each=20)), out, options)
    unlearnable.verify(out, victim="small,tiny", seeds=1, against=("grayscale",), diagnose=True)
    owner = layout.owner_folder(out)
    return [out / layout.REPORT, owner / layout.OWNER_REPORT, owner / layout.VERIFIED]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    with Chromium(tmp_path_factory.mktemp("profile")) as started:
        yield started


@pytest.mark.parametrize("edition", [0, 1, 2], ids=["public", "owner", "verified"])
@pytest.mark.parametrize("width", [320, 390, 1100])
def test_nothing_is_wider_than_the_screen(browser: Chromium, pages: list[Path], edition: int, width: int) -> None:
    browser.show(pages[edition], width)
    assert browser.ask("document.documentElement.scrollWidth") <= width
    cut = "[...document.querySelectorAll('svg, img, table.heat')].filter(e => e.getBoundingClientRect().right > innerWidth + 1)"
    assert browser.ask(f"{cut}.map(e => e.outerHTML.slice(0, 80))") == []


@pytest.mark.parametrize("edition", [0, 1, 2], ids=["public", "owner", "verified"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_stand_out_in_light_and_dark(browser: Chromium, pages: list[Path], edition: int, scheme: str) -> None:
    """Contrast of at least 4.5 to 1 (WCAG AA), over the colours that the browser really draws."""
    browser.show(pages[edition], scheme=scheme)
    paper = np.asarray(Image.open(io.BytesIO(browser.picture())).convert("RGB"))[0, 0]
    assert (paper.mean() < 60) == (scheme == "dark")
    for words, ground in browser.ask(_COLOURS):
        assert contrast(words, ground) >= 4.5, (words, ground)


@pytest.mark.parametrize("edition", [0, 1, 2], ids=["public", "owner", "verified"])
def test_the_page_asks_for_nothing_and_complains_of_nothing(browser: Chromium, pages: list[Path], edition: int) -> None:
    browser.show(pages[edition])
    assert [url for url in browser.asked if not url.startswith(("data:", "file:"))] == []
    assert [url for url in browser.asked if url.startswith("file:")] == [pages[edition].as_uri()]
    assert browser.ask("document.querySelector('.verdict').innerText.toLowerCase()").count("peak") > 0
    assert browser.ask(
        "[...document.images].every(i => { i.loading = 'eager'; return i.src.startsWith('data:image/') })"
    )
    assert browser.ask("document.scripts.length") == min(edition, 1)
    assert browser.ask("document.querySelectorAll('svg').length") >= 3


def test_the_slider_is_moved_by_keys_and_shows_the_original(browser: Chromium, pages: list[Path]) -> None:
    browser.show(pages[1])
    at = "getComputedStyle(document.querySelector('.compare .after img')).clipPath"
    assert browser.ask("document.querySelectorAll('.compare.live input').length") == 12
    assert browser.ask(at) == "inset(0px 0px 0px 50%)"
    browser.ask("document.querySelector('.compare input').focus()")
    browser.press("ArrowRight", 39)
    assert browser.ask(at) == "inset(0px 0px 0px 51%)"
    browser.press("Home", 36)
    assert browser.ask(at) in ("inset(0px 0px 0px 0%)", "inset(0px)"), "all of it is the protected picture"
    browser.press("End", 35)
    assert browser.ask(at) == "inset(0px 0px 0px 100%)", "all of it is the original"
    assert browser.ask("document.querySelector('.compare input').getAttribute('aria-valuetext')") == "100% original"
    boxes = "[...document.querySelectorAll('.compare:first-child .stage img')].map(i => i.getBoundingClientRect().x)"
    assert len(set(browser.ask(boxes))) == 1, "the two pictures lie on one another"


def test_on_paper_the_pictures_stand_side_by_side(browser: Chromium, pages: list[Path]) -> None:
    browser.show(pages[1], scheme="dark", media="print")
    boxes = "[...document.querySelectorAll('.compare:first-child img')].map(i => i.getBoundingClientRect().x)"
    assert len(set(browser.ask(boxes))) == 3
    assert browser.ask("getComputedStyle(document.querySelector('.compare .after img')).clipPath") == "none"
    assert browser.ask("getComputedStyle(document.querySelector('.compare input')).display") == "none"
    assert browser.ask("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    for page in pages:
        browser.show(page)
        assert browser.paper().startswith(b"%PDF-")


def test_a_forged_script_does_not_run(browser: Chromium, pages: list[Path], tmp_path: Path) -> None:
    for number, page in enumerate(pages):
        forged = tmp_path / f"{number}.html"
        forged.write_text(page.read_text().replace("</body>", "<script>document.title = 'forged'</script></body>"))
        browser.show(forged)
        assert browser.ask("document.title").startswith("Protection report")


# [colour of the words, colour behind them] for every element that holds words of its own, as (r, g, b) by a canvas
_COLOURS = """(() => {
  const pen = Object.assign(document.createElement('canvas'), {width: 1, height: 1}).getContext('2d');
  const rgb = colours => { pen.clearRect(0, 0, 1, 1);
    for (const colour of colours) { pen.fillStyle = colour; pen.fillRect(0, 0, 1, 1) }
    return [...pen.getImageData(0, 0, 1, 1).data].slice(0, 3) };
  const found = new Map();
  for (const e of document.querySelectorAll('body *')) {
    if (![...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()) || e.closest('script')) continue;
    const style = getComputedStyle(e), behind = [];
    for (let a = e; a; a = a.parentElement) behind.unshift(getComputedStyle(a).backgroundColor);
    const pair = [rgb([e.closest('svg') ? style.fill : style.color]), rgb(behind)];
    found.set(JSON.stringify(pair), pair);
  }
  return [...found.values()];
})()"""


def contrast(one: list[int], other: list[int]) -> float:
    """WCAG 2.2's ratio of relative luminances."""

    def luminance(rgb: list[int]) -> float:
        linear = [v / 255 / 12.92 if v <= 10.31 else ((v / 255 + 0.055) / 1.055) ** 2.4 for v in rgb]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)

"""The report as a person sees it: it loads nothing from elsewhere, shows its pictures, and fits a phone."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from made_pictures import write_tree
from PIL import Image

import unlearnable
from release import layout

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install chromium")]


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("browser")
    out = root / "out"
    unlearnable.protect(str(write_tree(root / "pictures", each=20)), out, unlearnable.Options(preset="r16", seeds=2))
    return [out / layout.REPORT, layout.owner_folder(out) / layout.OWNER_REPORT]


def screenshot(page: Path, folder: Path, width: int) -> np.ndarray:
    picture = folder / f"{page.parent.name}-{width}.png"
    where = [f"--user-data-dir={folder / 'profile'}", f"--screenshot={picture}", f"--window-size={width},3000"]
    assert CHROMIUM
    subprocess.run([CHROMIUM, *FLAGS, *where, page.as_uri()], check=True, capture_output=True, timeout=120)
    return np.asarray(Image.open(picture).convert("RGB"))


@pytest.mark.parametrize("width", [500, 1100])
def test_both_editions_render_with_colour_and_without_overflow(pages: list[Path], tmp_path: Path, width: int) -> None:
    for page in pages:
        seen = screenshot(page, tmp_path, width)
        assert seen.shape[1] == width
        assert len(np.unique(seen.reshape(-1, 3), axis=0)) > 200, "pictures and curves are drawn"


def test_the_page_is_complete_in_itself(pages: list[Path], tmp_path: Path) -> None:
    assert CHROMIUM
    for page in pages:
        profile = f"--user-data-dir={tmp_path / 'dom'}"
        done = subprocess.run(
            [CHROMIUM, *FLAGS, profile, "--dump-dom", page.as_uri()], capture_output=True, timeout=120
        )
        dom = done.stdout.decode()
        assert "peak" in dom.lower() and "</html>" in dom
        assert 'src="http' not in dom and 'href="http' not in dom and "<script" not in dom

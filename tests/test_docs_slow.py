"""The guides' and the README's examples run as they stand, and the site builds, loads nothing from elsewhere, and fits a phone.

Commands are run in a folder of the page's own, with what the page begins with; the Hub is a server on 127.0.0.1. They stand
as the owner reads them, but for what makes the same job smaller: fewer pictures, fewer epochs, less time to choose a method.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import chromium
import pytest
from docs_kit import DOCS, ROOT, blocks, call, lines, matches, site, steps

pytestmark = pytest.mark.slow


# A protocol that proves something on 400 pictures, which `push` asks for. quick would have 30 epochs of a larger network.
QUICKLY = 'victim = "tiny"\nepochs = 15\naugment = "none"\nseeds = 3\n'


def smaller(command: str, folder: Path) -> str:
    """The command with a smaller proof where it makes one, and with fewer pictures where it draws them."""
    if command == "python samples/make.py":
        return f"{command} --train 60 --test 30"  # `auto` measures nothing on fewer
    if not command.startswith("unlearnable protect ") or "--dry-run" in command:
        return command
    (folder / "quickly.toml").write_text(QUICKLY, encoding="utf-8")
    return f"{command} --verify quickly.toml --auto-seconds 1"


def with_samples(folder: Path) -> dict[str, str]:
    (folder / "samples").mkdir()
    shutil.copy(ROOT / "samples/make.py", folder / "samples")
    return {}


def draw(out: Path, train: int, test: int) -> None:
    words = [
        sys.executable,
        str(ROOT / "samples/make.py"),
        "--out",
        str(out),
        "--train",
        str(train),
        "--test",
        str(test),
    ]
    subprocess.run(words, check=True)


def with_photos(folder: Path) -> dict[str, str]:
    """An archive as a camera leaves it: JPEG, a folder a day, orientation and place in EXIF, no labels."""
    from PIL import Image

    draw(folder / "drawn", 8, 1)
    for number, path in enumerate(sorted((folder / "drawn/train").rglob("*.png"))):
        exif = Image.Exif()
        exif[0x0112] = 1 + number % 8
        exif.get_ifd(0x8825)[1] = "N"
        photo = folder / f"photos/2026-11-{1 + number % 9:02}/{number:04}.jpg"
        photo.parent.mkdir(parents=True, exist_ok=True)
        Image.open(path).resize((96, 72)).save(photo, quality=92, exif=exif)
    return {}


def as_parquet(tree: Path) -> dict[str, bytes]:
    """A dataset as most of the Hub's are: pictures embedded, a ClassLabel column, a card that says what is where."""
    from datasets import ClassLabel, Dataset, Features, Image

    names = sorted(path.name for path in (tree / "train").iterdir())
    features = Features({"image": Image(), "label": ClassLabel(names=names)})
    files = {"README.md": b"---\nconfigs:\n- config_name: default\n  data_files:\n"}
    for split in ("train", "test"):
        pictures = sorted((tree / split).rglob("*.png"))
        images = [{"bytes": path.read_bytes(), "path": path.name} for path in pictures]
        rows = {"image": images, "label": [names.index(path.parent.name) for path in pictures]}
        Dataset.from_dict(rows, features=features).to_parquet(tree.parent / f"{split}.parquet")
        files[f"data/{split}.parquet"] = (tree.parent / f"{split}.parquet").read_bytes()
        files["README.md"] += f"  - split: {split}\n    path: data/{split}.parquet\n".encode()
    files["README.md"] += b"---\n"
    return files


def on_hub(folder: Path, address: str, token: str) -> dict[str, str]:
    known = {"HF_ENDPOINT": address, "HF_TOKEN": token, "HF_HOME": str(folder / "home")}
    return known | {"HF_HUB_DISABLE_XET": "1", "NO_PROXY": "127.0.0.1"}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], dict[str, str]]]:
    """Prepares a folder and a Hub with a dataset; of both the environment tells."""
    monkeypatch.syspath_prepend(ROOT / "tests/release")
    from hub_push_server import running
    from hub_state import TOKEN

    with running() as server:

        def prepare(folder: Path) -> dict[str, str]:
            draw(folder / "photos", 40, 30)
            server.made("owner/pictures", as_parquet(folder / "photos"), private=False)
            return on_hub(folder, server.address, TOKEN)

        yield prepare


def follow(text: str, folder: Path, env: dict[str, str]) -> None:
    """Runs a page's commands, then its Python."""
    text = text.replace("OWNER/", "owner/")
    for command, expected in steps(text):
        code, printed = call(smaller(command, folder), folder, env)
        assert code == 0 and matches(printed, expected), f"{command}\n{printed}"
    for language, block in blocks(text):
        if language == "python":
            code, printed = call(f"python -c {shlex.quote(block)}", folder, env)
            assert code == 0, f"{block}\n{printed}"


PREPARED = {"start.md": with_samples, "protect-photos.md": with_photos}


@pytest.mark.parametrize("page", PREPARED)
def test_the_examples_of_a_guide_run(page: str, tmp_path: Path) -> None:
    follow((DOCS / page).read_text(encoding="utf-8"), tmp_path, PREPARED[page](tmp_path))


def test_the_examples_of_the_hub_guide_run(tmp_path: Path, hub: Callable[[Path], dict[str, str]]) -> None:
    follow((DOCS / "protect-hub.md").read_text(encoding="utf-8"), tmp_path, hub(tmp_path))


def test_the_examples_of_the_readme_run(tmp_path: Path, hub: Callable[[Path], dict[str, str]]) -> None:
    """Its plain lines, `unlearnable ...`, and its Python, which wants a folder without the releases of the former.

    What needs a cluster or a bucket is of large-archives.md, which has a test of its own; a part of 64 is all of one here.
    """
    env = hub(tmp_path)
    text = (ROOT / "README.md").read_text(encoding="utf-8").replace("OWNER/", "owner/").replace("3/64", "0/1")
    here = [words for words in lines(text) if "--engine" not in words and not words[-1].startswith("s3://")]
    assert [words[0] for words in here] == ["protect", "check", "push", "protect", "protect", "merge", "push"]
    for words in here:
        code, printed = call(smaller(f"unlearnable {shlex.join(words)}", tmp_path), tmp_path, env)
        assert code == 0, f"{words}\n{printed}"
    (example,) = [block for _, block in blocks(text) if "import unlearnable" in block]
    (tmp_path / "python").mkdir()
    (tmp_path / "photos").rename(tmp_path / "python/photos")
    example = "\n".join(line[4:] for line in example.splitlines())
    example = example.replace("Options(", f"Options(verify={str(tmp_path / 'quickly.toml')!r}, seeds=1, ")
    code, printed = call(f"python -c {shlex.quote(example)}", tmp_path / "python", env)
    assert code == 0, printed


# --- the site ---


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("material", reason="no mkdocs-material: pip install '.[docs]'")
    out = tmp_path_factory.mktemp("site")
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(out)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return out


def test_the_site_builds_and_asks_for_nothing_from_elsewhere(built: Path) -> None:
    pages = {str(path.relative_to(built)) for path in built.rglob("*.html")}
    assert {page.replace(".md", ".html") for page in site() if page.endswith(".md")} < pages
    assert not list(built.rglob("generate.py"))
    loads = re.compile(
        r"<(?:script|img|iframe|link)\b[^>]*?(?:src|href)=[\"']?(?:https?:)?//[^>]*>|url\((?:https?:)?//"
    )
    for path in [*built.rglob("*.html"), *built.rglob("*.css")]:
        assert not loads.findall(path.read_text(encoding="utf-8")), path


@pytest.mark.skipif(chromium.PROGRAM is None, reason="no Chromium: apt-get install chromium")
def test_the_site_reads_well_on_a_phone(built: Path, tmp_path: Path) -> None:
    with chromium.Chromium(tmp_path) as browser:
        for page in sorted(built.rglob("*.html")):
            browser.show(page, 390)
            assert browser.ask("document.documentElement.scrollWidth") <= 390, page
            assert not [address for address in browser.asked if not address.startswith(("file:", "data:"))], page

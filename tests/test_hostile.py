"""Files made to do harm, from the source to the release: nothing runs, nothing leaves its place, nothing clean rides along.

What one part alone withstands is tested beside it (archives: tests/sources/test_packed.py, codecs: test_imageio.py, the card
and the report: tests/release); here whole runs meet whole attacks.
"""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import re
import shutil
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from huggingface_hub import DatasetCard
from made_pictures import picture, write_tree
from PIL import Image

from cli import cli
from release import keyring, layout, sign
from release.check import check
from unlearnable.errors import IntegrityError

ZIP = b"PK\x03\x04" + b"SECRET-TAIL" * 9
HTML = b"<html><script>document.write('SECRET-TAIL')</script></html>"


def run(*words: object) -> Result:
    return CliRunner().invoke(cli, [str(word) for word in words])


def protect(source: Path, out: Path, *words: object) -> Result:
    return run("protect", source, out, "--preset", "r4", "--verify", "none", "-q", *words)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return write_tree(tmp_path / "in", classes=2, each=3)


def saved(kind: str, side: int = 16, **options: Any) -> bytes:
    out = io.BytesIO()
    Image.fromarray(picture(0, 0, side)).save(out, kind, **options)
    return out.getvalue()


def everything(root: Path) -> bytes:
    return b"\n".join(path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file())


@pytest.mark.parametrize("tail", [ZIP, HTML, b"%PDF-1.7 SECRET-TAIL", b"#!/bin/sh\n: SECRET-TAIL"])
@pytest.mark.parametrize(("kind", "name"), [("JPEG", "x.jpg"), ("PNG", "x.png"), ("WEBP", "x.webp"), ("BMP", "x.bmp")])
def test_what_rides_behind_a_picture_does_not_ship(
    tree: Path, tmp_path: Path, tail: bytes, kind: str, name: str
) -> None:
    (tree / "across" / name).write_bytes(saved(kind) + tail)
    assert protect(tree, tmp_path / "out").exit_code == 0
    shipped = (tmp_path / "out/data/across" / name).read_bytes()
    assert b"SECRET-TAIL" not in everything(tmp_path / "out")
    assert not zipfile.is_zipfile(io.BytesIO(shipped)) and b"<html" not in shipped


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def bombs() -> dict[str, bytes]:
    """Small files that claim or unfold to something large."""
    whole = saved("PNG")
    head, rest = whole[:33], whole[33:]
    zeros = zlib.compress(bytes(64 << 20), 9)
    claimed = struct.pack(">LLBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    vast = io.BytesIO()
    Image.new("1", (30_000, 30_000)).save(vast, "PNG")
    return {
        "claims 2500 megapixels": whole[:8] + chunk(b"IHDR", claimed) + rest,
        "holds 900 megapixels": vast.getvalue(),
        "unfolds text": head + chunk(b"zTXt", b"a\0\0" + zeros) + rest,
        "unfolds a colour profile": head + chunk(b"iCCP", b"a\0\0" + zeros) + rest,
        "unfolds pixels it has not": head + chunk(b"IDAT", zeros) + chunk(b"IEND", b""),
    }


def test_bombs_are_lines_of_the_report_or_harmless_and_never_ship(tree: Path, tmp_path: Path) -> None:
    for number, data in enumerate(bombs().values()):
        (tree / f"across/bomb{number}.png").write_bytes(data)
    done = protect(tree, tmp_path / "out")
    assert done.exit_code == 3, done.output
    skipped = [line for line in done.stdout.splitlines() if "bomb" in line]
    assert any("bomb0" in line and "megapixels" in line for line in skipped)
    assert any("bomb1" in line and "megapixels" in line for line in skipped)
    for path in (tmp_path / "out/data/across").glob("bomb*"):
        assert path.stat().st_size < 20_000, "what unfolds in one chunk is dropped or refused"


def test_a_bomb_in_an_archive_is_refused_by_its_claim(tree: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "in.tar", "w") as archive:
        archive.add(tree, ".")
        for name, kind in (("across/null.png", tarfile.CHRTYPE), ("across/disk.png", tarfile.BLKTYPE)):
            device = tarfile.TarInfo(name)
            device.type, device.devmajor, device.devminor = kind, 1, 5
            archive.addfile(device)
        for name in ("../../evil.png", "/tmp/evil-absolute.png"):
            info = tarfile.TarInfo(name)
            info.size = len(saved("PNG"))
            archive.addfile(info, io.BytesIO(saved("PNG")))
    before = set(tmp_path.rglob("*"))
    done = protect(tmp_path / "in.tar", tmp_path / "out")
    assert done.exit_code == 3
    new = {path.relative_to(tmp_path).parts[0] for path in tmp_path.rglob("*") if path not in before}
    assert new == {"out", "out.owner"} and not Path("/tmp/evil-absolute.png").exists()
    assert {path.name for path in (tmp_path / "out/data").rglob("*.png")} == {"000.png", "001.png", "002.png"}


@pytest.mark.parametrize("claim", [5 << 30, 1 << 40])
def test_a_member_that_claims_gigabytes_is_not_read(tree: Path, tmp_path: Path, claim: int) -> None:
    path = tmp_path / "in.tar"
    with tarfile.open(path, "w") as archive:
        archive.add(tree, ".")
        info = tarfile.TarInfo("across/huge.png")
        info.size = claim
        archive.fileobj.write(info.tobuf(tarfile.GNU_FORMAT))
    done = protect(path, tmp_path / "out")
    assert done.exit_code in (2, 3) and "Traceback" not in done.output
    assert not (tmp_path / "out/data/across/huge.png").exists()


def test_huge_and_endless_exif_costs_itself_and_not_the_image(tree: Path, tmp_path: Path) -> None:
    loop = b"II*\0\x08\0\0\0" + struct.pack("<H", 1) + struct.pack("<HHII", 0x8769, 4, 1, 8) + struct.pack("<I", 8)
    wide = b"II*\0\x08\0\0\0" + struct.pack("<H", 4000) + struct.pack("<HHII", 0x010E, 2, 1 << 31, 8) * 4000 + bytes(4)
    long = Image.Exif()
    long[0x010E] = "SECRET-TAIL" * 5000
    for number, block in enumerate((loop, wide, long.tobytes()[6:])):
        body = b"Exif\0\0" + block
        data = saved("JPEG")
        (tree / f"across/e{number}.jpg").write_bytes(
            data[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + data[2:]
        )
        png = saved("PNG")
        (tree / f"across/e{number}.png").write_bytes(png[:33] + chunk(b"eXIf", block) + png[33:])
    assert protect(tree, tmp_path / "out").exit_code == 0
    assert b"SECRET-TAIL" not in everything(tmp_path / "out")
    assert all(path.stat().st_size < 9000 for path in (tmp_path / "out/data/across").glob("e*"))


def test_links_and_devices_in_a_folder_lead_nowhere(tree: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside.png"
    outside.write_bytes(saved("PNG", 24))
    (tree / "across/link.png").symlink_to(outside)
    (tree / "across/zero.png").symlink_to("/dev/zero")
    (tree / "escape").symlink_to(tmp_path, target_is_directory=True)
    done = protect(tree, tmp_path / "out")
    assert done.exit_code in (0, 3)
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_symlink()]
    names = {path.name for path in (tmp_path / "out/data").rglob("*.png")}
    assert names == {"000.png", "001.png", "002.png"}


HOSTILE = [
    "---\nconfigs: evil",
    "<img src=x onerror=alert(1)>",
    "[x](javascript:alert(1))",
    "{{ 7*7 }}{% include 'x' %}",
    "# heading\n- tags: [evil]",
    "!!python/object:os.system",
]


def test_class_names_stay_names_in_card_report_and_manifest(tmp_path: Path) -> None:
    """From folder names, through a whole run: front matter, Markdown, HTML and JSON say what they would say anyway."""
    source = tmp_path / "in"
    for kind, name in enumerate(HOSTILE):
        folder = source / name.replace("/", "\u2215")
        folder.mkdir(parents=True)
        for number in range(2):
            Image.fromarray(picture(kind, number)).save(folder / f"{number}.png")
    done = protect(source, tmp_path / "out", "--layout", "parquet", "--name", HOSTILE[0])
    assert done.exit_code == 0, done.output
    card = (tmp_path / "out" / layout.CARD).read_text(encoding="utf-8")
    matter = DatasetCard(card).data.to_dict()
    assert "evil" not in json.dumps(matter["configs"]) and "evil" not in json.dumps(matter["tags"])
    body = re.sub(r"\\.", "", card.split("\n---\n", 1)[1])  # what a backslash disarms
    assert "<img" not in body and not re.search(r"(?m)^# heading|^configs:", body) and "](javascript" not in body
    for page in (tmp_path / "out" / layout.REPORT, tmp_path / "out.owner" / layout.OWNER_REPORT):
        text = page.read_text(encoding="utf-8")
        assert "<img src=x" not in text and "default-src 'none'" in text
        assert not re.search(r"<script[^>]*src|<link|javascript:", text.split("<body")[0])
    assert check(tmp_path / "out").ok


def forged(root: Path, out: Path, edit: Callable[[dict[str, Any]], None]) -> Path:
    """A copy whose manifest was edited and that its owner signed."""
    shutil.copytree(root, out)
    document = json.loads((out / layout.MANIFEST).read_text(encoding="utf-8"))
    edit(document)
    (out / layout.MANIFEST).write_text(json.dumps(document))
    names = (layout.MANIFEST, layout.SUMS)
    digests = {name: hashlib.sha256((out / name).read_bytes()).hexdigest() for name in names}
    envelope = sign.attest(keyring.require().secrets().signer, digests, {})
    (out / layout.ATTESTATION).write_bytes(envelope)
    return out


@pytest.mark.parametrize(
    "path", ["../outside.png", "/etc/passwd", "data/../../outside.png", "C:\\x", "data\\..\\x", ""]
)
def test_a_manifest_that_points_outside_is_refused_and_nothing_there_is_read(
    tree: Path, tmp_path: Path, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert protect(tree, tmp_path / "out").exit_code == 0
    (tmp_path / "outside.png").write_bytes(b"private")
    bad = forged(tmp_path / "out", tmp_path / "forged", lambda document: document["files"][0].update(path=path))
    opened: list[str] = []
    real = Path.open
    monkeypatch.setattr(Path, "open", lambda self, *a, **k: opened.append(str(self.resolve())) or real(self, *a, **k))
    with pytest.raises(IntegrityError):
        check(bad)
    (bad / layout.ATTESTATION).unlink()  # unsigned it is damage, a finding
    (bad / layout.SUMS).write_text(f"{'0' * 64}  {path or 'x'}\n")
    assert not check(bad).ok
    assert all(Path(name).is_relative_to(bad.resolve()) or ".owner" in name for name in opened if "forged" in name)
    assert not [name for name in opened if name.endswith(("outside.png", "passwd"))]
    monkeypatch.undo()
    assert run("check", bad).exit_code == 5


class Exploit:
    """Runs when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.mark,))


def test_pickles_are_refused_wherever_weights_or_state_are_read(tree: Path, tmp_path: Path) -> None:
    mark = tmp_path / "it-ran"
    for name in ("weights.pt", "weights.pth", "weights.safetensors"):
        (tmp_path / name).write_bytes(pickle.dumps(Exploit(mark)))
        done = run(
            "protect",
            tree,
            tmp_path / "out",
            "--labels",
            "none",
            "--weights",
            tmp_path / name,
            "-q",
            "--verify",
            "none",
        )
        assert done.exit_code == 2 and not mark.exists(), done.output
    shutil.rmtree(tmp_path / "out.owner", ignore_errors=True)
    assert protect(tree, tmp_path / "out").exit_code == 0
    (tmp_path / "out.owner" / layout.STATE / layout.FIT).write_bytes(pickle.dumps(Exploit(mark)))
    done = protect(tree, tmp_path / "out", "--grow")
    assert done.exit_code == 5 and "fit.pt cannot be read" in done.stderr and not mark.exists()


def test_the_exploit_of_these_tests_would_work(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Exploit(tmp_path / "it-ran")))
    assert (tmp_path / "it-ran").exists()


def test_pixels_of_a_polyglot_are_those_of_its_picture(tree: Path, tmp_path: Path) -> None:
    """A file that is a GIF to one reader and a script to another is one picture here."""
    out = io.BytesIO()
    Image.fromarray(picture(0, 0)).convert("P").save(out, "GIF", comment=b"*/=1;alert('SECRET-TAIL')//")
    (tree / "across/x.gif").write_bytes(out.getvalue())
    assert protect(tree, tmp_path / "out").exit_code == 0
    assert b"SECRET-TAIL" not in everything(tmp_path / "out")
    clean = np.asarray(Image.open(io.BytesIO(out.getvalue())).convert("RGB")).astype(int)
    shipped = np.asarray(Image.open(tmp_path / "out/data/across/x.png").convert("RGB")).astype(int)
    assert 0 < np.abs(clean - shipped).max() <= 8

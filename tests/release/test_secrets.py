"""Every byte that strangers may see is searched for what they must not: release, log, printed JSON, and what is sent."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hub_push_server import running
from hub_state import TOKEN, Hub
from huggingface_hub import constants
from made_pictures import picture
from PIL import Image

from cli import cli
from release import keyring, layout, leftovers
from unlearnable.keys import Key

REPO = "owner/pictures"


def photo(kind: int, number: int) -> tuple[bytes, bytes]:
    """A JPEG with a clean thumbnail in its EXIF, and that thumbnail."""
    pixels = picture(kind, number, 24)
    small = io.BytesIO()
    Image.fromarray(pixels[::3, ::3]).save(small, "JPEG", quality=95)
    whole, block = io.BytesIO(), Image.Exif()
    block[0x010E] = "a title"
    Image.fromarray(pixels).save(whole, "JPEG", quality=95, subsampling=0, exif=block)
    data = whole.getvalue()
    body = b"Exif\0\0" + b"II*\0\x08\0\0\0" + b"\0\0" + b"\x0e\0\0\0"  # no tag of its own, then the second folder
    body += b"\2\0" + b"\x01\2\4\0\1\0\0\0" + (44).to_bytes(4, "little")
    body += b"\2\2\4\0\1\0\0\0" + len(small.getvalue()).to_bytes(4, "little") + bytes(4) + small.getvalue()
    segment = b"\xff\xe1" + (len(body) + 2).to_bytes(2, "big") + body
    return data[:2] + segment + data[2:], small.getvalue()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """One run of `protect`, `check` and `push`, with everything they printed, wrote and sent."""
    root = tmp_path_factory.mktemp("a-private-place-of-the-owner")
    source, out, home = root / "my-secret-folder", root / "out", root / "home"
    home.mkdir()
    thumbnails = []
    for kind in range(2):
        (source / ("across", "down")[kind]).mkdir(parents=True)
        for number in range(14):
            data, small = photo(kind, number)
            (source / ("across", "down")[kind] / f"{number:03d}.jpg").write_bytes(data)
            thumbnails.append(small)
    quick = root / "quick.toml"
    quick.write_text("victim = 'linear'\nepochs = 1\n")
    patch = pytest.MonkeyPatch()
    with running() as hub, patch.context() as patched:
        for name, value in {keyring.FOLDER: str(root / "config"), "HF_TOKEN": TOKEN, "HF_HOME": str(home)}.items():
            patched.setenv(name, value)
        patched.setattr(constants, "ENDPOINT", hub.address)
        patched.setattr(constants, "HF_HUB_DISABLE_XET", True)
        made = run(
            "protect", source, out, "--preset", "r16", "--verify", quick, "--seeds", 1, "--against", "blur1", "--json"
        )
        shown = run("check", out, "--source", source)
        sent = run("push", out, REPO, "--allow-unproven")
        assert (made.exit_code, shown.exit_code, sent.exit_code) == (0, 0, 0), made.output + shown.output + sent.output
        printed = [text.encode() for done in (made, shown, sent) for text in (done.stdout, done.stderr)]
        yield {"source": source, "out": out, "config": root / "config", "thumbnails": thumbnails, "hub": hub} | {
            "printed": printed,
        }


def run(*words: object) -> Result:
    return CliRunner().invoke(cli, [str(word) for word in words])


def public(world: dict[str, Any]) -> dict[str, bytes]:
    """Everything that strangers may see: every file of the release, and every request with its path."""
    out: Path = world["out"]
    files = {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    hub: Hub = world["hub"]
    sent = {f"{n}: {method} {path}": path.encode() + b"\n" + body for n, (method, path, body) in enumerate(hub.asked)}
    assert any("/commit/" in name for name in sent)
    return files | sent


def unfolded(data: bytes) -> bytes:
    """The bytes with everything inside that is base64 spelled out beside them, twice over."""
    for _ in range(2):
        for text in set(re.findall(rb"[A-Za-z0-9+/_-]{24,}={0,2}", data)):
            plain = text.translate(bytes.maketrans(b"-_", b"+/"))
            data += b"\n" + base64.b64decode(plain[: len(plain) // 4 * 4])
    return data


def spellings(secret: bytes) -> list[bytes]:
    """Raw, hexadecimal in both cases, and base64 at each of the three places in a group it can start at."""
    found = [secret, secret[::-1], secret.hex().encode(), secret.hex().upper().encode()]
    for shift in range(3):
        text = base64.b64encode(bytes(shift) + secret)[shift + (shift > 0) :].rstrip(b"=")[:-1]
        found += [text, text.translate(bytes.maketrans(b"+/", b"-_"))]
    return found


def secrets_of(world: dict[str, Any]) -> dict[str, bytes]:
    kept = json.loads((world["config"] / keyring.FILE).read_text())["plain"]
    owner = layout.owner_folder(world["out"])
    archive = json.loads((owner / layout.ARCHIVE).read_text())["archive"]
    return {
        "the root secret": bytes.fromhex(kept["root"]),
        "the signing key": bytes.fromhex(kept["signing"]),
        "the archive's key": Key.load(owner / layout.KEY).secret,
        "the archive's id": bytes.fromhex(archive),
    }


def test_the_search_itself_finds_what_is_hidden() -> None:
    secret = hashlib.sha256(b"x").digest()
    for shift in range(3):
        hidden = base64.b64encode(bytes(shift) + secret + b"more")
        assert any(text in hidden for text in spellings(secret))
        assert secret in unfolded(b"{" + base64.b64encode(secret) + b"}")


def test_no_key_is_in_anything_that_is_printed_published_or_sent(world: dict[str, Any]) -> None:
    seen = public(world) | {f"printed {n}": text for n, text in enumerate(world["printed"])}
    log = layout.owner_folder(world["out"]) / "log.jsonl"
    seen |= {"the log": log.read_bytes()} if log.exists() else {}
    for where, data in seen.items():
        whole = unfolded(data)
        for what, secret in secrets_of(world).items():
            for text in spellings(secret):
                assert text not in whole, f"{what} is in {where}"
        if not where.startswith("printed"):
            assert TOKEN.encode() not in whole


def test_no_seed_is_in_anything_public(world: dict[str, Any]) -> None:
    key = Key.load(layout.owner_folder(world["out"]) / layout.KEY)
    record = json.loads((layout.owner_folder(world["out"]) / layout.STATE / layout.VERIFICATION).read_text())
    assert "seeds" in record["protocol"]
    labels = [
        (name, use) for name in ("regions", "clusters", "error_min") for use in ("order", "net", "subset", "draws")
    ]
    drawn = [str(key.seed(*each)) for each in [*labels, ("clusters",), ("clusters", "k-means")]]
    for where, data in public(world).items():
        whole = unfolded(data)
        assert b'"seeds"' not in whole and b"seeds:" not in whole, where
        assert not any(number.encode() in whole for number in drawn), where


def test_no_public_byte_names_method_parameters_countermeasure_or_place(world: dict[str, Any]) -> None:
    owner = layout.owner_folder(world["out"])
    receipt = json.loads((owner / layout.STATE / layout.RECEIPT).read_text())
    words = {receipt["method"], receipt["preset"], "blur1", "--preset", "surrogate", "auto.json", "derangement"}
    places = {str(world["source"]), world["source"].name, world["source"].parent.name, str(owner)}
    for where, data in public(world).items():
        text = re.sub(rb"[0-9a-zA-Z+/_-]{40,}={0,2}", b"", data).lower()
        for word in words:
            assert not re.search(rb"(?<![a-z0-9])" + re.escape(word.lower()).encode() + rb"(?![a-z0-9])", text) or (
                b"\xff\xd8\xff" in data[:3]
            ), (where, word)
        for place in places:
            assert place.encode() not in unfolded(data), (where, place)


def test_no_digest_of_an_original_is_in_anything_public_or_printed(world: dict[str, Any]) -> None:
    seen = public(world) | {f"printed {n}": text for n, text in enumerate(world["printed"])}
    needles = []
    for path in world["source"].rglob("*.jpg"):
        data = path.read_bytes()
        git = hashlib.sha1(b"blob %d\0" % len(data) + data).digest()
        kinds = [hashlib.new(kind, data).digest() for kind in ("sha256", "sha1", "md5", "sha512", "blake2b")]
        needles += [
            text for digest in [git, *kinds] for text in (digest, digest.hex().encode(), base64.b64encode(digest))
        ]
    for where, data in seen.items():
        whole = unfolded(data)
        assert not [needle for needle in needles if needle in whole], where


def test_no_clean_picture_is_in_anything_public_however_small(world: dict[str, Any]) -> None:
    """Every picture anywhere is cut out and decoded: it is no original and no thumbnail of one, and EXIF has none."""
    clean = {Image.open(path).tobytes() for path in world["source"].rglob("*.jpg")}
    clean |= {Image.open(io.BytesIO(small)).tobytes() for small in world["thumbnails"]}
    cores = [small[-60:-2] for small in world["thumbnails"]]
    count = 0
    for where, data in public(world).items():
        whole = unfolded(data)
        assert not [core for core in cores if core in whole], where
        for start in re.finditer(rb"\xff\xd8\xff|\x89PNG\r\n", whole):
            try:
                shown = Image.open(io.BytesIO(whole[start.start() :]))
                pixels = shown.tobytes()
            except (OSError, SyntaxError, ValueError):
                continue
            count += 1
            assert pixels not in clean, where
    assert count > 28
    for path in (world["out"] / "data").rglob("*.jpg"):
        assert leftovers.look(path.read_bytes()).faults == ()
    assert any(
        "thumbnail" in fault for fault in leftovers.look(next(world["source"].rglob("*.jpg")).read_bytes()).faults
    )


def test_even_the_owners_printed_json_has_no_path_of_an_original(world: dict[str, Any]) -> None:
    document = json.loads(world["printed"][0])
    assert document["method"] == "r16", "the owner is told, on their own screen"
    assert str(world["source"]) not in world["printed"][0].decode()

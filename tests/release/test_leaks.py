"""`check --source` finds every way in which an original can be left in a release, names it, and cries no wolf."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import struct
import zlib
from array import array
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from made_pictures import picture
from made_release import make_facts
from PIL import Image, TiffImagePlugin

from cli import cli
from release import alike, layout, leaks, leftovers, pairing
from release.check import with_source
from release.facts import Measured
from release.manifest import Manifest
from release.seal import seal
from unlearnable import imageio
from unlearnable.errors import UsageError
from unlearnable.sources import open_source

LEVELS = 8
PNG, JPG = "train/across/0.png", "train/down/1.jpg"


def coded(pixels: np.ndarray, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    defaults = {"quality": 95, "subsampling": 0} if kind in ("JPEG", "MPO") else {}
    Image.fromarray(pixels).save(out, kind, **(defaults | options))
    return out.getvalue()


def kind_of(name: str) -> str:
    return {"png": "PNG", "jpg": "JPEG", "webp": "WEBP", "tif": "TIFF"}[name.rpartition(".")[2]]


def changed(pixels: np.ndarray, by: int = LEVELS) -> np.ndarray:
    """Checkers of plus and minus `by`: something that no coding takes away."""
    y, x = np.mgrid[: pixels.shape[0], : pixels.shape[1]]
    step = np.where((y // 4 + x // 4) % 2, by, -by)[:, :, None]
    return np.clip(pixels.astype(int) + step, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("leaks") / "photos"
    for number in range(12):
        split, folder = ("train", "test")[number % 3 == 2], ("across", "down")[number % 2]
        name = f"{split}/{folder}/{number}.{'jpg' if number % 2 else 'png'}"
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(coded(original(number), kind_of(name)))
    return root


def original(number: int) -> np.ndarray:
    return picture(number, number, 40)


def names(source: Path) -> list[str]:
    return sorted(path.relative_to(source).as_posix() for path in source.rglob("*.*"))


def protected(data: bytes) -> bytes:
    found = imageio.decode(data, "x")
    return coded(changed(found.pixels), found.container)


def release_of(source: Path, out: Path, planted: dict[str, bytes] | None = None, **facts: Any) -> Path:
    """A sealed release of the source as it should be, but for what is planted under data/."""
    make_facts(out.with_name("unused"))
    out.mkdir()
    files = {name: protected((source / name).read_bytes()) for name in names(source)} | (planted or {})
    measured = {}
    for name, data in files.items():
        (out / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (out / "data" / name).write_bytes(data)
        measured[f"data/{name}"] = Measured(1, 255 if name.endswith("jpg") else LEVELS, 8.0, 30.0)
    measured |= facts.pop("measured", {})
    count = sum(item.images for item in measured.values())
    counts = {"total": count, "protected": count, "skipped": 0} | facts.pop("counts", {})
    whole = make_facts(out.with_name("unused"), measured=measured, counts=counts, guaranteed=False, levels=LEVELS)
    seal(out, out.with_name(f"{out.name}.owner"), replace(whole, **facts))
    return out


def findings(root: Path, source: Path) -> list[dict[str, Any]]:
    document = with_source(root, str(source))
    assert document["ok"] == (not document["source"]["findings"])
    return list(document["source"]["findings"])


def only(root: Path, source: Path) -> dict[str, Any]:
    (one,) = findings(root, source)
    return one


def test_an_honest_release_has_no_findings_and_its_figures_are_stated(source: Path, tmp_path: Path) -> None:
    document = with_source(release_of(source, tmp_path / "out"), str(source))
    found = document["source"]
    assert document["ok"] and found["findings"] == [] and found["images"] == 12
    assert found["splits"] == {"train": 8, "test": 4} and found["splits_left_out"] == []
    assert (found["lossless"]["images"], found["lossless"]["linf"], found["budget"]) == (6, 8, 8)
    lossy = found["lossy"]
    assert lossy["images"] == 6 and 8 <= lossy["linf"] < 60 and lossy["p999"] <= lossy["linf"]
    assert 25 < lossy["psnr"] < 35


def test_one_step_over_the_budget_is_named(source: Path, tmp_path: Path) -> None:
    data = coded(changed(original(0), LEVELS + 1), "PNG")
    found = findings(release_of(source, tmp_path / "out", {PNG: data}), source)
    assert {(f["path"], f["kind"]) for f in found} == {(f"data/{PNG}", "budget"), (f"data/{PNG}", "manifest")}
    assert "9 grey levels; the budget is 8" in found[0]["reason"]


@pytest.mark.parametrize("name", [PNG, JPG])
def test_an_original_itself_is_named(source: Path, tmp_path: Path, name: str) -> None:
    found = only(release_of(source, tmp_path / "out", {name: (source / name).read_bytes()}), source)
    assert (found["path"], found["kind"]) == (f"data/{name}", "unchanged")


@pytest.mark.parametrize(
    ("name", "options"),
    [(PNG, {"compress_level": 1}), (JPG, {"quality": 95}), (JPG, {"quality": 85}), (JPG, {"quality": 98})],
)
def test_an_original_coded_again_is_named(source: Path, tmp_path: Path, name: str, options: dict[str, Any]) -> None:
    clean = imageio.decode((source / name).read_bytes(), name).pixels
    found = only(release_of(source, tmp_path / "out", {name: coded(clean, kind_of(name), **options)}), source)
    assert (found["path"], found["kind"]) == (f"data/{name}", "unchanged")


def test_hardly_changed_is_not_protected(source: Path, tmp_path: Path) -> None:
    found = only(release_of(source, tmp_path / "out", {PNG: coded(changed(original(0), 1), "PNG")}), source)
    assert found["kind"] == "unchanged" and "1.00 grey levels" in found["reason"]


def test_the_original_of_another_is_named_with_it(source: Path, tmp_path: Path) -> None:
    other = "train/across/4.png"
    root = release_of(source, tmp_path / "out", {PNG: (source / other).read_bytes()})
    copied = [f for f in findings(root, source) if f["kind"] == "duplicate"]
    assert [f["path"] for f in copied] == [f"data/{PNG}"] and f"bytes of the original of data/{other}" in copied[0][
        "reason"
    ]
    again = coded(np.asarray(Image.open(source / other)), "PNG", compress_level=1)
    root = release_of(source, tmp_path / "again", {PNG: again})
    assert any("pixels of the original of" in f["reason"] for f in findings(root, source))


def smooth(seed: int, side: int = 64) -> np.ndarray:
    """Soft blots, as photos look from afar."""
    rough = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(rough).resize((side, side), Image.Resampling.BICUBIC))


def test_an_original_in_the_place_of_another_is_found_though_coding_changed_every_pixel(tmp_path: Path) -> None:
    source = tmp_path / "photos"
    for number in range(6):
        (source / "ab"[number % 2]).mkdir(parents=True, exist_ok=True)
        pixels = smooth(number) if number != 2 else np.roll(smooth(0), 1, axis=0)  # 0 and 2 are of a burst
        (source / "ab"[number % 2] / f"{number}.jpg").write_bytes(coded(pixels, "JPEG"))

    def again(name: str) -> bytes:
        return coded(imageio.decode((source / name).read_bytes(), name).pixels, "JPEG", quality=91)

    other = again("a/4.jpg")
    found = findings(release_of(source, tmp_path / "other", {"a/0.jpg": other}), source)
    assert {(f["path"], f["kind"]) for f in found} == {("data/a/0.jpg", "budget"), ("data/a/0.jpg", "duplicate")}
    assert any("data/a/4.jpg" in f["reason"] for f in found)
    one = only(release_of(source, tmp_path / "twin", {"a/0.jpg": again("a/2.jpg")}), source)
    assert (one["path"], one["kind"]) == ("data/a/0.jpg", "duplicate") and "a/2.jpg" in one["reason"]


@pytest.mark.parametrize("quality", [30, 50, 75, 90, 95, 100])
def test_the_quality_of_a_jpeg_is_read_from_its_table(quality: int) -> None:
    assert leftovers.quality(coded(smooth(0), "JPEG", quality=quality)) == quality
    assert leftovers.quality(coded(smooth(0), "PNG")) is None


def test_pictures_that_are_alike_by_nature_are_no_leak(tmp_path: Path) -> None:
    """A burst: every frame a near copy of the others, each protected."""
    source = tmp_path / "burst"
    rng = np.random.default_rng(0)
    for number in range(6):
        (source / "ab"[number % 2]).mkdir(parents=True, exist_ok=True)
        frame = np.clip(picture(0, 0, 40) + rng.normal(0, 2, (40, 40, 3)), 0, 255).astype(np.uint8)
        (source / "ab"[number % 2] / f"{number}.jpg").write_bytes(coded(frame, "JPEG"))
    assert findings(release_of(source, tmp_path / "out"), source) == []


def exif(*, thumbnail: bool = False, note: bool = False, gps: bool = False) -> bytes:
    block = Image.Exif()
    block[0x010F] = "Maker"
    if note:
        block.get_ifd(0x8769)[0x927C] = b"secret" * 9
    if gps:
        block.get_ifd(0x8825)[1] = "N"
    data: bytes = block.tobytes()
    if not thumbnail:
        return data
    small = coded(picture(0, 0, 8), "JPEG")
    body = bytearray(data[6:])
    at = struct.unpack_from("<I", body, 4)[0] if body[:2] == b"II" else struct.unpack_from(">I", body, 4)[0]
    order = "<" if body[:2] == b"II" else ">"
    count = struct.unpack_from(order + "H", body, at)[0]
    where = len(body)
    struct.pack_into(order + "I", body, at + 2 + 12 * count, where)
    entries = [(0x0201, 4, 1, where + 2 + 24 + 4), (0x0202, 4, 1, len(small))]
    body += struct.pack(order + "H", 2) + b"".join(struct.pack(order + "HHII", *e) for e in entries) + bytes(4) + small
    return b"Exif\0\0" + bytes(body)


def segment(kind: int, body: bytes) -> Callable[[bytes], bytes]:
    return lambda data: data[:2] + bytes([0xFF, kind]) + struct.pack(">H", len(body) + 2) + body + data[2:]


def chunk(kind: bytes, body: bytes) -> Callable[[bytes], bytes]:
    made = struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    return lambda data: data[:33] + made + data[33:]


def riff(kind: bytes, body: bytes) -> Callable[[bytes], bytes]:
    def add(data: bytes) -> bytes:
        whole = data + kind + struct.pack("<I", len(body)) + body + b"\0" * (len(body) & 1)
        return whole[:4] + struct.pack("<I", len(whole) - 8) + whole[8:]

    return add


XMP = '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">{}</rdf:RDF></x:xmpmeta>'
IN_XMP = b"http://ns.adobe.com/xap/1.0/\0" + XMP.format("<xmpGImg:image>/9j/4AAQ</xmpGImg:image>").encode()
GAIN = (
    b"http://ns.adobe.com/xap/1.0/\0"
    + XMP.format('<r hdrgm:Version="1" xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/"/>').encode()
)


def tail(data: bytes) -> Callable[[bytes], bytes]:
    return lambda whole: whole + data


LEFT: list[tuple[str, str, Callable[[bytes], bytes], str]] = [
    ("a zip behind a JPEG", JPG, tail(b"PK\3\4" + bytes(40)), "behind its picture"),
    ("HTML behind a PNG", PNG, tail(b"<script>alert(1)</script>"), "behind its picture"),
    ("a film behind a JPEG", JPG, tail(b"\0\0\0\x18ftypmp42" + bytes(64)), "behind its picture"),
    ("a second JPEG behind it", JPG, tail(coded(picture(1, 1, 16), "JPEG")), "behind its picture"),
    ("an EXIF thumbnail", JPG, segment(0xE1, exif(thumbnail=True)), "thumbnail in its EXIF"),
    ("a maker's note", JPG, segment(0xE1, exif(note=True)), "maker's note"),
    ("a list of pictures", JPG, segment(0xE2, b"MPF\0" + bytes(20)), "MPO"),
    ("a picture in XMP", JPG, segment(0xE1, IN_XMP), "XMP that may hold a picture"),
    ("a gain map in XMP", JPG, segment(0xE1, GAIN), "XMP that may hold a picture"),
    ("a Photoshop block", JPG, segment(0xED, b"Photoshop 3.0\0" + bytes(30)), "Photoshop"),
    ("a comment", JPG, segment(0xFE, b"/home/owner/photos"), "comment"),
    ("another program's block", JPG, segment(0xEB, b"JP" + bytes(30)), "APP11"),
    ("a JFIF thumbnail", JPG, segment(0xE0, b"JFIF\0\1\2\0\0\1\0\1\1\1abc"), "JFIF thumbnail"),
    ("an EXIF thumbnail in PNG", PNG, chunk(b"eXIf", exif(thumbnail=True)[6:]), "thumbnail in its EXIF"),
    ("text in PNG", PNG, chunk(b"tEXt", b"path\0/home/owner"), "tEXt"),
]


@pytest.mark.parametrize(("name", "plant", "words"), [case[1:] for case in LEFT], ids=[case[0] for case in LEFT])
def test_what_is_left_beside_the_picture_is_named(
    source: Path, tmp_path: Path, name: str, plant: Callable[[bytes], bytes], words: str
) -> None:
    data = plant(protected((source / name).read_bytes()))
    found = only(release_of(source, tmp_path / "out", {name: data}), source)
    assert (found["path"], found["kind"]) == (f"data/{name}", "leftover") and words in found["reason"]


def test_what_the_reader_cannot_look_into_is_named_and_not_passed() -> None:
    """A decoder skips bytes between the blocks of a JPEG, and opens compressed XMP; this reader does neither."""
    clean = coded(picture(0, 0), "JPEG")
    hidden = b"\xff\xfe\x00\x0ca thumbnail"
    assert leftovers.look(clean).faults == ()
    assert leftovers.look(clean[:2] + b"\0" + hidden + clean[2:]).faults and leftovers.look(clean[:-2]).faults
    packet = zlib.compress(b"<x><xmpGImg:image>" + b"A" * 2000 + b"</xmpGImg:image></x>")
    png = coded(picture(0, 0), "PNG")
    body = b"iTXt" + b"XML:com.adobe.xmp\0\1\0\0\0" + packet
    chunk = (len(body) - 4).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")
    assert leftovers.look(png).faults == () and leftovers.look(png[:33] + chunk + png[33:]).faults


def test_webp_and_tiff_are_searched_too() -> None:
    webp = coded(picture(0, 0, 16), "WEBP", lossless=True)
    assert not leftovers.look(webp).faults
    assert "ABCD" in leftovers.look(riff(b"ABCD", b"1234")(webp)).faults[0]
    assert "thumbnail" in leftovers.look(riff(b"EXIF", exif(thumbnail=True)[6:])(webp)).faults[0]
    assert "behind" in leftovers.look(webp + b"PK\3\4").faults[0]
    out = io.BytesIO()
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[254] = 1
    with TiffImagePlugin.AppendingTiffWriter(out, new=True) as writer:
        for page, info in ((picture(0, 0, 16), {}), (picture(0, 0, 8), {"tiffinfo": tags})):
            Image.fromarray(page).save(writer, "TIFF", **info)
            writer.newFrame()
    assert "preview page" in leftovers.look(out.getvalue()).faults[0]
    assert "no release holds" in leftovers.look(b"GIF89a" + bytes(40)).faults[0]


@given(st.binary(max_size=200), st.integers(0, 400), st.sampled_from(["JPEG", "PNG", "WEBP", "TIFF", "BMP"]))
def test_damage_is_read_to_its_end_and_never_raises(junk: bytes, at: int, kind: str) -> None:
    whole = coded(picture(0, 0, 8), kind)
    leftovers.look(whole[:at] + junk + whole[at:])
    leftovers.look(whole[:12] + junk)
    list(leftovers._tags(b"II*\0\x08\0\0\0" + junk))


@pytest.mark.parametrize("container", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "BMP"])
@pytest.mark.parametrize("policy", ["keep", "no-gps", "strip"])
def test_what_we_write_holds_nothing_of_it_under_any_policy(container: str, policy: str) -> None:
    """The reader that looks for leftovers shares nothing with the writer that leaves none."""
    plain = Image.fromarray(picture(0, 0, 32))
    block = Image.Exif()
    block[0x010F], block[0x013B] = "Maker", "Owner"
    block.get_ifd(0x8769)[0x9003] = "2026:01:01 00:00:00"
    block.get_ifd(0x8825)[1] = "N"
    packet = XMP.format('<rdf:Description xmlns:dc="http://purl.org/dc/elements/1.1/" dc:title="t"/>').encode()
    place = XMP.format('<rdf:Description xmlns:exif="http://ns.adobe.com/exif/1.0/" exif:GPSLatitude="1"/>').encode()
    for xmp in (packet, place):
        out = io.BytesIO()
        plain.save(out, "JPEG", exif=block, xmp=xmp, quality=95)
        like = imageio.decode(out.getvalue(), "x")
        for opt_out in (True, False):
            data = imageio.encode(like.pixels, like, container, 95, policy, opt_out=opt_out)
            left = leftovers.look(data)
            assert left.faults == () and leftovers.against(left, policy) == []
            if policy == "keep" and container not in ("BMP",):
                assert left.exif and left.place, "what is allowed is seen"


def test_a_place_against_the_policy_is_named(source: Path, tmp_path: Path) -> None:
    data = segment(0xE1, exif(gps=True))(protected((source / JPG).read_bytes()))
    root = release_of(source, tmp_path / "out", {JPG: data})
    assert findings(root, source) == [], "nobody knows the policy without the owner folder"
    opened = open_source(str(source))
    manifest = Manifest.from_bytes((root / layout.MANIFEST).read_bytes())
    for policy, reason in (("no-gps", "says where it was taken"), ("strip", "has EXIF")):
        pairs = pairing.Pairs(manifest, opened, None)
        asked = leaks.Asked(metadata=policy)
        (found,) = leaks.lint(root, manifest, opened, pairs, asked, lambda *a, **k: None)["findings"]
        assert (found["path"], found["kind"]) == (f"data/{JPG}", "metadata") and reason in found["reason"]


def test_documents_that_show_an_original_or_name_its_digest_are_named(source: Path, tmp_path: Path) -> None:
    clean = coded(original(0), "PNG", compress_level=0)
    licence = b"<img src='data:image/png;base64," + base64.b64encode(clean) + b"'>"
    notes = hashlib.sha256((source / JPG).read_bytes()).hexdigest().encode()
    out = tmp_path / "out"
    sealed = release_of(source, out)
    for name, text in (("LICENSE", licence), ("NOTES", notes)):
        (sealed / name).write_bytes(text)
    measured = {
        f"data/{name}": Measured(1, 255 if name.endswith("jpg") else LEVELS, 8.0, 30.0) for name in names(source)
    }
    counts = {"total": 12, "protected": 12, "skipped": 0}
    facts = make_facts(tmp_path / "unused", measured=measured, counts=counts, guaranteed=False)
    seal(out, tmp_path / "out.owner", replace(facts, documents=("LICENSE", "NOTES")))
    found = {(f["path"], f["kind"]) for f in findings(out, source)}
    assert found == {("LICENSE", "duplicate"), ("NOTES", "leftover")}


def test_a_picture_that_nothing_accounts_for_is_named(source: Path, tmp_path: Path) -> None:
    extra = {"data/more.bin": Measured(0)}
    root = tmp_path / "out"
    (root / "data").mkdir(parents=True)
    (root / "data/more.bin").write_bytes(coded(picture(9, 9), "PNG"))
    root.rename(tmp_path / "kept")
    planted = {"more.bin": (tmp_path / "kept/data/more.bin").read_bytes()}
    found = only(release_of(source, root, planted, measured=extra), source)
    assert (found["path"], found["kind"]) == ("data/more.bin", "unaccounted") and "no original" in found["reason"]


def test_what_cannot_be_compared_is_a_finding_and_not_passed_over(source: Path, tmp_path: Path) -> None:
    root = release_of(source, tmp_path / "out")
    copy = tmp_path / "photos"
    for name in names(source):
        if name != PNG:
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_bytes((source / name).read_bytes())
    (copy / JPG).write_bytes(coded(picture(1, 1, 24), "JPEG"))
    found = findings(root, copy)
    assert [(f["path"], f["kind"]) for f in found] == [(f"data/{PNG}", "uncompared"), (f"data/{JPG}", "uncompared")]


def test_a_source_that_is_another_is_a_sentence(source: Path, tmp_path: Path) -> None:
    root = release_of(source, tmp_path / "out")
    for kind in "ab":
        (tmp_path / "other" / kind).mkdir(parents=True)
        (tmp_path / "other" / kind / "z.png").write_bytes(coded(picture(0, 0), "PNG"))
    with pytest.raises(UsageError, match="none of the originals"):
        with_source(root, str(tmp_path / "other"))


def run(*words: object) -> Result:
    return CliRunner().invoke(cli, [str(word) for word in words])


def test_the_command_exits_with_5_and_says_file_and_reason(source: Path, tmp_path: Path) -> None:
    good = run("check", release_of(source, tmp_path / "good"), "--source", source, "-q")
    assert good.exit_code == 0 and "12 pictures compared" in good.stdout and "nothing leaks" in good.stdout
    bad = release_of(source, tmp_path / "bad", {PNG: (source / PNG).read_bytes()})
    said = run("check", bad, "--source", source, "-q")
    assert (
        said.exit_code == 5
        and f"unchanged: data/{PNG} shows its original" in said.stdout
        and "1 findings" in said.stdout
    )
    assert run("check", bad).exit_code == 0, "it is what was signed"
    (bad / "data" / JPG).write_bytes(b"x")
    tampered = run("check", bad, "--source", source, "--json")
    assert tampered.exit_code == 5 and json.loads(tampered.stdout)["source"] is None


def test_the_documented_json_is_the_printed_json(source: Path, tmp_path: Path) -> None:
    text = (Path(__file__).resolve().parents[2] / "docs/output.md").read_text(encoding="utf-8")
    section = text.partition("## `check --source`\n")[2].partition("\n## ")[0]
    cells = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    documented = {name.strip(" `") for cell in cells for name in cell.split(",")}
    printed = json.loads(run("check", release_of(source, tmp_path / "out"), "--source", source, "--json", "-q").stdout)
    assert set(printed["source"]) == documented


@pytest.mark.parametrize("kind", ["folder", "parquet"])
def test_with_the_owner_folder_every_layout_is_compared(source: Path, tmp_path: Path, kind: str) -> None:
    out = tmp_path / "out"
    words = ("--preset", "r4", "--verify", "none", "--layout", kind, "--metadata", "strip", "-q")
    assert run("protect", source, out, *words).exit_code == 0
    found = json.loads(run("check", out, "--source", source, "--json", "-q").stdout)
    assert found["ok"] and found["source"]["images"] == 12 and found["source"]["metadata"] == "strip"
    owner = layout.owner_folder(out)
    owner.rename(tmp_path / "aside")
    alone = run("check", out, "--source", source, "-q")
    assert alone.exit_code == (0 if kind == "folder" else 2)
    assert kind == "folder" or "owner folder" in alone.stderr


def test_classes_that_the_owner_left_out_are_no_leak_and_are_counted(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = run("protect", source, out, "--preset", "r4", "--verify", "none", "--classes", "across", "-q")
    assert done.exit_code == 0, done.output
    found = json.loads(run("check", out, "--source", source, "--json", "-q").stdout)
    assert found["ok"] and found["source"]["unprotected"] == 6, found["source"]["findings"]


looks = st.lists(st.integers(0, 2**64 - 1), max_size=6)
bits = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 63)), max_size=8)


@given(looks, looks, bits)
def test_alike_finds_what_comparing_every_pair_finds(
    ours: list[int], theirs: list[int], flips: list[tuple[int, int]]
) -> None:
    for number, bit in flips:
        if ours:
            theirs.append(ours[number % len(ours)] ^ (1 << bit))
    a, b = array("Q", ours), array("Q", theirs)
    assert dict(alike.equal(a, b)) == {i: theirs.index(x) for i, x in enumerate(ours) if x in theirs}
    for number, others in alike.near(a, b, list(range(len(ours)))):
        apart = sorted((ours[number] ^ x).bit_count() for x in theirs)
        expected = [d for d in apart if d <= alike.NEAR][: alike._MOST]
        assert [(ours[number] ^ theirs[o]).bit_count() for o in others] == expected


def test_a_look_survives_coding_scaling_and_the_perturbation_and_tells_others_apart() -> None:
    pictures = [smooth(n) for n in range(8)]
    for number, pixels in enumerate(pictures):
        mine = alike.look(pixels)
        again = imageio.decode(coded(pixels, "JPEG", quality=70), "x").pixels
        assert (alike.look(again) ^ mine).bit_count() <= alike.NEAR
        others = [(alike.look(other) ^ mine).bit_count() for n, other in enumerate(pictures) if n != number]
        assert min(others) > alike.NEAR
    assert alike.look(np.zeros((8, 9, 1), np.uint8)) == 0

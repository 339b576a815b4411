"""The opt-out is in every file that can hold it, what the owner wrote stays, and no picture rides along."""

from __future__ import annotations

import base64
import io
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_pictures import SHARED
from PIL import Image, PngImagePlugin, features

from unlearnable import _xmp, imageio

RDF, PLUS = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}", "{http://ns.useplus.org/ldf/xmp/1.0/}"
PROHIBITED = "http://ns.useplus.org/ldf/vocab/DMI-PROHIBITED"
CONTAINERS = ["JPEG", "PNG", "WEBP", "TIFF", *(["AVIF"] if features.check("avif") else [])]
SMALL = base64.b64encode(b"\xff\xd8\xff\xe0" + bytes(range(256)) * 8).decode()


def packet(inside: str = "", attributes: str = "", about: str = "") -> bytes:
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        f'<rdf:Description rdf:about="{about}" xmlns:dc="http://purl.org/dc/elements/1.1/"'
        ' xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:tiff="http://ns.adobe.com/tiff/1.0/"'
        ' xmlns:exif="http://ns.adobe.com/exif/1.0/" xmlns:xmpNote="http://ns.adobe.com/xmp/note/"'
        ' xmlns:xmpGImg="http://ns.adobe.com/xap/1.0/g/img/" xmlns:plus="http://ns.useplus.org/ldf/xmp/1.0/"'
        ' xmlns:GImage="http://ns.google.com/photos/1.0/image/" xmlns:GCamera="http://ns.google.com/photos/1.0/camera/"'
        ' xmlns:GDepth="http://ns.google.com/photos/1.0/depthmap/" xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/"'
        f" {attributes}>{inside}</rdf:Description></rdf:RDF></x:xmpmeta>\n" + " " * 200 + '<?xpacket end="w"?>'
    ).encode()


WRITTEN = (
    "<dc:creator><rdf:Seq><rdf:li>Zoë &amp; Söhne</rdf:li></rdf:Seq></dc:creator>"
    '<dc:title><rdf:Alt><rdf:li xml:lang="x-default">A day</rdf:li></rdf:Alt></dc:title>'
)


def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (16, 24, 3)).astype(np.uint8)


def with_xmp(xmp: bytes, container: str) -> bytes:
    out, options = io.BytesIO(), {"xmp": xmp}
    if container == "PNG":
        text = PngImagePlugin.PngInfo()
        text.add_itxt("XML:com.adobe.xmp", xmp.decode())
        options = {"pnginfo": text}
    elif container == "TIFF":
        options = {"tiffinfo": {700: xmp}}
    Image.fromarray(pixels()).save(out, container, **options)
    return out.getvalue()


def shipped(data: bytes, container: str | None = None, metadata: str = "keep", opt_out: bool = True) -> bytes:
    like = imageio.decode(data, "x")
    return imageio.encode(like.pixels, like, container or like.container, metadata=metadata, opt_out=opt_out)


def read(data: bytes) -> bytes:
    found = Image.open(io.BytesIO(data)).info.get("xmp", b"")
    assert isinstance(found, bytes)
    return found


def said(xmp: bytes) -> list[str | None]:
    """Every DataMining statement about the image, as an RDF reader finds it."""
    root = ET.fromstring(xmp.decode().split("?>", 1)[1].rsplit("<?", 1)[0])
    found: list[str | None] = []
    for description in root.iter(f"{RDF}Description"):
        found += [description.get(f"{PLUS}DataMining")] if f"{PLUS}DataMining" in description.attrib else []
        found += [child.text for child in description if child.tag == f"{PLUS}DataMining"]
    return found


@pytest.mark.parametrize("container", CONTAINERS)
def test_the_opt_out_joins_what_the_owner_wrote(container: str) -> None:
    made = read(shipped(with_xmp(packet(WRITTEN, about="uuid:1"), container)))
    assert said(made) == [PROHIBITED]
    assert "Zoë &amp; Söhne" in made.decode() and "A day" in made.decode() and 'xml:lang="x-default"' in made.decode()
    assert made.decode().count('rdf:about="uuid:1"') == 2, "both are said of the same image"


@pytest.mark.parametrize("container", CONTAINERS)
def test_a_file_without_xmp_gets_the_same_few_bytes_as_any_other(container: str) -> None:
    plain = io.BytesIO()
    Image.fromarray(pixels()).save(plain, container)
    made = read(shipped(plain.getvalue()))
    assert said(made) == [PROHIBITED] and made == _xmp.opted_out(None)
    assert not read(shipped(plain.getvalue(), opt_out=False))


def test_bmp_holds_none_and_says_so() -> None:
    like = imageio.Picture(pixels(), "PNG", True, "x")
    assert "BMP" not in imageio.HOLD_XMP
    assert b"DataMining" not in imageio.encode(like.pixels, like, "BMP", opt_out=True)


@pytest.mark.parametrize(
    "was",
    [
        {"attributes": 'plus:DataMining="http://ns.useplus.org/ldf/vocab/DMI-ALLOWED"'},
        {"inside": "<plus:DataMining>http://ns.useplus.org/ldf/vocab/DMI-UNSPECIFIED</plus:DataMining>"},
        {"inside": f"<plus:DataMining>{PROHIBITED}</plus:DataMining>"},
    ],
)
def test_an_older_statement_is_replaced_and_not_contradicted(was: dict[str, str]) -> None:
    data = with_xmp(packet(**was), "PNG")
    assert said(read(shipped(data))) == [PROHIBITED]
    untouched = read(shipped(data, opt_out=False))
    assert len(said(untouched)) == 1, "asked not to, the owner's own word stays"


def test_doing_it_twice_changes_nothing() -> None:
    once = shipped(with_xmp(packet(WRITTEN), "PNG"))
    assert shipped(once) == once


@pytest.mark.parametrize(
    ("carrier", "word"),
    [
        (
            f"<xmp:Thumbnails><rdf:Alt><rdf:li><xmpGImg:image>{SMALL}</xmpGImg:image></rdf:li></rdf:Alt></xmp:Thumbnails>",
            "Thumbnails",
        ),
        (f"<GImage:Data>{SMALL}</GImage:Data>", "GImage:Data"),
        (f"<GDepth:Data>{SMALL}</GDepth:Data>", "GDepth:Data"),
        (f"<dc:description>{SMALL}</dc:description>", "dc:description"),
        (f"<dc:description>{SMALL[:40]}\n{SMALL}</dc:description>", "dc:description"),
        ("<dc:description>" + "a. b" * 3000 + "</dc:description>", "dc:description"),
    ],
)
def test_pictures_inside_do_not_survive_and_the_rest_does(carrier: str, word: str) -> None:
    for xmp in (packet(WRITTEN + carrier), packet(carrier + WRITTEN)):
        made = shipped(with_xmp(xmp, "PNG"))
        assert SMALL[:30].encode() not in made and f"<{word}" not in read(made).decode()
        assert "Zoë" in read(made).decode()


def test_pictures_in_attributes_and_words_about_what_is_gone_do_not_survive() -> None:
    xmp = packet(
        WRITTEN,
        f'GImage:Data="{SMALL}" GDepth:Near="1" GCamera:MicroVideo="1" GCamera:MicroVideoOffset="99" dc:source="{SMALL}"'
        ' xmpNote:HasExtendedXMP="0123456789ABCDEF"',
    )
    made = read(shipped(with_xmp(xmp, "JPEG"))).decode()
    assert not re.search(r'(GImage|GDepth|GCamera|HasExtendedXMP|dc:source)[:\w]*="(?!http)', made)
    assert SMALL[:30] not in made and "Zoë" in made


def test_turned_pictures_do_not_say_that_they_lie() -> None:
    attributes = 'tiff:Orientation="6" exif:PixelXDimension="24" exif:PixelYDimension="16"'
    for xmp in (packet(attributes=attributes), packet("<tiff:Orientation>6</tiff:Orientation>")):
        data = with_xmp(xmp, "PNG")
        like = imageio.decode(data, "x")
        assert like.pixels.shape[:2] == (24, 16)
        again = imageio.decode(shipped(data), "x")
        assert (again.pixels == like.pixels).all(), "and nobody turns them again"
    made = read(shipped(with_xmp(packet(attributes=attributes), "PNG"))).decode()
    assert 'Orientation="1"' in made and 'PixelXDimension="16"' in made and 'PixelYDimension="24"' in made


def test_the_place_goes_with_no_gps_and_everything_with_strip() -> None:
    xmp = packet(
        WRITTEN + "<photoshop:City>Paris</photoshop:City>",
        'exif:GPSLatitude="48,51.5N" exif:GPSLongitude="2,21.1E" exif:DateTimeOriginal="2020-01-02"',
    )
    data = with_xmp(xmp, "WEBP")
    kept, placeless, stripped = (read(shipped(data, metadata=m)).decode() for m in ("keep", "no-gps", "strip"))
    assert "48,51.5N" in kept and "Paris" in kept
    assert not re.search("48,51|2,21|Paris", placeless) and "Zoë" in placeless and "2020-01-02" in placeless
    assert stripped == _xmp.opted_out(None).decode()


@pytest.mark.parametrize(
    "broken",
    [
        b"",
        b"\0\0",
        b"hello",
        b"<x>no rdf</x>",
        packet()[:200],
        b'<!DOCTYPE a [<!ENTITY b "c">]>' + packet(),
        b"<a>" * 20_000 + b"</a>" * 20_000,
        "\ufeff".encode("utf-16-be") + b"\xd8",
    ],
)
def test_what_cannot_be_read_is_replaced_and_never_fails_the_image(broken: bytes) -> None:
    assert _xmp.cleaned(broken, 9, 9) is None
    assert said(_xmp.opted_out(None)) == [PROHIBITED]
    if broken:
        assert said(read(shipped(with_xmp(broken, "WEBP")))) == [PROHIBITED]


def test_other_codings_and_prefixes_are_understood() -> None:
    wide = packet(WRITTEN).decode().encode("utf-16")
    assert b"Zo\xc3\xab" in (_xmp.cleaned(wide, 9, 9) or b"")
    bare = b'<RDF xmlns="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><Description/></RDF>'
    cleaned = _xmp.cleaned(bare, 9, 9)
    assert cleaned and said(_xmp.opted_out(cleaned)) == [PROHIBITED]
    renamed = packet(WRITTEN).replace(b"rdf:", b"r:").replace(b"xmlns:rdf", b"xmlns:r")
    assert said(_xmp.opted_out(_xmp.cleaned(renamed, 9, 9))) == [PROHIBITED]


def test_a_packet_that_no_jpeg_could_hold_gives_way() -> None:
    many = "".join(f"<rdf:li>{n:0900d} words.</rdf:li>" for n in range(100))
    assert said(read(shipped(with_xmp(packet(f"<dc:subject><rdf:Bag>{many}</rdf:Bag></dc:subject>"), "PNG"), "JPEG")))


@settings(max_examples=150, deadline=None)
@given(st.floats(0, 1), st.binary(min_size=1, max_size=12))
def test_damage_anywhere_leaves_a_packet_that_can_be_read(where: float, junk: bytes) -> None:
    xmp = bytearray(packet(WRITTEN))
    at = int(where * len(xmp))
    xmp[at : at + len(junk)] = junk
    assert said(_xmp.opted_out(_xmp.cleaned(bytes(xmp), 9, 9))) == [PROHIBITED]


@settings(max_examples=60, deadline=None)
@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=60))
def test_any_text_of_the_owner_survives(text: str) -> None:
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    made = _xmp.opted_out(_xmp.cleaned(packet(f"<dc:rights>{escaped}</dc:rights>"), 9, 9)).decode()
    root = ET.fromstring(made.split("?>", 1)[1].rsplit("<?", 1)[0])
    found = next(root.iter("{http://purl.org/dc/elements/1.1/}rights"))
    assert (found.text or "") == text


def test_camera_files_keep_their_words() -> None:
    photos = SHARED / "photos"
    if not photos.is_dir():
        pytest.skip("needs ../shared/data/photos")
    with_words = 0
    for path in sorted(p for p in photos.rglob("*") if p.suffix.lower() in (".jpg", ".tiff")):
        before = xmp_of(path)
        like = imageio.decode(path.read_bytes(), path.name)
        if before and like.xmp:
            with_words += 1
            after = _xmp.opted_out(like.xmp)
            assert said(after) == [PROHIBITED], path
            assert SMALL[:6].encode() not in after, path
            for word in set(re.findall(rb"<(?:dc|photoshop):(\w+)", before)):
                assert word in after, (path, word)
    assert with_words > 5


def xmp_of(path: Path) -> bytes:
    found = Image.open(path).info.get("xmp", b"")
    return found if isinstance(found, bytes) else b""

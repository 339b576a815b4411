"""XMP: what the owner wrote stays, what could hold a picture goes, and the opt-out from training is written in.

The opt-out is `plus:DataMining` of the IPTC Photo Metadata Standard 2023.1, as ExifTool writes it. It is the same in
every file of a release and says nothing about which were perturbed. Like EXIF, a packet may carry the clean original in
small (thumbnails, depth maps with their photo) and may say of the file what is no longer so (its turn, a film behind
it); such properties are dropped alone. A packet that cannot be read is dropped whole, and never costs the image.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from xml.dom import minidom
from xml.parsers.expat import ExpatError

from unlearnable._containers import CODEC_ERRORS

OPT_OUT = "http://ns.useplus.org/ldf/vocab/DMI-PROHIBITED"
HOLD_XMP = ("JPEG", "PNG", "WEBP", "TIFF", "AVIF")  # containers that can say it

_PLUS = "http://ns.useplus.org/ldf/xmp/1.0/"
_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_XMLNS = "http://www.w3.org/2000/xmlns/"
_TIFF, _EXIF = "http://ns.adobe.com/tiff/1.0/", "http://ns.adobe.com/exif/1.0/"
_OF_PICTURES = (  # namespaces of pictures inside the packet, or behind the image and removed there
    "http://ns.adobe.com/xap/1.0/g/img/",
    "http://ns.adobe.com/hdr-gain-map/",
    "http://ns.apple.com/HDRGainMap/",
    "http://ns.apple.com/pixeldatainfo/",
    "http://ns.google.com/photos/1.0/",  # depthmap, image, audio, camera (motion photos), container
    "http://ns.google.com/photos/dd/1.0/",
    "http://purl.org/dc/terms/",  # provenance: where a C2PA manifest was
)
_DANGLING = ("Thumbnails", "HasExtendedXMP", "MicroVideo", "MotionPhoto")
_PLACES = re.compile(r"(?i)^gps|latitude|longitude|^(sub)?location|^(city|state|country)|^provincestate")
_LONGEST = 8192  # characters; longer values are not text of an owner
_BASE64 = re.compile(r"[A-Za-z0-9+/=\s]{1024,}")
_LARGEST_READ, _LARGEST = 1 << 20, 60_000  # bytes; a JPEG segment holds no more
_HEAD = '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'
_TAIL = '\n<?xpacket end="w"?>'
_EMPTY = f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{_RDF}"></rdf:RDF></x:xmpmeta>'


def cleaned(packet: bytes, width: int, height: int) -> bytes | None:
    """The packet of an upright image of width x height pixels, without pictures; None when it cannot be read."""

    def unfit(name: tuple[str, str], value: str) -> bool:
        return (
            name[0].startswith(_OF_PICTURES)
            or name[1].startswith(_DANGLING)
            or len(value) > _LONGEST
            or (len(value) >= 1024 and _BASE64.fullmatch(value) is not None)
        )

    def corrected(name: tuple[str, str], value: str) -> str:
        true = {(_TIFF, "Orientation"): 1, (_TIFF, "ImageWidth"): width, (_TIFF, "ImageLength"): height} | {
            (_EXIF, "PixelXDimension"): width,
            (_EXIF, "PixelYDimension"): height,
        }
        return str(true.get(name, value))

    root = _parsed(packet)
    return _written(root, unfit, corrected) if root is not None else None


def without_places(packet: bytes) -> bytes | None:
    """The same packet with no place in it."""
    root = _parsed(packet)
    return _written(root, lambda name, _: _PLACES.search(name[1]) is not None) if root is not None else None


def opted_out(packet: bytes | None) -> bytes:
    """The packet with the opt-out; a fresh one where there is none, or where it would grow too large."""
    if packet is None:
        return _fresh()
    root = _parsed(packet)
    return (_merged(root) if root is not None else None) or _fresh()


@functools.cache  # of small pictures, making it again would take as long as compressing them
def _fresh() -> bytes:
    root = _parsed(_EMPTY.encode())
    made = _merged(root) if root is not None else None
    assert made is not None
    return made


def _merged(root: minidom.Element) -> bytes | None:
    rdf = root.getElementsByTagNameNS(_RDF, "RDF") or [root]
    first = next((n for n in rdf[0].childNodes if n.nodeName.endswith("Description")), None)
    about = first.getAttributeNS(_RDF, "about") if isinstance(first, minidom.Element) else ""
    return _written(root, lambda name, _: name == (_PLUS, "DataMining"), statement=about)


def _parsed(packet: bytes) -> minidom.Element | None:
    """The root, where there is an RDF part; None for what is no XMP, or is built to do harm."""
    if len(packet) > _LARGEST_READ:
        return None
    try:
        coding = "utf-16" if packet[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
        text = re.sub(r"^\s*<\?xml[^>]*>", "", packet.decode(coding).strip("\0 \t\r\n"))
        if "<!" in text.replace("<!--", "").replace("<![CDATA[", ""):  # definitions of entities can grow without end
            return None
        root = minidom.parseString(text.encode("utf-8")).documentElement
        found = root is not None and (root.localName == "RDF" or bool(root.getElementsByTagNameNS(_RDF, "RDF")))
    except (*CODEC_ERRORS, ExpatError):
        return None
    return root if found else None


def _written(
    root: minidom.Element,
    unfit: Callable[[tuple[str, str], str], bool],
    corrected: Callable[[tuple[str, str], str], str] = lambda name, value: value,
    statement: str | None = None,
) -> bytes | None:
    """Bytes of the tree without what is unfit; statement: the subject of the opt-out to add."""
    try:
        for element in [root, *root.getElementsByTagName("*")]:
            _filter(element, unfit, corrected)
        if statement is not None:
            _state(root, statement)
        packet = (_HEAD + root.toxml() + _TAIL).encode("utf-8")
    except (*CODEC_ERRORS, ExpatError):
        return None
    return packet if len(packet) <= _LARGEST else None


def _filter(
    element: minidom.Element,
    unfit: Callable[[tuple[str, str], str], bool],
    corrected: Callable[[tuple[str, str], str], str],
) -> None:
    for attribute in list((element.attributes or {}).values()):
        name = (attribute.namespaceURI or "", attribute.localName or attribute.name)
        if name[0] == _XMLNS:
            continue
        if unfit(name, attribute.value):
            element.removeAttributeNode(attribute)
        else:
            attribute.value = corrected(name, attribute.value)
    for child in list(element.childNodes):
        if isinstance(child, minidom.Element):
            name = (child.namespaceURI or "", child.localName or child.tagName)
            text = "".join(n.data for n in child.childNodes if isinstance(n, minidom.Text))
            if unfit(name, text):
                element.removeChild(child)
            elif len(child.childNodes) == 1 and isinstance(child.firstChild, minidom.Text):
                child.firstChild.data = corrected(name, text)
        elif not isinstance(child, minidom.Text) or isinstance(child, minidom.CDATASection):
            element.removeChild(child)  # comments and instructions are no properties


def _state(root: minidom.Element, about: str) -> None:
    document = root.ownerDocument
    assert document is not None
    rdf = root if root.localName == "RDF" else root.getElementsByTagNameNS(_RDF, "RDF")[0]
    for said in list(rdf.childNodes):  # of a statement that was replaced
        if isinstance(said, minidom.Element) and not said.childNodes:
            about_only = {a.localName for a in said.attributes.values() if a.namespaceURI != _XMLNS} <= {"about"}
            if about_only:
                rdf.removeChild(said)
    prefix = rdf.prefix or "rdf"
    description = document.createElementNS(_RDF, f"{prefix}:Description")
    description.setAttribute(f"{prefix}:about", about)
    description.setAttribute("xmlns:plus", _PLUS)
    if not rdf.prefix:  # the default namespace does not reach attributes
        description.setAttribute("xmlns:rdf", _RDF)
    said = document.createElementNS(_PLUS, "plus:DataMining")
    said.appendChild(document.createTextNode(OPT_OUT))
    description.appendChild(said)
    rdf.appendChild(description)

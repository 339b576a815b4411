"""The only place that decodes and encodes images.

Decoding is strict: what cannot be protected faithfully is refused with one sentence and a way out, never mended in
silence. Encoding builds every file afresh from pixels, so that no clean picture in small survives: no EXIF thumbnail,
no second picture (MPO, HEIC), no video tail, no Photoshop resources. Colour profile, plain EXIF and XMP are kept.

    JPEG, PNG, WebP, TIFF, AVIF, BMP      in and out, each as itself
    HEIC (with pillow-heif), GIF          in; out as JPEG, or PNG where there is transparency; as PNG
    16-bit PNG and TIFF                   all 16 bits kept                      (_deep)
    CMYK JPEG and TIFF                    in their inks, with their profile     (_inks)
    animated PNG and WebP, pages of TIFF  every frame protected                 (_frames)
"""

from __future__ import annotations

import functools
import io
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np
from PIL import ImageFile, TiffImagePlugin

from unlearnable import _deep, _encoding, _frames, _inks, _views
from unlearnable._containers import (
    CODEC_ERRORS,
    EXTENSIONS,
    IMAGE_EXTENSIONS,
    LOSSY,
    avif_bits,
    sniff,
    suffix_for,
    webp_chunks,
    webp_size,
)
from unlearnable._picture import Motion, Picture, described, turn, upright
from unlearnable._plugins import readable, reader
from unlearnable._views import laid_out, let_go, square, trainer_view
from unlearnable._xmp import HOLD_XMP
from unlearnable.errors import ImageError
from unlearnable.types import Pixels

__all__ = [
    "CODEC_ERRORS",
    "EXTENSIONS",
    "HOLD_XMP",
    "IMAGE_EXTENSIONS",
    "LIMIT_MEGAPIXELS",
    "LOSSY",
    "Motion",
    "Picture",
    "decode",
    "encode",
    "laid_out",
    "let_go",
    "limit",
    "sniff",
    "square",
    "suffix_for",
    "target_container",
    "trainer_view",
]

# What Pillow warns of is either refused here or a tag that is dropped; a line a photo would drown the run's own log.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")

LIMIT_MEGAPIXELS = 200
SMALLEST_SIDE = 8  # pixels; below this there is nothing to train on and filters have no room
_limit = [float(LIMIT_MEGAPIXELS)]
_Told = Callable[[ImageFile.ImageFile, Pixels, str, bool, str], Picture]

_MODES = {"1": "L", "L": "L", "LA": "LA", "P": "RGB", "PA": "RGBA", "RGB": "RGB", "RGBA": "RGBA"} | {
    "RGBX": "RGB",
    "RGBa": "RGBA",
    "YCbCr": "RGB",
    "CMYK": "CMYK",
}
_WITH_ALPHA = {"L": "LA", "RGB": "RGBA"}
_TIFF_SUBFILE, _TIFF_BITS, _TIFF_COMPRESSION, _TIFF_DNG = 254, 258, 259, 0xC612
_TIFF_LOSSY = (6, 7, 34933, 34934, 34892, 50001)  # JPEG, LERC, lossy JPEG, WebP
_SIDES = {"WEBP": 16383, "JPEG": 65500, "AVIF": 65536}  # the longest


def limit(megapixels: float) -> None:
    """The largest image this process decodes, all its frames together; above it is a decompression bomb."""
    _limit[0] = megapixels


def decode(
    data: bytes,
    name: str,
    limit_megapixels: float | None = None,
    admit: Callable[[int], None] = lambda pixels: None,
    *,
    pixels_only: bool = False,
) -> Picture:
    """Upright pixels of one file's bytes; palettes become RGB, or RGBA when they hold transparency.

    limit_megapixels: by default what `limit` set; admit: hears the number of pixels before any is decoded, and may wait
    until there is room; pixels_only: no metadata, which takes as long as a small photo's pixels, and pixels that may stay
    only until this thread asks for others so. Raises ImageError, naming the file, for everything that cannot be protected
    faithfully: damaged or cut short, more than 8 bits a channel that Pillow cannot give, LAB colours, other
    containers, too small or too large. A JPEG whose middle is damaged but which ends properly cannot be told from a good
    one by the codec. Of MPO and HEIC the first picture is taken.
    """
    most = _limit[0] if limit_megapixels is None else limit_megapixels
    container = sniff(data[:32])
    if not readable(container):
        raise _refusal(data, container, name)
    # Another library may have asked Pillow to fill missing parts with grey; here they must be an error.
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    try:
        if container == "WEBP":
            _check_size(*webp_size(data), name, most)  # before the decoder reserves its canvas
        image = reader(container)(io.BytesIO(data), name)
        _check_size(image.width, image.height, name, most)
        count = 1 if container in ("JPEG", "HEIC") else int(getattr(image, "n_frames", 1))
        admit(image.width * image.height * count)
        if count == 1 or container == "TIFF":
            return _pages(image, data, container, name, most, count, _untold if pixels_only else described)
        _check_size(image.width * count, image.height, name, most, f"{count} frames of ")
        _check_kind(image, container, data, name, count)
        lossless = _is_lossless(image, container, data)
        frames, motion = _frames.read(image)
        turned = [upright(frame, turn(image)) for frame in frames]
        more = tuple(Picture(frame, container, lossless, name) for frame in turned[1:])
        return replace(described(image, turned[0], container, lossless, name), more=more, motion=motion)
    except CODEC_ERRORS as why:
        reason = " ".join(str(why).split()) or type(why).__name__
        raise ImageError(f"{name} is damaged or cut short ({reason}).", "Replace it by a whole copy.") from why


def encode(
    pixels: Pixels | Iterable[Pixels],
    like: Picture,
    container: str,
    quality: int = 95,
    metadata: str = "keep",
    *,
    more: Sequence[Pixels | Iterable[Pixels]] = (),
    opt_out: bool = False,
) -> bytes:
    """One file's bytes, the same for the same arguments and Pillow version.

    pixels: (H, W, C) uint8 with C as in `Picture`, or strips from the top that make up the size of `like`; like: whose
    colour profile, EXIF, XMP, low bits and inks to keep; quality: JPEG's and AVIF's, always without chroma subsampling;
    metadata: "keep", "no-gps" or "strip" (the colour profile stays: without it colours change); more: the pixels of
    `like.more`; opt_out: write XMP `plus:DataMining`.
    WebP and TIFF are lossless; a TIFF is compressed unless it holds camera EXIF, which libtiff cannot write, or
    16-bit colour. BMP holds no metadata. Raises ImageError when the container cannot hold the pixels.
    """
    if metadata not in ("keep", "no-gps", "strip"):
        raise ValueError(f"metadata is keep, no-gps or strip, not {metadata!r}")
    whole = pixels if isinstance(pixels, np.ndarray) else like.pixels
    if whole.shape[2] in (2, 4) and container in ("JPEG", "BMP"):
        raise ImageError(f"{like.name}: {container} cannot hold transparency.", "Use --format png.")
    if len(more) != len(like.more):
        raise ValueError(f"{len(like.more)} further frames are wanted, not {len(more)}")
    try:
        parts = []
        for part, picture in zip((pixels, *more), (like, *like.more), strict=True):
            height, width = (part if isinstance(part, np.ndarray) else picture.pixels).shape[:2]
            save = _encoding.options(picture, container, quality, metadata, opt_out, height * width)
            if like.motion:
                images = [_encoding.image(frame, like, container) for frame in (pixels, *more)]
                return _frames.animation(images, like.motion, container, save)
            parts.append(_encoding.written(part, picture, container, save))
        return _frames.pages(parts)
    except CODEC_ERRORS as why:
        raise ImageError(f"{like.name} cannot be written as {container} ({why}).", "Use --format png.") from why


def target_container(like: Picture, wanted: str) -> str:
    """The container to write: "auto" keeps the source's, "png", "jpeg" and "webp" ask for one.

    HEIC, which is only read, becomes JPEG. PNG takes over where the container cannot hold the picture: GIF, transparency
    in JPEG or BMP, too many pixels a side, animations in JPEG, transparent ones in WebP (its decoder mixes colours).
    WebP and TIFF are always written lossless, also where the source was not. Raises ImageError where PNG cannot help:
    inks and pages; and for animations in GIF and AVIF, which nobody should get as another, larger file unasked.
    """
    container = like.container if wanted == "auto" else wanted.upper()
    container = {"HEIC": "JPEG"}.get(container, container)
    if container not in EXTENSIONS and container != "GIF":
        raise ValueError(f"format is auto, png, jpeg or webp, not {wanted!r}")
    if (like.inks is not None and container not in ("JPEG", "TIFF")) or (like.more and not like.motion):
        what = "is in CMYK" if like.inks is not None else f"has {len(like.more) + 1} pages"
        if container != "TIFF":
            raise ImageError(f"{like.name} {what}, which {container} cannot hold.", "Use --format auto.")
    if like.motion and container in ("GIF", "AVIF"):
        frames = f"{like.name} is animated ({len(like.more) + 1} frames)"
        raise ImageError(f"{frames}, and {container} cannot hold the change of each.", "Use --format png or webp.")
    alpha = like.pixels.shape[2] in (2, 4)
    unfit = container == "GIF" or (alpha and container in ("JPEG", "BMP"))
    if like.motion:
        unfit = container not in ("PNG", "WEBP") or (alpha and container == "WEBP")
    return "PNG" if unfit or max(like.pixels.shape[:2]) > _SIDES.get(container, 1 << 31) else container


def _refusal(data: bytes, container: str, name: str) -> ImageError:
    if not data:
        return ImageError(f"{name} is empty.", "Replace it by a whole copy.")
    if container == "HEIC":
        return ImageError(f"{name} is a HEIC file, and pillow-heif is not installed.", "pip install unlearnable[heif]")
    if container:
        return ImageError(f"{name} is a {container} file, which is not supported.", "Convert it to PNG or JPEG.")
    known = "Supported: JPEG, PNG, WebP, TIFF, AVIF, BMP, GIF, HEIC."
    return ImageError(f"{name} is not an image that can be read.", known)


def _check_size(width: int, height: int, name: str, most: float, of: str = "") -> None:
    if width * height > most * 1e6:
        size = f"{of}{width} x {height} = {width * height / 1e6:.0f} megapixels"
        way = "Make it smaller, or allow more with --max-pixels if you trust it."
        raise ImageError(f"{name} has {size}, more than the limit of {most:g}.", way)
    if 0 < min(width, height) < SMALLEST_SIDE:
        raise ImageError(f"{name} has {width} x {height} pixels, fewer than 8 a side.", "Leave it out.")


def _pages(
    first: ImageFile.ImageFile, data: bytes, container: str, name: str, most: float, count: int, told: _Told
) -> Picture:
    """The one picture of a file, or all pages of a TIFF that are pictures and not previews of others."""
    found: list[Picture] = []
    pixels = 0

    def opened(page: int) -> ImageFile.ImageFile:
        image: ImageFile.ImageFile = reader(container)(io.BytesIO(data), name)
        image.seek(page)
        return image

    for page in range(count):
        image = opened(page) if page else first
        if isinstance(image, TiffImagePlugin.TiffImageFile) and page and image.tag_v2.get(_TIFF_SUBFILE, 0) & 1:
            continue  # the page before in small, and clean
        pixels += image.width * image.height
        _check_size(image.width, image.height, name, most)
        if pixels > most * 1e6:
            _check_size(pixels, 1, name, most, f"{count} pages with ")
        deep = _check_kind(image, container, data, name, count)
        lossless = _is_lossless(image, container, data)
        if deep:
            numbers = upright(_deep.read(functools.partial(opened, page)), turn(image))
            numbers = numbers if numbers.ndim == 3 else numbers[:, :, None]
            one = told(image, _deep.grey_levels(numbers), container, lossless, name)
            found.append(replace(one, deep=numbers))
        else:
            found.append(_picture(image, container, lossless, name, told))
    return replace(found[0], more=tuple(found[1:])) if len(found) > 1 else found[0]


def _check_kind(image: ImageFile.ImageFile, container: str, data: bytes, name: str, count: int) -> bool:
    """Whether it has 16 bits a channel. Refuses deeper ones and colours that cannot be kept. Reads headers only."""
    bits = [8]
    if container == "PNG":
        bits = [data[24]]  # Pillow opens 16-bit colour as 8-bit without a word
    elif container == "AVIF":
        bits = [avif_bits(data)]
    elif isinstance(image, TiffImagePlugin.TiffImageFile):
        if _TIFF_DNG in image.tag_v2 or image.tag_v2.get(_TIFF_SUBFILE, 0) & 1:
            raise _refusal(data, "camera raw", name)  # its first page is only a preview
        bits = list(image.tag_v2.get(_TIFF_BITS, (1,)))
    if max(bits) == min(bits) == 16 and (count == 1 or container == "TIFF") and _deep.readable(image):
        return True
    if max(bits) > 8 or image.mode.startswith(("I", "F")):
        deep = f"{max(bits)} bits a channel" if max(bits) > 8 else "more than 8 bits a channel"
        only = "only 8, and 16 in still PNG and TIFF, are supported"
        raise ImageError(f"{name} has {deep} as {image.mode}; {only}.", "Save it with 8 bits a channel.")
    if image.mode not in _MODES:
        raise ImageError(f"{name} is in {image.mode} colours; grey, RGB and CMYK are supported.", "Convert it to RGB.")
    return False


def _untold(image: ImageFile.ImageFile, pixels: Pixels, container: str, lossless: bool, name: str) -> Picture:
    """`described`, without a look at the metadata."""
    del image
    return Picture(pixels, container, lossless, name)


def _is_lossless(image: ImageFile.ImageFile, container: str, data: bytes) -> bool:
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return image.tag_v2.get(_TIFF_COMPRESSION, 1) not in _TIFF_LOSSY
    if container == "WEBP":
        return any(kind == b"VP8L" for kind, _ in webp_chunks(data))
    return container not in (*LOSSY, "HEIC")


def _picture(image: ImageFile.ImageFile, container: str, lossless: bool, name: str, told: _Told) -> Picture:
    """An image with 8 bits a channel."""
    mode = _MODES[image.mode]
    if image.has_transparency_data:
        mode = _WITH_ALPHA.get(mode, mode)
    numbers = _views.decoded(image, brief=told is _untold) if image.mode == mode else _views.held(image.convert(mode))
    pixels = upright(numbers, turn(image))
    if mode == "CMYK":
        return replace(told(image, _inks.shown(pixels), container, lossless, name), inks=pixels)
    return told(image, pixels if pixels.ndim == 3 else pixels[:, :, None], container, lossless, name)

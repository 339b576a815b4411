"""The only place that decodes and encodes images.

Decoding is strict: what cannot be protected faithfully is refused with one sentence and a way out, never mended in
silence. Encoding builds every file afresh from pixels, so that no clean picture in small survives: no EXIF thumbnail,
no second frame (MPO), no video tail, no XMP, no Photoshop resources. Colour profile and plain EXIF are kept.
"""

from __future__ import annotations

import io
import warnings
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import BmpImagePlugin, Image, ImageFile, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin

from unlearnable import _exif
from unlearnable._containers import (
    CODEC_ERRORS,
    EXTENSIONS,
    IMAGE_EXTENSIONS,
    sniff,
    suffix_for,
    webp_chunks,
    webp_size,
)
from unlearnable.errors import ImageError
from unlearnable.types import Pixels

__all__ = [
    "CODEC_ERRORS",
    "EXTENSIONS",
    "IMAGE_EXTENSIONS",
    "LIMIT_MEGAPIXELS",
    "Picture",
    "decode",
    "encode",
    "sniff",
    "square",
    "suffix_for",
    "target_container",
    "trainer_view",
]

# What Pillow warns of is either refused here or a tag that is dropped; a line a photo would drown the run's own log.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")

LIMIT_MEGAPIXELS = 200
_STRIP = 8  # sides further apart than this make a strip
SMALLEST_SIDE = 8  # pixels; below this there is nothing to train on and filters have no room

# Plugin classes and not Image.open: that one applies a process-wide size limit, and opens MPO as several frames.
_PLUGINS: dict[str, type[ImageFile.ImageFile]] = {
    "JPEG": JpegImagePlugin.JpegImageFile,
    "PNG": PngImagePlugin.PngImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
}
_MODES = {"1": "L", "L": "L", "LA": "LA", "P": "RGB", "PA": "RGBA", "RGB": "RGB", "RGBA": "RGBA"} | {
    "RGBX": "RGB",
    "RGBa": "RGBA",
    "YCbCr": "RGB",
}
_WITH_ALPHA = {"L": "LA", "RGB": "RGBA"}
_TIFF_SUBFILE, _TIFF_BITS, _TIFF_COMPRESSION, _TIFF_DNG = 254, 258, 259, 0xC612
_TIFF_LOSSY = (6, 7, 34933, 34934, 34892, 50001)  # JPEG, LERC, lossy JPEG, WebP


@dataclass(frozen=True, eq=False)
class Picture:
    """One decoded image and what encoding it again needs.

    pixels: (H, W, C) uint8, upright, read-only; C is 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha.
    container: "JPEG", "PNG", "WEBP", "TIFF" or "BMP", by content; lossless: whether the source's pixels were stored so.
    exif has no thumbnail and no maker note, and says that the picture is upright. dpi: horizontal, vertical.
    """

    pixels: Pixels
    container: str
    lossless: bool
    name: str
    icc: bytes | None = None
    exif: bytes | None = None
    dpi: tuple[float, float] | None = None


def decode(data: bytes, name: str, limit_megapixels: float = LIMIT_MEGAPIXELS) -> Picture:
    """Upright 8-bit pixels of one file's bytes; palettes become RGB, or RGBA when they hold transparency.

    Raises ImageError, naming the file, for everything that cannot be protected faithfully: damaged or cut short, more
    than one frame or page, more than 8 bits a channel, CMYK or LAB, other containers, too small or too large.
    A JPEG whose middle is damaged but which ends properly cannot be told from a good one by the codec.
    """
    container = sniff(data[:32])
    if container not in _PLUGINS:
        raise _refusal(data, container, name)
    # Another library may have asked Pillow to fill missing parts with grey; here they must be an error.
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    try:
        if container == "WEBP":
            _check_size(*webp_size(data), name, limit_megapixels)  # before the decoder reserves its canvas
        image = _PLUGINS[container](io.BytesIO(data), name)
        _check_size(*image.size, name, limit_megapixels)
        _check_kind(image, container, data, name)
        lossless = _is_lossless(image, container, data)
        image.load()
        return _picture(image, container, lossless, name)
    except CODEC_ERRORS as why:
        reason = " ".join(str(why).split()) or type(why).__name__
        raise ImageError(f"{name} is damaged or cut short ({reason}).", "Replace it by a whole copy.") from why


def encode(pixels: Pixels, like: Picture, container: str, quality: int = 95, metadata: str = "keep") -> bytes:
    """One file's bytes, the same for the same arguments and Pillow version.

    pixels: (H, W, C) uint8 with C as in `Picture`; like: whose colour profile and EXIF to keep; quality: JPEG's, always
    without chroma subsampling; metadata: "keep", "no-gps" or "strip" (the colour profile stays: without it colours
    change). WebP and TIFF are lossless; a TIFF is compressed unless it holds camera EXIF, which libtiff cannot write.
    BMP holds no metadata.
    Raises ImageError when the container cannot hold the pixels.
    """
    if metadata not in ("keep", "no-gps", "strip"):
        raise ValueError(f"metadata is keep, no-gps or strip, not {metadata!r}")
    channels = pixels.shape[2]
    if channels in (2, 4) and container in ("JPEG", "BMP"):
        raise ImageError(f"{like.name}: {container} cannot hold transparency.", "Use --format png.")
    image = Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels, ("L", "LA", "RGB", "RGBA")[channels - 1])
    exif = None if metadata == "strip" else like.exif
    if exif is not None and metadata == "no-gps":
        exif = _exif.without_gps(exif)
    options = _options(container, quality, exif, image.width * image.height)
    if container != "BMP":
        options |= {"exif": exif} if exif else {}
        options |= {"icc_profile": like.icc} if like.icc else {}
    if metadata != "strip" and like.dpi and container != "WEBP":
        options["dpi"] = like.dpi
    out = io.BytesIO()
    try:
        image.save(out, container, **options)
    except CODEC_ERRORS as why:
        raise ImageError(f"{like.name} cannot be written as {container} ({why}).", "Use --format png.") from why
    return out.getvalue()


def target_container(like: Picture, wanted: str) -> str:
    """The container to write: "auto" keeps the source's, "png", "jpeg" and "webp" ask for one.

    PNG takes over where the container cannot hold the picture: transparency in JPEG or BMP, more than 16383 or 65500
    pixels a side in WebP or JPEG. WebP and TIFF are always written lossless, also where the source was not.
    """
    container = like.container if wanted == "auto" else wanted.upper()
    if container not in EXTENSIONS:
        raise ValueError(f"format is auto, png, jpeg or webp, not {wanted!r}")
    alpha = like.pixels.shape[2] in (2, 4)
    largest = {"WEBP": 16383, "JPEG": 65500}.get(container)
    if (alpha and container in ("JPEG", "BMP")) or (largest and max(like.pixels.shape[:2]) > largest):
        return "PNG"
    return container


def square(pixels: Pixels, size: int) -> Pixels:
    """(size, size, 3) uint8 RGB: the whole image squashed to the poison's working size, antialiased; grey replicated.

    Transparency is ignored and not composited, because trainers' `convert("RGB")` ignores it.
    The same array comes back when there is nothing to do.
    """
    return _resized(pixels, size, size)


def trainer_view(pixels: Pixels, size: int) -> Pixels:
    """(size, size, 3) uint8 RGB as a trainer makes it: short side to `size` (bilinear, antialiased), centre crop."""
    height, width = pixels.shape[:2]
    short = min(height, width)
    height, width = (size * height // short, size * width // short)
    top, left = round((height - size) / 2), round((width - size) / 2)
    if max(height, width) > _STRIP * size:  # only the part that is kept: all of a long strip could take gigabytes
        across, down = pixels.shape[1] / width, pixels.shape[0] / height
        right, bottom = min((left + size) * across, pixels.shape[1]), min((top + size) * down, pixels.shape[0])
        return _resized(pixels, size, size, (left * across, top * down, right, bottom))
    view = _resized(pixels, height, width)
    return view if height == width else np.ascontiguousarray(view[top : top + size, left : left + size])


def _resized(pixels: Pixels, height: int, width: int, box: tuple[float, float, float, float] | None = None) -> Pixels:
    """RGB of that size; box: the part to take (left, top, right, bottom), the filter still sees what lies around it."""
    if box is None and pixels.shape == (height, width, 3):
        return pixels
    colour = pixels[:, :, :3] if pixels.shape[2] >= 3 else pixels[:, :, 0]
    if box is not None or pixels.shape[:2] != (height, width):
        image = Image.fromarray(np.ascontiguousarray(colour))
        colour = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR, box))
    if colour.ndim == 2:
        return np.repeat(colour[:, :, None], 3, axis=2)
    return np.ascontiguousarray(colour)


def _refusal(data: bytes, container: str, name: str) -> ImageError:
    if not data:
        return ImageError(f"{name} is empty.", "Replace it by a whole copy.")
    if container:
        return ImageError(f"{name} is a {container} file, which is not supported.", "Convert it to PNG or JPEG.")
    return ImageError(f"{name} is not an image that can be read.", "Supported: JPEG, PNG, WebP, TIFF, BMP.")


def _check_size(width: int, height: int, name: str, limit: float) -> None:
    if width * height > limit * 1e6:
        size = f"{width} x {height} = {width * height / 1e6:.0f} megapixels"
        raise ImageError(f"{name} has {size}, more than the limit of {limit:g}.", "Make it smaller or cut it in parts.")
    if 0 < min(width, height) < SMALLEST_SIDE:
        raise ImageError(f"{name} has {width} x {height} pixels, fewer than 8 a side.", "Leave it out.")


def _check_kind(image: ImageFile.ImageFile, container: str, data: bytes, name: str) -> None:
    """Refuses several frames, deep channels and colour spaces that 8-bit RGB cannot hold. Reads headers only."""
    frames = 1 if container == "JPEG" else getattr(image, "n_frames", 1)
    if frames > 1:
        what = f"has {frames} pages" if container == "TIFF" else f"is animated ({frames} frames)"
        raise ImageError(f"{name} {what}; only single images are supported.", "Save each as its own file.")
    bits = [8]
    if container == "PNG":
        bits = [data[24]]  # Pillow opens 16-bit colour as 8-bit without a word
    elif isinstance(image, TiffImagePlugin.TiffImageFile):
        if _TIFF_DNG in image.tag_v2 or image.tag_v2.get(_TIFF_SUBFILE, 0) & 1:
            raise _refusal(data, "camera raw", name)  # its first page is only a preview
        bits = list(image.tag_v2.get(_TIFF_BITS, (1,)))
    if max(bits) > 8 or image.mode.startswith(("I", "F")):
        deep = f"{max(bits)} bits a channel" if max(bits) > 8 else "more than 8 bits a channel"
        raise ImageError(f"{name} has {deep}; only 8 are supported.", "Save it with 8 bits a channel.")
    if image.mode not in _MODES:
        raise ImageError(f"{name} is in {image.mode} colours; only grey and RGB are supported.", "Convert it to RGB.")


def _is_lossless(image: ImageFile.ImageFile, container: str, data: bytes) -> bool:
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return image.tag_v2.get(_TIFF_COMPRESSION, 1) not in _TIFF_LOSSY
    if container == "WEBP":
        return any(kind == b"VP8L" for kind, _ in webp_chunks(data))
    return container != "JPEG"


def _picture(image: ImageFile.ImageFile, container: str, lossless: bool, name: str) -> Picture:
    """Gathers what `encode` needs from a loaded image."""
    info = image.info
    has_exif = container == "TIFF" or any(
        k in info for k in ("exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif")
    )
    turn = _exif.orientation(image) if has_exif else 1  # Pillow also honours the orientation that XMP gives
    mode = _MODES[image.mode]
    if image.has_transparency_data:
        mode = _WITH_ALPHA.get(mode, mode)
    converted = image if image.mode == mode else image.convert(mode)
    pixels = _upright(np.asarray(converted), turn)
    height, width = pixels.shape[:2]
    dpi = info.get("dpi")
    # 1 is what Pillow reports of a TIFF that says nothing.
    sane = isinstance(dpi, tuple) and len(dpi) == 2 and all(1 < float(v) <= 30_000 for v in dpi)
    return Picture(
        pixels=pixels if pixels.ndim == 3 else pixels[:, :, None],
        container=container,
        lossless=lossless,
        name=name,
        icc=info.get("icc_profile") or None,
        exif=_exif.rebuilt(image, width, height) if has_exif else None,
        dpi=(float(dpi[0]), float(dpi[1])) if dpi is not None and sane else None,
    )


def _upright(pixels: Pixels, orientation: int) -> Pixels:
    """Turns and mirrors so that EXIF orientation 1 is true."""
    if orientation == 1:
        return pixels
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    # After the transposition (5 to 8), what remains is a mirroring of rows, of columns, or of both.
    down = orientation in (3, 4, 7, 8)
    across = orientation in (2, 3, 6, 7)
    turned = np.ascontiguousarray(pixels[:: -1 if down else 1, :: -1 if across else 1])
    turned.flags.writeable = False
    return turned


def _options(container: str, quality: int, exif: bytes | None, area: int) -> dict[str, Any]:
    if container == "JPEG":
        # Own Huffman tables save 35 % of a thumbnail for 25 % more time, and 13 % of a photo for twice the time.
        return {"quality": quality, "subsampling": 0, "optimize": area <= 128 * 128}
    if container == "PNG":
        # Run lengths after PNG's filters: photos come out 1 % larger than at level 6, in a third of its time.
        return {"compress_type": zlib.Z_RLE}
    if container == "WEBP":
        return {"lossless": True, "exact": True, "quality": 0, "method": 0}  # exact: colours under full transparency
    if container == "TIFF":
        return {"compression": None if exif and _exif.has_folders(exif) else "tiff_lzw"}
    return {}

"""Which reader opens which container, where the codec for it is there."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from typing import Any

from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
    features,
)

# Plugin classes and not Image.open: that one applies a process-wide size limit, and opens MPO as several frames.
_PLUGINS: dict[str, Callable[..., Any]] = {
    "JPEG": JpegImagePlugin.JpegImageFile,
    "PNG": PngImagePlugin.PngImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "AVIF": AvifImagePlugin.AvifImageFile,
}


def readable(container: str) -> bool:
    if container == "HEIC":
        return importlib.util.find_spec("pillow_heif") is not None
    return container in _PLUGINS and (container != "AVIF" or bool(features.check("avif")))


def reader(container: str) -> Callable[..., Any]:
    """Takes a file and a name, gives a Pillow image that is not loaded yet. Only for what is `readable`."""
    if container == "HEIC":
        plugin: Callable[..., Any] = importlib.import_module("pillow_heif").HeifImageFile
        return plugin
    return _PLUGINS[container]

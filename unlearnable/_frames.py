"""Animations and pages: read whole, each frame as it is seen, and written to containers that hold them without loss."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageFile, TiffImagePlugin

from unlearnable._picture import Motion
from unlearnable.types import Pixels

_FOLDERS = {0x8769, 0x8825, 0xA005}  # EXIF, GPS, interoperability
_DEFAULT_MS = 100.0  # what browsers show a frame for that does not say


def read(image: ImageFile.ImageFile) -> tuple[list[Pixels], Motion]:
    """Every frame over the whole canvas, (H, W, 3 or 4) uint8, and the timing. Transparency none uses is left out."""
    frames: list[Pixels] = []
    times: list[float] = []
    size = image.size
    for number in range(getattr(image, "n_frames", 1)):
        image.seek(number)
        if image.size != size:  # the limit was held against this one
            raise ValueError(f"frame {number + 1} is larger than the picture")
        image.load()
        # of an animation, the red of a transparent pixel is nothing that anybody stored
        frames.append(np.asarray(image.convert("RGBA")))
        times.append(float(image.info.get("duration") or _DEFAULT_MS))
    if all((frame[:, :, 3] == 255).all() for frame in frames):
        frames = [np.ascontiguousarray(frame[:, :, :3]) for frame in frames]
    apart = bool(getattr(image, "default_image", False))
    return frames, Motion(tuple(times[apart:]), int(image.info.get("loop", 1)), apart)


def animation(images: Sequence[Image.Image], motion: Motion, container: str, options: dict[str, Any]) -> bytes:
    """An animated PNG or WebP. Frames equal to the one before are merged with it, their times added."""
    whole = {"save_all": True, "append_images": list(images[1:]), "loop": motion.loop}
    whole["duration"] = [round(ms) for ms in motion.durations]
    if container == "PNG":
        whole |= {"disposal": 0, "blend": 0, "default_image": motion.apart}  # each frame replaces the one before
    out = io.BytesIO()
    images[0].save(out, container, **(options | whole))
    return out.getvalue()


def pages(parts: Sequence[bytes]) -> bytes:
    """One TIFF of TIFFs of one page each."""
    if len(parts) == 1:
        return parts[0]
    out = io.BytesIO()
    with _Pages(out, new=True) as writer:
        for part in parts:
            writer.write(part)
            writer.newFrame()
    return out.getvalue()


class _Pages(TiffImagePlugin.AppendingTiffWriter):
    """Pillow's, which moves a page's pixels behind the page before, but leaves its EXIF pointing to where it was."""

    Tags = TiffImagePlugin.AppendingTiffWriter.Tags | _FOLDERS

    def fixIFD(self) -> None:
        start = self.f.tell()
        super().fixIFD()
        for place in self._folders(start):
            self.f.seek(place)
            self.fixIFD()

    def _folders(self, start: int) -> list[int]:
        """Where the folders lie that the one at `start` names."""
        self.f.seek(start)
        count = self.readShort()
        entries = [(self.readShort(), self.f.read(6), self.readLong()) for _ in range(count)]
        return [place for tag, _, place in entries if tag in _FOLDERS]

"""How visible protections are on photographs: PSNR, SSIM, LPIPS where it can be had, size of the files; and a sheet to look at.

    python benchmarks/visibility.py [--flowers 60] [--sheet FILE.png] [SPEC ...]

The still 8-bit photos of ../shared/data/photos of a megapixel and more, and some of ../shared/data/flowers, go through what
`protect` does to a file, JPEG in and JPEG out, and the shipped bytes are decoded and compared. A SPEC is that of strength.py:
PRESET:NAME=VALUE, eps for the budget. Figures are medians over the photos; SSIM is that of the middle 512 pixels. The sheet
shows the middle of some photos as they are and under each SPEC. What it costs in strength: strength.py.

Writes benchmarks/results/visibility.json.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _cells import FLOWERS
from _cifar import about
from _notes import RESULTS, keep, run_of
from PIL import Image
from strength import row

from release import build, quality
from release.facts import Quality
from unlearnable import budget, craft, imageio
from unlearnable.errors import ImageError
from unlearnable.imageio import Picture
from unlearnable.keys import Key
from unlearnable.sources import open_source
from unlearnable.types import Context, Pixels

PHOTOS = FLOWERS.parent / "photos"
SPECS = (
    *("random_noise", "r16", "r4", "grating_photo", "grating_photo:softness=0.5", "grating_photo:softness=1"),
    *("grating_photo:eps=4", "grating_photo:eps=6", "grating_photo:colour=grey", "spectral", "spectral:softness=1"),
    *("in_phase:low=7:high=14:crops=true:directions=axes", "texture"),
)
CLASSES = tuple(f"class {number}" for number in range(5))
SIZE = 224  # the working size of photos
SHOWN, SIDE = 4, 224


def pictures(flowers: int) -> Iterator[Picture]:
    """Decoded photos, those of cameras first."""
    for path in sorted(PHOTOS.rglob("*.jp*g")):
        try:
            picture = imageio.decode(path.read_bytes(), path.name)
        except ImageError:
            continue
        height, width = picture.pixels.shape[:2]
        if picture.container == "JPEG" and picture.inks is None and height * width >= 1_000_000:
            yield picture
    source = open_source(str(FLOWERS))
    for record in source.records[:: max(1, len(source.records) // flowers)][:flowers]:
        yield imageio.decode(source.read(record), record.id)


def measured(spec: str, photos: Sequence[Picture]) -> tuple[dict[str, Any], list[Pixels]]:
    """The figures of one protection, and the shipped pixels of the photos to show."""
    asked = row(spec)
    method = asked.method("paper")
    levels = asked.levels or budget.resolve(None, method.unbounded)
    crafter = craft.fit(method, None, Context(Key(bytes(32)), CLASSES, levels, SIZE))
    settings = build.Settings("folder", "auto", levels)
    sample, psnr, grown, shown = quality.Sample(), [], [], []
    for number, picture in enumerate(photos):
        seen = torch.from_numpy(imageio.square(picture.pixels, SIZE).copy()).permute(2, 0, 1)[None]
        delta = crafter.on((picture.name,), seen, torch.tensor([number % len(CLASSES)]))[0]
        made = build.make(picture, delta, settings)
        plain = imageio.encode(picture.pixels, picture, "JPEG", settings.quality)
        shipped = imageio.decode(made.data, picture.name).pixels
        sample.add(picture.pixels, shipped)
        psnr.append(made.psnr)
        grown.append(len(made.data) / len(plain))
        if number < SHOWN:
            shown.append(middle(shipped))
    return {"levels": levels} | figures(psnr, grown, sample.ssim, sample.quality()), shown


def figures(psnr: list[float], grown: list[float], ssim: list[float], found: Quality) -> dict[str, Any]:
    return {
        "photos": len(psnr),
        "psnr": round(statistics.median(psnr), 2),
        "psnr_lowest": round(min(psnr), 2),
        "ssim": round(statistics.median(ssim), 4),
        "ssim_lowest": round(min(ssim), 4),
        "lpips": found.lpips,
        "lpips_missing": found.lpips_missing,
        "size_to_unprotected": round(statistics.median(grown), 3),
    }


def middle(pixels: Pixels) -> Pixels:
    """The (SIDE, SIDE, 3) pixels in the middle of a photo as a browser would show it, 1,024 pixels at its longer side."""
    image = Image.fromarray(np.ascontiguousarray(pixels if pixels.shape[2] == 3 else pixels.repeat(3, 2)))
    image.thumbnail((1024, 1024))
    left, top = (image.width - SIDE) // 2, (image.height - SIDE) // 2
    return np.asarray(image.crop((left, top, left + SIDE, top + SIDE)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("specs", nargs="*", metavar="SPEC")
    parser.add_argument("--flowers", type=int, default=60)
    parser.add_argument("--sheet", type=Path, default=None, help="a PNG with the originals in the first column")
    args = parser.parse_args()
    before = os.getloadavg()[0]
    photos = list(pictures(args.flowers))
    columns = [[middle(photo.pixels) for photo in photos[:SHOWN]]]
    found: dict[str, Any] = {}
    for spec in args.specs or SPECS:
        found[spec], shown = measured(spec, photos)
        assert math.isfinite(found[spec]["psnr"]), spec
        columns.append(shown)
        print(f"{spec}: {found[spec]}", flush=True)
    if args.sheet:
        Image.fromarray(np.concatenate([np.concatenate(column) for column in columns], 1)).save(args.sheet)
    keep(RESULTS / "visibility.json", run_of("visibility.py", before) | about(torch.device("cpu")) | {"specs": found})


if __name__ == "__main__":
    main()

"""A plot as a list of marks, which becomes SVG for a page and PNG for everything else.

One list for both, so that the two can never disagree. The page's style sheet colours the SVG by class, in light and
dark; a PNG is always light, twice the size, and carries title and legend. Made here and not by a plotting library, so
that a release is byte for byte repeatable, and the picture of 100 epochs is 10 kB.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from markupsafe import Markup, escape
from PIL import Image, ImageDraw, ImageFont

from unlearnable import imageio
from unlearnable.imageio import Picture

Point = tuple[float, float]

_SCALE, _SMOOTH = 2, 2  # a PNG has twice the plot's size; it is drawn twice as large again, and shrunk
_TITLE, _LEGEND, _MARGIN = 28, 18, 8
_TEXT = 11
_BAND = 46  # of 255: how much a band covers, as the style sheet's .18
_INK = {
    **{"clean": "#1f6fb2", "noise": "#8a6d00", "protected": "#b3261e"},
    **{"grid": "#d8dee4", "chance": "#57606a", "strong": "#1b1f24", "text": "#57606a"},
    "heat": "#6b3fa0",
}
_DASHES = {"noise": (7.0, 4.0), "chance": (2.0, 4.0)}
_WIDTHS = {"grid": 1.0, "chance": 1.2, "line": 2.2, "spread": 8.0}


@dataclass(frozen=True)
class Mark:
    """One thing that is drawn. style: classes; "heat h0" to "heat h10" are the steps of a heat map.

    A rule has two points and is straight; a line has any number; an area is closed; a dot or a text has one point.
    """

    shape: Literal["rule", "line", "area", "dot", "text"]
    style: str
    points: Sequence[Point]
    text: str = ""
    anchor: Literal["start", "middle", "end"] = "start"


@dataclass(frozen=True)
class Drawing:
    """Marks on a sheet of so many units, later ones above. legend: (style, words), for the PNG alone."""

    title: str
    width: float
    height: float
    marks: tuple[Mark, ...]
    legend: tuple[tuple[str, str], ...] = ()

    def svg(self) -> Markup:
        """An <svg> element without colours of its own."""
        head = f'<svg viewBox="0 0 {self.width:g} {self.height:g}" role="img" aria-label="{escape(self.title)}">'
        return Markup(head + "".join(map(_element, self.marks)) + "</svg>")

    def png(self) -> bytes:
        """A PNG file, with the title above and the legend below."""
        height = _TITLE + self.height + _LEGEND * len(self.legend) + _MARGIN
        canvas = _Canvas(self.width, height)
        canvas.text((_MARGIN, 18), self.title, "strong", "start", 13)
        for mark in self.marks:
            canvas.draw(mark, _TITLE)
        for row, (style, words) in enumerate(self.legend):
            y = _TITLE + self.height + _LEGEND * row + 8
            canvas.draw(Mark("line", style, ((_MARGIN, y), (_MARGIN + 24, y))), 0)
            canvas.text((_MARGIN + 32, y + 4), words, "text", "start")
        return canvas.png()


def _element(mark: Mark) -> str:
    style, points = escape(mark.style), mark.points
    if mark.shape == "rule":
        (x1, y1), (x2, y2) = points
        return f'<line class="{style}" x1="{x1}" x2="{x2}" y1="{y1}" y2="{y2}"/>'
    if mark.shape == "dot":
        return f'<circle class="{style}" cx="{points[0][0]}" cy="{points[0][1]}" r="3"/>'
    if mark.shape == "text":
        kind = f' class="{style}"' if style else ""
        x, y = points[0]
        return f'<text{kind} x="{x}" y="{y}" text-anchor="{mark.anchor}">{escape(mark.text)}</text>'
    joined = " ".join(f"{x},{y}" for x, y in points)
    return f'<{"polyline" if mark.shape == "line" else "polygon"} class="{style}" points="{joined}"/>'


class _Canvas:
    """Draws marks with Pillow, in the units of a plot."""

    def __init__(self, width: float, height: float) -> None:
        self.unit = _SCALE * _SMOOTH
        self.size = (math.ceil(width) * self.unit, math.ceil(height) * self.unit)
        self.image = Image.new("RGB", self.size, "white")
        self.pen = ImageDraw.Draw(self.image)

    def png(self) -> bytes:
        small = self.image.resize((self.size[0] // _SMOOTH, self.size[1] // _SMOOTH), Image.Resampling.BOX)
        pixels = np.asarray(small)
        return imageio.encode(pixels, Picture(pixels, "PNG", True, "plot"), "PNG")

    def draw(self, mark: Mark, down: float) -> None:
        points = [(x, y + down) for x, y in mark.points]
        words = mark.style.split()
        if mark.shape == "text":
            self.text(points[0], mark.text, "strong" if "strong" in words else "text", mark.anchor)
        elif mark.shape == "dot":
            x, y = (value * self.unit for value in points[0])
            self.pen.circle((x, y), 3 * self.unit, fill=_ink(words))
        elif mark.shape == "area":
            self._area(points, words)
        else:
            width = next((_WIDTHS[word] for word in words if word in _WIDTHS), 2.2)
            dashes = next((_DASHES[word] for word in words if word in _DASHES), None) if "spread" not in words else None
            for piece in _dashed(points, dashes) if dashes else [points]:
                if len(piece) < 2:
                    continue
                scaled = [(x * self.unit, y * self.unit) for x, y in piece]
                self.pen.line(scaled, fill=_ink(words), width=round(width * self.unit), joint="curve")

    def text(self, at: Point, text: str, ink: str, anchor: str, size: int = _TEXT) -> None:
        font = ImageFont.load_default(size * self.unit)
        place = {"start": "ls", "middle": "ms", "end": "rs"}[anchor]
        self.pen.text((at[0] * self.unit, at[1] * self.unit), text, fill=_INK[ink], font=font, anchor=place)

    def _area(self, points: Sequence[Point], words: Sequence[str]) -> None:
        mask = Image.new("L", self.size)
        covered = _BAND if "band" in words else 255
        ImageDraw.Draw(mask).polygon([(x * self.unit, y * self.unit) for x, y in points], fill=covered)
        self.image.paste(_ink(words), (0, 0), mask)


def _ink(words: Sequence[str]) -> str:
    """The colour of a mark; step k of a heat map is white with 5 k % of the strongest."""
    full = next((_INK[word] for word in words if word in _INK), _INK["text"])
    share = 0.05 * int(words[-1].removeprefix("h")) if "heat" in words else 0.35 if "spread" in words else 1.0
    red, green, blue = (round(255 - share * (255 - int(full[i : i + 2], 16))) for i in (1, 3, 5))
    return f"#{red:02x}{green:02x}{blue:02x}"


def _dashed(points: Sequence[Point], pattern: tuple[float, float]) -> Iterator[list[Point]]:
    """The drawn pieces of a polyline: `pattern` is the length of a dash and of the gap after it."""
    drawn, left = True, pattern[0]
    piece = list(points[:1])
    for (x1, y1), (x2, y2) in pairwise(points):
        length, gone = math.hypot(x2 - x1, y2 - y1), 0.0
        while length - gone > left:
            gone += left
            corner = (x1 + (x2 - x1) * gone / length, y1 + (y2 - y1) * gone / length)
            if drawn:
                yield [*piece, corner]
            drawn, left = not drawn, pattern[1 if drawn else 0]
            piece = [corner]
        left -= length - gone
        piece.append((x2, y2))
    if drawn and len(piece) > 1:
        yield piece

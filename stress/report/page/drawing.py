"""matplotlib's SVG as a part of a page: no font, colour or id of its own.

A picture is drawn twice, for wide and for narrow screens; the style of the page shows one of them.
Colours are stand-ins while matplotlib draws and become variables of the page's style, so that
light, dark and print are a matter of style. Text stays text, and the page's font. Ids get the key
of the picture in front, because all pictures are in one document.

Callers draw on ``Axes`` between ``canvas`` and ``svg_of``. Texts that come from a database never go
into a picture: legends are part of the page, which escapes them.
"""

from __future__ import annotations

import io
import re
from typing import NamedTuple

import matplotlib
import matplotlib.colors
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

FONT_PX = 12
SERIES = 8  # colours; the ninth line begins again with another dash
DASHES: tuple[tuple[float, ...], ...] = ((), (5, 2), (1.5, 1.5), (7, 2, 1.5, 2))
INK, GRID_LINE = "#010203", "#010204"
_VARIABLES = {INK: "--soft", GRID_LINE: "--line"}
SERIES_COLOURS = tuple(f"#0102{0x10 + n:02x}" for n in range(SERIES))
_VARIABLES |= {colour: f"--s{n}" for n, colour in enumerate(SERIES_COLOURS)}
_SETTINGS = {
    "svg.fonttype": "none",
    "font.size": FONT_PX,
    "axes.facecolor": "none",
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID_LINE,
    "grid.linewidth": 0.8,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "path.simplify_threshold": 0.2,
    "savefig.facecolor": "none",
}


class Size(NamedTuple):
    """Pixels of a picture, of the margins around its axes, and columns that it can show."""

    name: str
    width: int
    height: int
    left: int
    columns: int
    ticks: int
    right: int = 12
    top: int = 10
    bottom: int = 40

    @property
    def box(self) -> tuple[int, int, int, int]:
        """The axes: left, top, right, bottom."""
        return self.left, self.top, self.width - self.right, self.height - self.bottom


WIDE = Size("wide", 900, 260, left=74, columns=400, ticks=10)
NARROW = Size("narrow", 420, 250, left=66, columns=180, ticks=5)
SIZES = (WIDE, NARROW)


def canvas(size: Size, height: int | None = None) -> tuple[Figure, Axes]:
    """An empty figure of that size, with its axes; 72 dots an inch make a point a pixel."""
    height = size.height if height is None else height
    with matplotlib.rc_context(_SETTINGS):
        figure = Figure(figsize=(size.width / 72, height / 72), dpi=72)
        FigureCanvasSVG(figure)
        figure.subplots_adjust(
            left=size.left / size.width,
            right=1 - size.right / size.width,
            top=1 - size.top / height,
            bottom=size.bottom / height,
        )
        return figure, figure.add_subplot()


def svg_of(figure: Figure, key: str) -> str:
    """The figure as an ``svg`` element; ``key`` is unique in the page."""
    out = io.BytesIO()
    with matplotlib.rc_context({**_SETTINGS, "svg.hashsalt": key}):
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None}, dpi=72)
    return _for_page(out.getvalue().decode(), key)


def hex_of(colour: object) -> str:
    """A colour of matplotlib as ``#rrggbb``."""
    return str(matplotlib.colors.to_hex(colour))


_ROOT = re.compile(r'<svg [^>]*viewBox="([^"]*)"[^>]*>')
_DROPPED = re.compile(
    r"<metadata>.*?</metadata>|<defs>\s*<style.*?</style>\s*</defs>|<!--.*?-->", re.DOTALL
)
_PATH = re.compile(r' d="[^"]*"')  # to a tenth of a pixel; a matrix needs its digits
_LONG = re.compile(r"(\d\.\d)\d+")
_FONT = re.compile(r" ?font(?:-family)?: [^;\"]*;?")
_COLOUR = re.compile("|".join(_VARIABLES))
_ID = re.compile(r'(id="|href="#|url\(#)(?=[A-Za-z])')


def _for_page(text: str, key: str) -> str:
    inner = text[text.index("<svg") :].strip()
    inner = _DROPPED.sub("", inner)
    inner = _PATH.sub(lambda match: _LONG.sub(r"\1", match[0]), inner)
    inner = _FONT.sub("", inner)
    inner = _COLOUR.sub(lambda match: f"var({_VARIABLES[match[0]]})", inner)
    inner = _ID.sub(rf"\g<1>{key}-", inner)
    inner = re.sub(r"\s*\n\s*", " ", inner)
    return _ROOT.sub(r'<svg viewBox="\1" aria-hidden="true" focusable="false">', inner, count=1)

"""Pictures of a result: a point for each row in F, and a line for each thing that grows.

A row is a point with its quartiles; the goal is a line across. Patterns stand below each other, so
that allocators are compared within one pattern only; loops and calls from Python have pictures of
their own. The background is white, because the site has a dark style and pictures have none.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from stress.bench.catalogue import COMPILED, PYTHON
from stress.bench.figures import Row
from stress.bench.goals import IN_F, IN_NS, Judged
from stress.bench.jobs import PRIVATE_HEAP
from stress.bench.result import Curve, Result

COLOURS = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#000000",
)  # Okabe, Ito
MARKERS = "osD^vP*X"
SETTINGS = {"svg.fonttype": "none", "font.family": "sans-serif", "svg.hashsalt": "bench"}
ROW_INCHES = 0.26
# None: it is left out, so that the same figures make the same file.
METADATA = {".svg": {"Date": None, "Creator": None}, ".png": {"Software": None}}


def drawn(result: Result, suffix: str) -> bytes:
    """The rows and curves of a result as a picture; ``suffix``: ``.svg`` or ``.png``."""
    out = io.BytesIO()
    shown = [r for r in result.rows if not r.crowded]
    groups = [rows for t in (COMPILED, PYTHON) if (rows := [r for r in shown if r.timed == t])]
    heights = [1.2 + ROW_INCHES * len(_lines(rows)) for rows in groups]
    heights += [3.6] * len(result.curves)
    if not heights:
        heights = [1.0]
    with matplotlib.rc_context(SETTINGS):
        figure = Figure((9, sum(heights) + 0.4), facecolor="white", layout="constrained")
        (FigureCanvasSVG if suffix == ".svg" else FigureCanvasAgg)(figure)
        made = figure.subplots(len(heights), 1, squeeze=False, height_ratios=heights)
        panels = [axes for (axes,) in made]
        for axes, rows in zip(panels, groups, strict=False):
            _rows(axes, rows, result.judged)
        for axes, curve in zip(panels[len(groups) :], result.curves, strict=False):
            _curve(axes, curve)
        figure.savefig(out, format=suffix[1:], metadata=METADATA[suffix])
    return out.getvalue()


def _lines(rows: Sequence[Row]) -> list[tuple[str, int]]:
    """A line of the picture: a pattern and a number of workers."""
    return list(dict.fromkeys((row.pattern, row.workers) for row in rows))


def _rows(axes: Axes, rows: Sequence[Row], judged: Sequence[Judged]) -> None:
    lines = _lines(rows)
    python = rows[0].timed == PYTHON
    for number, who in enumerate(dict.fromkeys(row.who for row in rows)):
        own = [row for row in rows if row.who == who]
        spreads = [row.ns if python else row.f for row in own]
        axes.errorbar(
            [s.median for s in spreads],
            [lines.index((row.pattern, row.workers)) for row in own],
            xerr=[[s.median - s.low for s in spreads], [s.high - s.median for s in spreads]],
            fmt=MARKERS[number % len(MARKERS)],
            color=COLOURS[number % len(COLOURS)],
            markersize=5,
            elinewidth=1,
            markerfacecolor="white" if own[0].memory == PRIVATE_HEAP else None,
            label=f"{who}, {own[0].memory}",
        )
    for one in judged:
        line = one.goal.row[0], one.goal.row[2]
        if line in lines and one.goal.kind == (IN_NS if python else IN_F):
            at = lines.index(line)
            axes.vlines(one.goal.limit, at - 0.4, at + 0.4, color="#888888", linewidth=2)
    axes.set_yticks(range(len(lines)), [f"{name}, {n}" for name, n in lines])
    axes.set_ylim(len(lines) - 0.5, -0.5)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}" if x >= 1 else f"{x:g}"))
    unit = "ns, timed from Python" if python else "F, timed around a compiled loop"
    axes.set_xlabel(f"an operation in {unit}; grey: the goal of shmalloc")
    axes.set_ylabel("pattern, workers")
    axes.grid(True, axis="both", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))


def _curve(axes: Axes, curve: Curve) -> None:
    for number, (name, points) in enumerate(curve.lines.items()):
        axes.plot(
            [x for x, _ in points],
            [y for _, y in points],
            label=name,
            markersize=4,
            marker=MARKERS[number % len(MARKERS)],
            color=COLOURS[number % len(COLOURS)],
        )
    axes.set_title(curve.title, fontsize=10)
    axes.set_xlabel(curve.x)
    axes.set_ylabel(curve.y)
    xs = sorted({x for points in curve.lines.values() for x, _ in points})
    axes.set_xscale("log", base=2)
    axes.set_xticks(xs, [f"{x:g}" for x in xs])
    axes.minorticks_off()
    if curve.log:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
    else:
        axes.set_ylim(bottom=0)
    axes.grid(True, color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))

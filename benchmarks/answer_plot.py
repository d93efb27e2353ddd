"""The picture of docs/the-answer.md: what a page costs, by how many are in use at once.

Two panels with one scale: pages that are never used, and pages of which their owner writes a line.
A line for each link store, in colour and dashes; the band around it lies between the quartiles. On
the left in F, on the right in ns of the machine that measured. The background is white, because the
site has a dark style and the picture has none.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
from answer_page import label
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # Okabe and Ito
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 2)))
PANELS = {"untouched": "never used", "touched": "the owner writes one line of each"}
CLOSE = 4  # numbers of pages nearer than this have one label
SETTINGS = {"svg.fonttype": "none", "font.family": "sans-serif", "svg.hashsalt": "the-answer"}


def draw(made: dict[str, Any], place: Path) -> None:
    """Write the picture, in the format that the name of ``place`` ends with."""
    with matplotlib.rc_context(SETTINGS):
        figure = Figure(figsize=(10, 4.2), facecolor="white", layout="constrained")
        FigureCanvasSVG(figure)
        panels = figure.subplots(1, len(PANELS), sharey=True)
        for axes, (touching, title) in zip(panels, PANELS.items(), strict=True):
            _panel(axes, made, touching)
            axes.set_title(f"pages {title}" if touching == "untouched" else title, fontsize=11)
        panels[0].set_ylabel("a page, allocated and freed, in F")
        _in_ns(panels[-1], made["figures"]["F"]["ns"])
        panels[0].legend(title="links", frameon=False, loc="upper left", fontsize=9)
        figure.savefig(place, format=place.suffix[1:], metadata={"Date": None, "Creator": None})


def _panel(axes: Axes, made: dict[str, Any], touching: str) -> None:
    counts = made["counts"]
    for k, store in enumerate(made["stores"]):
        found = [made["figures"][f"scattered.{n}.{touching}.{store}"] for n in counts]
        colour, dash = COLOURS[k % len(COLOURS)], DASHES[k % len(DASHES)]
        middle = [figure["ratio"] for figure in found]
        axes.plot(
            counts, middle, color=colour, linestyle=dash, marker="o", markersize=4,
            label=label(store), linewidth=1.8,
        )  # fmt: skip
        axes.fill_between(
            counts, [f["low"] for f in found], [f["high"] for f in found],
            color=colour, alpha=0.15, linewidth=0,
        )  # fmt: skip
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(counts, _counts(counts))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
    axes.yaxis.set_minor_formatter(FuncFormatter(_some))
    axes.set_xlabel("pages in use at once, 4 KiB each")
    axes.grid(True, which="both", axis="y", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _counts(counts: list[int]) -> list[str]:
    """Labels of the numbers of pages; one that would run into the next has none."""
    following = [*counts[1:], counts[-1] * CLOSE]
    pairs = zip(counts, following, strict=True)
    return [f"{n:,}" if after >= n * CLOSE else "" for n, after in pairs]


def _some(value: float, _: object) -> str:
    """Labels of the minor ticks: 2, 5 and their tens."""
    return f"{value:g}" if f"{value:e}"[0] in "25" else ""


def _in_ns(axes: Axes, unit: float) -> None:
    """A second scale, in ns."""
    right = axes.secondary_yaxis("right", functions=(lambda y: y * unit, lambda y: y / unit))
    right.set_ylabel("ns")
    right.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
    right.yaxis.set_minor_formatter(FuncFormatter(_some))

"""Lines over time and percentile curves, as SVG, with what a reader is told at each column.

The numbers that the page's script reads out (``Readout``) are those of the picture: the least and
the greatest value in each of its columns.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from stress.quantities import short
from stress.report.page import drawing, words
from stress.report.page.drawing import DASHES, NARROW, SERIES, SERIES_COLOURS, SIZES, WIDE, Size
from stress.report.page.model import Chart, Latency, Unit
from stress.report.page.thin import columns_of, thinned

FAILED = " failed"  # behind the name of an operation: its calls that were refused
STEPS = (1, 2, 5, 10)  # of an axis
NINES = (0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999, 0.999999)


class Key(NamedTuple):
    """One entry of a legend: the number of the colour, and the dashes of the line."""

    name: str
    colour: int
    dashes: str


class Drawn(NamedTuple):
    """A picture for the page. ``readout`` is JSON for the script, empty if there is nothing."""

    wide: str
    narrow: str
    legend: tuple[Key, ...]
    readout: str = ""


def legend_of(names: Sequence[str]) -> tuple[Key, ...]:
    return tuple(
        Key(name, n % SERIES, " ".join(map(str, _dashes(n)))) for n, name in enumerate(names)
    )


def _dashes(number: int) -> tuple[float, ...]:
    return DASHES[number // SERIES % len(DASHES)]


# --- over time -----------------------------------------------------------------------------------
def draw_chart(chart: Chart) -> Drawn:
    wide, narrow = (_lines(chart, size) for size in SIZES)
    return Drawn(wide, narrow, legend_of([line.name for line in chart.lines]), _readout(chart))


def _lines(chart: Chart, size: Size) -> str:
    figure, axes = drawing.canvas(size)
    unit, name = time_unit(chart.end_s)
    for number, line in enumerate(chart.lines):
        shown = thinned(line, chart.start_s, chart.end_s, size.columns)
        axes.plot(
            shown.times_s / unit,
            shown.values / value_unit(chart)[0],
            color=SERIES_COLOURS[number % SERIES],
            linewidth=1.4,
            dashes=_dashes(number) or (1, 0),
            solid_joinstyle="round",
            marker="o" if len(line.measured) < 3 else "",
            markersize=4,
            gid=f"line-{number}",
        )
    axes.set_xlim(chart.start_s / unit, max(chart.end_s, chart.start_s + 1e-3) / unit)
    axes.set_xlabel(f"{name} since the start")
    _value_axis(axes, chart)
    axes.xaxis.set_major_locator(MaxNLocator(size.ticks, steps=STEPS))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    return drawing.svg_of(figure, f"{chart.key}-{size.name}")


def _value_axis(axes: Axes, chart: Chart) -> None:
    """From zero, so that a height is an amount; the whole of a share is always shown."""
    scale, name = value_unit(chart)
    measured = [line.measured for line in chart.lines if len(line.measured)]
    top = max((float(np.max(values)) for values in measured), default=1.0) / scale
    axes.set_ylim(0, 1.0 if chart.unit is Unit.SHARE and top <= 1 else 1.08 * top or 1.0)
    axes.set_ylabel(name)
    axes.yaxis.set_major_locator(
        MaxNLocator(5, steps=STEPS, integer=chart.unit is Unit.COUNT and top > 4)
    )
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: _tick(y, chart.unit)))


def _tick(value: float, unit: Unit) -> str:
    return words.share(value) if unit is Unit.SHARE else short(value)


def value_unit(chart: Chart) -> tuple[float, str]:
    """By what the values are divided for the axis, and what it says."""
    if chart.unit is not Unit.BYTES:
        return 1.0, {Unit.RATE: "per second", Unit.COUNT: "number"}.get(chart.unit, "share")
    top = max(
        (float(np.max(v)) for v in (line.measured for line in chart.lines) if len(v)), default=0
    )
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if top >= unit:
            return float(unit), name
    return 1.0, "bytes"


def time_unit(end_s: float) -> tuple[float, str]:
    """By what seconds are divided for a time axis that ends there, and the name of that."""
    if end_s > 3 * 3600:
        return 3600.0, "hours"
    return (60.0, "minutes") if end_s > 180 else (1.0, "seconds")


def _readout(chart: Chart) -> str:
    """What the script tells of each column, for both sizes: the picture's box and its values."""
    series = []
    count = _told_columns(chart)
    for line in chart.lines:
        columns = columns_of(line, chart.start_s, chart.end_s, count)
        pairs = zip(columns.least, columns.greatest, strict=True)
        series.append([_told(least, greatest, chart.unit) for least, greatest in pairs])
    return json.dumps(
        {
            "start": chart.start_s,
            "end": chart.end_s,
            "boxes": {size.name: [*size.box, size.width] for size in (WIDE, NARROW)},
            "series": series,
        },
        separators=(",", ":"),
    )


def _told_columns(chart: Chart) -> int:
    """So many columns that each of them has a sample: at least one and a half apart."""
    most = max(chart.lines, key=lambda line: len(line.times_s))
    steps = np.diff(most.times_s[~np.isnan(most.values)])
    step_s = float(np.median(steps)) if len(steps) else 1.0
    return max(1, min(WIDE.columns, int((chart.end_s - chart.start_s) / (1.6 * max(step_s, 1e-3)))))


def _told(least: float, greatest: float, unit: Unit) -> str:
    if math.isnan(least):
        return ""
    low, high = unit.text(least), unit.text(greatest)
    return low if low == high else f"{low} to {high}"


# --- percentiles ---------------------------------------------------------------------------------
def draw_latencies(all_of_them: Sequence[Latency]) -> Drawn:
    """Duration against the share of calls that took no longer; each step right is a nine more."""
    latencies = most_called(all_of_them)
    wide, narrow = (_curves(latencies, size) for size in SIZES)
    return Drawn(wide, narrow, legend_of([latency.operation for latency in latencies]))


def most_called(latencies: Sequence[Latency]) -> list[Latency]:
    """Those that a picture has room for: not the failed calls, and of the others the most."""
    done = [one for one in latencies if not one.operation.endswith(FAILED)] or list(latencies)
    kept = sorted(done, key=lambda one: -one.table[0].value)[:SERIES]
    return [one for one in latencies if one in kept]


def _curves(latencies: Sequence[Latency], size: Size) -> str:
    figure, axes = drawing.canvas(size)
    for number, latency in enumerate(latencies):
        axes.plot(
            [_nines(share) for share, _ in latency.curve],
            [max(ns, 1) for _, ns in latency.curve],
            color=SERIES_COLOURS[number % SERIES],
            linewidth=1.4,
            dashes=_dashes(number) or (1, 0),
            gid=f"line-{number}",
        )
    most = max((latency.curve[-1][0] for latency in latencies if latency.curve), default=0.9)
    shown = [share for share in NINES if share <= max(most, 0.9)]
    axes.set_xlim(0, max(_nines(most), 1) * 1.01)
    axes.xaxis.set_major_locator(FixedLocator([_nines(share) for share in shown]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: _percent(x)))
    axes.set_xlabel("percentile of the calls")
    axes.set_yscale("log")
    low, high = (10.0**edge for edge in _decades(latencies))
    axes.set_ylim(low, high)
    axes.yaxis.set_major_locator(FixedLocator(_decade_ticks(low, high)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: words.nanoseconds(y)))
    return drawing.svg_of(figure, f"latency-{size.name}")


def _nines(share: float) -> float:
    """0.9 is 1, 0.99 is 2, 0.999 is 3."""
    return -math.log10(max(1 - share, 1e-9))


def _percent(nines: float) -> str:
    return f"{100 * (1 - 10**-nines):.6g} %"


def _decades(latencies: Sequence[Latency]) -> tuple[int, int]:
    values = [max(ns, 1) for latency in latencies for _, ns in latency.curve] or [1]
    return math.floor(math.log10(min(values))), math.floor(math.log10(max(values))) + 1


def _decade_ticks(low: float, high: float) -> list[float]:
    count = round(math.log10(high / low)) + 1
    ticks = np.logspace(math.log10(low), math.log10(high), count)
    return [float(tick) for tick in ticks[:: 2 if count > 8 else 1]]

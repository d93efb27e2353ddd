"""Pictures of cells: free blocks by order, and the map of the RAM by page state.

Amounts are drawn on a logarithmic scale in cividis, which reads the same with every kind of colour
vision and in grey. States have fixed colours (``STATE_COLOURS``), chosen to differ in lightness,
too; the legend names those that occur.
"""

from __future__ import annotations

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import Colormap, FuncNorm, ListedColormap, Normalize
from matplotlib.ticker import FixedFormatter, FixedLocator, FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from shmalloc import constants as c
from stress.quantities import short
from stress.report.page import drawing
from stress.report.page.charts import STEPS, Drawn, time_unit
from stress.report.page.drawing import SIZES, Size
from stress.report.page.model import Grid

HEIGHT_PX = 300
NO_VALUE = "#8888"  # half see-through grey: nothing was measured there
STATE_COLOURS = {
    c.T_TAIL: "#000000",
    c.T_FREE: "#e8e3d3",
    c.T_PCP: "#f0c541",
    c.T_ALLOCATED: "#0072b2",
    c.T_SLAB: "#d55e00",
    c.T_ISOLATED: "#cc79a7",
    c.T_OFFLINE: "#7f7f7f",
    c.T_POISONED: "#b00020",
    c.T_RESERVED: "#3d2a70",  # no grey: in a dark page that is NO_VALUE
}


def draw_grid(grid: Grid) -> Drawn:
    wide, narrow = (_cells(grid, size) for size in SIZES)
    return Drawn(wide, narrow, ())


def _cells(grid: Grid, size: Size) -> str:
    figure, axes = drawing.canvas(size, HEIGHT_PX)
    unit, name = time_unit(float(grid.edges_s[-1]))
    cells = grid.cells
    image = axes.imshow(
        cells,
        aspect="auto",
        origin="lower",
        interpolation="none",
        cmap=_states() if grid.names else _amounts(),
        norm=Normalize(-0.5, c.T_COUNT + 0.5) if grid.names else _scale(cells),
        extent=(grid.edges_s[0] / unit, grid.edges_s[-1] / unit, 0.0, float(len(cells))),
    )
    image.set_gid("cells")
    axes.grid(False)
    axes.set_xlabel(f"{name} since the start")
    axes.xaxis.set_major_locator(MaxNLocator(size.ticks, steps=STEPS))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axes.set_ylabel(grid.row_title)
    axes.yaxis.set_major_locator(FixedLocator([place for place, _ in grid.rows]))
    axes.yaxis.set_major_formatter(FixedFormatter([text for _, text in grid.rows]))
    return drawing.svg_of(figure, f"{grid.key}-{size.name}")


def _states() -> ListedColormap:
    return ListedColormap([STATE_COLOURS.get(code, NO_VALUE) for code in range(c.T_COUNT + 1)])


def _amounts() -> Colormap:
    return colormaps["cividis"].with_extremes(bad=NO_VALUE)


def _scale(cells: NDArray[np.float64] | NDArray[np.uint8]) -> FuncNorm:
    """Logarithmic from none at all to the most."""
    most = float(np.nanmax(cells)) if np.isfinite(cells).any() else 1.0
    return FuncNorm((np.log1p, np.expm1), vmin=0.0, vmax=max(most, 1.0))


def has_gaps(grid: Grid) -> bool:
    """Whether there are cells without a value."""
    return bool((grid.cells == c.T_COUNT).any() if grid.names else np.isnan(grid.cells).any())


def scale_of(grid: Grid) -> list[tuple[str, str]]:
    """Some steps of the colours of amounts, as colour and text."""
    colours, norm = _amounts(), _scale(grid.cells)
    most = float(norm.vmax or 1)
    steps = sorted({0.0, *(round(most ** (n / 4)) for n in range(5)), most})
    return [(drawing.hex_of(colours(norm(step))), short(step)) for step in steps]

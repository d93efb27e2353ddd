"""Free blocks by order and the map of the RAM, as grids over time.

A grid has ``COLUMNS`` columns. A column shows the last state in its time, and where there is none,
that of the column before while the same round runs. A map of many stretches shows some of them:
page states have no average.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from shmalloc import constants as c
from shmalloc.page_states import STATE_NAMES
from stress.quantities import counted
from stress.report.page.drawing import WIDE
from stress.report.page.model import Grid, LineRow, Number, Unit
from stress.report.page.thin import column_numbers

COLUMNS = WIDE.columns
MAP_ROWS = 256
NONE = c.T_COUNT  # no map there


def free_blocks(found: Sequence[tuple[float, Sequence[int]]], end_s: float) -> Grid | None:
    """How many free blocks of each order there were."""
    orders = max((len(blocks) for _, blocks in found), default=0)
    if not orders:
        return None
    table = np.full((orders, len(found)), np.nan)
    for at, (_, blocks) in enumerate(found):
        table[: len(blocks), at] = blocks
    edges, chosen = _columns(found, end_s)
    cells = np.full((orders, len(chosen)), np.nan)
    cells[:, chosen >= 0] = table[:, chosen[chosen >= 0]]
    return Grid(
        key="free-blocks",
        title="Free blocks of each order.",
        cells=cells,
        edges_s=edges,
        rows=tuple((order + 0.5, str(order)) for order in range(orders)),
        row_title="order",
        note=_told(found),
        table=tuple(_order_row(order, table[order]) for order in range(orders)),
        table_of="Order",
    )


def _order_row(order: int, blocks: NDArray[np.float64]) -> LineRow:
    measured = blocks[~np.isnan(blocks)]
    numbers = {
        "least": int(np.min(measured)) if len(measured) else 0,
        "greatest": int(np.max(measured)) if len(measured) else 0,
        "last": int(measured[-1]) if len(measured) else 0,
    }
    made = [
        Number(f"free-blocks/{order}/{name}", value, f"{value:,}")
        for name, value in numbers.items()
    ]
    return LineRow(str(order), *made)


def ram_map(found: Sequence[tuple[float, bytes]], end_s: float, pages: int | None) -> Grid | None:
    """The state of most pages in each stretch of the RAM. ``pages``: None if it changed size."""
    maps = [cells for _, cells in found if cells]
    if not maps:
        return None
    edges, chosen = _columns(found, end_s)
    rows = min(MAP_ROWS, max(map(len, maps)))
    cells = np.full((rows, len(chosen)), NONE, dtype=np.uint8)
    for column, at in enumerate(chosen.tolist()):
        if at >= 0:
            states = np.frombuffer(found[at][1], dtype=np.uint8)
            cells[:, column] = states[np.arange(rows) * len(states) // rows]
    names = [(code, STATE_NAMES[code]) for code in np.unique(cells).tolist() if code in STATE_NAMES]
    return Grid(
        key="ram-map",
        title="The state of most pages in each stretch of the RAM.",
        cells=cells,
        edges_s=edges,
        rows=_places(rows, pages),
        row_title="share of the RAM" if pages is None else "pfn",
        names=tuple(names),
        note=_told(found),
        table=_shares(maps, names),
        table_of="State",
    )


def _shares(maps: Sequence[bytes], names: Sequence[tuple[int, str]]) -> tuple[LineRow, ...]:
    """What share of the cells has each state."""
    rows = []
    for code, name in names:
        shares = [cells.count(code) / len(cells) for cells in maps]
        numbers = {"least": min(shares), "greatest": max(shares), "last": shares[-1]}
        made = [
            Number(f"ram-map/{code}/{which}", value, Unit.SHARE.text(value))
            for which, value in numbers.items()
        ]
        rows.append(LineRow(name, *made))
    return tuple(rows)


def _places(rows: int, pages: int | None) -> tuple[tuple[float, str], ...]:
    quarters = [n / 4 for n in range(5)]
    if pages is None:
        return tuple((share * rows, f"{share:.0%}") for share in quarters)
    return tuple((share * rows, f"{round(share * pages):,}") for share in quarters)


def _columns(
    found: Sequence[tuple[float, Sequence[int]]], end_s: float
) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Borders of the columns, and which state each of them shows: -1 for none."""
    times_s = np.array([at_s for at_s, _ in found])
    real = np.array([len(state) > 0 for _, state in found])
    edges = np.linspace(0.0, max(end_s, 1e-3), COLUMNS + 1)
    numbers = column_numbers(times_s, 0.0, float(edges[-1]), COLUMNS)
    own, last = np.full(COLUMNS, -1, dtype=np.intp), np.full(COLUMNS, -1, dtype=np.intp)
    own[numbers[real]] = np.flatnonzero(real)
    last[numbers] = np.arange(len(found))
    before = np.maximum.accumulate(last)  # a state stands until the next one, or the round's end
    held = np.where((before >= 0) & real[before], before, -1)
    return edges, np.where(own >= 0, own, held)


def _told(found: Sequence[tuple[float, Sequence[int]]]) -> str:
    states = sum(1 for _, state in found if len(state))
    if states <= COLUMNS:
        return ""
    return f"Of {counted(states, 'state')}, the last in each of {COLUMNS} columns is shown."

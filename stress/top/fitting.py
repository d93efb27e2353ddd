"""Tables and lines that fit a terminal of any width.

A table that is too wide loses whole columns, the least important first (``Column.rank``), and then
cuts its one ``flexible`` column; numbers are never cut, because half a number is a wrong one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.text import Text

from shmalloc.processes import printable
from stress.quantities import short
from stress.tables import grid

PADDING = 3  # cells between two columns
LEAST = 24  # cells that a flexible column is worth
ROOMY = 100  # columns from which on numbers are written out


@dataclass(frozen=True)
class Look:
    """What depends on the terminal: its width, and whether it shows only ASCII."""

    width: int
    ascii: bool

    @property
    def number(self) -> Callable[[float], str]:
        """How numbers are written."""
        return short if self.width < ROOMY else "{:,.0f}".format

    @property
    def bar(self) -> int:
        """Cells of a bar in a table."""
        return 4 if self.width < 60 else 10


class Rows:
    """Draws what a function yields for the terminal at hand."""

    def __init__(self, make: Callable[[Look], Iterable[RenderableType]]) -> None:
        self._make = make

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from self._make(Look(options.max_width, options.ascii_only))


class Column(NamedTuple):
    """A column of a table. ``rank`` 0: never left out; the highest goes first."""

    heading: str
    rank: int = 0
    right: bool = False
    flexible: bool = False


class Fitting:
    """A table; ``drawn`` when all its rows are known."""

    def __init__(self, *columns: Column) -> None:
        self._columns = columns
        self._rows: list[tuple[Sequence[str], str]] = []

    def add(self, *cells: str, style: str = "") -> None:
        """A row: a cell for every column, shown or not. What steers a terminal is left out."""
        self._rows.append(([printable(cell) for cell in cells], style))

    def fits(self, width: int) -> bool:
        """Whether what is never left out has room."""
        return self._least(self._shown(width)) <= width

    def drawn(self, width: int) -> RenderableType:
        """The table for a terminal of ``width`` columns."""
        shown = self._shown(width)
        names = [self._columns[number].heading for number in shown]
        table = grid(*names, right=[one.heading for one in self._columns if one.right])
        room = self._room(shown, width)
        for number, column in zip(shown, table.columns, strict=True):
            column.no_wrap, column.overflow = True, "ellipsis"
            column.max_width = room if self._columns[number].flexible else None
            column.min_width = None if self._columns[number].flexible else self._width(number)
        for cells, style in self._rows:
            table.add_row(*(Text(cells[number]) for number in shown), style=style)
        return table

    def _shown(self, width: int) -> list[int]:
        """The numbers of the columns that fit."""
        shown = list(range(len(self._columns)))
        while self._least(shown) > width:
            droppable = [number for number in shown if self._columns[number].rank]
            if not droppable:
                break
            shown.remove(max(droppable, key=lambda number: self._columns[number].rank))
        return shown

    def _least(self, shown: Sequence[int]) -> int:
        widths = (self._least_of(number) for number in shown)
        return sum(widths) + PADDING * (len(shown) - 1)

    def _least_of(self, number: int) -> int:
        own = self._width(number)
        return min(own, LEAST) if self._columns[number].flexible else own

    def _room(self, shown: Sequence[int], width: int) -> int:
        """What is left for the flexible column."""
        fixed = sum(self._width(n) for n in shown if not self._columns[n].flexible)
        return max(1, width - fixed - PADDING * (len(shown) - 1))

    def _width(self, number: int) -> int:
        cells = (Text(row[number]).cell_len for row, _ in self._rows)
        return max(Text(self._columns[number].heading).cell_len, *cells, 1)

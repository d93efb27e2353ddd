"""A table as data, which becomes plain text or Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from stress.tables import grid, text_of


@dataclass
class Sheet:
    """``right``: the columns that hold numbers. ``note``: a sentence under the title."""

    title: str
    columns: tuple[str, ...]
    right: tuple[str, ...] = ()
    note: str = ""
    rows: list[tuple[str, ...]] = field(default_factory=list)

    def text(self) -> str:
        """As a terminal shows it."""
        table = grid(*self.columns, right=self.right)
        for row in self.rows:
            table.add_row(*row)
        head = "\n".join(filter(None, (self.title, self.note)))
        return f"{head}\n\n{text_of(table)}"

    def markdown(self, level: int = 3) -> str:
        """As a page has it, with a heading of that level."""
        rule = [("---:" if name in self.right else "---") for name in self.columns]
        lines = [_line(self.columns), _line(rule), *map(_line, self.rows)]
        head = "\n\n".join(filter(None, (f"{'#' * level} {self.title}", self.note)))
        return f"{head}\n\n" + "\n".join(lines) + "\n"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"

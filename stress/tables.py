"""Tables in print: one look for all commands, on a terminal and in a pipe.

rich lays them out. A terminal's width is respected; elsewhere no cell is broken, because a token or
a path in two lines is no longer one. Only commands that print a table import this module.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from io import StringIO

from rich import box
from rich.console import Console
from rich.table import Table

# One line under the headings, in ASCII: a pipe may have any encoding.
_HEAD = box.Box("    \n    \n -- \n    \n    \n    \n    \n    \n", ascii=True)
PLAIN_WIDTH = 10_000  # of a table that no terminal limits


def grid(*columns: str, right: Iterable[str] = (), heading: bool = True) -> Table:
    """An empty table without lines around its cells; the columns in ``right`` hold numbers."""
    table = Table(
        box=_HEAD if heading else None,
        show_header=heading,
        show_edge=False,
        pad_edge=False,
        padding=(0, 2, 0, 0) if not heading else (0, 1),
    )
    for name in columns:
        table.add_column(name, justify="right" if name in right else "left", overflow="fold")
    return table


def plain_console(out: StringIO, width: int) -> Console:
    """Writes the same text into ``out`` in a terminal, a pipe and a notebook."""
    return Console(
        file=out,
        width=width,
        color_system=None,
        force_terminal=False,
        force_jupyter=False,
        markup=False,
        emoji=False,
        highlight=False,
        legacy_windows=False,
    )


def text_of(table: Table, width: int = PLAIN_WIDTH) -> str:
    """The lines of ``table`` as plain text, without blanks at their ends."""
    out = StringIO()
    plain_console(out, width).print(table)
    return "".join(f"{line.rstrip()}\n" for line in out.getvalue().splitlines())


def show(table: Table, to_stderr: bool = False) -> None:
    """Print ``table`` on standard output, or on standard error."""
    stream = sys.stderr if to_stderr else sys.stdout
    if stream is None:
        return
    if not stream.isatty():
        stream.write(text_of(table))
        return
    console = Console(file=stream, force_jupyter=False, markup=False, emoji=False, highlight=False)
    console.print(table)

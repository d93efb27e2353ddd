"""One frame of ``shmstress top`` as plain text: for pipes, logs and tests."""

from __future__ import annotations

from collections.abc import Iterable
from io import StringIO

from rich.text import Text

from stress.tables import plain_console
from stress.top.panel import Panel

WIDTH = 120  # where no terminal says


class _Ascii(StringIO):
    """Tells rich that what is written is to be ASCII."""

    encoding = "ascii"


def frame(panels: Iterable[Panel], width: int = WIDTH, ascii: bool = False) -> str:
    """The panels one below the other, without blanks at the ends of lines."""
    out = _Ascii() if ascii else StringIO()
    console = plain_console(out, width)
    for number, panel in enumerate(panels):
        console.print(Text("" if number == 0 else "\n").append(panel.title), overflow="ellipsis")
        console.print(panel.body)
    text = "".join(f"{line.rstrip()}\n" for line in out.getvalue().splitlines())
    return text.replace("…", "~") if ascii else text

"""Pictures made of characters: bars and rows of small bars.

A terminal without Unicode gets ASCII (``ascii``). Nothing here knows what is shown.
"""

from __future__ import annotations

from collections.abc import Iterable

from rich.text import Text

LEVELS = "▁▂▃▄▅▆▇█"
ASCII_LEVELS = "_.-=+*%#"


def bar(share: float, cells: int, ascii: bool = False) -> str:
    """``cells`` characters, of which ``share`` (0 to 1) are filled; more than 1 is full."""
    full = round(min(1.0, max(0.0, share)) * cells)
    filled, empty = ("#", ".") if ascii else ("█", "░")
    return filled * full + empty * (cells - full)


def levels(values: Iterable[float], most: float = 0.0, ascii: bool = False) -> str:
    """One small bar for each value, relative to the largest of them and ``most``."""
    shown = list(values)
    top = max(*shown, most, 1e-12) if shown else 1.0
    steps = ASCII_LEVELS if ascii else LEVELS
    return "".join(steps[min(7, max(0, int(value / top * 7.999)))] for value in shown)


def one_line(text: Text) -> Text:
    """``text`` on one line, cropped at the edge of the terminal."""
    text.no_wrap, text.overflow = True, "ellipsis"
    return text

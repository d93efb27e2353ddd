"""``Panel``: one part of a view, a title and something that rich draws."""

from __future__ import annotations

from typing import NamedTuple

from rich.console import RenderableType


class Panel(NamedTuple):
    """``key``: its name for the program, ``title``: for people.

    ``right``: beside the others where a terminal is wide enough for two columns of panels.
    """

    key: str
    title: str
    body: RenderableType
    right: bool = False

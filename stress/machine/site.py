"""Where in the source a step was made."""

from __future__ import annotations

from typing import NamedTuple


class Site(NamedTuple):
    """One frame of a kernel's call stack."""

    file: str
    line: int
    function: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line} in {self.function}"

"""Where in the source a step was made."""

from __future__ import annotations

from typing import NamedTuple

from shmalloc.compiler.directory import shown


class Site(NamedTuple):
    """One frame of a kernel's call stack."""

    file: str
    line: int
    function: str

    def __str__(self) -> str:
        return f"{shown(self.file)}:{self.line} in {self.function}"

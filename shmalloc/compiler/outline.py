"""What is known of a kernel after one read of its text: its tree, its names, its violations.

Made by check.py, which says what ``tree`` holds. A finding is a line of the file and a sentence
with the reason and the cure.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass, field

from shmalloc.compiler import source
from shmalloc.dialect import Kernel
from shmalloc.errors import DialectError

Finding = tuple[int, str]  # line in the file, reason and cure


@dataclass
class Outline:
    """A kernel's tree after its names are resolved, and what it breaks of the dialect."""

    function: Kernel
    tree: ast.FunctionDef
    params: tuple[str, ...]
    locals: tuple[str, ...]
    findings: list[Finding] = field(default_factory=list)

    def sentences(self) -> list[str]:
        """The findings as text: ``FILE:LINE: kernel NAME: reason; cure``."""
        name = self.function.__qualname__
        return [
            f"{source.place_of(self.function, line)}: kernel {name}: {text}"
            for line, text in sorted(self.findings, key=lambda found: found[0])
        ]

    def require(self) -> None:
        """Raise the first finding as a ``DialectError``."""
        if self.findings:
            raise DialectError(self.sentences()[0])

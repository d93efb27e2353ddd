"""The memory of a check that only looks, interpreted: every word that writes is refused.

A check that writes would judge what it has made itself, and an invariant that writes would mend the
program after every step. Both engines refuse the first such access, before it is made, even where
it would change nothing: the outcome of the schedule is WROTE, and CODE is the word.

A check that takes the memory apart, as ours free everything and look whether all is there, says so:
``Program(check_writes=True)``. Its writes are undone before the next schedule.
"""

from __future__ import annotations

from typing import NoReturn

from shmalloc.compiler.rewrite import place_in
from shmalloc.compiler.source import readable
from stress.machine.site import Site
from stress.machine.vocabulary import CheckedRam

WROTE = "wrote"  # the machine's name of that outcome
CURES = {
    "check": (
        "return an error code instead; if it takes the memory apart on purpose, say"
        " Program(check_writes=True)"
    ),
    "invariant": "return an error code instead: an invariant runs while the CPUs do",
}


class WroteError(Exception):
    """A word that writes was called; ``index``: the word of memory."""

    def __init__(self, index: int) -> None:
        self.index = index
        super().__init__(f"word {index} was written")

    @property
    def site(self) -> Site:
        """The line of the kernel that called it."""
        kernel, file, line = place_in(self.__traceback__)
        return Site(file, line, kernel.rpartition(".")[2])


class ReadOnlyRam(CheckedRam):
    """Words over a buffer, of which none may be written."""

    def _refuse(self, i: int, *operands: int) -> NoReturn:
        raise WroteError(self._at(i))

    def _refuse_pair(self, i: int, *operands: int) -> NoReturn:
        raise WroteError(self._pair(i))

    __setitem__ = store = store_relaxed = cas = exchange = _refuse  # type: ignore[assignment]
    fetch_add = fetch_or = fetch_and = mark = _refuse  # type: ignore[assignment]
    cas2 = _refuse_pair  # type: ignore[assignment]


def told(role: str, word: int, site: Site) -> str:
    """``the check wrote word 3 at lost.py:12 in repairs; return an error code instead``."""
    where = f" at {readable(site.file)}:{site.line} in {site.function}"
    return f"the {role} wrote word {word}{where}; {CURES[role]}"

"""A memory on which a handler runs before one of its accesses, as a signal handler would."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from shmalloc.memory import Ram


class InterruptedRam(Ram):
    """``handler(ram)`` runs once, before access number ``at`` (from 0), over the same words."""

    def __init__(self, words: Any, at: int, handler: Callable[[Ram], object]) -> None:
        super().__init__(words)
        self.at, self.handler = at, handler
        self.accesses = 0

    @property
    def was_interrupted(self) -> bool:
        return self.accesses > self.at

    def _count(self) -> None:
        number, self.accesses = self.accesses, self.accesses + 1
        if number == self.at:
            self.handler(Ram(self.array))


def _counted(name: str) -> Callable[..., Any]:
    def access(self: InterruptedRam, *arguments: Any) -> Any:
        self._count()
        return getattr(Ram, name)(self, *arguments)

    return access


for _name in (
    "__getitem__",
    "__setitem__",
    "load",
    "load_relaxed",
    "store",
    "store_relaxed",
    "cas",
    "cas2",
    "exchange",
    "fetch_add",
    "fetch_or",
    "fetch_and",
    "load2",
    "wake",
):
    setattr(InterruptedRam, _name, _counted(_name))


def interruptions(
    words: Any, call: Callable[[Ram], object], handler: Callable[[Ram], object]
) -> Iterator[Ram]:
    """The memory after ``call`` ran over a copy of ``words``: interrupted once, at each access."""
    at = 0
    while True:
        ram = InterruptedRam(words.copy(), at, handler)
        call(ram)
        if not ram.was_interrupted:
            return
        yield Ram(ram.array)
        at += 1

"""``Atomic`` and ``AtomicPair``: words that several processes change without a lock.

A kernel of your own reads and changes the value with the words of shmalloc.words at ``word``; these
methods are for Python. Each is one atomic access, so a process that dies has made it or not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from shmalloc.errors import MisuseError
from shmalloc.structures.handles import Structure
from shmalloc.structures.kernels.atomics import (
    atomic_add,
    atomic_cas,
    atomic_exchange,
    atomic_load,
    pair_cas,
    pair_exchange,
    pair_load,
    structure_is,
)
from shmalloc.structures.kernels.entries import ST_BODY

if TYPE_CHECKING:
    from shmalloc.structures.operations import StructureOperations


class _Words(Structure):
    __slots__ = ()

    @property
    def word(self) -> int:
        """Index of the first word, for kernels: ``fetch_add(mem, word, 1)``."""
        return self._at + ST_BODY

    def _refused(self) -> MisuseError:
        return self._arena.is_closed() if self._segment.closed else self._gone()


class Atomic(_Words):
    """An int64. Arithmetic wraps at 64 bits; a value that is no int64 raises ``OverflowError``."""

    kind: ClassVar[int] = 1
    kind_name: ClassVar[str] = "atomic"

    __slots__ = ("_do_add", "_do_cas", "_do_exchange", "_do_load")

    def __init__(self, arena: StructureOperations, at: int, state: int) -> None:
        super().__init__(arena, at, state)
        self._do_load = arena.builtin(atomic_load, alone=False, reads=True)
        self._do_exchange = arena.builtin(atomic_exchange, alone=False)
        self._do_cas = arena.builtin(atomic_cas, alone=False)
        self._do_add = arena.builtin(atomic_add, alone=False)

    def load(self) -> int:
        """The value."""
        if self._segment.closed:
            raise self._refused()
        value: int
        value, there = self._do_load(self._at, self._state)
        if not there:
            raise self._refused()
        return value

    def store(self, value: int) -> None:
        """Set the value."""
        self.exchange(value)

    def exchange(self, value: int) -> int:
        """Set the value; what it was."""
        if self._segment.closed:
            raise self._refused()
        old: int
        old, there = self._do_exchange(self._at, self._state, value)
        if not there:
            raise self._refused()
        return old

    def compare_exchange(self, old: int, new: int) -> bool:
        """Set the value to ``new`` if it is ``old``; whether it was."""
        if self._segment.closed:
            raise self._refused()
        done, there = self._do_cas(self._at, self._state, old, new)
        if not there:
            raise self._refused()
        return bool(done)

    def add(self, delta: int = 1) -> int:
        """Add ``delta``; what the value was before."""
        if self._segment.closed:
            raise self._refused()
        old: int
        old, there = self._do_add(self._at, self._state, delta)
        if not there:
            raise self._refused()
        return old

    def _told(self) -> str:
        return str(self.load())


class AtomicPair(_Words):
    """Two int64 that are read and changed as one."""

    kind: ClassVar[int] = 2
    kind_name: ClassVar[str] = "atomic pair"

    __slots__ = ("_do_cas", "_do_exchange", "_do_is", "_do_load")

    def __init__(self, arena: StructureOperations, at: int, state: int) -> None:
        super().__init__(arena, at, state)
        self._do_load = arena.builtin(pair_load, alone=False, reads=True)
        self._do_exchange = arena.builtin(pair_exchange, alone=False)
        self._do_cas = arena.builtin(pair_cas, alone=False)
        self._do_is = arena.builtin(structure_is, alone=False, reads=True)

    def load(self) -> tuple[int, int]:
        """Both values, of one moment."""
        if self._segment.closed:
            raise self._refused()
        first, second, there = self._do_load(self._at, self._state)
        if not there:
            raise self._refused()
        return first, second

    def store(self, first: int, second: int) -> None:
        """Set both."""
        self.exchange(first, second)

    def exchange(self, first: int, second: int) -> tuple[int, int]:
        """Set both; what they were."""
        if self._segment.closed:
            raise self._refused()
        old0, old1, there = self._do_exchange(self._at, self._state, first, second)
        if not there:
            raise self._refused()
        return old0, old1

    def compare_exchange(self, old: tuple[int, int], new: tuple[int, int]) -> bool:
        """Set both to ``new`` if they are ``old``; whether they were."""
        if self._segment.closed or not self._do_is(self._at, self._state):
            raise self._refused()
        return bool(self._do_cas(self._at, *old, *new))

    def _told(self) -> str:
        return str(self.load())

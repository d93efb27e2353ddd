"""``MortalRam``: a Ram whose user is killed before its N-th write, in plain Python.

``Killed`` stands for SIGKILL: it passes through the kernel, which catches nothing, and what was
written stays. ``MortalRam.over(ram)`` shares the words of ``ram``.
"""

from __future__ import annotations

from shmalloc.memory import Ram


class Killed(Exception):
    """The process that ran the kernel is gone."""


class MortalRam(Ram):
    """Counts what it is asked to write; raises ``Killed`` instead of write number ``last + 1``."""

    last = -1
    writes = 0

    @classmethod
    def over(cls, ram: Ram, last: int = -1) -> MortalRam:
        """Another view of the words of ``ram``; ``last`` -1: immortal."""
        mortal = cls(ram.array)
        mortal.last = last
        return mortal

    def _write(self) -> None:
        if self.writes == self.last:
            raise Killed
        self.writes += 1

    def __setitem__(self, i: int, value: int) -> None:
        self._write()
        super().__setitem__(i, value)

    def store(self, i: int, value: int) -> None:
        self._write()
        super().store(i, value)

    store_relaxed = store

    def cas(self, i: int, old: int, new: int) -> bool:
        self._write()
        return super().cas(i, old, new)

    def exchange(self, i: int, value: int) -> int:
        self._write()
        return super().exchange(i, value)

    def fetch_add(self, i: int, delta: int) -> int:
        self._write()
        return super().fetch_add(i, delta)

    def fetch_or(self, i: int, bits: int) -> int:
        self._write()
        return super().fetch_or(i, bits)

    def fetch_and(self, i: int, bits: int) -> int:
        self._write()
        return super().fetch_and(i, bits)

    def cas2(self, i: int, old0: int, old1: int, new0: int, new1: int) -> bool:
        self._write()
        return super().cas2(i, old0, old1, new0, new1)

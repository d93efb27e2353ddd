"""What one process does with an arena when it is told to: the same in a child and in the machine.

The process keeps its open arrays by number; pages and objects are named by pfn and address, so any
other process may be told to free them. What is allocated is filled with a stamp, which the machine
reads back through its own mapping.

What it does not do: know what should happen (model.py), or how it is told (child.py).
"""

from __future__ import annotations

import pickle
from multiprocessing.reduction import ForkingPickler

from shmalloc import Arena, OutOfMemoryError
from shmalloc.arrays import SharedArray

STAMP_BYTES = 8


class Hands:
    """An arena, and the arrays that this process has open in it. ``None``: out of memory."""

    def __init__(self, arena: Arena) -> None:
        self.arena = arena
        self._arrays: dict[int, SharedArray] = {}

    def life(self) -> int:
        return self.arena.life

    def alloc_pages(self, order: int, migratetype: str, owner: int) -> int | None:
        try:
            pfn = self.arena.alloc_pages(order, migratetype, owner)
        except OutOfMemoryError:
            return None
        self._fill(self.arena.page(pfn, order), owner)
        return pfn

    def free_pages(self, pfn: int, order: int) -> None:
        self.arena.free_pages(pfn, order)

    def adopt_pages(self, pfn: int, order: int, giver: int, owner: int) -> None:
        self.arena.adopt_pages(pfn, order, giver=giver, owner=owner)

    def drain(self) -> None:
        self.arena.drain()

    def kmalloc(self, size: int, stamp: int) -> int | None:
        try:
            address = self.arena.kmalloc(size)
        except OutOfMemoryError:
            return None
        self._fill(self.arena.memory(address, size), stamp)
        return address

    def kfree(self, address: int) -> None:
        self.arena.kfree(address)

    def make_array(self, number: int, values: list[int]) -> bool:
        try:
            self._arrays[number] = self.arena.array(values, dtype=int)
        except OutOfMemoryError:
            return False
        return True

    def pickled_array(self, number: int) -> bytes:
        """What travels to another process."""
        return bytes(ForkingPickler.dumps(self._arrays[number]))

    def open_array(self, number: int, pickled: bytes) -> None:
        self._arrays[number] = pickle.loads(pickled)

    def read_array(self, number: int) -> tuple[list[int], int]:
        """The values, and how many references there are in all processes."""
        array = self._arrays[number]
        return array.array.tolist(), array.references

    def close_array(self, number: int) -> int:
        """How many references are left."""
        left = self._arrays.pop(number).close()
        self.arena.collect()
        return left

    def close(self) -> None:
        self._arrays.clear()
        self.arena.close()

    def _fill(self, memory: memoryview, stamp: int) -> None:
        memory[:] = stamp_of(stamp, memory.nbytes)


def stamp_of(number: int, size_bytes: int) -> bytes:
    """The bytes that fill what has that number."""
    word = number.to_bytes(STAMP_BYTES, "little")
    return (word * -(-size_bytes // STAMP_BYTES))[:size_bytes]

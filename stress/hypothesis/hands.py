"""What one process does with an arena when it is told to: the same in a child and in the machine.

The process keeps its open arrays by number, each with views of it; pages and objects are named by
pfn and address, so any other process may be told to free them. What is allocated is filled with a
stamp, which the machine reads back through its own mapping.

What it does not do: know what should happen (model.py), or how it is told (child.py).
"""

from __future__ import annotations

import pickle
from multiprocessing.reduction import ForkingPickler
from typing import Any

from shmalloc import Arena, MisuseError, OutOfMemoryError

STAMP_BYTES = 8


class Hands:
    """An arena, and the arrays that this process has open in it. ``None``: out of memory."""

    def __init__(self, arena: Arena) -> None:
        self.arena = arena
        self._closed: list[Arena] = []  # they may have arrays still
        self._pieces: dict[int, list[Any]] = {}

    def life(self) -> int:
        return self.arena.life

    # --- pages and objects ------------------------------------------------------------------------
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

    # --- arrays -----------------------------------------------------------------------------------
    def make_array(self, number: int, values: list[int]) -> bool:
        try:
            self._pieces[number] = [self.arena.array(values, dtype=int)]
        except OutOfMemoryError:
            return False
        return True

    def view_array(self, number: int, piece: int, begin: int) -> None:
        """One piece more: the view of a piece from its item ``begin`` on."""
        self._pieces[number].append(self._pieces[number][piece][begin:])

    def write_array(self, number: int, piece: int, value: int) -> bool:
        """False: it is read-only."""
        try:
            self._pieces[number][piece][...] = value
        except ValueError:
            return False
        return True

    def send_array(self, number: int, piece: int, pickled: bool) -> bytes | None:
        """What travels to another process."""
        array = self._pieces[number][piece]
        try:
            return bytes(ForkingPickler.dumps(array)) if pickled else self.arena.send(array)
        except OutOfMemoryError:
            return None

    def load_array(self, number: int, sent: bytes, pickled: bool, readonly: bool) -> str:
        """``loaded``, ``gone`` or ``no memory``. ``readonly``: unless it is pickled."""
        try:
            loaded = pickle.loads(sent) if pickled else self.arena.open(sent, readonly)
            self._pieces[number] = [loaded]
        except MisuseError:
            return "gone"
        except OutOfMemoryError:
            return "no memory"
        return "loaded"

    def references(self, number: int) -> int:
        return int(self._pieces[number][0].references)

    def read_arrays(self) -> dict[int, list[list[int]]]:
        """The values of every piece."""
        return {
            number: [piece.tolist() for piece in pieces] for number, pieces in self._pieces.items()
        }

    def drop_piece(self, number: int, piece: int) -> None:
        del self._pieces[number][piece]
        if not self._pieces[number]:
            del self._pieces[number]
        self.collect()

    def collect(self) -> None:
        for arena in [*self._closed, self.arena]:
            arena.collect()

    # --- the arena --------------------------------------------------------------------------------
    def detach(self) -> None:
        """Close the arena; arrays stay."""
        self.arena.close()
        self._closed.append(self.arena)

    def attach(self, name: str) -> None:
        """A new arena, after ``detach``."""
        self.arena = Arena.attach(name)

    def close(self) -> None:
        self._pieces.clear()
        self.arena.close()
        self.collect()

    def _fill(self, memory: memoryview, stamp: int) -> None:
        memory[:] = stamp_of(stamp, memory.nbytes)


def stamp_of(number: int, size_bytes: int) -> bytes:
    """The bytes that fill what has that number."""
    word = number.to_bytes(STAMP_BYTES, "little")
    return (word * -(-size_bytes // STAMP_BYTES))[:size_bytes]

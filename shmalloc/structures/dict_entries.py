"""Entries of a dict that this process takes to write into, and what becomes of them.

A process holds an entry from ``_begin`` until it is in its chain or given up, and one with an array
that left its chain until the array is dropped. The dead's are found by others. A living process may
lose one, too: an exception out of a signal handler comes most often right behind a kernel, before
Python knows what that took. So after such an exception, and when room is wanted, the entries that
this process holds and no thread of it is using are given back (held.py).
"""

from __future__ import annotations

import os
from threading import get_ident

from shmalloc import constants as c
from shmalloc.bound import Builtin
from shmalloc.errors import OutOfMemoryError
from shmalloc.structures.handles import Structure
from shmalloc.structures.held import others_in
from shmalloc.structures.kernels.array_values import end_array_value
from shmalloc.structures.kernels.frames import own_life
from shmalloc.structures.kernels.hashtable import (
    D_ENTRIES,
    NUMBER_BITS,
    USE_BITS,
    USE_MASK,
    WRITING,
)
from shmalloc.structures.kernels.hashtable_writes import dict_drop, dict_reclaim

TRIES = 5  # for a free entry, while others may be about to free one


class DictEntries(Structure):
    """The part of ``Dict`` that takes entries and gives them up."""

    __slots__ = ("_blocks", "_d", "_do_begin", "_each", "_lost", "_stride", "capacity")

    _blocks: list[int]
    _d: int
    _do_begin: Builtin
    _each: int
    _lost: bool  # whether an exception may have left an entry of ours
    _stride: int
    capacity: int

    def _word_of(self, number: int) -> int:
        """The first word of an entry."""
        block, within = divmod(number - 1, self._each)
        return self._blocks[block] + within * self._stride

    def _begin(self, hashed: int, lengths: int) -> int:
        """A free entry to write into."""
        if self._segment.closed:
            self._check()
        for _ in range(TRIES):
            token: int = self._do_begin(self._arena.cpu, self._at, self._state, hashed, lengths)
            if token > 0:
                return token
            if token != c.E_AGAIN:
                raise self._gone()
            self._make_room()
        raise self._is_full()

    def _make_room(self, ours: int = 0) -> None:
        """Free what dead writers left; let others finish who are about to free something."""
        if self._lost:
            self._give_back(ours)
        self._arena.recovers_dead()
        self._recover()
        os.sched_yield()

    def _drop(self, token: int) -> None:
        """Give up an entry that we write; nothing if it is in its chain, or there is none."""
        if token > 0 and self._is_usable():
            self._end(self._arena.run(dict_drop, self._d, token))

    def _give_back(self, ours: int) -> None:
        """Free the entries that this process holds, but for ``ours``, and no thread is using.

        Not while other threads change this dict: theirs cannot be told from lost ones.
        """
        if self._is_usable() and not others_in(self._inside):
            ram, life = self._segment.ram, self._arena.run(own_life)
            for number in range(1, ram[self._d + D_ENTRIES] + 1):
                at = self._word_of(number)
                state = ram[at]
                token = (state >> USE_BITS) << NUMBER_BITS | number
                if ram[at + 1] == life and token != ours:
                    if state & USE_MASK == WRITING:
                        self._drop(token)
                    else:
                        self._end(token)
            self._lost = False

    def _end(self, token: int) -> None:
        """Drop the array of an entry that is ours to free, if there is one."""
        if token > 0:
            self._arena.run(end_array_value, self._d, token)

    def _recover(self) -> None:
        run, result = self._arena.run, 0
        inside, thread = self._inside, get_ident()
        try:
            inside.append(thread)
            token = run(dict_reclaim, self._d)
            while token > 0 and result >= 0:
                result = run(end_array_value, self._d, token)
                token = run(dict_reclaim, self._d)
        finally:
            inside.remove(thread)

    def _is_full(self) -> OutOfMemoryError:
        return OutOfMemoryError(
            f"dict: all of its {self.capacity:,} keys are taken; delete some, or make it with a"
            " larger capacity"
        )

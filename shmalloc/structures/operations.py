"""The structures of an arena: made, opened by a handle, listed, and given back at the end.

``Arena`` inherits from this. A process that closes its arena gives back what it holds: a lock as if
it had died (the next owner is told), frames of pools to their pools.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import DTypeLike

from shmalloc import constants as c
from shmalloc.errors import MisuseError, OutOfMemoryError
from shmalloc.reclaiming import ReclaimOperations
from shmalloc.sizes import format_bytes
from shmalloc.structures.atomics import Atomic, AtomicPair
from shmalloc.structures.dicts import Dict
from shmalloc.structures.handles import HANDLE, Structure, is_entry, kind_of, unpack_handle
from shmalloc.structures.held import keep_own
from shmalloc.structures.kernels.entries import (
    BLOCK_HEADER,
    ST_ARRAYS,
    ST_BODY,
    ST_PARAMETERS,
    add_block,
    end_structure,
    make_structure,
    publish_structure,
)
from shmalloc.structures.kernels.frames import F_FRAMES, FRAME_WORDS, frame_place, frames_prepare
from shmalloc.structures.kernels.hashtable import (
    BUCKET_WORDS,
    D_BUCKETS,
    E_DATA,
    NUMBER_MASK,
    dict_place,
    dict_prepare,
    dict_shape,
)
from shmalloc.structures.kernels.ring import (
    BUFFER_WORDS,
    Q_SLOTS,
    SLOT_WORDS,
    TOKEN_MASK,
    queue_place,
    queue_prepare,
)
from shmalloc.structures.locks import Lock
from shmalloc.structures.names import ST_NAME, live_entries, words_of
from shmalloc.structures.pools import Pool, description
from shmalloc.structures.queues import Queue
from shmalloc.structures.waiting import deadline_of

S = TypeVar("S", bound=Structure)
PLACE_BYTES = 64
FIND_POLL_S = 0.01
SPARE_ENTRIES = 8  # of a dict: so many processes at once may replace values when it is full
KINDS: dict[int, type[Structure]] = {
    kind.kind: kind for kind in (Atomic, AtomicPair, Lock, Queue, Pool, Dict)
}


class StructureOperations(ReclaimOperations):
    """Atomic values, locks and containers that any process of the arena may use."""

    def _bind(self) -> None:
        super()._bind()
        self._structures: dict[tuple[int, int], Structure] = {}

    # Each may have a name, by which ``find`` gives it to any process. A name that another structure
    # has is a ``MisuseError``.

    def atomic(self, value: int = 0, name: str | None = None) -> Atomic:
        """An int64 that every process may change. Raises ``OutOfMemoryError``."""
        word = self.check_int("value", value, -(1 << 63), (1 << 63) - 1)
        return self._made(Atomic, lambda at: self._write(at + ST_BODY, word), name)

    def atomic_pair(self, first: int = 0, second: int = 0, name: str | None = None) -> AtomicPair:
        """Two int64 that change together. Raises ``OutOfMemoryError``."""
        least, most = -(1 << 63), (1 << 63) - 1
        words = [self.check_int("value", value, least, most) for value in (first, second)]

        def fill(at: int) -> None:
            self._write(at + ST_BODY, words[0])
            self._write(at + ST_BODY + 1, words[1])

        return self._made(AtomicPair, fill, name)

    def lock(self, name: str | None = None) -> Lock:
        """A lock that outlives its owner. Raises ``OutOfMemoryError``."""
        return self._made(Lock, lambda at: None, name)

    def queue(self, maxsize: int, item_bytes: int = 4096, name: str | None = None) -> Queue:
        """A queue of at most ``maxsize`` messages of at most ``item_bytes`` bytes.

        All of its memory is taken now. Raises ``OutOfMemoryError``.
        """
        maxsize = self.check_int("maxsize", maxsize, 1, TOKEN_MASK)
        item_bytes = self.check_int("item_bytes", item_bytes, 1, self._largest_block)
        mask = (1 << (maxsize - 1).bit_length()) - 1
        asked = f"queue(maxsize={maxsize}, item_bytes={item_bytes})"

        def fill(at: int) -> None:
            words = Q_SLOTS + (mask + 1) * SLOT_WORDS + maxsize * BUFFER_WORDS
            (q,) = self._places(at, 1, words * 8, asked)
            run = self.engine.call
            run(queue_prepare, self.segment.ram, q, maxsize, mask, item_bytes)
            for number, data in enumerate(self._places(at, maxsize, item_bytes, asked)):
                run(queue_place, self.segment.ram, q, mask, number, data)
            self._write(at + ST_PARAMETERS, q)

        return self._made(Queue, fill, name)

    def pool(
        self,
        n: int,
        shape: int | Sequence[int],
        dtype: DTypeLike = float,
        name: str | None = None,
    ) -> Pool:
        """``n`` frames, arrays of that shape and dtype, for processes to take and give back.

        All of their memory is taken now. Raises ``OutOfMemoryError``.
        """
        count = self.check_int("n", n, 1, TOKEN_MASK)
        text, size = description(shape, dtype)
        asked = f"pool({count}, {shape}, {np.dtype(dtype)})"

        def fill(at: int) -> None:
            words = F_FRAMES + count * FRAME_WORDS
            p, kind = self._places(at, 2, max(words * 8, len(text)), asked)
            run = self.engine.call
            run(frames_prepare, self.segment.ram, p, count, size)
            for number, data in enumerate(self._places(at, count, size, asked)):
                run(frame_place, self.segment.ram, p, number, data)
            self.segment.view(kind, len(text))[:] = text
            self._write(at + ST_PARAMETERS, p)
            self._write(at + ST_PARAMETERS + 1, kind)

        return self._made(Pool, fill, name)

    def dict(self, capacity: int, item_bytes: int = 256, name: str | None = None) -> Dict:
        """A dict with room for ``capacity`` keys, each with its value of ``item_bytes`` together.

        All of its memory is taken now. Raises ``OutOfMemoryError``.
        """
        capacity = self.check_int("capacity", capacity, 1, NUMBER_MASK - SPARE_ENTRIES)
        item_bytes = self.check_int("item_bytes", item_bytes, 1, self._largest_block - E_DATA * 8)
        mask = (1 << (capacity - 1).bit_length()) - 1
        entries = capacity + SPARE_ENTRIES
        entry_bytes = E_DATA * 8 + item_bytes + 1  # 1: which type the key has
        asked = f"dict(capacity={capacity}, item_bytes={item_bytes})"

        def fill(at: int) -> None:
            size = -(-entry_bytes // PLACE_BYTES) * PLACE_BYTES
            each = max(min(entries, self._largest_block // size), 1)
            words = D_BUCKETS + (mask + 1) * BUCKET_WORDS + -(-entries // each)
            (d,) = self._places(at, 1, words * 8, asked)
            run, ram = self.engine.call, self.segment.ram
            stride = size // 8
            run(dict_prepare, ram, d, entries, mask)
            run(dict_shape, ram, d, each, stride, item_bytes, SPARE_ENTRIES)
            places = self._places(at, entries, size, asked)
            for block, first in enumerate(places[::each]):
                count = min(each, entries - block * each)
                run(dict_place, ram, d, block, first, count)
            self._write(at + ST_PARAMETERS, d)
            self._write(at + ST_ARRAYS, d)

        return self._made(Dict, fill, name)

    def open_structure(self, handle: bytes) -> Structure:
        """The structure that a handle names; one object for one structure.

        Raises ``MisuseError`` if it was destroyed, or if the handle is of another segment.
        """
        self.check_open()
        segment_id, at, state = unpack_handle(handle)
        if segment_id != self.segment.id:
            raise MisuseError(f"handle: it is of segment {segment_id:#x}; attach to that one")
        kind = KINDS.get(kind_of(state))
        first, count = self.segment.layout.at["structures"], self.segment.geometry.structures
        if kind is None or not is_entry(at, first, count):
            raise MisuseError(f"handle: {handle!r} names no structure: use its .handle")
        if self.segment.ram[at] != state:
            raise MisuseError(f"handle: that {kind.kind_name} was destroyed; make a new one")
        with self._lock:
            known = self._structures.get((at, state))
            if known is None:
                known = self._structures[at, state] = kind(self, at, state)
            return known

    def find(self, name: str, timeout: float | None = 0) -> Any:
        """The structure of that name; wait until a process has made it, ``timeout`` seconds.

        Raises ``MisuseError`` if there is none.
        """
        words, deadline = words_of(name), deadline_of(timeout)
        while (found := self._named(words)) is None:
            if deadline is not None and time.monotonic() >= deadline:
                raise MisuseError(f"name: no structure {name!r} in {self.name!r}; make one")
            time.sleep(FIND_POLL_S)
        return found

    def structures(self) -> list[Structure]:
        """All structures that there are now, whichever process made them."""
        self.check_open()
        entries = list(live_entries(self.segment))
        opened = [self._if_live(at, state) for at, state in entries]
        return [structure for structure in opened if structure is not None]

    def _named(self, words: tuple[int, ...]) -> Structure | None:
        self.check_open()
        for at, state in live_entries(self.segment):
            if all(self.segment.ram[at + ST_NAME + i] == word for i, word in enumerate(words)):
                found = self._if_live(at, state)
                if found is not None:
                    return found
        return None

    def _if_live(self, at: int, state: int) -> Structure | None:
        """The structure, or None: it has been destroyed."""
        try:
            return self.open_structure(HANDLE.pack(self.segment.id, at, state))
        except MisuseError:
            self.check_open()
            return None

    def _made(self, kind: type[S], fill: Callable[[int], None], name: str | None = None) -> S:
        """A structure of that kind whose entry ``fill(its word)`` has completed, with a name."""
        if name is None:
            return self._make(kind, fill)
        words = words_of(name)

        def fill_named(at: int) -> None:
            fill(at)
            for i, word in enumerate(words):
                self._write(at + ST_NAME + i, word)

        with self.segment.exclusive():
            known = self._named(words)
            if known is not None:
                raise MisuseError(f"name: {known!r} has it; use find({name!r}), or another name")
            return self._make(kind, fill_named)

    def _make(self, kind: type[S], fill: Callable[[int], None]) -> S:
        if self.segment.may_lack(self._split_bytes):  # kernels touch pages as well
            raise self._no_room(kind.kind_name)
        at = self.run(make_structure, kind.kind)
        if at < 0:
            count = self.segment.geometry.structures
            raise OutOfMemoryError(
                f"{kind.kind_name}: all {count} structures of {self.name!r} are taken; destroy one,"
                " or create the arena with structures=..."
            )
        try:
            fill(at)
        except BaseException:
            self.run(end_structure, at, self.segment.ram[at])
            raise
        state = self.run(publish_structure, at)
        with self._lock:
            made = kind(self, at, state)
            self._structures[at, state] = made
        return made

    @property
    def _largest_block(self) -> int:
        """Bytes of the contents of the largest block."""
        return self._largest - BLOCK_HEADER * 8

    def _places(self, at: int, count: int, size: int, asked: str) -> list[int]:
        """The words of ``count`` places of ``size`` bytes each, on lines of 64 bytes, in as many
        blocks of the structure that we make as they need. Their memory is there."""
        each = -(-size // PLACE_BYTES) * PLACE_BYTES
        if each > self._largest_block:
            raise MisuseError(
                f"{asked}: {each:,} bytes in one piece; the largest block has"
                f" {format_bytes(self._largest)}: create the arena with a larger max_order (to"
                f" {c.ORDERS - 1}) or page_bytes"
            )
        page_bytes = self.segment.geometry.page_bytes
        found: list[int] = []
        while len(found) < count:
            here = min(count - len(found), self._largest_block // each)
            total = BLOCK_HEADER * 8 + here * each
            order = (-(-total // page_bytes) - 1).bit_length()
            block = self.run(add_block, at, order)
            if block < 0:
                raise self.refused(block, asked)
            self._commit(block, page_bytes << order, asked)
            first = block + BLOCK_HEADER
            found += [first + number * each // 8 for number in range(here)]
        return found

    def _commit(self, word: int, size: int, asked: str) -> None:
        """Let the system provide the memory now: later its lack would be SIGBUS."""
        try:
            self.segment.provide(word, size)
        except OSError as error:
            raise self._no_room(asked) from error

    def _write(self, word: int, value: int) -> None:
        self.segment.ram[word] = value

    def _forget(self, structure: Structure) -> None:
        with self._lock:
            self._structures.pop((structure._at, structure._state), None)

    def _become_child(self) -> None:
        super()._become_child()
        for structure in self._structures.values():
            keep_own(structure._inside)

    def _recover_structures(self) -> None:
        """Free what dead processes left in the structures that this process uses."""
        for structure in list(self._structures.values()):
            structure._recover()

    def _free_buffer(self) -> None:
        """What a process gives back when it closes (arena.py)."""
        for structure in list(self._structures.values()):
            structure._close()
        self._structures.clear()
        super()._free_buffer()

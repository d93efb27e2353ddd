"""Arrays made and given back: the part of an arena's array face that takes memory.

An array's pages begin with a header (array_header.py); ``empty`` is all that a program does all the
time, so everything that it needs is looked up once for a shape and a dtype (a ``Making``), and one
call of a kernel drops the array that was dropped before and makes the new one.

Data it owns: the mapping, in three forms (base of arrays, bytes, and one array of items for each
dtype, from which arrays of one dimension are cut), and what the process holds (references.py).

Rules. All of it runs under the arena's lock. A call that interrupts another one, in a signal
handler, makes arrays and gives none back. Arrays are opened, sent and named elsewhere (arrays.py).
"""

from __future__ import annotations

import gc
import mmap
import time
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from shmalloc import constants as c
from shmalloc import recovery
from shmalloc.array_header import ALIGN_BYTES, Order, Plan, Shape, plan_of
from shmalloc.checked import shown
from shmalloc.errors import MisuseError, OutOfMemoryError
from shmalloc.kernels.shared_arrays import (
    drop_array,
    exchange_array,
    make_array,
    make_run,
    open_array,
)
from shmalloc.no_memory import kept_by_watermark, what_is_free
from shmalloc.pages import PageOperations
from shmalloc.references import TICK_S, Ref, References
from shmalloc.shared_array import SegmentItems, SharedArray
from shmalloc.sizes import format_bytes
from shmalloc.statistics import statistics

KNOWN_MAKINGS = 256
ROOM_BYTES = 1 << 16  # an array of so many is checked against the room in /dev/shm
_new = np.ndarray.__new__
# A plan; the order of its block, -1 if there is no such order; its header and bytes of that; all
# items of the segment, if the array is a slice of them, and how many it has; bytes that /dev/shm
# must have room for, 0: not looked at.
Making = tuple[Plan, int, bytes, int, SegmentItems | None, int, int]


class MakingOperations(PageOperations):
    """New arrays in the pages of an arena."""

    def _bind(self) -> None:
        super()._bind()
        geometry = self.segment.geometry
        self._page_bytes = geometry.page_bytes
        self._block_bytes = geometry.page_bytes << geometry.max_order
        self._do_make_array = self.builtin(make_array)
        self._do_exchange_array = self.builtin(exchange_array)
        self._do_make_run = self.builtin(make_run)
        self._do_drop_array = self.builtin(drop_array, reads=True)
        self._do_open_array = self.builtin(open_array, reads=True)
        self._references = References(self)
        self._mapped = self.segment.mapped
        self._bytes = memoryview(self._mapped).cast("B")
        self._items: dict[np.dtype[Any], SegmentItems] = {}
        self._makings: dict[Any, Making] = {}
        self._frames = self.segment.layout.at["frames"]
        self._near = 0  # first page of the last large array

    def empty(self, shape: Shape, dtype: DTypeLike = float, order: Order = "C") -> SharedArray:
        """A new array with unspecified contents. Raises ``OutOfMemoryError``, ``MisuseError``."""
        # All in one function, because a program does this all the time.
        if dtype is float or _is_plain(dtype):
            # Equal numbers of other types are other shapes: 2.0 and True are none.
            key = (
                (shape, dtype, order)
                if type(shape) is int
                else (shape, dtype, order, *map(type, shape))
                if type(shape) is tuple
                else None
            )
            making = self._makings.get(key) or self._keep_making(key, shape, dtype, order)
        else:
            making = self._making_of(plan_of(shape, dtype, order))
        plan, block, header, length, items, count, room = making
        if self.segment.closed:
            raise self.is_closed()
        if room and self.segment.may_lack(room):
            return self._empty_backed(plan)
        lock, references = self._lock, self._references
        if block < 0 or lock._is_owned():  # type: ignore[attr-defined]
            return self._empty_elsewhere(plan)
        with lock:
            live, dropped = references.live, references.dropped
            if dropped:
                if len(dropped) > 1:
                    references.give_back(self, 1)
                old = dropped[0]
                try:
                    old_slot, old_number = old.slot, old.number
                except AttributeError:  # its making was cut off: a sweep finds its record
                    old_slot = old_number = -1
                slot, number, data, held = self._do_exchange_array(
                    self.claim, block, old_slot, old_number
                )
                live.pop(old_number, None)
                dropped.popleft()
            else:
                slot, number, data, held = self._do_make_array(self.claim, block)
            if slot < 0 or self._rescuer.found:
                return self._settle_made(plan, (slot, number, data))
            at = data << 3
            first = at + length
            self._bytes[at:first] = header
            array: SharedArray
            if items is None:
                array = _new(
                    SharedArray, plan.shape, plan.kind, self._mapped, first, None, plan.order
                )
            else:
                first //= items.itemsize
                array = items[first : first + count]  # type: ignore[assignment]
                array.__class__ = SharedArray
            array._ref = ref = Ref(array, references.gone)
            ref.slot, ref.number, ref.data = slot, number, data
            ref.arena = self  # type: ignore[assignment]  # every arena has the other face, too
            live[number] = ref
            if held != len(live):
                references.sweep(self)
            if not references.ticking:
                references.tick()
        return array

    def _keep_making(self, key: Any, shape: Shape, dtype: DTypeLike, order: Order) -> Making:
        """A new ``Making``, kept under ``key``, unless that is None."""
        making = self._making_of(plan_of(shape, dtype, order))
        if len(self._makings) >= KNOWN_MAKINGS:
            self._makings.clear()
        if key is not None:
            self._makings[key] = making
        return making

    def _making_of(self, plan: Plan) -> Making:
        kind, items = plan.kind, None
        block = -1
        if plan.size <= self._block_bytes:
            block = ((plan.size - 1) // self._page_bytes).bit_length()
        if len(plan.shape) == 1 and kind.isbuiltin == 1 and ALIGN_BYTES % kind.itemsize == 0:
            items = self._items.get(kind)
            if items is None:
                every = (len(self._bytes) // kind.itemsize,)
                items = self._items[kind] = _new(SegmentItems, every, kind, self._mapped)
        count = 0 if items is None else plan.shape[0]
        room = plan.size + self._split_bytes if plan.size >= ROOM_BYTES else 0
        return plan, block, plan.header, len(plan.header), items, count, room

    def _empty_elsewhere(self, plan: Plan) -> SharedArray:
        """An array in the middle of another call, in a signal handler, say; or a large one."""
        nested = self._lock._is_owned()  # type: ignore[attr-defined]
        with self._lock:
            if not nested:
                self._references.give_back(self)
            return self._empty_slowly(plan, nested)

    def _empty_backed(self, plan: Plan) -> SharedArray:
        """An array whose memory the system provides now, as /dev/shm has little room."""
        asked = f"empty: {format_bytes(plan.size)}"
        if self.segment.may_lack(self._split_bytes):
            raise self._no_room(asked)
        made = self._empty_elsewhere(plan)
        try:
            self.segment.provide(made._ref.data, plan.size)
        except OSError as error:
            raise self._no_room(asked) from error
        return made

    def _settle_made(self, plan: Plan, made: tuple[int, int, int]) -> SharedArray:
        """The array that a kernel made or refused, when something else is due."""
        array = None if made[0] < 0 else self._hold_new(plan, made)
        self.finish_rescue()
        if array is None and made[0] != c.E_NOMEM:
            raise self.refused(made[0], f"empty: {format_bytes(plan.size)}")
        return self._empty_slowly(plan, nested=False) if array is None else array

    def _hold_new(self, plan: Plan, made: tuple[int, int, int]) -> SharedArray:
        """The array of a new reference, with its header."""
        data = made[2]
        first = (data << 3) + len(plan.header)
        self._bytes[data << 3 : first] = plan.header
        return self._hold(plan, first, None, made)

    def _hold(
        self,
        plan: Plan,
        first: int,
        strides: tuple[int, ...] | None,
        answer: tuple[int, int, int],
        mapped: mmap.mmap | None = None,
    ) -> SharedArray:
        """The array of a reference (slot, number, word of its pages), data from byte ``first``."""
        base = self._mapped if mapped is None else mapped
        array = _new(SharedArray, plan.shape, plan.kind, base, first, strides, plan.order)
        references = self._references
        array._ref = ref = Ref(array, references.gone)
        ref.slot, ref.number, ref.data = answer
        ref.arena = self  # type: ignore[assignment]
        references.live[ref.number] = ref
        references.tick()
        return array

    def _empty_slowly(self, plan: Plan, nested: bool) -> SharedArray:
        """Find memory, and try again after each measure. Under the lock."""
        made = self._try(plan)
        for find in (None, self._recover_for_memory, gc.collect, self._await_ticks):
            if made is not None:
                return made
            if find is not None:
                find()
            if not nested:
                self._references.drain(self)
            made = self._try(plan)
        if made is None:
            raise self._out_of_memory(plan)
        return made

    def _try(self, plan: Plan) -> SharedArray | None:
        """The array, or None: no memory."""
        if plan.size > self._block_bytes:
            return self._try_run(plan)
        block = ((plan.size - 1) // self._page_bytes).bit_length()
        slot, number, data, _ = self._do_make_array(self.claim, block)
        if slot < 0 and slot != c.E_NOMEM:
            raise self.refused(slot, f"empty: {format_bytes(plan.size)}")
        return None if slot < 0 else self._hold_new(plan, (slot, number, data))

    def _recover_for_memory(self) -> None:
        """Give back what the dead held."""
        recovery.recover(self.segment, self.claim, self.engine.name)

    def _await_ticks(self) -> None:
        """Let other processes notice what they dropped."""
        time.sleep(2 * TICK_S)

    def _out_of_memory(self, plan: Plan) -> OutOfMemoryError:
        now = statistics(self.segment)
        pages = -(-plan.size // now.page_bytes)
        order = min((pages - 1).bit_length(), self.segment.geometry.max_order)
        keeping = kept_by_watermark(now, order)
        why = f"{what_is_free(now)}{keeping and '; '}{keeping}"
        cure = "drop arrays, or create a larger arena"
        return OutOfMemoryError(f"empty: {format_bytes(plan.size)} asked, {why}; {cure}")

    def zeros(self, shape: Shape, dtype: DTypeLike = float, order: Order = "C") -> SharedArray:
        """A new array of zeros."""
        made = self.empty(shape, dtype, order)
        np.asarray(made)[...] = np.zeros((), made.dtype)
        return made

    def ones(self, shape: Shape, dtype: DTypeLike = float, order: Order = "C") -> SharedArray:
        """A new array of ones."""
        return self.full(shape, 1, float if dtype is None else dtype, order)

    def full(
        self, shape: Shape, value: ArrayLike, dtype: DTypeLike | None = None, order: Order = "C"
    ) -> SharedArray:
        """A new array filled with ``value``, of its dtype unless another one is given."""
        made = self.empty(shape, np.asarray(value).dtype if dtype is None else dtype, order)
        try:
            np.copyto(np.asarray(made), value, casting="unsafe")
        except (TypeError, ValueError) as error:
            raise MisuseError(f"value: {shown(value)}: {error}") from error
        return made

    def _try_run(self, plan: Plan) -> SharedArray | None:
        """An array of more pages than one block has: of several in a row."""
        pages = -(-plan.size // self._page_bytes)
        slot, number, data, _ = self._do_make_run(self.claim, pages, self._near)
        if slot == c.E_NOMEM and self.drain() > 0:
            slot, number, data, _ = self._do_make_run(self.claim, pages, 0)
        if slot < 0:
            return None
        self._near = (data - self._frames) // self.segment.geometry.page_words
        return self._hold_new(plan, (slot, number, data))

    def _drop(self, slot: int, number: int) -> None:
        """Give a reference back; nothing if it was given back before."""
        if not self.segment.ram.ended:
            self._do_drop_array(self.claim, slot, number)
            self.finish_rescue()

    def collect(self) -> None:
        """Give back now the memory of arrays that were dropped in this process."""
        if not self._lock._is_owned():  # type: ignore[attr-defined]
            with self._lock:
                self._drain_arrays()

    def _drain_arrays(self) -> None:
        """The same under the lock; and what waits for the last array's end."""
        if not self.segment.released:
            self._references.drain(self)
            if self.segment.closed and not self._references.live:
                self._end()

    def _end(self) -> None:
        """The arena is closed and has no array any more: leave the segment."""
        self._references.ended = True
        self._references.stop_ticking()
        self._bytes.release()
        del self._mapped
        self._items.clear()
        self._makings.clear()


def _is_plain(dtype: DTypeLike) -> bool:
    """Whether equal dtypes are the same to us: those of fields may differ in what == ignores."""
    if isinstance(dtype, np.dtype):
        return dtype.names is None
    return type(dtype) is type or type(dtype) is str

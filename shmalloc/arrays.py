"""The array face of an arena: numpy arrays in its pages, which every process can use.

Every method gives a ``SharedArray``, a ``numpy.ndarray`` (shared_array.py). Its memory is a block
of pages, or a range of single pages if no block is large enough; it begins with a header
(array_header.py). It is given back when the last array or view in the last process is gone: nothing
has to be closed (references.py). Arrays travel to other processes by tickets (transit.py), or by
``handle()``, 24 bytes that hold no reference::

    [ segment id | word index of the array's entry | generation of the entry ]

Rules for callers. A handle that outlives its array is refused, never another array's. Before
``OutOfMemoryError`` is raised, memory is looked for: dropped arrays, recovery, orphaned tickets,
the garbage collector, and other processes' next tick.
"""

from __future__ import annotations

import gc
import mmap
import time
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from shmalloc import array_header, recovery
from shmalloc import constants as c
from shmalloc.array_header import (
    FIXED_WORDS,
    MOST_HEADER_WORDS,
    AskedOrder,
    Order,
    Plan,
    Shape,
    check_class,
    order_kept,
    overwritten,
    plan_of,
    plan_of_length,
)
from shmalloc.array_words import (
    HANDLE,
    entry_word,
    fits,
    free_runs,
    freed,
    may_be_array,
    pages_of,
    unpack_handle,
)
from shmalloc.errors import MisuseError, OutOfMemoryError
from shmalloc.kernels.array_recovery import copy_references
from shmalloc.kernels.shared_arrays import drop_array, make_array, make_range, open_array
from shmalloc.pages import PageOperations
from shmalloc.references import TICK_S, Ref, References
from shmalloc.shared_array import SharedArray, holder_of
from shmalloc.sizes import format_bytes
from shmalloc.statistics import statistics

NOT_COPIED = (c.E_NOMEM, 0, 0)
ROOM_BYTES = 1 << 16  # an array of so many is checked against the room in /dev/shm
_new = np.ndarray.__new__
# A plan, the byte of the segment where its data begin, and their strides (None: its own).
View = tuple[Plan, int, tuple[int, ...] | None]


class ArrayOperations(PageOperations):
    """Arrays in the pages of an arena."""

    _copied = NOT_COPIED  # what the last copy for a child gave

    def _bind(self) -> None:
        super()._bind()
        geometry = self.segment.geometry
        self._page_bytes = geometry.page_bytes
        self._block_bytes = geometry.page_bytes << geometry.max_order
        self._do_make_array = self.builtin(make_array)
        self._do_drop_array = self.builtin(drop_array, reads=True)
        self._do_open_array = self.builtin(open_array, reads=True)
        if not self.segment.owns_claim(self.cpu):
            self._do_make_array = self._do_open_array = self._do_drop_array = self._has_no_table
        self._references = References(self)
        self._mapped = self.segment.mapped
        self._bytes = memoryview(self._mapped).cast("B")

    def _has_no_table(self, *_: int) -> Any:
        """Two processes on one claim would take each other's references for lost ones."""
        raise MisuseError(
            f"arrays: every CPU slot of {self.name!r} is taken, and this process shares slot"
            f" {self.cpu}; create the arena with more (cpus=)"
        )

    # --- making -----------------------------------------------------------------------------------

    def empty(self, shape: Shape, dtype: DTypeLike = float, order: Order = "C") -> SharedArray:
        """A new array with unspecified contents. Raises ``OutOfMemoryError``, ``MisuseError``."""
        # All in one function, because a program does this all the time.
        if type(shape) is int and (
            dtype is float or (type(dtype) is np.dtype and dtype.names is None)
        ):
            known: Any = dtype
            plan = plan_of_length(shape, known, order)
        else:
            plan = plan_of(shape, dtype, order)
        kind, dimensions, order, header, size = plan
        if self.segment.closed:
            raise self.is_closed()
        if size >= ROOM_BYTES and self.segment.may_lack(size + self._split_bytes):
            return self._empty_backed(plan)
        lock, references = self._lock, self._references
        nested = lock._is_owned()  # type: ignore[attr-defined]  # in a signal handler, say
        with lock:
            if references.dropped and not nested:
                references.give_back(self)
            if size > self._block_bytes:
                return self._empty_slowly(plan, nested)
            block = ((size - 1) // self._page_bytes).bit_length()
            slot, number, data, held = self._do_make_array(self.cpu, block)
            if slot < 0 or self._rescuer.found:
                return self._settle_made(plan, nested, (slot, number, data))
            first = (data << 3) + len(header)
            self._bytes[data << 3 : first] = header
            array = _new(SharedArray, dimensions, kind, self._mapped, first, None, order)
            array._ref = ref = Ref(array, references.gone)
            ref.slot, ref.number, ref.arena, ref.data = slot, number, self, data
            references.live[number] = ref
            if held != len(references.live) and not nested:
                references.sweep(self)
            if not references.ticking:
                references.tick()
        return array

    def _empty_backed(self, plan: Plan) -> SharedArray:
        """An array whose memory the system provides now, as /dev/shm has little room."""
        asked = f"empty: {format_bytes(plan.size)}"
        # The pages of a range are freed one by one, which touches each of them.
        if plan.size > self._block_bytes or self.segment.may_lack(self._split_bytes):
            raise self._no_room(asked)
        with self._lock:
            made = self._empty_slowly(plan, nested=False)
        try:
            self.segment.provide(made._ref.data, plan.size)
        except OSError as error:
            raise self._no_room(asked) from error
        return made

    def _settle_made(self, plan: Plan, nested: bool, made: tuple[int, int, int]) -> SharedArray:
        """The array that a kernel made or refused, when something else is due."""
        array = None if made[0] < 0 else self._hold_new(plan, made)
        if not nested:
            self.finish_rescue()
        if array is None and made[0] != c.E_NOMEM:
            raise self.refused(made[0], f"empty: {format_bytes(plan.size)}")
        return self._empty_slowly(plan, nested) if array is None else array

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
        ref.arena = self
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
            return self._try_range(plan)
        block = ((plan.size - 1) // self._page_bytes).bit_length()
        slot, number, data, _ = self._do_make_array(self.cpu, block)
        if slot < 0 and slot != c.E_NOMEM:
            raise self.refused(slot, f"empty: {format_bytes(plan.size)}")
        return None if slot < 0 else self._hold_new(plan, (slot, number, data))

    def _recover_for_memory(self) -> None:
        """Give back what the dead held."""
        recovery.recover(self.segment, self.cpu, self.engine.name)

    def _await_ticks(self) -> None:
        """Let other processes notice what they dropped."""
        time.sleep(2 * TICK_S)

    def _out_of_memory(self, plan: Plan) -> OutOfMemoryError:
        now = statistics(self.segment)
        largest = max(
            (order for zone in now.zones for order, n in enumerate(zone.free_blocks) if n),
            default=-1,
        )
        block = 0 if largest < 0 else now.page_bytes << largest
        return OutOfMemoryError(
            f"empty: {format_bytes(plan.size)} asked, {format_bytes(now.free_bytes)} free, the"
            f" largest block has {format_bytes(block)}; drop arrays, or create a larger arena"
        )

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
        np.copyto(np.asarray(made), value, casting="unsafe")
        return made

    def array(
        self,
        source: ArrayLike,
        dtype: DTypeLike | None = None,
        order: AskedOrder = "K",
        readonly: bool = False,
    ) -> SharedArray:
        """A copy of ``source`` in the arena, in its order unless another one is asked for.

        ``readonly``: no process that it is sent to can write to it, nor this one through it.
        Raises ``MisuseError`` for what cannot be kept: Python objects, masks, matrices.
        """
        check_class(source)
        try:
            values = np.asarray(source, dtype)
        except (TypeError, ValueError) as error:
            raise MisuseError(f"source: {error}") from error
        made = self.empty(values.shape, values.dtype, order_kept(values, order))
        np.asarray(made)[...] = values
        return self.open_array(made.handle(), readonly=True) if readonly else made

    def asarray(self, source: ArrayLike, dtype: DTypeLike | None = None) -> SharedArray:
        """``source`` itself if it lies in this arena and has that dtype, else a copy in it."""
        if isinstance(source, SharedArray) and (dtype is None or source.dtype == np.dtype(dtype)):
            ref = holder_of(source)
            if ref is not None and ref.arena is self:
                return source
        return self.array(source, dtype)

    def _try_range(self, plan: Plan) -> SharedArray | None:
        """An array of contiguous single pages, more than one block can have."""
        pages = -(-plan.size // self._page_bytes)
        self.drain()
        for pfn in free_runs(self.segment, pages):
            made: Any = self.run(make_range, pfn, pfn + pages)
            slot, number, data, _ = made
            if slot >= 0:
                return self._hold_new(plan, (slot, number, data))
            if slot not in (c.E_BUSY, c.E_INVAL):  # another CPU took pages, or it crosses a hole
                break
        return None

    # --- opening ----------------------------------------------------------------------------------

    def open_array(self, handle: bytes, readonly: bool = False) -> SharedArray:
        """A new reference to the array that ``SharedArray.handle()`` named."""
        segment_id, entry, generation = unpack_handle(handle)
        self.check_open()
        self.segment.check_file()
        if segment_id != self.segment.id:
            raise MisuseError(f"handle: of another segment than {self.name!r}; use open_array()")
        pfn, odd = divmod(entry - self.segment.layout.at["arrays"], c.AR_STRIDE)
        if odd or not may_be_array(self.segment, pfn, generation):
            raise freed()
        take = partial(self._do_open_array, self.cpu, pfn, generation)
        return self._open(take, pfn, None, readonly)

    def _open(
        self,
        take: Callable[[], tuple[int, int, int]],
        pfn: int,
        view: View | None,
        readonly: bool,
    ) -> SharedArray:
        """The array at ``pfn``, or a view of it, once ``take`` gave the reference."""
        base = self.segment.mapped_read_only if readonly or self.readonly else self._mapped
        nested = self._lock._is_owned()  # type: ignore[attr-defined]
        with self._lock:
            if not nested and self._references.is_due(self):
                self._references.drain(self)
            slot, number, _ = take()
            if slot == c.E_STATE:
                raise freed()
            if slot < 0:
                raise self.refused(slot, "open of an array")
            try:
                data = self.segment.layout.frame(pfn)
                plan, first, strides = self._view_at(pfn, data) if view is None else view
                if not fits(self.segment, pfn, first, plan, strides):
                    raise overwritten(f"{plan.size} bytes would not fit into its pages")
                opened = self._hold(plan, first, strides, (slot, number, data), base)
            except (MisuseError, ValueError) as error:  # ValueError: numpy's, of an odd shape
                self._drop(slot, number)
                raise (
                    error if isinstance(error, MisuseError) else overwritten(str(error))
                ) from error
        return opened

    def _view_at(self, pfn: int, data: int) -> View:
        """What the header says."""
        length = self.segment.ram[data]
        most = min(MOST_HEADER_WORDS, pages_of(self.segment, pfn) * self._page_bytes // 8)
        if not FIXED_WORDS <= length <= most:
            raise overwritten(f"it would have {length} words")
        plan = array_header.described(bytes(self._bytes[data << 3 : data + length << 3]))
        return plan, data + length << 3, None

    # --- references -------------------------------------------------------------------------------

    def _drop(self, slot: int, number: int) -> None:
        """Give a reference back; nothing if it was given back before."""
        if not self.segment.ram.ended:
            self._do_drop_array(self.cpu, slot, number)
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
        self._bytes.release()
        del self._mapped

    def _entry_of(self, ref: Ref) -> int:
        layout = self.segment.layout
        pfn = (ref.data - layout.at["frames"]) // self.segment.geometry.page_words
        return entry_word(layout, pfn)

    def _references_of(self, ref: Ref) -> int:
        """References of the living, and in transit."""
        word = self._entry_of(ref)
        nested = self._lock._is_owned()  # type: ignore[attr-defined]
        if self.segment.ram[word] & c.AR_REFS_MASK > 1 and not nested and not self.closed:
            self.collect()
            recovery.recover(self.segment, self.cpu, self.engine.name)
        return self.segment.ram[word] & c.AR_REFS_MASK

    def _handle_of(self, ref: Ref) -> bytes:
        entry = self._entry_of(ref)
        generation = self.segment.ram[entry] >> c.AR_GENERATION_SHIFT
        return HANDLE.pack(self.segment.id, entry, generation)

    def _copy_for_child(self, embryo: int) -> None:
        super()._copy_for_child(embryo)
        self._copied = NOT_COPIED  # if an exception cuts it off, the fork goes on all the same
        copied = self.engine.call_alone(copy_references, self.segment.ram, self.cpu, embryo)
        self._copied = cast(tuple[int, int, int], copied)

    def before_fork(self) -> None:
        super().before_fork()
        self._references.stop_ticking()

    def _become_child(self) -> None:
        super()._become_child()
        copied, first, moved = self._copied
        if copied < 0:
            self.segment.ram.end(
                "the references of this child process could not be made before its fork (no memory"
                " was free, or an exception came); attach to the segment"
            )
        elif copied:
            self._references.renumber(self, first, bool(moved))


__all__ = ["HANDLE", "ArrayOperations", "SharedArray", "unpack_handle"]

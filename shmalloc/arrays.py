"""The array face of an arena: numpy arrays in its pages, which every process can use.

Every method gives a ``SharedArray``, a ``numpy.ndarray`` (shared_array.py). Its memory is a block
of pages, or several in a row if no block is large enough; it begins with a header
(array_header.py). It is given back when the last array or view in the last process is gone: nothing
has to be closed (references.py). Arrays travel to other processes by tickets (transit.py), or by
``handle()``, 24 bytes that hold no reference::

    [ segment id | word index of the array's entry | generation of the entry ]

Rules for callers. A handle that outlives its array is refused, never another array's. Before
``OutOfMemoryError`` is raised, memory is looked for: dropped arrays, recovery, orphaned tickets,
the garbage collector, and other processes' next tick.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import cast

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from shmalloc import array_header, recovery
from shmalloc import constants as c
from shmalloc.array_header import (
    FIXED_WORDS,
    MOST_HEADER_WORDS,
    AskedOrder,
    Plan,
    check_class,
    order_kept,
    overwritten,
)
from shmalloc.array_making import MakingOperations
from shmalloc.array_words import (
    HANDLE,
    entry_word,
    fits,
    freed,
    may_be_array,
    pages_of,
    unpack_handle,
)
from shmalloc.checked import checked_bool
from shmalloc.errors import MisuseError
from shmalloc.kernels.array_recovery import copy_references
from shmalloc.references import Ref
from shmalloc.shared_array import SharedArray, holder_of

NOT_COPIED = (c.E_NOMEM, 0, 0)
_new = np.ndarray.__new__
# A plan, the byte of the segment where its data begin, and their strides (None: its own).
View = tuple[Plan, int, tuple[int, ...] | None]


class ArrayOperations(MakingOperations):
    """Arrays in the pages of an arena."""

    _copied = NOT_COPIED  # what the last copy for a child gave

    # --- copies of what there is ------------------------------------------------------------------

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
        readonly = checked_bool("readonly", readonly)
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

    # --- opening ----------------------------------------------------------------------------------

    def open_array(self, handle: bytes, readonly: bool = False) -> SharedArray:
        """A new reference to the array that ``SharedArray.handle()`` named."""
        segment_id, entry, generation = unpack_handle(handle)
        readonly = checked_bool("readonly", readonly)
        self.check_open()
        self.segment.check_file()
        if segment_id != self.segment.id:
            raise MisuseError(f"handle: of another segment than {self.name!r}; use open_array()")
        pfn, odd = divmod(entry - self.segment.layout.at["arrays"], c.AR_STRIDE)
        if odd or not may_be_array(self.segment, pfn, generation):
            raise freed()
        take = partial(self._do_open_array, self.claim, pfn, generation)
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
            recovery.recover(self.segment, self.claim, self.engine.name)
        return self.segment.ram[word] & c.AR_REFS_MASK

    def _handle_of(self, ref: Ref) -> bytes:
        entry = self._entry_of(ref)
        generation = self.segment.ram[entry] >> c.AR_GENERATION_SHIFT
        return HANDLE.pack(self.segment.id, entry, generation)

    def _copy_for_child(self, embryo: int) -> None:
        super()._copy_for_child(embryo)
        self._copied = NOT_COPIED  # if an exception cuts it off, the fork goes on all the same
        copied = self.engine.call_alone(copy_references, self.segment.ram, self.claim, embryo)
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

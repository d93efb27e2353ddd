"""numpy arrays in a segment: made in one process, opened in any by a handle of 24 bytes.

``SharedArray`` is a counted reference to one array. It pickles to 24 bytes, three little-endian
uint64 (plus what pickle adds to name the function that opens them)::

    [ segment id | word index of the array's entry | generation of the entry ]

The entry (kernel/handles.py) holds the reference count and where the block is; the block starts
with what the array looks like, then its data on a 64-byte boundary of the segment::

    [ words to the data | dimensions | length of dtype text | shape ... | dtype text ... ][ data ]

Rules for callers. A pickled handle holds no reference: the sender keeps its array open until the
receiver has opened it; later, opening raises ``MisuseError`` (never other memory). Whoever opens
closes: ``close()`` or ``with``. The last one frees the block. Nothing is freed by a finalizer,
because a garbage collector that runs inside an allocation would enter the allocator again. After
close a numpy view that was kept reads memory that may be somebody else's.
"""

from __future__ import annotations

import ast
import math
import os
import struct
from collections.abc import Sequence
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from shmalloc import constants as c
from shmalloc.errors import MisuseError, OutOfMemoryError
from shmalloc.kernel.handles import (
    add_reference,
    close_entry,
    drop_reference,
    grow_entries,
    open_entry,
)
from shmalloc.pages import PageOperations
from shmalloc.sizes import format_bytes

HANDLE = struct.Struct("<QQQ")
ALIGN_BYTES = 64
_FIXED_WORDS = 3
_RANGE = 1 << 32  # AR_HOW: the order of the one block, or this bit and a number of single pages

Shape = int | Sequence[int]


class SharedArray:
    """A counted reference to an array in a segment; ``array`` is its numpy view."""

    def __init__(self, arena: ArrayOperations, entry: int, generation: int) -> None:
        self._arena = arena
        self._entry = entry
        self._generation = generation
        self._array: NDArray[Any] | None = arena._view_of(arena.segment.ram[entry + c.AR_DATA])

    @property
    def array(self) -> NDArray[Any]:
        """The numpy view. Raises ``MisuseError`` after ``close``."""
        if self._array is None or self._arena.closed:
            raise MisuseError("array: this handle is closed; keep it open while you use the array")
        return self._array

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.array.dtype

    @property
    def nbytes(self) -> int:
        return self.array.nbytes

    @property
    def references(self) -> int:
        """Open handles to this array in all processes."""
        self.array  # noqa: B018 - refuses a closed handle
        return self._arena.segment.ram[self._entry + c.AR_COUNT] & c.AR_REFS_MASK

    def handle(self) -> bytes:
        """The 24 bytes that any process can open; they hold no reference themselves."""
        self.array  # noqa: B018 - refuses a closed handle
        return HANDLE.pack(self._arena.segment.id, self._entry, self._generation)

    def close(self) -> int:
        """Drop the reference; how many are left. At 0 the memory is free. Again: does nothing."""
        if self._array is None or self._arena.closed:
            self._array = None
            return 0
        self._array = None
        return self._arena._drop(self._entry, self._generation)

    def __enter__(self) -> NDArray[Any]:
        return self.array

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        wanted = self.array.dtype if dtype is None else np.dtype(dtype)
        if copy is False and wanted != self.array.dtype:
            raise ValueError(f"dtype: {wanted} needs a copy of this {self.array.dtype} array")
        return self.array.astype(wanted, copy=bool(copy))

    def __getitem__(self, key: Any) -> Any:
        return self.array[key]

    def __setitem__(self, key: Any, value: Any) -> None:
        self.array[key] = value

    def __len__(self) -> int:
        return len(self.array)

    def __reduce__(self) -> tuple[Any, tuple[bytes]]:
        return open_array, (self.handle(),)

    def __repr__(self) -> str:
        if self._array is None or self._arena.closed:
            return "<SharedArray closed>"
        return f"<SharedArray {self.dtype} {self.shape} in {self._arena.name}>"


def open_array(handle: bytes) -> SharedArray:
    """Open a handle in this process, attaching to its segment if that is not attached yet.

    Raises ``MisuseError`` where the array was freed, ``SegmentError`` where its segment is gone.
    """
    from shmalloc.arena import arena_of

    segment_id, _, _ = _unpacked(handle)
    return arena_of(segment_id).open_array(handle)


def _unpacked(handle: bytes) -> tuple[int, int, int]:
    if not isinstance(handle, bytes) or len(handle) != HANDLE.size:
        raise MisuseError(f"handle: {handle!r}; use the 24 bytes of SharedArray.handle()")
    segment_id, entry, generation = HANDLE.unpack(handle)
    return segment_id, entry, generation


class ArrayOperations(PageOperations):
    """Arrays in the pages of an arena."""

    def empty(self, shape: Shape, dtype: DTypeLike = float) -> SharedArray:
        """A new array with unspecified contents. Raises ``OutOfMemoryError``."""
        kind, dimensions = _checked(shape, dtype)
        header = _header_words(kind, dimensions)
        size = len(header) * 8 + math.prod(dimensions) * kind.itemsize
        pages = -(-size // self.segment.geometry.page_bytes)
        pfn, how = self._alloc_block(pages, size)
        data = self.segment.layout.frame(pfn)
        self.segment.ram.array[data : data + len(header)] = header
        try:
            entry = self._new_entry(data, how)
        except OutOfMemoryError:
            self._free_block(data, how)
            raise
        return SharedArray(self, entry, self._generation(entry))

    def zeros(self, shape: Shape, dtype: DTypeLike = float) -> SharedArray:
        """A new array of zeros."""
        made = self.empty(shape, dtype)
        made.array.fill(np.zeros((), made.dtype))
        return made

    def array(self, source: ArrayLike, dtype: DTypeLike | None = None) -> SharedArray:
        """A copy of ``source`` in the arena."""
        values = np.asarray(source, dtype)
        made = self.empty(values.shape, values.dtype)
        made.array[...] = values
        return made

    def open_array(self, handle: bytes) -> SharedArray:
        """A new reference to the array that ``SharedArray.handle()`` named."""
        segment_id, entry, generation = _unpacked(handle)
        if segment_id != self.segment.id:
            raise MisuseError(f"handle: of another segment than {self.name!r}; use open_array()")
        if not self._is_entry(entry) or self.run(add_reference, entry, generation) < 0:
            raise MisuseError(
                "handle: its array was freed; the sender keeps it open until it is opened here"
            )
        return SharedArray(self, entry, generation)

    def _is_entry(self, entry: int) -> bool:
        """Whether a word is an entry of the array table, whatever a handle claims."""
        layout, geometry = self.segment.layout, self.segment.geometry
        pfn, inside = divmod(entry - layout.at["frames"], geometry.page_words)
        if not 0 <= pfn < geometry.pages or inside % c.AR_STRIDE:
            return False
        at = layout.descriptor(pfn)
        is_allocated = self.segment.ram[at] & c.TYPE_MASK == c.T_ALLOCATED
        return is_allocated and self.segment.ram[at + 1] == c.OWNER_ARRAYS

    def _generation(self, entry: int) -> int:
        return self.segment.ram[entry + c.AR_COUNT] >> c.AR_GENERATION_SHIFT

    def _new_entry(self, data: int, how: int) -> int:
        """An entry of the table, which grows by a page when it is full."""
        while True:
            entry = self.run(open_entry, data, how, os.getpid())
            if entry >= 0:
                return entry
            self.run(grow_entries, self.alloc_pages(0, owner=c.OWNER_ARRAYS))

    def _drop(self, entry: int, generation: int) -> int:
        ram = self.segment.ram
        # Read while we still hold our reference: afterwards the entry may be another array's.
        data, how = ram[entry + c.AR_DATA], ram[entry + c.AR_HOW]
        left = self.run(drop_reference, entry, generation)
        if left < 0:
            raise self.refused(left, "close of an array")
        if left == 0:
            self._free_block(data, how)
            self.run(close_entry, entry)
        return left

    def _alloc_block(self, pages: int, size: int) -> tuple[int, int]:
        """(pfn, how): one block for a small array, else a range of single pages."""
        order = (pages - 1).bit_length()
        if order <= self.segment.geometry.max_order:
            return self.alloc_pages(order, owner=c.OWNER_SHARED), order
        for pfn in self._free_runs(pages):
            try:
                self.alloc_contig_range(pfn, pfn + pages, owner=c.OWNER_SHARED)
            except MisuseError:  # somebody was faster in this run, or it crosses a hole
                continue
            return pfn, _RANGE | pages
        raise OutOfMemoryError(
            f"empty: {format_bytes(size)} need {pages} free pages in a row, which there are not;"
            " free something, or create a larger arena"
        )

    def _free_runs(self, pages: int) -> list[int]:
        """First pfns of runs of whole free blocks of the highest order that hold ``pages``."""
        geometry, layout = self.segment.geometry, self.segment.layout
        self.drain()
        step = 1 << geometry.max_order
        first = layout.at["memmap"]
        heads = self.segment.ram.array[
            first : first + geometry.pages * c.D_WORDS : step * c.D_WORDS
        ]
        wanted = c.T_FREE | geometry.max_order << c.ORDER_SHIFT
        free = (heads & (c.TYPE_MASK | c.ORDER_MASK << c.ORDER_SHIFT)) == wanted
        zones = (heads >> c.ZONE_SHIFT) & c.ZONE_MASK
        blocks = -(-pages // step)
        found, length = [], 0
        for k in range(len(free)):
            same_zone = length > 0 and zones[k] == zones[k - 1]
            length = (length + 1 if same_zone else 1) if free[k] else 0
            if length >= blocks:
                found.append((k - blocks + 1) * step)
        return found

    def _free_block(self, data: int, how: int) -> None:
        geometry = self.segment.geometry
        pfn = (data - self.segment.layout.at["frames"]) // geometry.page_words
        if how & _RANGE:
            self.free_contig_range(pfn, pfn + (how ^ _RANGE))
        else:
            self.free_pages(pfn, how)

    def _view_of(self, data: int) -> NDArray[Any]:
        """The array of the block at word ``data``, from what its header says."""
        words = self.segment.ram.array
        skip, dimensions, length = (int(word) for word in words[data : data + _FIXED_WORDS])
        at = data + _FIXED_WORDS
        shape = tuple(int(word) for word in words[at : at + dimensions])
        at += dimensions
        text = words[at : at + -(-length // 8)].tobytes()[:length].decode()
        kind = np.lib.format.descr_to_dtype(ast.literal_eval(text))
        size = math.prod(shape) * kind.itemsize
        return np.ndarray(shape, kind, buffer=self.segment.view(data + skip, size))


def _checked(shape: Shape, dtype: DTypeLike) -> tuple[np.dtype[Any], tuple[int, ...]]:
    try:
        kind = np.dtype(dtype)
        dimensions = (shape,) if isinstance(shape, int) else tuple(int(n) for n in shape)
    except (TypeError, ValueError) as error:
        raise MisuseError(f"shape, dtype: {shape!r}, {dtype!r}: {error}") from error
    if kind.hasobject:
        raise MisuseError(
            f"dtype: {kind}: Python objects live in one process; use numbers, bytes or structures"
        )
    if kind.itemsize == 0 or min(dimensions, default=0) < 0:
        raise MisuseError(f"shape, dtype: {dimensions}, {kind}; use lengths >= 0, items >= 1 byte")
    return kind, dimensions


def _header_words(kind: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[np.int64]:
    text = repr(np.lib.format.dtype_to_descr(kind)).encode()
    used = _FIXED_WORDS + len(shape) + -(-len(text) // 8)
    words = np.zeros(-(-used * 8 // ALIGN_BYTES) * ALIGN_BYTES // 8, dtype=np.int64)
    words[:_FIXED_WORDS] = len(words), len(shape), len(text)
    words[_FIXED_WORDS : _FIXED_WORDS + len(shape)] = shape
    packed = text + b"\0" * (-len(text) % 8)
    words[_FIXED_WORDS + len(shape) : used] = np.frombuffer(packed, np.int64)
    return words

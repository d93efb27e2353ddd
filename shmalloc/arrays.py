"""numpy arrays in a segment: made in one process, opened in any by a handle of 24 bytes.

``SharedArray`` is a counted reference to one array. It pickles to 24 bytes, three little-endian
uint64 (plus what pickle adds to name the function that opens them)::

    [ segment id | word index of the array's entry | generation of the entry ]

The entry (kernels/array_table.py) holds the reference count and the place of the block; the block
starts with a header, then come the data on a 64-byte boundary of the segment::

    [ words to the data | dimensions | length of dtype text | shape ... | dtype text ... ][ data ]

Rules for callers. A pickled handle holds no reference: the sender keeps its array open until the
receiver has opened it; later, opening raises ``MisuseError`` (never other memory). A process that
opens an array closes it: ``close()`` or ``with``. The last close frees the block. No finalizer
frees anything, because a garbage collector that runs inside an allocation would reenter the
allocator. A numpy view kept after close reads memory that may have another owner.
"""

from __future__ import annotations

import ast
import math
import struct
from collections.abc import Callable, Sequence
from functools import lru_cache
from types import TracebackType
from typing import Any, ClassVar, cast

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from shmalloc import constants as c
from shmalloc.bound import THIS_PROCESS
from shmalloc.errors import MisuseError, OutOfMemoryError
from shmalloc.kernels.array_table import add_reference
from shmalloc.kernels.shared_arrays import AR_RANGE, drop_array, enter_array, make_array
from shmalloc.pages import PageOperations
from shmalloc.sizes import format_bytes

HANDLE = struct.Struct("<QQQ")
ALIGN_BYTES = 64
_FIXED_WORDS = 3
_LAST_GENERATION = (1 << 63 - c.AR_GENERATION_SHIFT) - 1
_KNOWN_KINDS = 256  # dtypes and shapes whose headers are kept
_MOST_HEADER_WORDS = 8192
# What parsing a text that is no dtype raises; the last two are of one that is nested too deeply.
_UNREADABLE = (ValueError, SyntaxError, TypeError, LookupError, MemoryError, RecursionError)

Shape = int | Sequence[int]


class SharedArray:
    """A counted reference to an array in a segment; ``array`` is its numpy view."""

    __slots__ = ("__weakref__", "_arena", "_array", "_entry", "_generation")

    def __init__(
        self, arena: ArrayOperations, entry: int, generation: int, array: NDArray[Any]
    ) -> None:
        self._arena = arena
        self._entry = entry
        self._generation = generation
        self._array: NDArray[Any] | None = array

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
        """Drop the reference, once; how many are left. At 0 the memory is free."""
        array, self._array = self._array, None
        if array is None or self._arena.segment.closed:
            return 0
        return self._arena._drop(self._entry, self._generation, array.nbytes)

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
        return type(self._arena).open_handle, (self.handle(),)

    def __repr__(self) -> str:
        if self._array is None or self._arena.closed:
            return "<SharedArray closed>"
        return f"<SharedArray {self.dtype} {self.shape} in {self._arena.name}>"


def unpack_handle(handle: bytes) -> tuple[int, int, int]:
    """The segment, the entry and the generation that a handle names."""
    if not isinstance(handle, bytes) or len(handle) != HANDLE.size:
        raise MisuseError(f"handle: {handle!r}; use the 24 bytes of SharedArray.handle()")
    segment_id, entry, generation = HANDLE.unpack(handle)
    return segment_id, entry, generation


class ArrayOperations(PageOperations):
    """Arrays in the pages of an arena.

    ``open_handle``: the function that a pickled array calls in the process that reads it.
    """

    open_handle: ClassVar[Callable[[bytes], SharedArray]]

    def _bind(self) -> None:
        super()._bind()
        geometry = self.segment.geometry
        self._page_bytes = geometry.page_bytes
        self._block_bytes = geometry.page_bytes << geometry.max_order
        self._do_make_array = self.builtin(make_array)
        self._do_drop_array = self.builtin(drop_array)
        self._do_add_reference = self.builtin(add_reference)

    def empty(self, shape: Shape, dtype: DTypeLike = float) -> SharedArray:
        """A new array with unspecified contents. Raises ``OutOfMemoryError``."""
        kind, dimensions = _dimensions(shape, dtype)
        header, size = _planned(kind, dimensions)
        if self.segment.closed:
            raise self.is_closed()
        if size > self._block_bytes:
            entry, generation, data = self._make_range(size)
        else:
            order = ((size - 1) // self._page_bytes).bit_length()
            entry, generation, data = self._do_make_array(self.cpu, order, THIS_PROCESS.pid)
            if entry < 0 or self._rescuer.found:
                self.settle(entry, f"empty: {format_bytes(size)}")
        block = self.segment.view(data, size)
        block[: len(header)] = header
        return SharedArray(
            self, entry, generation, np.ndarray(dimensions, kind, block, len(header))
        )

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
        segment_id, entry, generation = unpack_handle(handle)
        self.check_open()
        self.segment.check_file()
        if segment_id != self.segment.id:
            raise MisuseError(f"handle: of another segment than {self.name!r}; use open_array()")
        known = self._is_entry(entry) and generation <= _LAST_GENERATION
        if not known or self._do_add_reference(self.cpu, entry, generation) < 0:
            raise MisuseError(
                "handle: its array was freed; the sender keeps it open until it is opened here"
            )
        try:
            return SharedArray(self, entry, generation, self._view_of(entry))
        except MisuseError:
            self.run(drop_array, entry, generation)
            raise

    def _is_entry(self, entry: int) -> bool:
        """Whether a word, from an untrusted handle, is an entry of the array table."""
        layout, geometry = self.segment.layout, self.segment.geometry
        pfn, inside = divmod(entry - layout.at["frames"], geometry.page_words)
        if not 0 <= pfn < geometry.pages or inside % c.AR_STRIDE:
            return False
        at = layout.descriptor(pfn)
        is_allocated = self.segment.ram[at] & c.TYPE_MASK == c.T_ALLOCATED
        return is_allocated and self.segment.ram[at + 1] == c.OWNER_ARRAYS

    def _drop(self, entry: int, generation: int, nbytes: int) -> int:
        if nbytes > self._block_bytes:
            left = self.run(drop_array, entry, generation)  # frees many pages, one by one
        else:
            left = self._do_drop_array(self.cpu, entry, generation)
        if left < 0 or self._rescuer.found:
            self.settle(left, "close of an array")
        return left

    def _make_range(self, size: int) -> tuple[int, int, int]:
        """(entry, generation, word) of an array that is a range of single pages."""
        pages = -(-size // self._page_bytes)
        pfn = self._alloc_range(pages, size)
        data = self.segment.layout.frame(pfn)
        how, pid = AR_RANGE | pages, THIS_PROCESS.pid
        made = self.engine.call(enter_array, self.segment.ram, self.cpu, data, how, pid)
        entry, generation = cast(tuple[int, int], made)
        if entry < 0:
            self.free_contig_range(pfn, pfn + pages)
        self.settle(entry, f"empty: {format_bytes(size)}")
        return entry, generation, data

    def _alloc_range(self, pages: int, size: int) -> int:
        """First pfn of ``pages`` contiguous single pages, more than one block can have."""
        for pfn in self._free_runs(pages):
            try:
                self.alloc_contig_range(pfn, pfn + pages, owner=c.OWNER_SHARED)
            except MisuseError:  # another CPU took pages of this run, or it crosses a hole
                continue
            return pfn
        raise OutOfMemoryError(
            f"empty: {format_bytes(size)} needs {pages} contiguous free pages, none are left;"
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

    def _view_of(self, entry: int) -> NDArray[Any]:
        """The array of an entry, as the header in its block describes it.

        A stray write may have changed any of these words, so nothing outside of the block is read.
        """
        ram, layout = self.segment.ram, self.segment.layout
        data, how = ram[entry + c.AR_DATA], ram[entry + c.AR_HOW]
        pages = how ^ AR_RANGE if how & AR_RANGE else 1 << min(how & c.ORDER_MASK, c.ORDERS)
        words = pages * self._page_bytes // 8
        if not layout.at["frames"] <= data <= layout.words - words:
            raise _overwritten(f"its block would be at word {data}")
        length = ram[data]
        if not _FIXED_WORDS <= length <= min(words, _MOST_HEADER_WORDS):
            raise _overwritten(f"it would have {length} words")
        header = self.segment.view(data, length * 8).tobytes()
        kind, shape = _described(header)
        size = math.prod(shape) * kind.itemsize
        if len(header) + size > words * 8:
            raise _overwritten(f"{size} bytes would not fit into its block of {words * 8}")
        try:
            return np.ndarray(shape, kind, self.segment.view(data + len(header) // 8, size))
        except ValueError as error:  # more dimensions than numpy has, or empty and yet too long
            raise _overwritten(str(error)) from error


def _overwritten(reason: str) -> MisuseError:
    return MisuseError(
        f"handle: the header of its array was overwritten ({reason}); find who writes outside of"
        " an array, and make it again"
    )


def _dimensions(shape: Shape, dtype: DTypeLike) -> tuple[np.dtype[Any], tuple[int, ...]]:
    try:
        kind = np.dtype(dtype)
        if isinstance(shape, int):
            return kind, (shape,)
        return kind, tuple(int(n) for n in shape)
    except (TypeError, ValueError) as error:
        raise MisuseError(f"shape, dtype: {shape!r}, {dtype!r}: {error}") from error


@lru_cache(maxsize=_KNOWN_KINDS)
def _planned(kind: np.dtype[Any], dimensions: tuple[int, ...]) -> tuple[bytes, int]:
    """Header of an array, and the bytes of the array with its header.

    Raises ``MisuseError`` for an impossible array.
    """
    if kind.hasobject:
        raise MisuseError(
            f"dtype: {kind}: Python objects live in one process; use numbers, bytes or structures"
        )
    if kind.itemsize == 0 or min(dimensions, default=0) < 0:
        raise MisuseError(f"shape, dtype: {dimensions}, {kind}; use lengths >= 0, items >= 1 byte")
    header = _header_words(kind, dimensions).tobytes()
    if len(header) > _MOST_HEADER_WORDS * 8:
        raise MisuseError(f"dtype: its text takes {len(header)} bytes; use fewer fields")
    return header, len(header) + math.prod(dimensions) * kind.itemsize


@lru_cache(maxsize=_KNOWN_KINDS)
def _described(header: bytes) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """What ``_header_words`` wrote. Raises ``MisuseError`` for anything that it does not write.

    A dtype with objects would make numpy follow pointers that are none.
    """
    words = np.frombuffer(header, np.int64)
    dimensions, length = int(words[1]), int(words[2])
    if not 0 <= dimensions <= len(words) - _FIXED_WORDS:
        raise _overwritten(f"{dimensions} dimensions")
    shape = tuple(int(word) for word in words[_FIXED_WORDS : _FIXED_WORDS + dimensions])
    text = words[_FIXED_WORDS + dimensions :].tobytes()[: max(length, 0)]
    try:
        kind = np.lib.format.descr_to_dtype(ast.literal_eval(text.decode()))
        written, _ = _planned(kind, shape)
    except _UNREADABLE as error:
        raise _overwritten(f"{text[:40]!r} is no dtype of an array") from error
    if written != header:
        raise _overwritten(f"{text[:40]!r} is not how a dtype is written")
    return kind, shape


def _header_words(kind: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[np.int64]:
    text = repr(np.lib.format.dtype_to_descr(kind)).encode()
    used = _FIXED_WORDS + len(shape) + -(-len(text) // 8)
    words = np.zeros(-(-used * 8 // ALIGN_BYTES) * ALIGN_BYTES // 8, dtype=np.int64)
    words[:_FIXED_WORDS] = len(words), len(shape), len(text)
    words[_FIXED_WORDS : _FIXED_WORDS + len(shape)] = shape
    packed = text + b"\0" * (-len(text) % 8)
    words[_FIXED_WORDS + len(shape) : used] = np.frombuffer(packed, np.int64)
    return words

"""What the words of a segment say about arrays: records of references, and where an array ends.

The structures are those of kernels/array_table.py, read from Python; nothing is written. A number
that came from outside is checked here before a kernel sees it.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator

import numpy as np

from shmalloc import constants as c
from shmalloc.array_header import Plan
from shmalloc.errors import MisuseError
from shmalloc.layout import Layout
from shmalloc.segment import Segment

HANDLE = struct.Struct("<QQQ")
_LAST_GENERATION = (1 << 63 - c.AR_GENERATION_SHIFT) - 1


def unpack_handle(handle: bytes) -> tuple[int, int, int]:
    """The segment, the entry and the generation that a handle names."""
    if not isinstance(handle, bytes) or len(handle) != HANDLE.size:
        raise MisuseError(f"handle: {handle!r}; use the 24 bytes of SharedArray.handle()")
    segment_id, entry, generation = HANDLE.unpack(handle)
    return segment_id, entry, generation


def freed() -> MisuseError:
    return MisuseError(
        "handle: its array was freed; the sender keeps it until it is opened here, or sends a"
        " ticket: arena.send(array)"
    )


def entry_word(layout: Layout, pfn: int) -> int:
    """Word of the entry of the arrays that begin at ``pfn``."""
    return layout.at["arrays"] + pfn * c.AR_STRIDE


def may_be_array(segment: Segment, pfn: int, generation: int) -> bool:
    """Whether numbers from outside are in range."""
    return 0 <= pfn < segment.geometry.pages and 0 < generation <= _LAST_GENERATION


def table_of(segment: Segment, claim: int) -> int:
    """Word of the first page of a claim's table; 0: it has none."""
    return segment.ram[segment.layout.at["references"] + claim] & ~c.TABLE_GROWS


def held_of(segment: Segment, claim: int) -> int:
    """How many references a claim holds, by its table."""
    root = table_of(segment, claim)
    return segment.ram[root + c.RT_HELD] if root else 0


def records_of(segment: Segment, claim: int) -> Iterator[tuple[int, int]]:
    """(word, slot) of every record in use in a claim's table."""
    ram, words = segment.ram, segment.geometry.page_words
    root = table_of(segment, claim)
    left, slot = (ram[root + c.RT_PAGES] >> 32 if root else 0), 0
    while root and left:
        for place in range(c.RT_FIRST, min(words, c.RT_FIRST + left)):
            page = ram[root + place]
            states = ram.array[page : page + words : c.RE_STRIDE]
            for k in np.flatnonzero(states).tolist():
                yield page + k * c.RE_STRIDE, slot + k
            slot += words // c.RE_STRIDE
            left -= 1
        root = ram[root + c.RT_NEXT]


def held_records(segment: Segment, claim: int) -> Iterator[tuple[int, int]]:
    """(slot, number) of every reference that a claim holds."""
    for at, slot in records_of(segment, claim):
        if segment.ram[at] & c.RE_STATE_MASK == c.RE_HELD:
            yield slot, segment.ram[at + c.RE_SEQUENCE]


def tickets(segment: Segment) -> list[tuple[int, int, int]]:
    """(claim, word of the record, number) of all that is in transit."""
    ram, found = segment.ram, []
    for claim in range(segment.ram.load(c.H_CLAIMS_USED)):
        for at, _ in records_of(segment, claim):
            word, number = ram[at], ram[at + c.RE_SEQUENCE]
            if word & c.RE_STATE_MASK in (c.RE_TRANSIT, c.RE_ORPHAN) and _is_sent(segment, at):
                found.append((claim, at, number))
    return found


def _is_sent(segment: Segment, at: int) -> bool:
    """Whether a ticket is not loaded yet: the entry may know it before the record does."""
    ram = segment.ram
    entry = entry_word(segment.layout, ram[at] >> c.RE_PFN_SHIFT)
    low = (ram[at + c.RE_SEQUENCE] & c.TAG_SEQUENCE_MASK) << 1 | c.TAG_DROPPED
    return ram[entry + c.AR_TAG] != at << c.TAG_RECORD_SHIFT - 1 | low


def pages_of(segment: Segment, pfn: int) -> int:
    """Pages of the block that begins at ``pfn``."""
    word = segment.ram[segment.layout.descriptor(pfn)]
    return 1 << min(word >> c.ORDER_SHIFT & c.ORDER_MASK, c.ORDERS)


def all_pages_of(segment: Segment, pfn: int) -> int:
    """Pages of the array that begins at ``pfn``, which may be several blocks in a row."""
    pages = pages_of(segment, pfn)
    while pfn + pages < segment.geometry.pages and _same(segment, pfn, pfn + pages):
        pages += pages_of(segment, pfn + pages)
    return pages


def _same(segment: Segment, pfn: int, other: int) -> bool:
    """Whether two allocated pages belong to one array."""
    descriptor, ram = segment.layout.descriptor, segment.ram
    name = ram[descriptor(pfn) + 1]
    is_allocated = ram[descriptor(other)] & c.TYPE_MASK == c.T_ALLOCATED
    return is_allocated and name & c.OWNER_ARRAY != 0 and ram[descriptor(other) + 1] == name


def fits(
    segment: Segment, pfn: int, first: int, plan: Plan, strides: tuple[int, ...] | None
) -> bool:
    """Whether an array or a view from byte ``first`` on lies in the pages of the array at ``pfn``.

    ``strides``: None if they follow from the plan.
    """
    start = segment.layout.frame(pfn) << 3
    low = high = first
    if 0 not in plan.shape:
        if strides is None:
            high += math.prod(plan.shape) * plan.kind.itemsize
        else:
            steps = [(n - 1) * step for n, step in zip(plan.shape, strides, strict=True)]
            low += sum(min(step, 0) for step in steps)
            high += sum(max(step, 0) for step in steps) + plan.kind.itemsize
    needed = -(-(high - start) // segment.geometry.page_bytes)
    end = pfn + needed
    if low < start or end > segment.geometry.pages:
        return False
    at = pfn + pages_of(segment, pfn)
    while at < end and _same(segment, pfn, at):
        at += pages_of(segment, at)
    return at >= end

"""Make and drop an array in one call each: its pages and its entry of the array table.

Built from ``pages`` and ``array_table``, in the order that both require: the block exists before an
entry names it, and an entry is closed after its block is freed. A process that dies in between
leaves an unused block or entry behind, and nothing else (docs/recovery.md).

The entry's AR_HOW says how the block was allocated: its order, or AR_RANGE | a number of single
pages in a row. Blocks belong to OWNER_SHARED, so that no reap frees what others still read.

Nothing here reads or writes the data or its header: no process sees them until the maker passes on
the handle.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import kernel, unit
from shmalloc.kernels.array_table import close_entry, drop_reference, grow_entries, open_entry
from shmalloc.kernels.contig import free_contig_range
from shmalloc.kernels.slab_format import give_pages_back, slab_pages
from shmalloc.kernels.zone import frame_at, pfn_of_word
from shmalloc.units import Cpu, Int, Memory, Order, Pfn, WordIndex
from shmalloc.words import load_relaxed

AR_RANGE = 1 << 32


@unit
def make_array(mem: Memory, cpu: Cpu, order: Order, pid: int) -> tuple[WordIndex, int, WordIndex]:
    """A block of 2^order pages with one reference: (entry, its generation, word of the block).

    The first is negative, a code of ``alloc_pages``, if a page is missing: nothing is made.
    """
    pfn = slab_pages(mem, cpu, order, c.OWNER_SHARED)
    if pfn < 0:
        return +pfn, 0, 0
    data = frame_at(mem, pfn)
    entry, generation = enter_array(mem, cpu, data, order, pid)
    if entry < 0:
        give_pages_back(mem, cpu, pfn, order, c.OWNER_SHARED)
    return entry, generation, data


@unit
def enter_array(
    mem: Memory, cpu: Cpu, data: WordIndex, how: Int, pid: int
) -> tuple[WordIndex, int]:
    """An entry with one reference to the block at ``data``: (entry, its generation).

    The table grows by a page when it is full; the entry is negative if there is no page for it.
    """
    entry = open_entry(mem, cpu, data, how, pid)
    while entry < 0:
        pfn = slab_pages(mem, cpu, 0, c.OWNER_ARRAYS)
        if pfn < 0:
            return +pfn, 0
        grow_entries(mem, cpu, pfn)
        entry = open_entry(mem, cpu, data, how, pid)  # other CPUs may have been faster again
    return entry, load_relaxed(mem, entry + c.AR_COUNT) >> c.AR_GENERATION_SHIFT


@unit
def drop_array(mem: Memory, cpu: Cpu, entry: WordIndex, generation: int) -> int:
    """Drop a reference; how many are left. With the last one, the block and the entry are free.

    E_STATE: there is no such reference, or its block was not allocated any more (reported); the
    entry of such a block is never used again.
    """
    data = load_relaxed(mem, entry + c.AR_DATA)  # once our reference is gone, another array's
    how = load_relaxed(mem, entry + c.AR_HOW)
    left = drop_reference(mem, cpu, entry, generation)
    if left == 0:
        if not free_array(mem, cpu, pfn_of_word(mem, data), how):
            return c.E_STATE
        close_entry(mem, cpu, entry)
    return left


@kernel
def free_array(mem: Memory, cpu: Cpu, pfn: Pfn, how: Int) -> bool:
    """Free the block of an array; False if some of it was not allocated."""
    if how & AR_RANGE == 0:
        return give_pages_back(mem, cpu, pfn, +how, c.OWNER_SHARED) == 0
    pages: int = how ^ AR_RANGE
    return free_contig_range(mem, cpu, pfn, pfn + pages) == pages

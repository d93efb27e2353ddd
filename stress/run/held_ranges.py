"""Pageblocks that are isolated or offline, compared with what workers say that they keep so.

``contig`` notes each range that it isolated or took offline in its work area, after it has got it,
and takes the note back before it gives the range back. So while all workers are parked every
pageblock that is isolated is in one note, with the isolator's claim in it, and every noted range is
as it was made. What is isolated besides was left over by an operation that is done.

Read from the words of the segment; no kernel is asked. Of workloads of users nothing is known, and
a worker that died may have left a range offline before it could note it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from shmalloc import constants as c
from shmalloc.errors import Violation
from shmalloc.invariants import name_of
from shmalloc.layout import Layout
from shmalloc.memory import Ram
from stress.workloads.area import W_DATA
from stress.workloads.contig import (
    CONTIG_END,
    CONTIG_KIND,
    CONTIG_SLOTS,
    CONTIG_START,
    CONTIG_STRIDE,
    KIND_ISOLATED,
    KIND_OFFLINE,
)

KEEPER = "contig"  # the workload that keeps ranges
FREE, OFFLINE = "in service", "offline"


def changed_ranges(
    ram: Ram, layout: Layout, books: Mapping[int, str], deaths: bool
) -> list[Violation]:
    """One violation for the first pageblock that is not as its notes say, and none if all are.

    ``books``: the workload of each worker by its CPU. All workers are parked.
    """
    kept = _noted(ram, layout, [cpu for cpu, name in books.items() if name == KEEPER])
    found = dict(_out_of_service(ram, layout))
    for block in sorted(kept.keys() | found.keys()):
        expected, state = kept.get(block, FREE), found.get(block, FREE)
        if expected != state and not (deaths and (expected, state) == (FREE, OFFLINE)):
            pfn = block << layout.geometry.pageblock_order
            return [Violation(name_of(c.X_RANGE), f"pageblock of pfn {pfn}", expected, state)]
    return []


def _noted(ram: Ram, layout: Layout, keepers: list[int]) -> dict[int, str]:
    """Pageblock -> what its keeper made of it."""
    noted: dict[int, str] = {}
    low = layout.geometry.pageblock_order
    for cpu in keepers:
        first = layout.work(cpu) + W_DATA
        for slot in range(first, first + CONTIG_SLOTS * CONTIG_STRIDE, CONTIG_STRIDE):
            states = {KIND_ISOLATED: _isolated_by(cpu), KIND_OFFLINE: OFFLINE}
            state = states.get(ram[slot + CONTIG_KIND])
            if state is not None:
                blocks = range(ram[slot + CONTIG_START] >> low, ram[slot + CONTIG_END] >> low)
                noted |= dict.fromkeys(blocks, state)
    return noted


def _out_of_service(ram: Ram, layout: Layout) -> Iterator[tuple[int, str]]:
    """Every pageblock that is isolated, and for whom."""
    geometry, at = layout.geometry, layout.at["blocks"]
    words = ram.array[at : at + -(-geometry.pages >> geometry.pageblock_order)]
    for block in np.flatnonzero(words & c.MT_MASK == c.MT_ISOLATE).tolist():
        holder = int(words[block]) >> c.BLOCK_ISOLATOR_SHIFT
        yield block, OFFLINE if holder == 0 else _isolated_by((holder - 1) & c.CLAIM_MASK)


def _isolated_by(claim: int) -> str:
    return f"isolated by claim {claim}"

"""The work area: what a workload remembers between two batches, one area for each claim.

::

     0 random state | 1 sequence | 2 peer | 3 workers | 4 cursor | 5 held
     6 operations of this slice | 7 its longest call in ns, both for the views of a run
     8 .. 15   parameters of the workload
    16 ..      its own data

The area is private to the worker with the claim, unless a workload says otherwise (handoff). The
controller clears it and writes words 0, 2, 3 and the parameters while all workers are parked, so
these writes need no ordering. The area is memory of the segment, not of the process: it still
shows what a dead worker held.

A held block is two words: ``pfn << 4 | order`` and its owner id; an id of 0 is an empty slot.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import kernel
from shmalloc.kernels.pages import alloc_pages, free_pages
from shmalloc.units import Claim, Memory, Migratetype, Order, Owner, Pfn, WordIndex
from shmalloc.words import fixed, load_relaxed
from stress.oracles.filling import check_ends
from stress.oracles.owners import ID_CLAIM_BITS, check_stamp, disown, make_id, own, stamp
from stress.seeds import below, next_random
from stress.workloads.latency import L_ALLOC_PAGES, L_FREE_PAGES, SAMPLE_EVERY, clock_of_some, note

W_RANDOM = 0
W_SEQUENCE = 1
W_PEER = 2
W_WORKERS = 3
W_CURSOR = 4
W_HELD = 5
W_OPERATIONS = 6
W_LONGEST_NS = 7
W_PARAMETERS = 8
W_DATA = 16
BLOCK_WORDS = 2
BLOCK_ORDER_BITS = 4
BLOCK_ORDER_MASK = 15


@kernel
def work_at(mem: Memory, claim: Claim) -> WordIndex:
    """Word index of the claim's work area."""
    return fixed(mem, c.H_AT_WORK) + claim * fixed(mem, c.H_WORK_WORDS)


@kernel
def stopping(mem: Memory) -> bool:
    """Whether loops must end now: at a stutter point or at the end of the run."""
    return load_relaxed(mem, c.H_STOP) != 0


@kernel
def draw(mem: Memory, at: WordIndex, limit: int) -> int:
    """A random number from 0 to ``limit - 1`` from the work area at ``at``."""
    return below(mem, next_random(mem, at + W_RANDOM), limit)


@kernel
def fresh_id(mem: Memory, claim: Claim, at: WordIndex) -> Owner:
    """An owner id that this CPU has not used before."""
    mem[at + W_SEQUENCE] = mem[at + W_SEQUENCE] + 1
    return make_id(mem, claim, mem[at + W_SEQUENCE])


@kernel
def enter_block(
    mem: Memory, claim: Claim, entry: WordIndex, pfn: Pfn, order: Order, owner: Owner
) -> int:
    """Enter a block that was just allocated for ``owner`` into the table, owner map and stamp."""
    mem[entry] = (pfn << BLOCK_ORDER_BITS) | order
    mem[entry + 1] = owner
    code = own(mem, claim, pfn, order, owner)
    if code == 0:
        check_ends(mem, claim, pfn, order)
        stamp(mem, pfn, order, owner)
    return code


@kernel
def leave_block(mem: Memory, claim: Claim, entry: WordIndex) -> int:
    """Check a held block and remove it from the table and the owner map: pfn, or E_STATE.

    The caller frees it next. After E_STATE leave the block alone: it may have another owner.
    """
    pfn = mem[entry] >> BLOCK_ORDER_BITS
    order = mem[entry] & BLOCK_ORDER_MASK
    owner = mem[entry + 1]
    mem[entry + 1] = 0
    if check_stamp(mem, claim, pfn, order, owner) != 0:
        return c.E_STATE
    if disown(mem, claim, pfn, order, owner) != 0:
        return c.E_STATE
    return pfn


@kernel
def take_into(
    mem: Memory, claim: Claim, at: WordIndex, entry: WordIndex, order: Order, mt: Migratetype
) -> Pfn:
    """Allocate into the empty slot ``entry``: 0, or the allocator's negative code."""
    owner = fresh_id(mem, claim, at)
    began = clock_of_some(mem, mem[at + W_SEQUENCE], SAMPLE_EVERY)
    pfn = alloc_pages(mem, claim, order, mt, owner)
    note(mem, claim, L_ALLOC_PAGES, began, pfn)
    if pfn < 0:
        return pfn
    return enter_block(mem, claim, entry, pfn, order, owner)


@kernel
def give_from(mem: Memory, claim: Claim, entry: WordIndex) -> int:
    """Free the block held in slot ``entry``: 0, or the allocator's negative code."""
    order = mem[entry] & BLOCK_ORDER_MASK
    number = mem[entry + 1] >> ID_CLAIM_BITS
    pfn = leave_block(mem, claim, entry)
    if pfn < 0:
        return pfn
    began = clock_of_some(mem, number, SAMPLE_EVERY)
    code = free_pages(mem, claim, pfn, order)
    note(mem, claim, L_FREE_PAGES, began, code)
    return code


@kernel
def give_all(mem: Memory, claim: Claim, table: WordIndex, slots: int) -> int:
    """Free every block of a table; returns their number."""
    given = 0
    for i in range(slots):
        entry = table + i * BLOCK_WORDS
        if mem[entry + 1] != 0:
            give_from(mem, claim, entry)
            given += 1
    return given

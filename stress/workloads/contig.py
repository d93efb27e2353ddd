"""contig: takes ranges of pages by address: contiguous allocation, isolation, offlining.

Imitates CMA, memory hotplug and device reservations. Picks a range at random and holds it for a
while, in one of three ways::

    work area: W_DATA, one record a range: [kind][first pfn][end pfn][owner id]

Hunts: pages that leave the lists twice, isolated free pages counted as free, pages freed onto a
per-CPU list while their pageblock is being isolated, merges across an isolated border, ranges that
return to service while another worker holds them.
Must reach: isolate, contig, offline.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import kernel
from shmalloc.kernels.bits import type_of
from shmalloc.kernels.contig import (
    alloc_contig_range,
    free_contig_range,
    isolate_range,
    offline_range,
    online_range,
    unisolate_range,
)
from shmalloc.kernels.descriptor import page_state
from shmalloc.kernels.reporting import report
from shmalloc.kernels.zone import block_mt
from shmalloc.units import Claim, Memory, Owner, Pfn, WordIndex
from shmalloc.words import fixed
from stress.oracles.filling import check_ends
from stress.oracles.isolation import check_unlisted
from stress.oracles.owners import check_stamp, disown, own, stamp
from stress.workloads.area import W_DATA, draw, fresh_id, stopping, work_at
from stress.workloads.latency import (
    L_ALLOC_CONTIG_RANGE,
    L_FREE_CONTIG_RANGE,
    L_ISOLATE_RANGE,
    L_OFFLINE_RANGE,
    L_ONLINE_RANGE,
    L_UNISOLATE_RANGE,
    clock_of,
    note,
)

CONTIG_SLOTS = 8
CONTIG_STRIDE = 4
CONTIG_KIND = 0
CONTIG_START = 1
CONTIG_END = 2
CONTIG_OWNER = 3
CONTIG_WORDS = W_DATA + CONTIG_SLOTS * CONTIG_STRIDE
CONTIG_BLOCKS = 2  # most pageblocks of a range
KIND_NONE = 0
KIND_TAKEN = 1
KIND_ISOLATED = 2
KIND_OFFLINE = 3
KIND_COUNT = 4


@kernel
def contig(mem: Memory, claim: Claim, steps: int) -> int:
    """Take or give back ``steps`` ranges; returns the attempts."""
    at = work_at(mem, claim)
    done = 0
    for _ in range(steps):
        if stopping(mem):
            break
        slot = at + W_DATA + draw(mem, at, CONTIG_SLOTS) * CONTIG_STRIDE
        if mem[slot + CONTIG_KIND] != KIND_NONE:
            contig_give(mem, claim, slot)
        else:
            contig_take(mem, claim, at, slot, 1 + draw(mem, at, KIND_COUNT - 1))
        done += 1
    return done


@kernel
def contig_take(mem: Memory, claim: Claim, at: WordIndex, slot: WordIndex, kind: int) -> None:
    """Try to take a random range of one or two pageblocks in the given way."""
    block_pages = 1 << fixed(mem, c.H_PAGEBLOCK_ORDER)
    blocks = fixed(mem, c.H_PAGES) >> fixed(mem, c.H_PAGEBLOCK_ORDER)
    if blocks == 0:
        return
    start = draw(mem, at, blocks) << fixed(mem, c.H_PAGEBLOCK_ORDER)
    end = start + block_pages * (1 + draw(mem, at, CONTIG_BLOCKS))
    owner = fresh_id(mem, claim, at)
    if kind == KIND_TAKEN:
        start += draw(mem, at, block_pages)
    if contig_change(mem, claim, start, end, kind, owner) != 0:
        return
    mem[slot + CONTIG_KIND] = kind
    mem[slot + CONTIG_START] = start
    mem[slot + CONTIG_END] = end
    mem[slot + CONTIG_OWNER] = owner
    if kind == KIND_TAKEN:
        for pfn in range(start, end):
            if own(mem, claim, pfn, 0, owner) == 0:
                check_ends(mem, claim, pfn, 0)
                stamp(mem, pfn, 0, owner)


@kernel
def contig_change(mem: Memory, claim: Claim, start: Pfn, end: Pfn, kind: int, owner: Owner) -> int:
    """Take the range in the given way: 0, or the allocator's negative code."""
    began = clock_of(mem)
    if kind == KIND_TAKEN:
        code = alloc_contig_range(mem, claim, start, end, owner)
        note(mem, claim, L_ALLOC_CONTIG_RANGE, began, code)
    elif kind == KIND_ISOLATED:
        code = isolate_range(mem, claim, start, end)
        note(mem, claim, L_ISOLATE_RANGE, began, code)
    else:
        code = offline_range(mem, claim, start, end)
        note(mem, claim, L_OFFLINE_RANGE, began, code)
    return code


@kernel
def contig_give(mem: Memory, claim: Claim, slot: WordIndex) -> None:
    """Give the range of the slot back, in the way in which it was taken."""
    kind = mem[slot + CONTIG_KIND]
    start = mem[slot + CONTIG_START]
    end = mem[slot + CONTIG_END]
    mem[slot + CONTIG_KIND] = KIND_NONE
    if kind == KIND_ISOLATED:
        contig_check(mem, claim, start, end, kind)
        began = clock_of(mem)
        unisolate_range(mem, claim, start, end)
        note(mem, claim, L_UNISOLATE_RANGE, began, 0)
    elif kind == KIND_OFFLINE:
        contig_check(mem, claim, start, end, kind)
        began = clock_of(mem)
        code = online_range(mem, claim, start, end)
        note(mem, claim, L_ONLINE_RANGE, began, code)
    elif contig_disown(mem, claim, start, end, mem[slot + CONTIG_OWNER]) == 0:
        began = clock_of(mem)
        code = free_contig_range(mem, claim, start, end)
        note(mem, claim, L_FREE_CONTIG_RANGE, began, code)


@kernel
def contig_check(mem: Memory, claim: Claim, start: Pfn, end: Pfn, kind: int) -> None:
    """A range that this worker isolated or took offline is still so, and on no per-CPU list.

    A page of it may have been out of service for good before.
    """
    check_unlisted(mem, claim, start, end)
    for at in range(start, end, 1 << fixed(mem, c.H_PAGEBLOCK_ORDER)):
        if block_mt(mem, at) != c.MT_ISOLATE:
            report(
                mem, claim, c.X_LOST_OWNER, at, c.IS_MT | c.MT_ISOLATE, c.IS_MT | block_mt(mem, at)
            )
        elif kind == KIND_OFFLINE:
            found = page_state(mem, at)
            if type_of(found) != c.T_OFFLINE and type_of(found) != c.T_POISONED:
                report(mem, claim, c.X_LOST_OWNER, at, c.IS_TYPE | c.T_OFFLINE, found)


@kernel
def contig_disown(mem: Memory, claim: Claim, start: Pfn, end: Pfn, owner: Owner) -> int:
    """Check every page of the range and remove it from the owner map; 0 if all were owned."""
    wrong = 0
    for pfn in range(start, end):
        wrong += check_stamp(mem, claim, pfn, 0, owner)
        wrong += disown(mem, claim, pfn, 0, owner)
    return wrong


@kernel
def contig_finish(mem: Memory, claim: Claim) -> int:
    """Give every range back."""
    given = 0
    for i in range(CONTIG_SLOTS):
        slot = work_at(mem, claim) + W_DATA + i * CONTIG_STRIDE
        if mem[slot + CONTIG_KIND] != KIND_NONE:
            contig_give(mem, claim, slot)
            given += 1
    return given

"""retire: pages leave service while they are free or in use, and lists are drained meanwhile.

Imitates memory that breaks (hwpoison), and drains for it. Each worker holds blocks of small orders;
now and then it drains the lists of all CPUs, and at a low rate it has a page taken out of service:
one of its own single pages, which leaves service when it is freed; a page of a larger block of its
own, which is refused; or any page, free or in another worker's use::

    work area: W_DATA, blocks as in area.py, with RETIRING in the first word of a marked page

A page that is marked has to be out of service after its free, which no state follows. All of that
ends when an eighth of the pages is out of service. What the zones lose has to be what the
descriptors say is out of service: the end of a run counts both.
Hunts: a mark that is lost at a free, or makes it fail; a page that returns to a list; a count that
keeps a page that is gone; a drain of lists that another CPU uses.
Must reach: alloc, free, split, merge, remote drain, retired pages.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import kernel
from shmalloc.kernels.bits import type_of
from shmalloc.kernels.descriptor import page_state
from shmalloc.kernels.pages import free_pages
from shmalloc.kernels.pages_bulk import free_bulk
from shmalloc.kernels.pcp import drain_all
from shmalloc.kernels.poison import poison_page
from shmalloc.kernels.reporting import report
from shmalloc.kernels.zone import zone_at
from shmalloc.units import Claim, Memory, Pfn, WordIndex
from shmalloc.words import fixed, load_relaxed
from stress.workloads.area import (
    BLOCK_ORDER_BITS,
    BLOCK_ORDER_MASK,
    BLOCK_WORDS,
    W_DATA,
    draw,
    give_from,
    leave_block,
    stopping,
    take_into,
    work_at,
)

RETIRE_SLOTS = 256
RETIRE_LIST = W_DATA + RETIRE_SLOTS * BLOCK_WORDS  # of one page, for a free in bulk
RETIRE_WORDS = RETIRE_LIST + 1
RETIRE_ORDERS = 3
RETIRE_ODDS = 1024
DRAIN_ODDS = 512
RETIRE_SHARE_SHIFT = 3  # most that may leave service: one in 8 pages
RETIRING = 1 << 50  # above the pfn of a held block


@kernel
def retire(mem: Memory, claim: Claim, steps: int) -> int:
    """Take, give, drain or retire, ``steps`` times; returns the operations done."""
    at = work_at(mem, claim)
    done = 0
    for _ in range(steps):
        if stopping(mem):
            break
        entry = at + W_DATA + draw(mem, at, RETIRE_SLOTS) * BLOCK_WORDS
        if draw(mem, at, DRAIN_ODDS) == 0:
            drain_all(mem, claim)
        elif draw(mem, at, RETIRE_ODDS) == 0:
            retire_one(mem, claim, at, entry)
        elif mem[entry + 1] != 0:
            retire_give(mem, claim, at, entry)
        else:
            order = min(draw(mem, at, RETIRE_ORDERS), fixed(mem, c.H_MAX_ORDER))
            take_into(mem, claim, at, entry, order, draw(mem, at, c.MT_PCP_TYPES))
        done += 1
    return done


@kernel
def may_retire(mem: Memory) -> bool:
    """Whether enough pages are in service for another one to leave."""
    managed = 0
    for zone_id in range(fixed(mem, c.H_ZONES)):
        managed += load_relaxed(mem, zone_at(mem, zone_id) + c.Z_MANAGED)
    pages = fixed(mem, c.H_PAGES)
    return managed >= pages - (pages >> RETIRE_SHARE_SHIFT)


@kernel
def retire_one(mem: Memory, claim: Claim, at: WordIndex, entry: WordIndex) -> None:
    """Have a page of the held block taken out of service, or, if none is held, any page."""
    if not may_retire(mem):
        return
    if mem[entry + 1] == 0:
        poison_page(mem, claim, draw(mem, at, fixed(mem, c.H_PAGES)))
        return
    order = mem[entry] & BLOCK_ORDER_MASK
    pfn: Pfn = (mem[entry] & (RETIRING - 1)) >> BLOCK_ORDER_BITS
    code = poison_page(mem, claim, pfn + draw(mem, at, 1 << order))
    wanted = c.E_BUSY
    if order == 0:
        wanted = 0
        mem[entry] = mem[entry] | RETIRING
    if code != wanted:
        report(mem, claim, c.X_LOST_OWNER, pfn, wanted, code)


@kernel
def retire_give(mem: Memory, claim: Claim, at: WordIndex, entry: WordIndex) -> None:
    """Free a held block. One that was marked here must be out of service then, for good.

    Such a page is freed alone or by a list: either path has to look for the mark.
    """
    if mem[entry] & RETIRING == 0:
        give_from(mem, claim, entry)
        return
    mem[entry] = mem[entry] & (RETIRING - 1)
    pfn = leave_block(mem, claim, entry)
    if pfn < 0:
        return
    if draw(mem, at, 2) == 0:
        free_pages(mem, claim, pfn, 0)
    else:
        mem[at + RETIRE_LIST] = pfn
        free_bulk(mem, claim, 0, 1, at + RETIRE_LIST)
    if type_of(page_state(mem, pfn)) != c.T_POISONED:
        report(mem, claim, c.X_LOST_OWNER, pfn, c.IS_TYPE | c.T_POISONED, page_state(mem, pfn))


@kernel
def retire_finish(mem: Memory, claim: Claim) -> int:
    """Free everything that the worker holds."""
    at = work_at(mem, claim)
    given = 0
    for i in range(RETIRE_SLOTS):
        entry = at + W_DATA + i * BLOCK_WORDS
        if mem[entry + 1] != 0:
            retire_give(mem, claim, at, entry)
            given += 1
    return given

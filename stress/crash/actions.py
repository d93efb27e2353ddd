"""What the CPUs do with pages in the cases of operations.py: each operation and its inverse.

Thread kernels ``(mem, cpu)``. They note what a CPU received where the check finds it (held.py); the
lists of bulk operations follow in the same work area. Objects: object_actions.py.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import kernel
from shmalloc.kernels.contig import (
    alloc_contig_range,
    free_contig_range,
    isolate_range,
    offline_range,
    online_range,
    unisolate_range,
)
from shmalloc.kernels.hotplug import plug_cpu, unplug_cpu
from shmalloc.kernels.lock import owner_word
from shmalloc.kernels.pages import alloc_pages, free_pages
from shmalloc.kernels.pages_bulk import alloc_bulk, free_bulk
from shmalloc.kernels.pages_wait import alloc_pages_wait
from shmalloc.kernels.pcp import drain_all, drain_cpu, pcp_decay
from shmalloc.kernels.poison import poison_page
from shmalloc.kernels.reap import adopt_pages
from shmalloc.kernels.recover import recover
from shmalloc.kernels.waiters import arm_wake, leave_seat, take_seat
from shmalloc.units import Claim, Memory, Order, Pfn
from stress.oracles.filling import check_filled
from stress.programs.bulk import list_at
from stress.programs.held import (
    block_order,
    block_pfn,
    hold,
    let_go,
    let_go_signed,
    page_put,
    page_take,
    receive,
    zone_put,
    zone_take,
)

LISTED = 3
PATIENCE = 1_000
SITTING = 300
ROUNDS = 3


@kernel
def take_put(mem: Memory, claim: Claim, order: Order) -> int:
    page_take(mem, claim, 0, order)
    return page_put(mem, claim, 0)


@kernel
def page_churn(mem: Memory, claim: Claim) -> int:
    """What the other CPU does: allocates a page and frees it."""
    return take_put(mem, claim, 0)


@kernel
def zone_rounds(mem: Memory, claim: Claim) -> int:
    """Reacquires the zone lock as soon as it has released it."""
    done = 0
    for _ in range(ROUNDS):
        if zone_take(mem, claim, 0, 0) >= 0:
            done += zone_put(mem, claim, 0) == 0
    return done


@kernel
def order_0(mem: Memory, claim: Claim) -> int:
    """Three pages and back: refill, and a drain above the high mark."""
    page_take(mem, claim, 0, 0)
    page_take(mem, claim, 1, 0)
    take_third = alloc_pages(mem, claim, 0, c.MT_MOVABLE, claim + 1)
    page_put(mem, claim, 0)
    page_put(mem, claim, 1)
    if take_third >= 0:
        check_filled(mem, claim, take_third, 0)
        free_pages(mem, claim, take_third, 0)
    return 0


@kernel
def order_1(mem: Memory, claim: Claim) -> int:
    return take_put(mem, claim, 1)


@kernel
def order_2(mem: Memory, claim: Claim) -> int:
    return take_put(mem, claim, 2)


@kernel
def order_3(mem: Memory, claim: Claim) -> int:
    return take_put(mem, claim, 3)


@kernel
def order_4(mem: Memory, claim: Claim) -> int:
    return take_put(mem, claim, 4)


@kernel
def whole_pageblocks(mem: Memory, claim: Claim) -> int:
    """Two blocks of pageblock order: the per-CPU list keeps one."""
    page_take(mem, claim, 0, 2)
    page_take(mem, claim, 1, 2)
    page_put(mem, claim, 0)
    return page_put(mem, claim, 1)


@kernel
def two_types(mem: Memory, claim: Claim) -> Pfn:
    """An unmovable page from a zone of movable ones: claim or steal."""
    pfn = receive(mem, claim, 0, alloc_pages(mem, claim, 0, c.MT_UNMOVABLE, claim + 1), 0)
    page_take(mem, claim, 1, 0)
    page_put(mem, claim, 1)
    return pfn if pfn < 0 else page_put(mem, claim, 0)


@kernel
def free_of_zero(mem: Memory, claim: Claim) -> int:
    """Frees the block of CPU 0, if it holds one at this moment, as CPU 0 has left it."""
    block = let_go_signed(mem, 0, 0)
    if block == 0:
        return 0
    return free_pages(mem, claim, block_pfn(block), block_order(block))


@kernel
def bulk_take_put(mem: Memory, claim: Claim) -> int:
    count = alloc_bulk(mem, claim, 0, c.MT_MOVABLE, claim + 1, LISTED, list_at(mem, claim))
    for i in range(count):
        check_filled(mem, claim, mem[list_at(mem, claim) + i], 0)
    return free_bulk(mem, claim, 0, count, list_at(mem, claim))


@kernel
def wait_take_put(mem: Memory, claim: Claim) -> Pfn:
    pfn = alloc_pages_wait(mem, claim, 0, c.MT_MOVABLE, claim + 1, PATIENCE)
    pfn = receive(mem, claim, 0, pfn, 0)
    return pfn if pfn < 0 else page_put(mem, claim, 0)


@kernel
def put_held(mem: Memory, claim: Claim) -> int:
    return page_put(mem, claim, 0)


@kernel
def wait_awake(mem: Memory, claim: Claim) -> int:
    """Registers as a waiter for memory but does not sleep; every free wakes it."""
    seat = take_seat(mem, claim)
    for _ in range(SITTING):
        arm_wake(mem)
    leave_seat(mem, seat)
    return 0


@kernel
def drain_every_list(mem: Memory, claim: Claim) -> int:
    return drain_all(mem, claim)


@kernel
def drain_other(mem: Memory, claim: Claim) -> int:
    return drain_cpu(mem, claim, 1)


@kernel
def take_put_decay(mem: Memory, claim: Claim) -> int:
    """Fills the per-CPU list, then lowers its high mark below the pages on it."""
    order_0(mem, claim)
    pcp_decay(mem, claim)
    return 0


@kernel
def poison_free(mem: Memory, claim: Claim) -> int:
    return poison_page(mem, claim, 1)


@kernel
def poison_used(mem: Memory, claim: Claim) -> int:
    """Marks a page of its own, then frees it: the page leaves service on the way."""
    block = let_go(mem, claim, 0)
    poison_page(mem, claim, block_pfn(block))
    return free_pages(mem, claim, block_pfn(block), 0)


@kernel
def isolate_and_back(mem: Memory, claim: Claim) -> int:
    result = isolate_range(mem, claim, 0, 2)
    return result if result < 0 else unisolate_range(mem, claim, 0, 2)


@kernel
def offline_and_back(mem: Memory, claim: Claim) -> int:
    result = offline_range(mem, claim, 0, 2)
    return result if result < 0 else online_range(mem, claim, 0, 2)


@kernel
def range_and_back(mem: Memory, claim: Claim) -> int:
    result = alloc_contig_range(mem, claim, 1, 3, claim + 1)
    return result if result < 0 else free_contig_range(mem, claim, 1, 3)


@kernel
def unplug_and_plug_other(mem: Memory, claim: Claim) -> int:
    result = unplug_cpu(mem, claim, 1)
    return result if result < 0 else plug_cpu(mem, claim, 1)


@kernel
def page_churn_1(mem: Memory, claim: Claim) -> int:
    """Allocates a page and frees it, and keeps the block in slot 0."""
    page_take(mem, claim, 1, 0)
    return page_put(mem, claim, 1)


@kernel
def recover_too(mem: Memory, claim: Claim) -> int:
    """Recovers even if no CPU is dead; a supervisor that must recover waits for this CPU."""
    return recover(mem, claim)


@kernel
def adopt_page(mem: Memory, claim: Claim) -> int:
    """Adopts the page of CPU 0, taking it from the slot of CPU 0."""
    pfn = block_pfn(let_go(mem, 0, 0))
    result = adopt_pages(mem, claim, pfn, 0, owner_word(mem, 0), claim + 1)
    if result == 0:
        hold(mem, claim, 0, pfn, 0)
    return result

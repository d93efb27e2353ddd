"""What must hold when all CPUs are done: no reports, all counts agree, no page has two owners.

A check returns the number of the *first* violation (docs/invariants.md), or 0. It looks for
violations in this order and stops at the first stage that finds one:

1. the threads reported nothing, no lock is still held (the later stages would wait for it), and
   no lock of an unplugged CPU is open (I_PROGRESS);
2. ownership, by what the threads received (held.py), not by what the allocator believes: the
   owner map refuses a page that two of them hold (X_DOUBLE_ALLOC), and what they wrote into
   their memory is still there (X_PAYLOAD, written.py);
3. the audits: they recount every descriptor, list, counter, sheaf and slab; a free page that a
   CPU holds is X_LOST_OWNER; the oracle of bounds recounts the lists once more, and no range is
   isolated that no CPU keeps (ranges.py);
4. the teardown: everything held is freed and drained, caches are destroyed, and all pages are
   free and merged (I_TEARDOWN), so nothing was lost on the way.

``partition_is_legal`` is for ``invariant=``: what descriptor.py promises after every single write.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc import constants_slab as cs
from shmalloc.dialect import kernel
from shmalloc.kernels.audit import audit, audit_teardown
from shmalloc.kernels.bits import order_of, type_of
from shmalloc.kernels.cache_set import cache_destroy
from shmalloc.kernels.descriptor import legal_pair
from shmalloc.kernels.objects import cache_at, cpu_part, node_part
from shmalloc.kernels.pcp import drain_all, drain_cpu
from shmalloc.kernels.reporting import claim_at, cpu_at, report
from shmalloc.kernels.slab_audit import audit_slabs
from shmalloc.kernels.zone import descriptor_at, pcp_at, zone_at
from shmalloc.units import CacheWords, Claim, Memory, WordIndex
from shmalloc.words import fixed, load2
from stress.oracles.bounds import check_bounds
from stress.oracles.owners import disown, own
from stress.programs.held import (
    BLOCKS,
    FIRST_OBJECT,
    OBJECTS,
    ONLY_CACHE,
    RESULT,
    block_order,
    block_pfn,
    object_put,
    page_put,
    slot_at,
)
from stress.programs.ranges import check_ranges
from stress.programs.written import check_block

LOCK_OWNER_MASK = 0xFFFF  # 0: free, or of an unplugged CPU


@kernel
def first_violation(mem: Memory) -> int:
    """Number of the first violation that was reported, or 0."""
    if mem[c.H_REPORT_COUNT] == 0:
        return 0
    return mem[fixed(mem, c.H_AT_REPORTS) + c.R_CODE]


@kernel
def is_held(mem: Memory, at: WordIndex) -> int:
    """1, with a report, if the lock at ``at`` still has an owner; else 0."""
    owner = mem[at] & LOCK_OWNER_MASK
    if owner == 0:
        return 0
    report(mem, owner - 1, c.I_PROGRESS, c.AT_WORD | at, 0, mem[at])
    return 1


@kernel
def is_ajar(mem: Memory, claim: Claim, at: WordIndex) -> int:
    """1, with a report, if a per-CPU lock and its CPU disagree on whether it is unplugged."""
    offline = mem[claim_at(mem, claim) + c.C_STATE] == c.CPU_OFFLINE
    if offline == (mem[at] == c.LOCK_OFFLINE):
        return 0
    report(mem, claim, c.I_PROGRESS, c.AT_WORD | at, mem[claim_at(mem, claim) + c.C_STATE], mem[at])
    return 1


@kernel
def page_locks_held(mem: Memory) -> int:
    held = is_held(mem, c.H_CACHES_LOCK)
    for zone_id in range(fixed(mem, c.H_ZONES)):
        held += is_held(mem, zone_at(mem, zone_id) + c.Z_LOCK)
        for cpu in range(fixed(mem, c.H_CPUS)):
            at = pcp_at(mem, cpu, zone_id) + c.P_LOCK
            held += is_held(mem, at) + is_ajar(mem, cpu, at)
    for cpu in range(fixed(mem, c.H_CPUS)):
        held += holds_a_lock(mem, cpu)
    return held


@kernel
def holds_a_lock(mem: Memory, claim: Claim) -> int:
    """1, with a report, if a claim still holds a per-CPU lock by its bias."""
    at = claim_at(mem, claim) + c.C_HOLDS
    if mem[at] == 0:
        return 0
    report(mem, claim, c.I_PROGRESS, c.AT_WORD | at, 0, mem[at])
    return 1


@kernel
def cache_locks_held(mem: Memory, cache: CacheWords) -> int:
    held = 0
    for node_id in range(fixed(mem, c.H_NODES)):
        held += is_held(mem, node_part(mem, cache, node_id) + cs.KN_LOCK)
        held += is_held(mem, node_part(mem, cache, node_id) + cs.KN_BARN_LOCK)
    for cpu in range(fixed(mem, c.H_CPUS)):
        held += is_held(mem, cpu_part(mem, cache, cpu) + cs.KC_LOCK)
    return held


@kernel
def object_locks_held(mem: Memory) -> int:
    held = 0
    for cache_id in range(fixed(mem, c.H_CACHES)):
        held += cache_locks_held(mem, cache_at(mem, cache_id))
    return held


@kernel
def enter_owners(mem: Memory) -> None:
    """Enter what every CPU holds into the owner map, which refuses a page that it has already.

    Each block must be as its owner left it."""
    for cpu in range(fixed(mem, c.H_CPUS)):
        for slot in range(BLOCKS):
            block = mem[slot_at(mem, cpu, slot)]
            if block != 0:
                own(mem, cpu, block_pfn(block), block_order(block), cpu + 1)
                check_block(mem, cpu, block_pfn(block), block_order(block))


@kernel
def give_pages_up(mem: Memory) -> None:
    """Free and drain all blocks, as their owners would; none while a lock is held: the check would
    wait for it for ever."""
    if page_locks_held(mem) != 0:
        return
    for cpu in range(fixed(mem, c.H_CPUS)):
        for slot in range(BLOCKS):
            block = mem[slot_at(mem, cpu, slot)]
            if block != 0:
                disown(mem, cpu, block_pfn(block), block_order(block), cpu + 1)
                page_put(mem, cpu, slot)
    for cpu in range(fixed(mem, c.H_CPUS)):
        # an unplugged CPU has no lists; a drain that waits for one would never end in a check
        if mem[cpu_at(mem, cpu) + c.C_STATE] != c.CPU_OFFLINE:
            drain_cpu(mem, 0, cpu)


@kernel
def pages_are_sound(mem: Memory) -> int:
    """The check of programs about pages: stages 1 to 4."""
    if mem[c.H_REPORT_COUNT] != 0 or page_locks_held(mem) != 0:
        return first_violation(mem)
    enter_owners(mem)
    check_ranges(mem, 0, 0)
    if mem[c.H_REPORT_COUNT] == 0 and audit(mem, 0) == 0 and check_bounds(mem, 0, 0) == 0:
        give_pages_up(mem)
        audit_teardown(mem, 0)
    return first_violation(mem)


@kernel
def refused_once(mem: Memory, code: int) -> bool:
    """Whether the only report is one of ``code``; if so, forget it."""
    if mem[c.H_REPORT_COUNT] != 1 or first_violation(mem) != code:
        report(mem, 0, code, 0, 1, mem[c.H_REPORT_COUNT])
        return False
    mem[c.H_REPORT_COUNT] = 0
    return True


@kernel
def page_refused_once(mem: Memory) -> int:
    """``pages_are_sound`` after two CPUs freed one page: exactly one free was refused."""
    if not refused_once(mem, c.M_DOUBLE_FREE):
        return first_violation(mem)
    return pages_are_sound(mem)


@kernel
def objects_held_twice(mem: Memory) -> int:
    """Report every object that two slots hold, whether of one CPU or of two."""
    twice = 0
    for one in range(fixed(mem, c.H_CPUS) * OBJECTS):
        mine = mem[slot_at(mem, one // OBJECTS, FIRST_OBJECT + one % OBJECTS)]
        for other in range(one):
            yours = mem[slot_at(mem, other // OBJECTS, FIRST_OBJECT + other % OBJECTS)]
            if mine != 0 and mine == yours:
                report(mem, one // OBJECTS, c.X_DOUBLE_ALLOC, mine, one, other)
                twice += 1
    return twice


@kernel
def give_objects_up(mem: Memory) -> None:
    """Free all objects, and destroy the cache if it still exists: it must be empty now."""
    for cpu in range(fixed(mem, c.H_CPUS)):
        for slot in range(OBJECTS):
            if mem[slot_at(mem, cpu, FIRST_OBJECT + slot)] != 0:
                object_put(mem, cpu, slot)
    if mem[cache_at(mem, ONLY_CACHE) + cs.K_STATE] != cs.CACHE_NONE:
        if cache_destroy(mem, 0, ONLY_CACHE) != 0:
            report(mem, 0, c.M_LEAKED_OBJECTS, c.AT_CACHE | ONLY_CACHE, 0, c.E_BUSY)


@kernel
def recount_objects(mem: Memory) -> int:
    """Stages 2 to 4 of programs about objects."""
    if objects_held_twice(mem) != 0 or audit_slabs(mem, 0) != 0 or audit(mem, 0) != 0:
        return first_violation(mem)
    if check_bounds(mem, 0, 0) == 0:
        give_objects_up(mem)
        drain_all(mem, 0)
        audit_teardown(mem, 0)
    return first_violation(mem)


@kernel
def objects_are_sound(mem: Memory) -> int:
    """The check of programs about objects: stages 1 to 4."""
    if mem[c.H_REPORT_COUNT] != 0 or page_locks_held(mem) + object_locks_held(mem) != 0:
        return first_violation(mem)
    return recount_objects(mem)


@kernel
def object_refused_once(mem: Memory) -> int:
    """``objects_are_sound`` after two CPUs freed one object: exactly one free was refused."""
    if not refused_once(mem, c.M_OBJECT_FREE):
        return first_violation(mem)
    return objects_are_sound(mem)


@kernel
def first_but_leaks(mem: Memory) -> int:
    """``first_violation``, but ignoring live objects of a destroyed cache."""
    for i in range(min(mem[c.H_REPORT_COUNT], c.REPORTS)):
        code = mem[fixed(mem, c.H_AT_REPORTS) + i * c.R_STRIDE + c.R_CODE]
        if code != c.M_LEAKED_OBJECTS:
            return code
    return 0


@kernel
def destroyed_later(mem: Memory) -> int:
    """``objects_are_sound`` after a destroy that went on without CPU 1, whose user had stopped with
    the lock of its sheaves: E_AGAIN, and a second destroy succeeds when the lock is free."""
    if mem[slot_at(mem, 0, RESULT)] != c.E_AGAIN * 2 + 1:
        return c.I_PROGRESS
    mem[cpu_part(mem, cache_at(mem, ONLY_CACHE), 1) + cs.KC_LOCK] = 0
    return objects_are_sound(mem)


@kernel
def destroyed_or_busy(mem: Memory) -> int:
    """``objects_are_sound`` after one CPU destroyed the cache while another still freed.

    E_BUSY, with its reports, is right while an object or a sheaf is not back; a second destroy,
    when all CPUs are done, must then succeed. A destroy that returns 0 has found everything.
    """
    if first_but_leaks(mem) != 0:
        return first_but_leaks(mem)
    if page_locks_held(mem) + object_locks_held(mem) != 0:
        return c.I_PROGRESS
    busy = 0
    for cpu in range(fixed(mem, c.H_CPUS)):
        if mem[slot_at(mem, cpu, RESULT)] == c.E_BUSY * 2 + 1:
            busy = 1
    if busy == 0 and mem[c.H_REPORT_COUNT] != 0:
        return first_violation(mem)
    mem[c.H_REPORT_COUNT] = 0
    return recount_objects(mem)


@kernel
def partition_is_legal(mem: Memory) -> int:
    """Exactly one legal head covers every page: this holds after every single write."""
    pfn = 0
    for _ in range(fixed(mem, c.H_PAGES)):
        if pfn < fixed(mem, c.H_PAGES):
            w0, w1 = load2(mem, descriptor_at(mem, pfn))
            if type_of(w0) == c.T_TAIL or not legal_pair(mem, w0, w1, pfn):
                return c.I_TAIL
            pfn += 1 << order_of(w0)
    return 0 if pfn == fixed(mem, c.H_PAGES) else c.I_TAIL

"""The allocator's supervisor, and what must hold after a CPU has died and was recovered.

Behind the segment, where no kernel of the allocator looks (word H_WORDS on)::

    [ died x 64 | epoch x 64 | tolerated | managed | may leave | reaped ]

died: 1 for each dead CPU. epoch: C_EPOCH of each slot at the start, which labels its pages and
objects. tolerated: code of a report that the program itself provokes, 0: none. managed: pages of
all zones at the start. may leave: the number of these that may leave service. reaped: 1 if a
supervisor frees what the dead owned; their records of it are then invalid.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc import constants_slab as cs
from shmalloc.dialect import kernel
from shmalloc.kernels.audit import audit, audit_teardown
from shmalloc.kernels.bits import detail_of, order_of, type_of
from shmalloc.kernels.cache import slab_of_address
from shmalloc.kernels.cache_set import cache_destroy
from shmalloc.kernels.contig import online_range, unisolate_range
from shmalloc.kernels.descriptor import page_state
from shmalloc.kernels.objects import cache_at, cache_of_word, index_at, owner_at, slab_base
from shmalloc.kernels.pcp import drain_all, drain_cpu
from shmalloc.kernels.reap import reap
from shmalloc.kernels.recover import recover
from shmalloc.kernels.reporting import cpu_at, cpu_of, report
from shmalloc.kernels.slab_audit import audit_slabs
from shmalloc.kernels.slots import claim_slot, label_claim, mark_dead
from shmalloc.kernels.zone import block_mt, block_word, isolator_of, zone_at
from shmalloc.units import Claim, Memory, ObjectAddress, Order, Pfn
from shmalloc.words import fixed, load
from stress.oracles.bounds import check_bounds
from stress.programs import claims
from stress.programs.checks import (
    cache_locks_held,
    enter_owners,
    first_violation,
    objects_held_twice,
    page_locks_held,
)
from stress.programs.filled import heal
from stress.programs.held import BLOCKS, FIRST_OBJECT, OBJECTS, block_order, block_pfn, slot_at
from stress.programs.ranges import OFFLINE_BIT, RANGE, check_ranges, let_range_go
from stress.programs.structure_entries import end_every_structure
from stress.programs.written import check_object

DIED = 0
EPOCHS = 64
TOLERATED = 128
MANAGED = 129
MAY_LEAVE = 130
REAPED = 131
NOTICE_WORDS = 132


@kernel
def notice_at(mem: Memory, which: int) -> int:
    """Word index of something behind the segment."""
    return fixed(mem, c.H_WORDS) + which


@kernel
def has_died(mem: Memory, claim: Claim) -> bool:
    return load(mem, notice_at(mem, DIED + claim)) != 0


# --- supervisors ---------------------------------------------------------------------------------
@kernel
def supervise(mem: Memory, claim: Claim) -> int:
    """Recover every dead slot. Mark all first: one may hold what another waits for."""
    for victim in range(fixed(mem, c.H_CPUS)):
        if has_died(mem, victim):
            mark_dead(mem, claim, victim, fixed(mem, notice_at(mem, EPOCHS + victim)))
    recover(mem, claim)
    return 0


@kernel
def supervise_and_reap(mem: Memory, claim: Claim) -> int:
    """Recover every dead slot, free what the dead owned, and drain this CPU's own list."""
    supervise(mem, claim)
    for victim in range(fixed(mem, c.H_CPUS)):
        if has_died(mem, victim):
            reap(mem, claim, victim, fixed(mem, notice_at(mem, EPOCHS + victim)))
    drain_cpu(mem, claim, cpu_of(mem, claim))
    return 0


@kernel
def supervise_claim(mem: Memory, claim: Claim) -> int:
    """As ``supervise``; a CPU that dies is the process that had CLAIM, too, if it has taken it."""
    at = cpu_at(mem, claims.CLAIM)
    for victim in range(fixed(mem, c.H_CPUS)):
        epoch = load(mem, at + c.C_EPOCH)
        taken = epoch & 1 != 0 and load(mem, at + c.C_PID) == claims.PID + victim
        if has_died(mem, victim) and taken:
            mark_dead(mem, claim, claims.CLAIM, epoch)
    return supervise(mem, claim)


# --- what must hold ------------------------------------------------------------------------------
@kernel
def living_slot(mem: Memory) -> int:
    """The highest slot of a living CPU: the check runs on it."""
    found = 0
    for cpu in range(fixed(mem, c.H_CPUS)):
        if not has_died(mem, cpu):
            found = cpu
    return found


@kernel
def untolerated(mem: Memory) -> int:
    """Code of the first report that the program does not provoke itself; 0: none.

    A CPU that dies while it reports leaves an entry that is not ready.
    """
    allowed = fixed(mem, notice_at(mem, TOLERATED))
    for i in range(min(mem[c.H_REPORT_COUNT], c.REPORTS)):
        at = fixed(mem, c.H_AT_REPORTS) + i * c.R_STRIDE
        expected = allowed != 0 and (mem[at + c.R_READY] == 0 or mem[at + c.R_CODE] == allowed)
        if not expected:
            return mem[at + c.R_CODE]
    return 0


@kernel
def label_of(mem: Memory, claim: Claim) -> int:
    """The label of a slot's life in the program; recovery begins a new life."""
    epoch = fixed(mem, notice_at(mem, EPOCHS + claim)) & c.LABEL_EPOCH_MASK
    return epoch << c.LABEL_EPOCH_SHIFT | claim


@kernel
def owner_word_at_start(mem: Memory, claim: Claim) -> int:
    """The owner word of that life."""
    return fixed(mem, notice_at(mem, EPOCHS + claim)) << c.LIFE_EPOCH_SHIFT | (claim + 1)


@kernel
def held_by(mem: Memory, claim: Claim, pfn: Pfn, order: Order) -> int:
    """1 if ``claim`` still owns the block; otherwise 0, with a report."""
    w0 = page_state(mem, pfn)
    right = type_of(w0) == c.T_ALLOCATED and order_of(w0) == order
    if right and detail_of(w0) & c.LABEL_MASK == label_of(mem, claim):
        return 1
    report(mem, claim, c.X_LOST_OWNER, pfn, label_of(mem, claim), w0)
    return 0


@kernel
def owner_word_of(mem: Memory, address: ObjectAddress) -> int:
    """The owner word of the object at ``address``; -1: there is no object."""
    pfn = slab_of_address(mem, address)
    if pfn < 0:
        return -1
    w0 = page_state(mem, pfn)
    base = slab_base(mem, address, order_of(w0))
    index = index_at(mem, cache_at(mem, cache_of_word(w0)), base, address)
    if index < 0:
        return -1
    return mem[owner_at(mem, base, order_of(w0), index)]


@kernel
def forget_notes(mem: Memory) -> None:
    """Erase the records of the dead: other CPUs own these blocks and objects by now."""
    for cpu in range(fixed(mem, c.H_CPUS)):
        if has_died(mem, cpu):
            for slot in range(FIRST_OBJECT + OBJECTS):
                mem[slot_at(mem, cpu, slot)] = 0


@kernel
def living_kept_theirs(mem: Memory) -> None:
    """Recovery took nothing from the living: their blocks and objects still bear their labels, and
    the objects what was written into them (blocks: ``enter_owners``)."""
    for cpu in range(fixed(mem, c.H_CPUS)):
        if not has_died(mem, cpu):
            for slot in range(BLOCKS):
                block = mem[slot_at(mem, cpu, slot)]
                if block != 0:
                    held_by(mem, cpu, block_pfn(block), block_order(block))
            for slot in range(OBJECTS):
                address = mem[slot_at(mem, cpu, FIRST_OBJECT + slot)]
                if address != 0:
                    check_object(mem, cpu, address)
                if address != 0 and owner_word_of(mem, address) != owner_word_at_start(mem, cpu):
                    report(
                        mem,
                        cpu,
                        c.X_LOST_OWNER,
                        address,
                        owner_word_at_start(mem, cpu),
                        owner_word_of(mem, address),
                    )


@kernel
def dead_left_nothing(mem: Memory) -> None:
    """No dead CPU is registered as a waiter or has a pageblock isolated."""
    if mem[c.H_WAITERS] != 0:
        report(mem, 0, c.I_PROGRESS, c.AT_WORD | c.H_WAITERS, 0, mem[c.H_WAITERS])
    for pfn in range(0, fixed(mem, c.H_PAGES), 1 << fixed(mem, c.H_PAGEBLOCK_ORDER)):
        holder = isolator_of(mem, pfn)
        isolated = block_mt(mem, pfn) == c.MT_ISOLATE and holder >= 0
        if isolated and has_died(mem, label_claim(holder)):
            saved = mem[block_word(mem, pfn)] >> c.BLOCK_SAVED_SHIFT & c.MT_MASK
            found = c.IS_MT | c.MT_ISOLATE
            report(mem, label_claim(holder), c.I_FREE_HEAD, pfn, c.IS_MT | saved, found)


@kernel
def deaths_of(mem: Memory) -> int:
    """How many CPUs have died."""
    found = 0
    for cpu in range(fixed(mem, c.H_CPUS)):
        found += int(has_died(mem, cpu))
    return found


@kernel
def dead_keep_no_isolation(mem: Memory) -> None:
    """Forget which ranges the dead had isolated: recovery has ended that. Offline is for good."""
    for cpu in range(fixed(mem, c.H_CPUS)):
        if has_died(mem, cpu) and mem[slot_at(mem, cpu, RANGE)] & OFFLINE_BIT == 0:
            let_range_go(mem, cpu)


@kernel
def bring_all_back(mem: Memory, by: int) -> None:
    """End all isolations, and bring offline pages back into service."""
    step = 1 << fixed(mem, c.H_PAGEBLOCK_ORDER)
    for pfn in range(0, fixed(mem, c.H_PAGES) & ~(step - 1), step):
        if block_mt(mem, pfn) == c.MT_ISOLATE:
            if type_of(page_state(mem, pfn)) == c.T_OFFLINE:
                online_range(mem, by, pfn, pfn + step)
            else:
                unisolate_range(mem, by, pfn, pfn + step)


@kernel
def free_all(mem: Memory, by: int) -> None:
    """Free all that bears a label, of dead or living slots; then destroy all caches."""
    for cpu in range(fixed(mem, c.H_CPUS)):
        reap(mem, by, cpu, fixed(mem, notice_at(mem, EPOCHS + cpu)))
    for size_class in range(cs.KMALLOC_CLASSES):
        mem[cs.H_KMALLOC + size_class] = 0  # a registered class may not be destroyed
    for cache_id in range(fixed(mem, c.H_CACHES)):
        if mem[cache_at(mem, cache_id) + cs.K_STATE] != cs.CACHE_NONE:
            if cache_destroy(mem, by, cache_id) != 0:
                report(mem, by, c.M_LEAKED_OBJECTS, c.AT_CACHE | cache_id, 0, c.E_BUSY)


@kernel
def forget_owners(mem: Memory) -> None:
    """Empty the owner map: the next frees are on behalf of every owner."""
    for pfn in range(fixed(mem, c.H_PAGES)):
        mem[fixed(mem, c.H_AT_OWNERS) + pfn] = 0


@kernel
def all_managed(mem: Memory, by: int) -> None:
    """The zones have as many pages as at the start."""
    managed = 0
    for zone_id in range(fixed(mem, c.H_ZONES)):
        managed += mem[zone_at(mem, zone_id) + c.Z_MANAGED]
    missing = fixed(mem, notice_at(mem, MANAGED)) - managed
    if missing < 0 or missing > fixed(mem, notice_at(mem, MAY_LEAVE)):
        report(mem, by, c.I_CONSERVATION, c.AT_ZONE, fixed(mem, notice_at(mem, MANAGED)), managed)


@kernel
def object_locks_held(mem: Memory) -> int:
    """1 or more, with a report, if a lock of an existing cache still has an owner; else 0."""
    held = 0
    for cache_id in range(fixed(mem, c.H_CACHES)):
        if mem[cache_at(mem, cache_id) + cs.K_STATE] != cs.CACHE_NONE:
            held += cache_locks_held(mem, cache_at(mem, cache_id))
    return held


@kernel
def nothing_is_lost(mem: Memory) -> int:
    """Nothing is reported, no lock is held, all counts agree, and everything can be freed."""
    if untolerated(mem) != 0:
        return untolerated(mem)
    mem[c.H_REPORT_COUNT] = 0
    by = living_slot(mem)
    if page_locks_held(mem) + object_locks_held(mem) != 0:
        return first_violation(mem)
    if fixed(mem, notice_at(mem, REAPED)) != 0:
        forget_notes(mem)
    enter_owners(mem)
    living_kept_theirs(mem)
    dead_left_nothing(mem)
    dead_keep_no_isolation(mem)
    check_ranges(mem, by, deaths_of(mem))
    if objects_held_twice(mem) != 0 or mem[c.H_REPORT_COUNT] != 0:
        return first_violation(mem)
    if audit_slabs(mem, by) != 0 or audit(mem, by) != 0:
        return first_violation(mem)
    if check_bounds(mem, by, deaths_of(mem)) != 0:
        return first_violation(mem)
    forget_owners(mem)
    bring_all_back(mem, by)
    free_all(mem, by)
    drain_all(mem, by)
    audit_teardown(mem, by)
    all_managed(mem, by)
    return first_violation(mem)


# --- a stray write -------------------------------------------------------------------------------
@kernel
def stray_survives(mem: Memory) -> int:
    """As ``nothing_is_lost``, where a free page was written to: it is free still, or retired."""
    heal(mem)
    return nothing_is_lost(mem)


# --- claims ---------------------------------------------------------------------------------------
@kernel
def claim_survives(mem: Memory) -> int:
    """The claim can be recovered, whatever its last owner was doing, and taken; nothing is lost."""
    by = living_slot(mem)
    at = cpu_at(mem, claims.CLAIM)
    if mem[at + c.C_EPOCH] & 1 != 0:
        mark_dead(mem, by, claims.CLAIM, mem[at + c.C_EPOCH])
    recover(mem, by)
    reap(mem, by, claims.CLAIM, claims.FIRST)
    reap(mem, by, claims.CLAIM, claims.FIRST + 2)
    if claim_slot(mem, claims.CLAIM, by, claims.PID, 1) != claims.CLAIM:
        report(mem, by, c.I_PROGRESS, c.AT_CPU | claims.CLAIM, claims.CLAIM, mem[at + c.C_EPOCH])
    return nothing_is_lost(mem)


# --- entries of structures -----------------------------------------------------------------------
@kernel
def structures_survive(mem: Memory) -> int:
    """A living CPU can end every structure, not only its maker, and nothing is lost then."""
    end_every_structure(mem, living_slot(mem))
    return nothing_is_lost(mem)

"""Claims: who acts on a segment, and on which CPU.

A *claim* is an identity: a process names it in the locks it takes, in the pages and objects it
holds and in its intents, so that each of these can be recovered when it dies. The *CPU* is whose
per-CPU lists and sheaves it uses; several claims may use one. Kernels take the number of the
claim and find its CPU in its record: claim n is on CPU n unless CPUs are short::

    C_CPU | [C_EPOCH C_DEAD] | ... | C_HOME_ZONE C_HOME_PCP | ... | C_PID C_START

C_EPOCH counts how often the claim was taken and given back: it is odd while a process has it. All
changes of a life are one two-word swap of [C_EPOCH, C_DEAD], so each excludes the others:

    claim      (e, d)     -> (e + 1, d)   e even, not marked
    release    (e, d)     -> (e + 1, d)   not marked
    mark       (e, d)     -> (e, e + 1)   void if the epoch is not the one that was seen
    recovered  (e, e + 1) -> an even epoch

So a mark that comes late, behind a release or the next claim, is void; a process that gives its
claim back is never recovered; and a marked claim is neither given back nor taken before it is
recovered.

Labels of pages have 21 bits of the epoch, owner words of objects and locks 29 (docs/decisions/).
No label repeats: when the 21 bits are used up, the claim is not taken while a page bears its
number (``is_laundered``); when the 29 bits are used up, never again.

C_PID and C_START are for people, and mean something only while the claim is taken. Kernels do not
decide liveness; cpus.py does, and passes the epoch that it saw.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc import constants_slab as cs
from shmalloc.dialect import kernel, unit
from shmalloc.kernels.bits import detail_of, order_of, type_of
from shmalloc.kernels.reporting import claim_at, cpu_at
from shmalloc.kernels.zone import descriptor_at, isolator_of, pcp_at, zonelist_of_cpu
from shmalloc.units import Claim, Cpu, Int, Label, Memory, Owner, WordIndex
from shmalloc.words import cas, cas2, fixed, load, load2, load_relaxed, store, store_relaxed


@kernel
def label(mem: Memory, claim: Claim) -> Label:
    """The mark of a page that this life of the claim holds: 12 bits of number, 21 of the epoch.

    The epoch cannot change while a kernel of the claim runs.
    """
    epoch = fixed(mem, claim_at(mem, claim) + c.C_EPOCH) & c.LABEL_EPOCH_MASK
    return epoch << c.LABEL_EPOCH_SHIFT | claim


@kernel
def label_of_life(life: Owner) -> Label:
    """The label of a life that is named by its owner word (lock.py)."""
    epoch = (life >> c.LIFE_EPOCH_SHIFT) & c.LABEL_EPOCH_MASK
    return epoch << c.LABEL_EPOCH_SHIFT | ((life & c.LOCK_HOLDER_MASK) - 1)


@kernel
def label_claim(detail: Int) -> Claim:
    """The claim of the label of a life."""
    return detail & c.CLAIM_MASK


@kernel
def list_label(cpu: Cpu) -> Label:
    """The mark of a block on the per-CPU lists of CPU ``cpu``, which is no claim.

    Written and replaced only under that P_LOCK: a block bears it if and only if it is on a list,
    or on its way to one or from one under the lock (pcp.py).
    """
    return c.LABEL_ON_LIST | cpu


@kernel
def is_dead(mem: Memory, claim: Claim) -> bool:
    """Whether the claim's current life ended in death and is not recovered yet."""
    slot = claim_at(mem, claim)
    return load(mem, slot + c.C_DEAD) == load(mem, slot + c.C_EPOCH) + 1


@kernel
def mark_dead(mem: Memory, claim: Claim, victim: Claim, epoch: int) -> int:
    """Mark the process of life ``epoch`` of claim ``victim`` dead. A late mark means nothing.

    Mark all dead claims, then recover (recover.py). Returns 1, or 0 if that life was over already.
    """
    pair = claim_at(mem, victim) + c.C_EPOCH
    while True:
        seen, dead = load2(mem, pair)
        if seen != epoch:
            return 0
        if dead == epoch + 1 or cas2(mem, pair, epoch, dead, epoch, epoch + 1):
            return 1


@kernel
def publish(mem: Memory, at: WordIndex, value: int) -> int:
    """Write one word that makes everything written before it visible (the magic of a segment)."""
    store(mem, at, value)
    return 0


@kernel
def claim_slot(mem: Memory, claim: Claim, on: Cpu, pid: int, start: int) -> Claim:
    """Take claim ``claim`` for a process that will work on CPU ``on``; returns ``claim``.

    E_AGAIN: it is taken, or being recovered, or used up; E_STATE: the CPU is unplugged.
    """
    if load(mem, cpu_at(mem, on) + c.C_STATE) == c.CPU_OFFLINE:
        return c.E_STATE
    pair = claim_at(mem, claim) + c.C_EPOCH
    epoch, dead = load2(mem, pair)
    if epoch & 1 != 0 or dead == epoch + 1 or not has_labels(mem, claim, epoch):
        return c.E_AGAIN
    raise_mark(mem, claim + 1)
    if not cas2(mem, pair, epoch, dead, epoch + 1, dead):
        return c.E_AGAIN
    settle_on(mem, claim, on)
    store_relaxed(mem, claim_at(mem, claim) + c.C_START, start)
    store_relaxed(mem, claim_at(mem, claim) + c.C_PID, pid)
    cas(mem, cpu_at(mem, on) + c.C_STATE, c.CPU_EMPTY, c.CPU_ONLINE)  # fails if it was used before
    return claim


@kernel
def settle_on(mem: Memory, claim: Claim, on: Cpu) -> None:
    """Write what the claim's kernels take as fixed: its CPU and the lists of it."""
    slot = claim_at(mem, claim)
    store_relaxed(mem, slot + c.C_CPU, on)
    zone_id = fixed(mem, zonelist_of_cpu(mem, on) + 1)
    store_relaxed(mem, slot + c.C_HOME_ZONE, zone_id)
    store_relaxed(mem, slot + c.C_HOME_PCP, pcp_at(mem, on, zone_id))
    way = c.LOCKS_PLAIN
    if fixed(mem, c.H_BIASED) != 0:
        number: int = +on  # claim n is on CPU n, unless it is a guest there
        opened = load_relaxed(mem, slot + c.C_EPOCH) << c.LIFE_EPOCH_SHIFT | c.LOCK_OPEN
        way = opened if claim == number else c.LOCKS_GUEST
    store_relaxed(mem, slot + c.C_LOCKS, way)


@kernel
def raise_mark(mem: Memory, used: int) -> None:
    """Make H_CLAIMS_USED at least ``used``, before a claim below it is taken."""
    old = load(mem, c.H_CLAIMS_USED)
    while old < used and not cas(mem, c.H_CLAIMS_USED, old, used):
        old = load(mem, c.H_CLAIMS_USED)


@kernel
def has_labels(mem: Memory, claim: Claim, epoch: int) -> bool:
    """Whether the life behind ``epoch``, which is even, gets marks that no memory bears."""
    if epoch + 1 >= cs.GIVEN >> c.LIFE_EPOCH_SHIFT:
        return False
    return epoch & c.LABEL_EPOCH_MASK != 0 or epoch == 0 or is_laundered(mem, claim)


@unit
def is_laundered(mem: Memory, claim: Claim) -> bool:
    """Whether no page and no pageblock bears the number of a claim that no process has.

    Only its owner writes its labels, so one that was not seen does not come later.
    """
    pfn = 0
    while pfn < fixed(mem, c.H_PAGES):
        w0, _ = load2(mem, descriptor_at(mem, pfn))
        kind = type_of(w0)
        holds = kind == c.T_PCP or kind == c.T_ALLOCATED or kind == c.T_ISOLATED
        detail = detail_of(w0)
        if holds and detail & c.LABEL_ON_LIST == 0 and label_claim(detail) == claim:
            return False
        pfn += 1 if kind == c.T_TAIL else 1 << order_of(w0)
    for at in range(0, fixed(mem, c.H_PAGES), 1 << fixed(mem, c.H_PAGEBLOCK_ORDER)):
        holder = isolator_of(mem, at)
        if holder >= 0 and label_claim(holder) == claim:
            return False
    return True


@kernel
def release_slot(mem: Memory, claim: Claim, epoch: int) -> int:
    """Give the claim back, of which life ``epoch`` is ours.

    Returns 0, or E_AGAIN: it was marked dead, and recovery ends its life or has done so.
    """
    pair = claim_at(mem, claim) + c.C_EPOCH
    seen, dead = load2(mem, pair)
    if seen != epoch or epoch & 1 == 0 or dead == epoch + 1:
        return c.E_AGAIN
    return 0 if cas2(mem, pair, epoch, dead, epoch + 1, dead) else c.E_AGAIN


@kernel
def end_life(mem: Memory, claim: Claim) -> None:
    """End the life of a claim that was recovered: it may be taken, and late marks are void."""
    pair = claim_at(mem, claim) + c.C_EPOCH
    epoch, dead = load2(mem, pair)
    if dead == epoch + 1:
        cas2(mem, pair, epoch, dead, (epoch | 1) + 1, dead)

"""Check what holds only while no process is inside an operation.

No lock is held, no intent is in force, no process waits or recovers; the lists and sheaves of an
unplugged CPU are locked, and those of no other; the size classes of kmalloc and the caches name
each other. Fault injection is off or names kinds that exist.

The audits of pages and slabs do not ask this: the checks of the explorer's programs run them with
locks that a dead CPU left behind.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc import constants_slab as cs
from shmalloc.dialect import kernel, unit
from shmalloc.kernels.audit_cache import stands
from shmalloc.kernels.audit_header import audit_header
from shmalloc.kernels.audit_report import complain, outside, wrong_word
from shmalloc.kernels.objects import cache_at, cpu_part, node_part
from shmalloc.kernels.reporting import claim_at, cpu_at, report
from shmalloc.kernels.zone import pcp_at, zone_at
from shmalloc.units import CacheId, Claim, Cpu, Memory, WordIndex
from shmalloc.words import fixed, load_relaxed


@unit
def audit_quiet(mem: Memory, claim: Claim) -> int:
    """Check everything of the above; the number of violations, each of them reported."""
    bad = audit_header(mem, claim)
    if bad != 0:  # it leads everywhere else
        return bad
    bad += free_lock(mem, claim, c.H_CACHES_LOCK)
    bad += free_lock(mem, claim, c.H_RECOVERY)
    bad += wrong_word(mem, claim, c.I_PROGRESS, c.H_WAITERS, 0)
    for zone_id in range(fixed(mem, c.H_ZONES)):
        bad += free_lock(mem, claim, zone_at(mem, zone_id) + c.Z_LOCK)
    for victim in range(fixed(mem, c.H_CPUS)):
        bad += quiet_cpu(mem, claim, victim)
    for victim in range(load_relaxed(mem, c.H_CLAIMS_USED)):
        bad += quiet_claim(mem, claim, victim)
    for seat in range(c.SEATS):
        bad += free_lock(mem, claim, fixed(mem, c.H_AT_SEATS) + seat)
    for cache_id in range(fixed(mem, c.H_CACHES)):
        if stands(mem, cache_id):
            bad += quiet_cache(mem, claim, cache_id)
    return bad + audit_classes(mem, claim)


@kernel
def free_lock(mem: Memory, claim: Claim, at: WordIndex) -> int:
    """1 and one report if a lock is not free, else 0."""
    return wrong_word(mem, claim, c.I_PROGRESS, at, 0)


@kernel
def free_cpu_lock(mem: Memory, claim: Claim, at: WordIndex) -> int:
    """1 and one report if a per-CPU lock is not free: open and common ones are (cpu_lock.py)."""
    word = load_relaxed(mem, at)
    flags = word & ((1 << c.LIFE_EPOCH_SHIFT) - 1)
    if fixed(mem, c.H_BIASED) != 0 and (flags == c.LOCK_OPEN or word == c.LOCK_COMMON):
        return 0
    return free_lock(mem, claim, at)


@kernel
def is_unplugged(mem: Memory, victim: Cpu) -> bool:
    return load_relaxed(mem, cpu_at(mem, victim) + c.C_STATE) == c.CPU_OFFLINE


@kernel
def quiet_cpu(mem: Memory, claim: Claim, victim: Cpu) -> int:
    """Check a CPU: its state, and the locks of its page lists."""
    slot = cpu_at(mem, victim)
    bad = outside(mem, claim, slot + c.C_STATE, c.CPU_EMPTY, c.CPU_OFFLINE)
    locked = is_unplugged(mem, victim)
    for zone_id in range(fixed(mem, c.H_ZONES)):
        pcp = pcp_at(mem, victim, zone_id)
        if locked or load_relaxed(mem, pcp + c.P_LOCK) == c.LOCK_OFFLINE:
            held = c.LOCK_OFFLINE if locked else 0
            bad += wrong_word(mem, claim, c.I_PROGRESS, pcp + c.P_LOCK, held)
        else:
            bad += free_cpu_lock(mem, claim, pcp + c.P_LOCK)
        if locked:
            bad += wrong_word(mem, claim, c.I_PCP_COUNT, pcp + c.P_COUNT, 0)
    return bad


@kernel
def quiet_claim(mem: Memory, claim: Claim, victim: Claim) -> int:
    """Check a claim: its intent, the lock that it holds by its bias, the faults that it injects."""
    at = claim_at(mem, victim)
    bad = outside(mem, claim, at + c.C_FAULTS, 0, c.FAULT_PAGE | c.FAULT_OBJECT)
    bad += wrong_word(mem, claim, c.I_PROGRESS, at + c.C_HOLDS, 0)
    return bad + wrong_word(mem, claim, c.I_PROGRESS, at + c.C_INTENT, cs.INTENT_NONE)


@kernel
def quiet_cache(mem: Memory, claim: Claim, cache_id: CacheId) -> int:
    """Check that no lock of a cache is held. A new cache does not lock an unplugged CPU's part."""
    cache = cache_at(mem, cache_id)
    bad = 0
    for node_id in range(fixed(mem, c.H_NODES)):
        bad += free_lock(mem, claim, node_part(mem, cache, node_id) + cs.KN_LOCK)
        bad += free_lock(mem, claim, node_part(mem, cache, node_id) + cs.KN_BARN_LOCK)
    for victim in range(fixed(mem, c.H_CPUS)):
        at = cpu_part(mem, cache, victim) + cs.KC_LOCK
        if not is_unplugged(mem, victim) or load_relaxed(mem, at) != c.LOCK_OFFLINE:
            bad += free_cpu_lock(mem, claim, at)
    return bad


@kernel
def class_of_cache(mem: Memory, cache_id: CacheId) -> int:
    """The size class of kmalloc + 1 that a cache was made for, 0: none."""
    flags = load_relaxed(mem, cache_at(mem, cache_id) + cs.K_FLAGS)
    return (flags >> cs.CF_CLASS_SHIFT) & cs.CF_CLASS_MASK


@kernel
def audit_classes(mem: Memory, claim: Claim) -> int:
    """Check that each size class names the cache that was made for it, and each such cache is
    named."""
    bad = 0
    for size_class in range(cs.KMALLOC_CLASSES):
        at = cs.H_KMALLOC + size_class
        cache_id = load_relaxed(mem, at) - 1
        if outside(mem, claim, at, 0, fixed(mem, c.H_CACHES)) != 0:
            bad += 1
        elif cache_id >= 0:
            made_for = 0
            if stands(mem, cache_id):
                made_for = class_of_cache(mem, cache_id)
            bad += complain(mem, claim, c.I_FIXED, c.AT_WORD | at, size_class + 1, made_for)
    for cache_id in range(fixed(mem, c.H_CACHES)):
        made_for = class_of_cache(mem, cache_id)
        if stands(mem, cache_id) and 0 < made_for <= cs.KMALLOC_CLASSES:
            at = cs.H_KMALLOC + made_for - 1
            if load_relaxed(mem, at) != cache_id + 1:
                report(mem, claim, c.I_FIXED, c.AT_WORD | at, cache_id + 1, load_relaxed(mem, at))
                bad += 1
    return bad

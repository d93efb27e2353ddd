"""Recovery: clean up after a claim whose process died, at whatever instruction.

    mark_dead    (slots.py) kernels do not decide liveness; cpus.py does
    unblock      phase 1: take over every lock of the dead, repair what it protects, release it
    recover      phase 1, then phase 2: give back chains, sheaves, pages; finish what can only be
                 finished (destroying a cache, plugging a CPU); end the life
    reap         free what the dead owned by label and had not handed over; only they used it

All marked claims are recovered together, because a recovery may itself be killed, and then the dead
recoverer's locks and intents come before those of the first dead process. Everything is repeatable:
what descriptors, owner words and SF_WHERE say can be derived again, and each intent ends in one
write.

Other processes keep running. They wait for a lock of the dead until phase 1 is over, which takes as
long as walking the descriptors of one zone, and for any other lock only as long as phase 2 holds
it. Phase 1 may run in any waiter, inside its own operation: it waits only for zone, node and barn
locks, which are leaves, and it leaves the waiter's own intent alone. Phase 2 is for the supervisor,
or any caller outside the allocator.

The order within phase 1 follows the dependencies: free lists need the node lists' locks, chains
need free lists, sheaves need chains.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc import constants_slab as cs
from shmalloc.dialect import kernel, unit
from shmalloc.kernels.array_recovery import recover_arrays
from shmalloc.kernels.bits import order_of, type_of
from shmalloc.kernels.cache_set import destroy
from shmalloc.kernels.cpu_lock import is_inside, let_go, take_over_spin, unspin
from shmalloc.kernels.hotplug import finish_plug
from shmalloc.kernels.lock import give_up, lock_or_skip, owner_word, take_over, unlock, wake_all
from shmalloc.kernels.objects import cache_at, cpu_part, node_part
from shmalloc.kernels.pcp_repair import rebuild_lists
from shmalloc.kernels.rebuild import rebuild_zone
from shmalloc.kernels.recover_objects import (
    rebuild_barn,
    rebuild_node,
    rebuild_part,
    settle_put,
    settle_taken,
    sweep_sheaves,
)
from shmalloc.kernels.recover_pages import sweep_zone
from shmalloc.kernels.reporting import claim_at, cpu_at, event
from shmalloc.kernels.slab_format import give_pages_back
from shmalloc.kernels.slots import end_life, is_dead
from shmalloc.kernels.waiters import empty_seats
from shmalloc.kernels.zone import descriptor_at, pcp_at, zone_at
from shmalloc.units import CacheId, Claim, Memory, Pfn
from shmalloc.words import (
    cas,
    exchange,
    fixed,
    load,
    load2,
    load_relaxed,
    store_relaxed,
    wait,
    wake,
)


@unit
def recover(mem: Memory, claim: Claim) -> int:
    """Recover all claims that are marked dead, also those that are marked meanwhile; pages.

    Some are left, and marked, if a process that lives and does not run (it is stopped, say) holds
    the lock of the set of caches, or was recovering itself: E_AGAIN, if no page came back.
    """
    store_relaxed(mem, claim_at(mem, claim) + c.C_GIVE_UP, 0)  # of an earlier wait that went on
    while not enter(mem, claim):
        if load_relaxed(mem, claim_at(mem, claim) + c.C_GIVE_UP) == c.H_RECOVERY:
            return give_up(mem, claim)
        await_recovery(mem)  # another CPU recovers, perhaps our claims as well; or it died
    given = 0
    skipped = 0
    release_locks(mem, claim)
    for victim in range(load(mem, c.H_CLAIMS_USED)):
        if is_dead(mem, victim):
            release_locks(mem, claim)  # it may have been marked just now
            pages = sweep(mem, claim, victim)
            if pages < 0:
                skipped = pages
            else:
                given += pages
    leave(mem)
    return given if given > 0 else skipped


@unit
def unblock(mem: Memory, claim: Claim) -> int:
    """Phase 1 alone, for a CPU that waits for a dead owner's lock; 0 if another CPU runs it.

    Also called within a recovery of the same CPU: it may wait for a live process that itself waits
    for a lock whose owner died after phase 1, and no other CPU can help these two (docs/bugs.md 8).
    """
    if load(mem, c.H_RECOVERY) & c.LOCK_HOLDER_MASK == claim + 1:
        release_locks(mem, claim)
        return 1
    if not enter(mem, claim):
        return 0
    release_locks(mem, claim)
    leave(mem)
    return 1


@kernel
def enter(mem: Memory, claim: Claim) -> bool:
    """Become the recoverer, if H_RECOVERY is free or names a recoverer that is marked dead."""
    holder = load(mem, c.H_RECOVERY) & c.LOCK_HOLDER_MASK
    if holder == 0:
        return cas(mem, c.H_RECOVERY, 0, owner_word(mem, claim))
    return is_dead(mem, holder - 1) and take_over(mem, c.H_RECOVERY, claim, holder - 1)


@kernel
def await_recovery(mem: Memory) -> None:
    """Sleep until the recoverer is done, or until it is time to check that it is alive."""
    old = load(mem, c.H_RECOVERY)
    if old != 0 and (
        old & c.LOCK_CONTENDED != 0 or cas(mem, c.H_RECOVERY, old, old | c.LOCK_CONTENDED)
    ):
        wait(mem, c.H_RECOVERY, old | c.LOCK_CONTENDED)


@kernel
def leave(mem: Memory) -> None:
    """Let the next recoverer in."""
    if exchange(mem, c.H_RECOVERY, 0) & c.LOCK_CONTENDED != 0:
        wake(mem, c.H_RECOVERY, c.MAX_CLAIMS)


@unit
def release_locks(mem: Memory, claim: Claim) -> None:
    """Phase 1 for all claims that are marked dead."""
    wake_sleepers(mem)  # first: a lock that we wait for may be kept for one of the dead
    used = load(mem, c.H_CLAIMS_USED)
    for victim in range(used):
        if is_dead(mem, victim):
            release_zones(mem, claim, victim)
    for victim in range(used):
        if is_dead(mem, victim):
            release_lists(mem, claim, victim)
    for victim in range(used):
        if is_dead(mem, victim):
            release_nodes(mem, claim, victim)
    for victim in range(used):
        if is_dead(mem, victim):
            settle_put(mem, claim, victim)
    for victim in range(used):
        if is_dead(mem, victim):
            release_parts(mem, claim, victim)


@kernel
def release_zones(mem: Memory, claim: Claim, victim: Claim) -> None:
    """Take over the locks of zones that the dead held, and release them."""
    for zone_id in range(fixed(mem, c.H_ZONES)):
        zone = zone_at(mem, zone_id)
        if take_over(mem, zone + c.Z_LOCK, claim, victim):
            rebuild_zone(mem, claim, zone)
            unlock(mem, zone + c.Z_LOCK)


@kernel
def release_lists(mem: Memory, claim: Claim, victim: Claim) -> None:
    """The same for the locks of per-CPU page lists; no lock of a zone is left with the dead."""
    for owner in range(fixed(mem, c.H_CPUS)):
        for zone_id in range(fixed(mem, c.H_ZONES)):
            at = pcp_at(mem, owner, zone_id) + c.P_LOCK
            if is_inside(mem, at, victim):
                rebuild_lists(mem, claim, owner, zone_id)
                let_go(mem, victim)
            if take_over_spin(mem, at, claim, victim, owner):
                rebuild_lists(mem, claim, owner, zone_id)
                unspin(mem, at, claim)


@kernel
def cache_exists(mem: Memory, cache_id: CacheId) -> bool:
    """Whether a cache is live or dying. A cache with a lock that the dead hold cannot go away."""
    return load(mem, cache_at(mem, cache_id) + cs.K_STATE) != cs.CACHE_NONE


@kernel
def release_nodes(mem: Memory, claim: Claim, victim: Claim) -> None:
    """The same for the locks of node lists and barns."""
    for cache_id in range(fixed(mem, c.H_CACHES)):
        if cache_exists(mem, cache_id):
            cache = cache_at(mem, cache_id)
            for node_id in range(fixed(mem, c.H_NODES)):
                lists = node_part(mem, cache, node_id)
                if take_over(mem, lists + cs.KN_LOCK, claim, victim):
                    rebuild_node(mem, cache, node_id)
                    unlock(mem, lists + cs.KN_LOCK)
                if take_over(mem, lists + cs.KN_BARN_LOCK, claim, victim):
                    rebuild_barn(mem, cache, node_id)
                    unlock(mem, lists + cs.KN_BARN_LOCK)


@kernel
def release_parts(mem: Memory, claim: Claim, victim: Claim) -> None:
    """The same for the locks of sheaves and of the set of caches."""
    for cache_id in range(fixed(mem, c.H_CACHES)):
        if cache_exists(mem, cache_id):
            cache = cache_at(mem, cache_id)
            for owner in range(fixed(mem, c.H_CPUS)):
                at = cpu_part(mem, cache, owner) + cs.KC_LOCK
                if is_inside(mem, at, victim):
                    rebuild_part(mem, cache, owner)
                    let_go(mem, victim)
                if take_over_spin(mem, at, claim, victim, owner):
                    rebuild_part(mem, cache, owner)
                    unspin(mem, at, claim)
    if take_over(mem, c.H_CACHES_LOCK, claim, victim):
        rebuild_unplugged(mem)
        free_lost_sheaves(mem, claim)
        break_lost_seals(mem)
        unlock(mem, c.H_CACHES_LOCK)
    let_go(mem, victim)  # of what it only tried to take: it was not inside


@kernel
def rebuild_unplugged(mem: Memory) -> None:
    """Sheaves of unplugged CPUs: no process owns their lock; H_CACHES_LOCK stands for it.

    A destroyer that takes them away may die between writing a sheaf's word and the pointer to it
    (docs/bugs.md 20).
    """
    for cache_id in range(fixed(mem, c.H_CACHES)):
        if cache_exists(mem, cache_id):
            cache = cache_at(mem, cache_id)
            for owner in range(fixed(mem, c.H_CPUS)):
                if load(mem, cpu_part(mem, cache, owner) + cs.KC_LOCK) == c.LOCK_OFFLINE:
                    rebuild_part(mem, cache, owner)


@unit
def free_lost_sheaves(mem: Memory, claim: Claim) -> None:
    """Free the sheaf pages of a cache that was being made or unmade; H_CACHES_LOCK held."""
    pfn = 0
    while pfn < fixed(mem, c.H_PAGES):
        w0, w1 = load2(mem, descriptor_at(mem, pfn))
        if type_of(w0) == c.T_ALLOCATED and w1 == cs.OWNER_SHEAVES and not has_sheaves(mem, pfn):
            give_pages_back(mem, claim, pfn, order_of(w0), cs.OWNER_SHEAVES)
        if type_of(w0) == c.T_TAIL:
            pfn += 1
        else:
            pfn += 1 << order_of(w0)


@kernel
def break_lost_seals(mem: Memory) -> None:
    """A cache that was sealed and not published yet: it was never made. H_CACHES_LOCK held."""
    for cache_id in range(fixed(mem, c.H_CACHES)):
        if not cache_exists(mem, cache_id):
            mem[cache_at(mem, cache_id) + cs.K_SEAL] = 0


@kernel
def has_sheaves(mem: Memory, pfn: Pfn) -> bool:
    """Whether a cache that exists keeps its sheaves at ``pfn``."""
    for cache_id in range(fixed(mem, c.H_CACHES)):
        cache = cache_at(mem, cache_id)
        if (
            cache_exists(mem, cache_id)
            and mem[cache + cs.K_SHEAF_COUNT] > 0
            and mem[cache + cs.K_SHEAF_PFN] == pfn
        ):
            return True
    return False


@kernel
def wake_sleepers(mem: Memory) -> None:
    """Wake all sleepers: for a lock, for memory, or for their turn to recover.

    The dead process may have received their wake-up and died; or it was about to wake them and had
    already disarmed H_WAKE or H_RECLAIM, or left H_RECOVERY, so that no other process would
    (docs/bugs.md 7, 17).
    """
    wake(mem, c.H_WAKE, c.MAX_CLAIMS)
    wake(mem, c.H_RECOVERY, c.MAX_CLAIMS)
    wake(mem, c.H_RECLAIM, c.MAX_CLAIMS)
    wake_all(mem, c.H_CACHES_LOCK)
    for zone_id in range(fixed(mem, c.H_ZONES)):
        wake_all(mem, zone_at(mem, zone_id) + c.Z_LOCK)
    for cache_id in range(fixed(mem, c.H_CACHES)):
        if cache_exists(mem, cache_id):
            for node_id in range(fixed(mem, c.H_NODES)):
                lists = node_part(mem, cache_at(mem, cache_id), node_id)
                wake_all(mem, lists + cs.KN_LOCK)
                wake_all(mem, lists + cs.KN_BARN_LOCK)


@unit
def sweep(mem: Memory, claim: Claim, victim: Claim) -> int:
    """Phase 2 for one claim, whose locks are all released; H_RECOVERY held. Returns pages.

    E_AGAIN, with nothing done: who has the lock of the set of caches does not run.
    """
    if not lock_or_skip(mem, c.H_CACHES_LOCK, claim):
        return c.E_AGAIN
    settle_taken(mem, claim, victim)
    for cache_id in range(fixed(mem, c.H_CACHES)):
        if cache_exists(mem, cache_id):
            sweep_sheaves(mem, claim, cache_at(mem, cache_id), victim)
    finish_destroy(mem, claim, victim)
    unlock(mem, c.H_CACHES_LOCK)
    given = 0
    for zone_id in range(fixed(mem, c.H_ZONES)):
        given += sweep_zone(mem, claim, zone_id, victim)
    empty_seats(mem, victim)
    finish_plugs(mem, claim, victim)
    recover_arrays(mem, claim, victim)
    event(mem, claim, c.EV_RECOVER)
    end_life(mem, victim)
    return given


@kernel
def finish_destroy(mem: Memory, claim: Claim, victim: Claim) -> None:
    """Finish the destruction that the dead process began: the cache is gone, or stays with E_BUSY.

    H_CACHES_LOCK is held, so the id still means that cache.
    """
    for cache_id in range(fixed(mem, c.H_CACHES)):
        cache = cache_at(mem, cache_id)
        if cache_exists(mem, cache_id) and load(mem, cache + cs.K_DESTROYER) == owner_word(
            mem, victim
        ):
            destroy(mem, claim, cache, cache_id)


@kernel
def finish_plugs(mem: Memory, claim: Claim, victim: Claim) -> None:
    """Put a CPU online that the dead process was plugging in or unplugging."""
    mark = c.CPU_CHANGING | (victim + 1) << c.CPU_CHANGER_SHIFT
    for cpu in range(fixed(mem, c.H_CPUS)):
        if load(mem, cpu_at(mem, cpu) + c.C_STATE) == mark:
            finish_plug(mem, claim, cpu)

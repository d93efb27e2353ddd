"""Draining sheaves: return every object to its slab, for a shrink, a destroy, an unplug.

Sheaves stay where they are, or are taken away for good (``retire_sheaves``). A sheaf that another
CPU is refilling or flushing is held by that CPU and not seen. Draining works on the sheaves of
other CPUs and waits for their locks, which are never held for long by who runs.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc import constants_slab as cs
from shmalloc.dialect import kernel, unit
from shmalloc.kernels.barn import barn_pop, barn_put, in_hand, move_sheaf
from shmalloc.kernels.cpu_lock import spin_or_skip, unspin
from shmalloc.kernels.lock import lock, unlock
from shmalloc.kernels.objects import cpu_node, cpu_part, node_part
from shmalloc.kernels.sheaf import flush, take_spare
from shmalloc.units import CacheWords, Claim, Cpu, Memory, NodeId
from shmalloc.words import fixed, load_relaxed, store


@kernel
def drain_part(mem: Memory, claim: Claim, cache: CacheWords, victim: Cpu, after: int) -> int:
    """Flush main and spare of CPU ``victim`` in place, waiting for its lock.

    ``after`` is what the lock holds in the end: 0, or LOCK_OFFLINE. Returns 1; 0 if the CPU is
    unplugged, E_AGAIN if the owner of its lock does not run.
    """
    part = cpu_part(mem, cache, victim)
    held = spin_or_skip(mem, part + cs.KC_LOCK, claim, victim)
    if held > 0:
        if mem[part + cs.KC_MAIN] != 0:
            flush(mem, claim, cache, mem[part + cs.KC_MAIN])
        if mem[part + cs.KC_SPARE] != 0:
            flush(mem, claim, cache, mem[part + cs.KC_SPARE])
        store(mem, part + cs.KC_LOCK, after)
    return held


@kernel
def drain_barn(mem: Memory, claim: Claim, cache: CacheWords, node_id: NodeId) -> int:
    """Flush all sheaves of a node's barn, holding each meanwhile; how many lie there empty."""
    lists = node_part(mem, cache, node_id)
    while True:
        lock(mem, lists + cs.KN_BARN_LOCK, claim)
        sheaf = barn_pop(mem, lists, cs.KN_BARN_FULL, in_hand(mem, claim))
        # Under the lock: the CPU that brought a counted sheaf has finished with its words.
        empty = load_relaxed(mem, lists + cs.KN_NR_BARN_EMPTY)
        unlock(mem, lists + cs.KN_BARN_LOCK)
        if sheaf == 0:
            return empty
        flush(mem, claim, cache, sheaf)
        barn_put(mem, claim, lists, sheaf)


@unit
def drain_sheaves(mem: Memory, claim: Claim, cache: CacheWords) -> None:
    """Put every object of every sheaf back to its slab; sheaves stay where they are.

    A sheaf that another CPU is refilling is not seen, nor those whose owner does not run.
    """
    for victim in range(fixed(mem, c.H_CPUS)):
        drain_part(mem, claim, cache, victim, 0)
    for node_id in range(fixed(mem, c.H_NODES)):
        drain_barn(mem, claim, cache, node_id)


@kernel
def retire_part(mem: Memory, claim: Claim, cache: CacheWords, victim: Cpu) -> int:
    """Take the sheaves of one CPU away, into the barn; E_AGAIN if who has its lock does not run."""
    part = cpu_part(mem, cache, victim)
    lists = node_part(mem, cache, cpu_node(mem, victim))
    held = spin_or_skip(mem, part + cs.KC_LOCK, claim, victim)
    if held < 0:
        return held
    main = mem[part + cs.KC_MAIN]
    if main != 0:
        move_sheaf(mem, main, in_hand(mem, claim))
        mem[part + cs.KC_MAIN] = 0
    spare = take_spare(mem, claim, part)
    if held != 0:
        unspin(mem, part + cs.KC_LOCK, claim)
    if main != 0:
        barn_put(mem, claim, lists, main)
    if spare != 0:
        barn_put(mem, claim, lists, spare)
    return 0


@unit
def retire_sheaves(mem: Memory, claim: Claim, cache: CacheWords) -> int:
    """Take all sheaves away from the CPUs and flush them (cache destroy); K_STATE is DYING.

    Returns how many sheaves lie empty in the barns: all of them, unless a CPU holds one. A CPU that
    finds KC_MAIN 0 afterwards uses the slabs. E_AGAIN: those of a CPU were left, as a process has
    their lock and does not run.
    """
    skipped = 0
    for victim in range(fixed(mem, c.H_CPUS)):
        skipped += retire_part(mem, claim, cache, victim)
    empty = 0
    for node_id in range(fixed(mem, c.H_NODES)):
        empty += drain_barn(mem, claim, cache, node_id)
    return empty if skipped == 0 else c.E_AGAIN

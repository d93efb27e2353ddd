"""Fault injection: allocations that fail although there is memory (Linux: fail_page_alloc,
failslab; lib/fault-inject.c).

Six words of a claim's record, on a cache line that every allocation reads anyway::

    C_FAULTS        kinds of allocation that may fail: FAULT_PAGE | FAULT_OBJECT; 0: no faults
    C_FAULT_LEFT    the allocation, counted from now, that fails; 0: none
    C_FAULT_EVERY   afterwards, each one of this number fails; 0: no more
    C_FAULT_CHANCE  each fails with this chance, in parts of 2^31
    C_FAULT_RANDOM  state of the generator behind the chance, never 0 then
    C_FAULT_COUNT   how many have failed

A fault is decided at the start of an allocation, before anything is taken: the whole request fails,
as if memory had run out. Its caller must fall back or return E_NOMEM, and lose nothing. A request
for many blocks counts as that many allocations: it returns fewer blocks.

Rules for callers. The words are written while no kernel of the claim runs (``C_FAULTS`` last), so a
kernel may read C_FAULTS as a fixed word: without faults this costs one load and one branch. The
other words belong to the kernels of the claim until C_FAULTS is 0 again.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import hot, kernel, unit
from shmalloc.kernels.random import next_random
from shmalloc.kernels.reporting import claim_at, event, record
from shmalloc.units import Claim, CpuWords, Memory
from shmalloc.words import fixed


@hot
def is_faulty(mem: Memory, claim: Claim, kind: int) -> bool:
    """Whether this allocation of ``kind`` (FAULT_*) is to fail."""
    if fixed(mem, claim_at(mem, claim) + c.C_FAULTS) & kind == 0:
        return False
    return should_fail(mem, claim, kind) != 0


@hot
def faultless(mem: Memory, claim: Claim, kind: int, count: int) -> int:
    """How many of ``count`` allocations of ``kind`` pass before one is to fail."""
    if fixed(mem, claim_at(mem, claim) + c.C_FAULTS) & kind == 0:
        return count
    return count_faultless(mem, claim, kind, count)


@unit
def count_faultless(mem: Memory, claim: Claim, kind: int, count: int) -> int:
    """``faultless`` for a claim with faults."""
    for passed in range(count):
        if should_fail(mem, claim, kind) != 0:
            return passed
    return count


@unit
def should_fail(mem: Memory, claim: Claim, kind: int) -> int:
    """Count one allocation of ``kind`` of a claim with faults: 1 if it is to fail, else 0."""
    slot = claim_at(mem, claim)
    if not due(mem, slot) and not struck(mem, slot):
        return 0
    mem[slot + c.C_FAULT_COUNT] = mem[slot + c.C_FAULT_COUNT] + 1
    event(mem, claim, c.EV_FAULT)
    record(mem, claim, c.OP_FAULT, 0, -1, kind)
    return 1


@kernel
def due(mem: Memory, slot: CpuWords) -> bool:
    """Count down to the next fault; whether this allocation is to fail."""
    left = mem[slot + c.C_FAULT_LEFT]
    if left == 1:
        mem[slot + c.C_FAULT_LEFT] = mem[slot + c.C_FAULT_EVERY]
    elif left > 1:
        mem[slot + c.C_FAULT_LEFT] = left - 1
    return left == 1


@kernel
def struck(mem: Memory, slot: CpuWords) -> bool:
    """Whether chance makes this allocation fail."""
    chance = mem[slot + c.C_FAULT_CHANCE]
    if chance == 0:
        return False
    return (next_random(mem, slot + c.C_FAULT_RANDOM) >> 31) < chance

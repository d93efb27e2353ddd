"""Faults on request: allocations that fail although there is memory (Linux: fail_page_alloc,
failslab; lib/fault-inject.c).

Six words of a CPU slot, on a cache line that every allocation reads anyway::

    C_FAULTS        kinds of allocation that may fail: FAULT_PAGE | FAULT_OBJECT; 0: no faults
    C_FAULT_LEFT    so many allocations from now on, one fails; 0: none does
    C_FAULT_EVERY   then another one after each so many; 0: it was the only one
    C_FAULT_CHANCE  each fails with this chance, in parts of 2^31
    C_FAULT_RANDOM  state of the generator behind the chance, never 0 then
    C_FAULT_COUNT   how many were made to fail

A fault is decided where an allocation begins, before anything was taken: what fails is the whole
request, as if memory had run out. Its caller must fall back or answer E_NOMEM, and lose nothing.
A request for many blocks is that many allocations: it comes back short.

Rules for callers. One process on the slot. The words are written while no kernel runs on the slot
(``C_FAULTS`` last), so a kernel may read C_FAULTS as a fixed word: no fault costs one load and one
branch. The other words belong to the kernels of the slot until C_FAULTS is 0 again.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import hot, kernel, unit
from shmalloc.kernels.random import next_random
from shmalloc.kernels.reporting import cpu_at, event, record
from shmalloc.units import Cpu, CpuWords, Memory
from shmalloc.words import fixed


@hot
def is_faulty(mem: Memory, cpu: Cpu, kind: int) -> bool:
    """Whether this allocation of ``kind`` (FAULT_*) is to fail."""
    if fixed(mem, cpu_at(mem, cpu) + c.C_FAULTS) & kind == 0:
        return False
    return should_fail(mem, cpu, kind) != 0


@hot
def faultless(mem: Memory, cpu: Cpu, kind: int, count: int) -> int:
    """How many of ``count`` allocations of ``kind`` pass before one is to fail."""
    if fixed(mem, cpu_at(mem, cpu) + c.C_FAULTS) & kind == 0:
        return count
    return count_faultless(mem, cpu, kind, count)


@unit
def count_faultless(mem: Memory, cpu: Cpu, kind: int, count: int) -> int:
    """``faultless`` where there may be a fault."""
    for passed in range(count):
        if should_fail(mem, cpu, kind) != 0:
            return passed
    return count


@unit
def should_fail(mem: Memory, cpu: Cpu, kind: int) -> int:
    """Count one allocation of ``kind`` on a slot with faults: 1 if it is to fail, else 0."""
    slot = cpu_at(mem, cpu)
    if not due(mem, slot) and not struck(mem, slot):
        return 0
    mem[slot + c.C_FAULT_COUNT] = mem[slot + c.C_FAULT_COUNT] + 1
    event(mem, cpu, c.EV_FAULT)
    record(mem, cpu, c.OP_FAULT, 0, -1, kind)
    return 1


@kernel
def due(mem: Memory, slot: CpuWords) -> bool:
    """Count down to the next fault; whether this is it."""
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

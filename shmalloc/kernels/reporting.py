"""What kernels leave behind for people: event counters, operation history, violation reports.

Three structures, none of which any kernel reads to decide something:

- event counters, one set for each CPU slot, on its own cache lines (``event``)
- the history: a ring of the last operations of each CPU, off unless the geometry asks for it; with
  H_HISTORY_STOPS the rings stay as they are from the first report on::

      [ clock | operation << 8 | order | pfn or object | owner or result ]

- the report table: the *first* ``REPORTS`` violations, since the first ones explain the rest::

      [ code | where | expected | found | cpu | clock | ready ]   ready: slot + 1, written last
"""

from __future__ import annotations

from shmalloc.constants import (
    C_EVENTS, C_HISTORY_NEXT, C_STRIDE, CPUS_AT, EV_MISUSE, H_AT_HISTORY, H_AT_REPORTS, H_HISTORY,
    H_HISTORY_STOPS, H_REPORT_COUNT, HI_CLOCK, HI_DETAIL, HI_OP, HI_STRIDE, HI_WHERE, OP_MISUSE,
    R_CLOCK, R_CODE, R_CPU, R_EXPECTED, R_FOUND, R_READY, R_STRIDE, R_WHERE, REPORTS,
)  # fmt: skip
from shmalloc.constants_slab import K_ID
from shmalloc.dialect import hot, kernel, unit
from shmalloc.units import CacheWords, Cpu, CpuWords, Int, Memory, ObjectAddress, Order
from shmalloc.words import fetch_add, fixed, load_relaxed, mark, now, store, store_relaxed


@kernel
def cpu_at(mem: Memory, cpu: Cpu) -> CpuWords:
    """Word index of a CPU slot."""
    return CPUS_AT + cpu * C_STRIDE


@kernel
def event(mem: Memory, cpu: Cpu, which: int) -> None:
    """Count one event ``EV_*`` on ``cpu``."""
    mark(mem, cpu_at(mem, cpu) + C_EVENTS + which)


@hot
def record(mem: Memory, cpu: Cpu, operation: int, order: Order, where: Int, detail: Int) -> None:
    """Append to the CPU's history ring, if there is one."""
    if fixed(mem, H_HISTORY) != 0:
        append_history(mem, cpu, operation << 8 | order, where, detail)


@hot
def record_object(
    mem: Memory, cpu: Cpu, operation: int, address: ObjectAddress, cache: CacheWords
) -> None:
    """Append what was done with an object of ``cache``; the ring names its id."""
    if fixed(mem, H_HISTORY) != 0:
        append_history(mem, cpu, operation << 8, address, load_relaxed(mem, cache + K_ID))


@unit
def append_history(mem: Memory, cpu: Cpu, operation: int, where: Int, detail: Int) -> None:
    """A CPU slot that two processes share may lose or mix an entry; the ring is for people only."""
    if fixed(mem, H_HISTORY_STOPS) != 0 and load_relaxed(mem, H_REPORT_COUNT) != 0:
        return
    entries = fixed(mem, H_HISTORY)
    slot = cpu_at(mem, cpu) + C_HISTORY_NEXT
    index = load_relaxed(mem, slot)
    store_relaxed(mem, slot, index + 1)
    at = fixed(mem, H_AT_HISTORY) + (cpu * entries + (index & (entries - 1))) * HI_STRIDE
    store_relaxed(mem, at + HI_CLOCK, now(mem))
    store_relaxed(mem, at + HI_OP, operation)
    store_relaxed(mem, at + HI_WHERE, where)
    store_relaxed(mem, at + HI_DETAIL, detail)


@unit
def report(mem: Memory, cpu: Cpu, code: int, where: Int, expected: Int, found: Int) -> int:
    """Keep one violation. A full table still counts, so that nobody takes silence for health."""
    event(mem, cpu, EV_MISUSE)
    record(mem, cpu, OP_MISUSE, 0, where, code)
    slot = fetch_add(mem, H_REPORT_COUNT, 1)
    if slot < REPORTS:
        at = fixed(mem, H_AT_REPORTS) + slot * R_STRIDE
        store_relaxed(mem, at + R_CODE, code)
        store_relaxed(mem, at + R_WHERE, where)
        store_relaxed(mem, at + R_EXPECTED, expected)
        store_relaxed(mem, at + R_FOUND, found)
        store_relaxed(mem, at + R_CPU, cpu)
        store_relaxed(mem, at + R_CLOCK, now(mem))
        store(mem, at + R_READY, slot + 1)  # publishes the record
    return slot

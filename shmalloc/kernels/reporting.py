"""What kernels leave behind for people: event counters, operation history, violation reports.

Three structures; no kernel reads them to make a decision:

- event counters, one set for each claim, on its own cache lines (``event``)
- the history: a ring of the last operations of each CPU, off unless the geometry asks for it, as
  is page_owner.py, which the same operations pass (one word says whether either is on); with
  H_HISTORY_STOPS the first report freezes the rings::

      [ clock | operation << 8 | order | pfn or object | owner or result ]

- the report table: the *first* ``REPORTS`` violations, since the first ones explain the rest::

      [ code | where | expected | found | claim | clock | ready | caller ]
                                                     ready: slot + 1, written last
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc import constants_slab as cs
from shmalloc.dialect import hot, kernel, told_its_caller, unit
from shmalloc.kernels.page_owner import note_object, note_pages
from shmalloc.units import CacheWords, Claim, Cpu, CpuWords, Int, Memory, ObjectAddress, Order
from shmalloc.words import fetch_add, fixed, load_relaxed, mark, now, store, store_relaxed


@kernel
def cpu_at(mem: Memory, cpu: Cpu) -> CpuWords:
    """Word index of the record of a CPU, which is also that of the claim of its number."""
    return c.CPUS_AT + cpu * c.C_STRIDE


@kernel
def claim_at(mem: Memory, claim: Claim) -> CpuWords:
    """Word index of the record of a claim."""
    return c.CPUS_AT + claim * c.C_STRIDE


@hot
def has_record(mem: Memory, claim: Claim) -> bool:
    """Whether ``claim`` can be the number of a claim.

    The hot kernels ask this first. The compiler then knows that no word of the header and of the
    record is outside of the segment, and checks these once instead of each of a dozen times.
    """
    if claim < 0 or claim >= c.MAX_CLAIMS:
        return False
    return fixed(mem, claim_at(mem, claim) + c.C_LAST) == 0


@kernel
def cpu_of(mem: Memory, claim: Claim) -> Cpu:
    """The CPU that claim ``claim`` is on; it cannot change while a kernel of the claim runs."""
    return fixed(mem, claim_at(mem, claim) + c.C_CPU)


@kernel
def event(mem: Memory, claim: Claim, which: int) -> None:
    """Count one event ``EV_*`` of ``claim``."""
    mark(mem, claim_at(mem, claim) + c.C_EVENTS + which)


@hot
def record(
    mem: Memory, claim: Claim, operation: int, order: Order, where: Int, detail: Int
) -> None:
    """Write an operation down, where that is asked for: in the history, or by page_owner."""
    if fixed(mem, c.H_WATCHED) != 0:
        watch(mem, claim, operation << 8 | order, where, detail)


@hot
def record_object(
    mem: Memory, claim: Claim, operation: int, address: ObjectAddress, cache: CacheWords
) -> None:
    """The same of an operation on an object of ``cache``; the history names the cache's id."""
    if fixed(mem, c.H_WATCHED) != 0:
        number = load_relaxed(mem, cache + cs.K_ID)
        watch_object(mem, claim, operation << 8, address, number)


@unit
def watch(mem: Memory, claim: Claim, operation: int, where: Int, detail: Int) -> None:
    """Append to the CPU's history ring, if there is one, and sample allocations, if that is on.

    ``operation``: above the order, as in the ring.
    """
    if fixed(mem, c.H_HISTORY) != 0:
        append_history(mem, claim, operation, where, detail)
    if operation >> 8 == c.OP_ALLOC and where >= 0 and fixed(mem, c.H_AT_PAGE_OWNER) != 0:
        note_pages(mem, claim, +where, operation & 0xFF, detail)


@unit
def watch_object(mem: Memory, claim: Claim, operation: int, address: Int, cache_id: Int) -> None:
    """The same of an object."""
    if fixed(mem, c.H_HISTORY) != 0:
        append_history(mem, claim, operation, address, cache_id)
    if operation >> 8 == c.OP_OBJ_ALLOC and fixed(mem, c.H_AT_PAGE_OWNER) != 0:
        note_object(mem, claim, +address, +cache_id)


@unit
def append_history(mem: Memory, claim: Claim, operation: int, where: Int, detail: Int) -> None:
    """Two processes on one CPU may lose or mix an entry; only people read the ring."""
    if load_relaxed(mem, c.H_HISTORY_STOPS) == 2:
        return
    entries = fixed(mem, c.H_HISTORY)
    on = cpu_of(mem, claim)
    slot = cpu_at(mem, on) + c.C_HISTORY_NEXT
    index = load_relaxed(mem, slot)
    store_relaxed(mem, slot, index + 1)
    at = fixed(mem, c.H_AT_HISTORY) + (on * entries + (index & (entries - 1))) * c.HI_STRIDE
    store_relaxed(mem, at + c.HI_CLOCK, now(mem))
    store_relaxed(mem, at + c.HI_OP, operation)
    store_relaxed(mem, at + c.HI_WHERE, where)
    store_relaxed(mem, at + c.HI_DETAIL, detail)


@unit
@told_its_caller
def report(
    mem: Memory, claim: Claim, code: int, where: Int, expected: Int, found: Int, caller: int = 0
) -> int:
    """Record one violation. A full table still counts, so that silence never passes for health."""
    event(mem, claim, c.EV_MISUSE)
    record(mem, claim, c.OP_MISUSE, 0, where, code)
    if fixed(mem, c.H_HISTORY) != 0 and load_relaxed(mem, c.H_HISTORY_STOPS) == 1:
        store_relaxed(mem, c.H_HISTORY_STOPS, 2)
    slot = fetch_add(mem, c.H_REPORT_COUNT, 1)
    if 0 <= slot < c.REPORTS:
        at = fixed(mem, c.H_AT_REPORTS) + slot * c.R_STRIDE
        store_relaxed(mem, at + c.R_CODE, code)
        store_relaxed(mem, at + c.R_WHERE, where)
        store_relaxed(mem, at + c.R_EXPECTED, expected)
        store_relaxed(mem, at + c.R_FOUND, found)
        store_relaxed(mem, at + c.R_CLAIM, claim)
        store_relaxed(mem, at + c.R_CLOCK, now(mem))
        store_relaxed(mem, at + c.R_CALLER, caller)
        store(mem, at + c.R_READY, slot + 1)  # publishes the record
    return slot

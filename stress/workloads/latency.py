"""How long the allocator's operations take: kernels that time calls, and where the counts lie.

A workload reads the clock before and after a call of the allocator, and counts the duration in a
bucket of a histogram (stress/run/histogram.py has the same buckets)::

    began = clock_of_some(mem, number, SAMPLE_EVERY)      one call in so many is timed
    pfn = alloc_pages(mem, ...)
    note(mem, cpu, L_ALLOC_PAGES, began, pfn)

    region "latency", a part for each claim, private to its worker:
      0 ns per tick << SCALE_SHIFT, 0: nothing is timed | 1 longest duration in ticks
      16 ..   the longest call of each row in ns
      64 ..   the buckets of each row             two rows an operation: calls that succeeded,
                                                  and calls that returned a negative code

A clock costs as much as a fast operation, so fast ones are timed by sample: those whose number (a
count that the workload keeps anyway) a multiplicative hash sends to the first of SAMPLE_EVERY
equal parts (Knuth, TAOCP 3, 6.4). This follows no power of two and no batch size. Slow operations
are all timed (``clock_of``).

Without the region, or before the controller has written the scale, no clock is read. Counting is a
``mark``, reading the clock is no access: neither is a scheduling point. Where a clock counts steps
(the explorer), durations are steps. A worker that dies within ``note`` leaves a count that is one
less; the counts of its slot go on with its next life.

What it does not do: serialize the processor, which overlaps the ends of a call with what stands
around it. A duration is right to about 10 ns.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import hot, kernel, unit
from shmalloc.units import Claim, Int, Memory
from shmalloc.words import fixed, mark, now

L_ALLOC_PAGES = 0
L_FREE_PAGES = 1
L_ALLOC_PAGES_WAIT = 2
L_ALLOC_BULK = 3
L_FREE_BULK = 4
L_CACHE_ALLOC = 5
L_CACHE_FREE = 6
L_CACHE_ALLOC_BULK = 7
L_CACHE_FREE_BULK = 8
L_CACHE_CREATE = 9
L_CACHE_DESTROY = 10
L_CACHE_SHRINK = 11
L_ALLOC_CONTIG_RANGE = 12
L_FREE_CONTIG_RANGE = 13
L_ISOLATE_RANGE = 14
L_UNISOLATE_RANGE = 15
L_OFFLINE_RANGE = 16
L_ONLINE_RANGE = 17
L_UNPLUG_CPU = 18
L_PLUG_CPU = 19
L_WALK = 20
L_COUNT = 24  # some to spare
OPERATIONS = {
    value: name.removeprefix("L_").lower()
    for name, value in list(globals().items())
    if name.startswith("L_") and name != "L_COUNT"
}
ROWS = 2 * L_COUNT
LT_SCALE = 0
LT_LONGEST = 1
LT_MAX = 16
LT_BUCKETS = 64
STEP_BITS = 5  # as in histogram.py
STEPS = 1 << STEP_BITS
BUCKETS = 1152
LATENCY_WORDS = LT_BUCKETS + ROWS * BUCKETS
SCALE_SHIFT = 20
SAMPLE_EVERY = 128  # powers of two
SAMPLE_EVERY_SLOWER = 8  # lists of blocks and objects; the events of a trace
HASH_FACTOR = 0x1E3779B97F4A7C15  # odd, near 2**64 divided by the golden ratio, below 2**63
HASH_SHIFT = 40
assert LT_MAX + ROWS <= LT_BUCKETS


@kernel
def clock(mem: Memory) -> int:
    """The clock in ticks, for the calibration."""
    return now(mem)


@hot
def clock_of_some(mem: Memory, number: Int, every: int) -> int:
    """The clock if call ``number`` is one that is timed, one in ``every``, else 0."""
    if (number * HASH_FACTOR >> HASH_SHIFT) & (every - 1) != 0:
        return 0
    return clock_of(mem)


@unit
def clock_of(mem: Memory) -> int:
    """The clock; 0 in a segment in which nothing is timed."""
    if fixed(mem, c.H_AT_LATENCY) == 0:
        return 0
    return now(mem)


@hot
def note(mem: Memory, claim: Claim, operation: int, began: int, result: Int) -> None:
    """Count a call that began at ``began``, if it is timed; ``result``: negative if it failed."""
    if began != 0:
        count(mem, claim, 2 * operation + (result < 0), now(mem) - began)


@unit
def count(mem: Memory, claim: Claim, row: int, ticks: int) -> None:
    """Count a duration in a row. A clock that went back, on another core, counts as no time."""
    at = fixed(mem, c.H_AT_LATENCY) + claim * LATENCY_WORDS
    if mem[at + LT_SCALE] == 0:
        return
    ns = (min(max(ticks, 0), mem[at + LT_LONGEST]) * mem[at + LT_SCALE]) >> SCALE_SHIFT
    if ns > mem[at + LT_MAX + row]:
        mem[at + LT_MAX + row] = ns
    mark(mem, at + LT_BUCKETS + row * BUCKETS + bucket_of(ns))


@kernel
def bucket_of(ns: int) -> int:
    """The bucket of a duration: STEPS of them in each octave, the last one is open."""
    octave = 0
    while ns >> octave >= 2 * STEPS:
        octave += 1
    return min((octave << STEP_BITS) + (ns >> octave), BUCKETS - 1)

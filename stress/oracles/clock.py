"""How long a look of an oracle may take: nanoseconds as ticks of the processor's counter.

An oracle that reads twice without a lock discards what it read if the readings lie too far apart.
Only the counter (``now``) can be read in a kernel, and its rate is the machine's: some GHz on x86,
24 MHz to 1 GHz on Arm (CNTFRQ_EL0). So limits are given in nanoseconds, and the controller of a run
measures the rate before its workers begin (stress/run/latencies.py) and writes it to H_CLOCK_KHZ.

Where it was not measured, a tick is taken for a nanosecond, which it is for interpreted kernels.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import kernel
from shmalloc.units import Memory
from shmalloc.words import fixed, now

NANOSECONDS_KHZ = 1_000_000


@kernel
def took_longer(mem: Memory, start: int, limit_ns: int) -> bool:
    """Whether more than ``limit_ns`` have passed since the counter said ``start``.

    With a slow counter at least one whole tick: of less it knows nothing.
    """
    khz = fixed(mem, c.H_CLOCK_KHZ)  # written once, before a worker works
    if khz == 0:
        khz = NANOSECONDS_KHZ
    return now(mem) - start > max(limit_ns * khz // NANOSECONDS_KHZ, 1)

"""The samples of a trace replay: which memory is free at a sync point, where all workers wait.

::

    [live pages][free in the zones][on per-CPU lists][0] [free blocks of each order ...]

Slot 0 writes one at each sync point of the recording into its work area (trace.py), and the
controller reads them after the run (stress/trace/replay.py).
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import kernel
from shmalloc.kernels.zone import pcp_at, zone_at
from shmalloc.units import Memory, WordIndex
from shmalloc.words import fixed, load_relaxed

SAMPLE_LIVE = 0  # pages that the replay holds
SAMPLE_FREE = 1  # pages free in the zones
SAMPLE_PCP = 2  # pages on per-CPU lists
SAMPLE_ORDERS = 4  # free blocks by order
SAMPLE_WORDS = 16


@kernel
def take_sample(mem: Memory, sample: WordIndex, live: int) -> None:
    """Write ``live`` and the free pages at ``sample``; exact, since all other workers wait."""
    for i in range(SAMPLE_WORDS):
        mem[sample + i] = 0
    mem[sample + SAMPLE_LIVE] = live
    for zone_id in range(fixed(mem, c.H_ZONES)):
        zone = zone_at(mem, zone_id)
        mem[sample + SAMPLE_FREE] = mem[sample + SAMPLE_FREE] + load_relaxed(mem, zone + c.Z_FREE)
        for slot in range(fixed(mem, c.H_CPUS)):
            kept = load_relaxed(mem, pcp_at(mem, slot, zone_id) + c.P_COUNT)
            mem[sample + SAMPLE_PCP] = mem[sample + SAMPLE_PCP] + kept
        for i in range(c.ORDERS * c.MT_COUNT):
            blocks = sample + SAMPLE_ORDERS + i // c.MT_COUNT
            mem[blocks] = mem[blocks] + load_relaxed(mem, zone + c.Z_COUNTS + i)

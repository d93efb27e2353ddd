"""reclaim: memory is used up in waves, while each worker is its own reclaimer now and then.

Imitates a machine whose memory runs out: blocks of all orders are held until there are no more,
then given back. Meanwhile workers arm the word of reclaimers and make passes, which drain the lists
of all and shrink all caches.
Hunts: a pass that loses pages or objects; a drain beside a refill; a boost that never ends; a
wake-up that meets a pass.
Must reach: alloc, free, a pass, a wake-up of a reclaimer.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import kernel
from shmalloc.kernels.reclaimer import arm_reclaim, reclaim_pass
from shmalloc.units import Claim, Memory
from shmalloc.words import fixed
from stress.workloads.area import W_DATA, draw, stopping, work_at
from stress.workloads.pressure import PRESSURE_WORDS, pressure_give, pressure_take

RECLAIM_GIVING = PRESSURE_WORDS  # 1: the wave goes back
RECLAIM_WORDS = max(PRESSURE_WORDS, W_DATA) + 1
RECLAIM_BLOCKS = 8
RECLAIM_EVERY = 64


@kernel
def reclaim(mem: Memory, claim: Claim, steps: int) -> int:
    """Run ``steps`` steps; returns their number."""
    at = work_at(mem, claim)
    done = 0
    for _ in range(steps):
        if stopping(mem):
            break
        if draw(mem, at, RECLAIM_EVERY) == 0:
            arm_reclaim(mem)
            reclaim_pass(mem, claim)
        elif mem[at + RECLAIM_GIVING] == 0:
            # Without a limit: a worker that holds every page must find that there is none left.
            if pressure_take(mem, claim, RECLAIM_BLOCKS, fixed(mem, c.H_PAGES) + 1) < 0:
                mem[at + RECLAIM_GIVING] = 1
        elif pressure_give(mem, claim, RECLAIM_BLOCKS) == 0:
            mem[at + RECLAIM_GIVING] = 0
        done += 1
    return done


@kernel
def reclaim_finish(mem: Memory, claim: Claim) -> int:
    """Give back what is held."""
    at = work_at(mem, claim)
    while pressure_give(mem, claim, RECLAIM_BLOCKS) > 0:
        pass
    mem[at + RECLAIM_GIVING] = 0
    return 0

"""Why a search that came to its end is no proof: what it could not try, and knows of.

Each reason is a line of the result's note. A search that has one has not exhausted its program.
This file knows the words of the control block in which machine and searches say so, and decides
nothing else.
"""

from __future__ import annotations

from stress.explorer.dpor import clocks, tree
from stress.explorer.dpor import search as dpor_search
from stress.machine import block as cb
from stress.machine.machine import Block
from stress.quantities import counted


def left_out(block: Block, strategy: str) -> list[str]:
    """What a finished search of ``strategy`` did not try, in words; empty for a proof."""
    reasons = []
    if block[cb.BUFFER_FULL]:
        reasons.append(
            f"a CPU made more than {block[cb.DEPTH]} stores that no other CPU had seen: what longer"
            " store buffers allow was not tried"
        )
    for cpu in range(int(block[cb.CPUS])):
        if block[cb.PATIENT] >> cpu & 1:
            spins = counted(int(block[cb.FREE_SPINS]) + 1, "spin")
            reasons.append(
                f"cpu {cpu} counts while it spins: that it gives up after more than {spins} was"
                " tried only when all others had stopped; raise free_spins"
            )
    if block[cb.SETS_LEFT_OUT]:
        reasons.append(
            f"a wake could choose among more than {cb.MAX_VALUES} sets of sleepers: the others were"
            " not tried"
        )
    if strategy == "dpor":
        words = (clocks.RACES_LOST, tree.POOL_EMPTY, dpor_search.TOO_SMALL)
        if any(block[word] for word in words):
            reasons.append("the search tree outgrew its memory: the rest was not tried")
        if block[cb.CUT_SHORT]:
            reasons.append(
                f"{counted(int(block[cb.CUT_SHORT]), 'schedule')} ended at a failure: what other"
                " CPUs would have done behind it was not tried"
            )
    return reasons

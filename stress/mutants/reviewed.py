"""Mutants that a reviewer thought of who had read the kernels and none of the other mutants.

Most of them survived every hunt at first: each has a world that was missing.
"""

from __future__ import annotations

from stress.mutants.mutant import LOOKS_AGAIN, Mutant

PCP = "shmalloc/kernels/pcp.py"
RETIRE = "shmalloc/kernels/retire.py"

MUTANTS = (
    Mutant(
        "retire-changed-wakes-none",
        RETIRE,
        (
            (
                "    retire_pages(mem, claim, zone, pfn, order)\n"
                "    unlock_zone(mem, claim, zone)\n"
                "    wake_waiters(mem, claim)\n",
                "    retire_pages(mem, claim, zone, pfn, order)\n"
                "    unlock_zone(mem, claim, zone)\n",
            ),
        ),
        "of a block with one changed page the others go back to the zone, and no sleeper is woken",
        "I_PROGRESS",
        ("filled-sleeper",),
        unseen=LOOKS_AGAIN,
    ),
    Mutant(
        "decay-lowers-before-it-drains",
        PCP,
        (
            (
                "            excess = mem[pcp + c.P_COUNT] - high\n",
                "            mem[pcp + c.P_HIGH] = high\n"
                "            excess = mem[pcp + c.P_COUNT] - high\n",
            ),
        ),
        "the high mark of a list sinks before its pages are drained: who dies in between leaves a"
        " list that is longer than its mark",
        "I_PCP_COUNT",
        ("crash:pages-decay",),
        unseen="a recovered list drains with the next free",
        precedent="docs/bugs.md 56",
    ),
)

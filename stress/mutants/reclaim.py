"""Mutants of the reclaimer: who wakes it, and what it does first."""

from __future__ import annotations

from stress.mutants.mutant import LOOKS_AGAIN, Mutant

RECLAIM = "shmalloc/kernels/reclaim.py"
RECLAIMER = "shmalloc/kernels/reclaimer.py"

MUTANTS = (
    Mutant(
        "reclaimer-never-woken",
        "shmalloc/kernels/pages.py",
        (
            (
                "        wake_reclaimers(mem, claim, order, gfp)\n    pfn = found",
                "        pass\n    pfn = found",
            ),
        ),
        "an allocation takes a zone below its low mark and wakes no reclaimer",
        "I_PROGRESS",
        ("reclaim-wake",),
        unseen=LOOKS_AGAIN,
    ),
    Mutant(
        "reclaimer-woken-alone",
        RECLAIM,
        (("    wake(mem, c.H_RECLAIM, c.MAX_CLAIMS)\n", "    wake(mem, c.H_RECLAIM, 1)\n"),),
        "of two processes whose reclaimers sleep on the word, one is woken: the other one, which"
        " alone can call its shrinkers, sleeps on a value that is gone",
        "I_PROGRESS",
        ("reclaim-two-sleep-3",),
        unseen=LOOKS_AGAIN,
    ),
    Mutant(
        "reclaimer-woken-first",
        RECLAIM,
        (
            (
                "    if ticket & 1 == 0 or not cas(mem, c.H_RECLAIM, ticket, ticket + 1):\n"
                "        return 0\n    wake(mem, c.H_RECLAIM, c.MAX_CLAIMS)\n",
                "    wake(mem, c.H_RECLAIM, c.MAX_CLAIMS)\n"
                "    if ticket & 1 == 0 or not cas(mem, c.H_RECLAIM, ticket, ticket + 1):\n"
                "        return 0\n",
            ),
        ),
        "the sleepers are woken before the word is disarmed: one that goes to sleep in between sees"
        " the armed value, and is not woken",
        "I_PROGRESS",
        ("reclaim-wake", "reclaim-two-sleep-3"),
        unseen=LOOKS_AGAIN,
    ),
    Mutant(
        "recovery-forgets-reclaimers",
        "shmalloc/kernels/recover.py",
        (("    wake(mem, c.H_RECLAIM, c.MAX_CLAIMS)\n", ""),),
        "a process died between the disarm of H_RECLAIM and the wake-up, and recovery does not make"
        " up for it: the reclaimers sleep on a value that is gone",
        "I_PROGRESS",
        ("reclaim-recover-waker",),
        unseen=LOOKS_AGAIN,
    ),
    Mutant(
        "rest-on-a-new-ticket",
        RECLAIMER,
        (
            (
                "    if load(mem, c.H_RECLAIM) == ticket:\n"
                "        wait(mem, c.H_RECLAIM, ticket)\n",
                "    wait(mem, c.H_RECLAIM, load(mem, c.H_RECLAIM))\n",
            ),
        ),
        "a reclaimer sleeps on the word as it is now: a wake-up between its pass and its rest is"
        " forgotten",
        "I_PROGRESS",
        ("reclaim-wake", "reclaim-two-sleep-3"),
        unseen=LOOKS_AGAIN,
    ),
    Mutant(
        "pass-shrinks-unlocked",
        RECLAIMER,
        (
            ("    lock(mem, c.H_CACHES_LOCK, claim)\n", ""),
            ("    unlock(mem, c.H_CACHES_LOCK)\n", ""),
        ),
        "a pass shrinks caches without the lock of the set: one is destroyed under its hands, and"
        " its sheaves' pages have another owner",
        "I_SHEAF",
        ("reclaim-destroy", "reclaim"),
        ("reclaim", "modules"),
    ),
)

"""Mutants of what never waits: deferred lists, and who frees what is on them."""

from __future__ import annotations

from stress.mutants.mutant import LOOKS_AGAIN, Mutant

DEFERRED = "shmalloc/kernels/deferred.py"
TRY_PAGES = "shmalloc/kernels/try_pages.py"
REPAIR = "shmalloc/kernels/repair.py"
SWEEP = "shmalloc/kernels/recover_pages.py"
WAITERS = "shmalloc/kernels/waiters.py"
KILLS = ("--faults", "kill:every=50ms,kill:every=80ms,fuse=1..2000")

MUTANTS = (
    Mutant(
        "try-waits-for-the-zone",
        TRY_PAGES,
        (
            (
                "    zone = zone_at(mem, zone_id)\n    if try_lock(mem, zone + c.Z_LOCK, claim):\n"
                "        if wants_poison(seen):\n",
                "    zone = zone_at(mem, zone_id)\n    lock(mem, zone + c.Z_LOCK, claim)\n"
                "    if zone >= 0:\n        if wants_poison(seen):\n",
            ),
            ("import try_lock\n", "import lock, try_lock\n"),
        ),
        "a free that may not wait takes the zone lock like any other: whose holder is stopped, or"
        " is the process itself, it never ends",
        "I_PROGRESS",
        ("try-all-stopped", "try-own-lock"),
        unseen="every holder runs",
        precedent="spin_lock in free_one_page where FPI_TRYLOCK was asked for",
    ),
    Mutant(
        "defer-stores-the-head",
        DEFERRED,
        (
            (
                "    while not cas(mem, zone + c.Z_DEFERRED, first, node):  # publishes the node\n"
                "        first = load_relaxed(mem, zone + c.Z_DEFERRED)\n"
                "        push_node(mem, node, first)\n",
                "    store(mem, zone + c.Z_DEFERRED, node)\n",
            ),
            (
                "load, load2, load_relaxed\n",
                "load, load2, load_relaxed, store\n",
            ),
        ),
        "a block is put on the deferred list by a store: what another process has pushed since the"
        " list was read is lost",
        "I_PCP_COUNT",
        ("try-all-stopped", "try"),
        ("nowait",),
    ),
    Mutant(
        "drain-stores-the-head",
        DEFERRED,
        (
            (
                "    if not cas(mem, zone + c.Z_DEFERRED, node, get_link(mem, node + 1)):\n"
                "        return 0\n",
                "    store(mem, zone + c.Z_DEFERRED, get_link(mem, node + 1))\n",
            ),
            (
                "load, load2, load_relaxed\n",
                "load, load2, load_relaxed, store\n",
            ),
        ),
        "the holder of the zone lock takes a block off by a store: one that was pushed in front of"
        " it meanwhile is lost",
        "I_PCP_COUNT",
        ("try-free-free-drain-3", "try"),
        ("nowait",),
    ),
    Mutant(
        "drain-keeps-the-label",
        DEFERRED,
        (
            (
                "    if not transition2(mem, pfn, w0, w1, mine | (w0 & c.POISON_BIT), w1):\n",
                "    if mine < 0:\n",
            ),
        ),
        "a block is taken off the deferred list with the label of the process that freed it: killed"
        " behind that, its holder leaves a block that no recovery looks for",
        "I_PCP_COUNT",
        ("crash:try-deferred",),
        workloads=("nowait",),
        run_options=KILLS,
    ),
    Mutant(
        "sweep-before-deferred",
        SWEEP,
        (
            (
                "    given = drain_deferred(mem, claim, zone)\n",
                "    given = 0\n",
            ),
        ),
        "a recovery frees what bears the label of the dead, and leaves it on the deferred list:"
        " the next holder of the lock frees it again",
        "I_LIST_LINKS",
        ("crash:try-callback", "crash:try-pages"),
        workloads=("nowait",),
        run_options=KILLS,
    ),
    Mutant(
        "defer-wakes-none",
        TRY_PAGES,
        (
            (
                "        defer_block(mem, claim, zone, pfn)\n        wake_waiters(mem, claim)\n",
                "        defer_block(mem, claim, zone, pfn)\n",
            ),
        ),
        "a block is deferred while a process sleeps for memory, and wakes no one: the sleeper does"
        " not know that it could free it",
        "I_PROGRESS",
        ("try-wake",),
        unseen=LOOKS_AGAIN,
    ),
    Mutant(
        "look-misses-deferred",
        "shmalloc/kernels/pages.py",
        (
            (
                "        drain_deferred(mem, claim, zone)\n        if may_take",
                "        if may_take",
            ),
        ),
        "a waiter's last look sees no block that was deferred before it: it frees it on its way"
        " out, and sleeps",
        "I_PROGRESS",
        ("try-wake",),
        unseen=LOOKS_AGAIN,
    ),
    Mutant(
        "drained-node-keeps-links",
        DEFERRED,
        (
            (
                "    leave_list(mem, node)\n    event(mem, claim, c.EV_DEFER_DRAIN)\n",
                "    event(mem, claim, c.EV_DEFER_DRAIN)\n",
            ),
        ),
        "a block comes off the deferred list with the links of the list in it: where links lie in"
        " the page, it is not as it was freed",
        "I_BYTES",
        ("crash:try-deferred-poison", "try"),
        ("nowait",),
    ),
)

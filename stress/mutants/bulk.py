"""Mutants of bulk paths and of filling: what the single path does and another one forgets.

A run sees a check that is left out only if a page was written to while it was free, which no
workload does: ``filled-...`` programs have such a page from the start.
"""

from __future__ import annotations

from stress.mutants.mutant import LOOKS_AGAIN, Mutant

BULK = "shmalloc/kernels/pages_bulk.py"
PAGES = "shmalloc/kernels/pages.py"
FILL = "shmalloc/kernels/fill.py"
RETIRE = "shmalloc/kernels/retire.py"
RUNS = "shmalloc/kernels/runs.py"
NO_STRAY = "no workload writes to a free page, so no look at one is missed"
FILLED = ("--geometry", "fill=poison")

MUTANTS = (
    Mutant(
        "bulk-free-as-pages",
        BULK,
        (
            (
                "        free_block(mem, zone_at(mem, held), claim, pfn, order)\n",
                "        free_block(mem, zone_at(mem, held), claim, pfn, 0)\n",
            ),
        ),
        "free_bulk passes order 0 to the zone: one page of each block is free, the others are"
        " behind a head that no list has",
        "I_CONSERVATION",
        ("filled-bulk-pair", "crash:filled-bulk-pair"),
        ("bulk", "churn"),
    ),
    Mutant(
        "bulk-alloc-as-pages",
        BULK,
        (
            (
                "        elif give(mem, claim, pfn, order, gfp_mt(gfp), owner) >= 0:\n",
                "        elif give(mem, claim, pfn, 0, gfp_mt(gfp), owner) >= 0:\n",
            ),
        ),
        "alloc_bulk hands blocks out as single pages: the rest of each is covered by no head",
        "I_TAIL",
        ("filled-bulk-pair",),
        ("bulk", "churn"),
    ),
    Mutant(
        "bulk-free-wakes-no-one",
        BULK,
        (("            wake_waiters(mem, claim)\n", ""),),
        "free_bulk does not wake who waits for memory",
        "I_PROGRESS",
        ("wait-free-bulk",),
        unseen=LOOKS_AGAIN,
    ),
    Mutant(
        "bulk-skips-poison-check",
        BULK,
        (
            (
                "        if not intact_on_alloc(mem, claim, pfn, order):\n"
                "            retire_changed(mem, claim, pfn, order)\n        elif give",
                "        if give",
            ),
        ),
        "alloc_bulk gives out a block that was written to while it was free",
        "X_FILLING",
        ("filled-bulk", "filled-bulk-pair"),
        unseen=NO_STRAY,
    ),
    Mutant(
        "bulk-retires-one-page",
        BULK,
        (
            (
                "            retire_changed(mem, claim, pfn, order)\n        elif",
                "            retire_changed(mem, claim, pfn, 0)\n        elif",
            ),
        ),
        "of a block that was written to while free, alloc_bulk gives only the first page back or"
        " retires it; the others are lost",
        "I_TAIL",
        ("filled-bulk-pair",),
        unseen=NO_STRAY,
    ),
    Mutant(
        "bulk-list-with-a-gap",
        BULK,
        (("            mem[out + given] = pfn\n            given", "            given"),),
        "alloc_bulk retires a block and leaves its number in the list: its caller frees, or uses,"
        " a page out of service and loses another one",
        "X_FILLING",
        ("filled-bulk", "filled-bulk-pair"),
        unseen=NO_STRAY,
    ),
    Mutant(
        "bulk-keeps-marked-page",
        BULK,
        (
            (
                "            if wants_poison(w0):\n",
                "            if w0 < 0:\n",
            ),
        ),
        "free_bulk puts a page on the free lists that was marked to leave service",
        "M_WRONG_STATE",
        ("pcp-bulk-poison", "bulk-put-poison"),
        workloads=("retire",),
    ),
    Mutant(
        "bulk-free-fills-nothing",
        BULK,
        (("                fill_on_free(mem, pfn, order)\n", ""),),
        "pages that are freed in bulk are neither zeroed nor poisoned",
        "I_BYTES",
        ("filled-bulk", "crash:filled-bulk"),
        ("bulk",),
        FILLED,
    ),
    Mutant(
        "bulk-under-one-lock",
        BULK,
        (
            (
                "    if held != wanted:\n        if held >= 0:",
                "    if held != wanted and (held < 0 or wanted < 0):\n        if held >= 0:",
            ),
        ),
        "a list that crosses zones is freed under the lock of its first zone",
        "I_LIST_LINKS",
        ("bulk-put-zones", "crash:pages-bulk-zones"),
        ("bulk", "churn"),
    ),
    Mutant(
        "list-skips-poison-check",
        PAGES,
        (
            (
                "        pfn = give_listed_intact(mem, claim, pfn, order, gfp_mt(gfp), owner)\n"
                "    mem[pcp",
                "        pfn = give_listed(mem, claim, pfn, order, gfp_mt(gfp), owner)\n"
                "    mem[pcp",
            ),
        ),
        "a page that was written to while it lay on a per-CPU list is given out",
        "X_FILLING",
        ("filled-listed",),
        unseen=NO_STRAY,
    ),
    Mutant(
        "zone-skips-poison-check",
        PAGES,
        (
            (
                "    return give_intact(mem, claim, pfn, order, gfp_mt(gfp), owner)\n\n\n@hot\n"
                "def alloc_from_pcp",
                "    return give(mem, claim, pfn, order, gfp_mt(gfp), owner)\n\n\n@hot\n"
                "def alloc_from_pcp",
            ),
        ),
        "what an allocation takes past the lists is given out unseen",
        "X_FILLING",
        ("filled-drained", "filled-largest"),
        unseen=NO_STRAY,
    ),
    Mutant(
        "poison-check-of-one-page",
        FILL,
        (
            (
                "    for page in range(pfn, pfn + (1 << order)):\n        at = changed_word",
                "    for page in range(pfn, pfn + 1):\n        at = changed_word",
            ),
        ),
        "of a block only the first page is looked at",
        "X_FILLING",
        ("filled-bulk-pair", "filled-largest", "filled-run"),
        unseen=NO_STRAY,
    ),
    Mutant(
        "run-skips-poison-check",
        RUNS,
        (
            (
                "    if taken < end or not is_intact(mem, claim, start, end):\n",
                "    if taken < end:\n",
            ),
        ),
        "docs/bugs.md 48, our own: a run for a large array is given out unseen",
        "X_FILLING",
        ("filled-run",),
        unseen=NO_STRAY,
    ),
    Mutant(
        "changed-page-still-managed",
        RETIRE,
        (
            (
                "    if transition(mem, pfn, w0, poisoned):\n        unmanage(mem, zone, 1)\n",
                "    transition(mem, pfn, w0, poisoned)\n",
            ),
        ),
        "a page that leaves service because it was written to still counts as the zone's",
        "I_CONSERVATION",
        ("filled-bulk", "filled-listed"),
        unseen=NO_STRAY,
    ),
)

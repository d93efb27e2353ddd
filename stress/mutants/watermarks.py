"""Mutants of watermarks and of what the flags of an allocation say."""

from __future__ import annotations

from stress.mutants.mutant import Mutant

WATERMARK = "shmalloc/kernels/watermark.py"
NO_RESERVE = "no worker of a run knows how many pages must stay free"

MUTANTS = (
    Mutant(
        "watermark-counts-blocks",
        WATERMARK,
        (
            (
                "    return load_relaxed(mem, zone + c.Z_FREE) - (1 << order) >= mark\n",
                "    return load_relaxed(mem, zone + c.Z_FREE) - 1 >= mark\n",
            ),
        ),
        "the minimum watermark is checked for one page, whatever the order",
        "I_WATERMARK",
        ("watermark-pair-or-minimum",),
        unseen=NO_RESERVE,
    ),
    Mutant(
        "watermarks-stay",
        "shmalloc/kernels/zone.py",
        (
            (
                "    store_relaxed(mem, at, load_relaxed(mem, at) - pages)\n"
                "    set_watermarks(mem, zone)\n",
                "    store_relaxed(mem, at, load_relaxed(mem, at) - pages)\n",
            ),
        ),
        "pages go offline and the marks stay: the minimum is all that is left, or more",
        "I_WATERMARK",
        ("watermark-offline-and-take",),
        ("contig",),
    ),
    Mutant(
        "watermark-before-lock",
        "shmalloc/kernels/pages.py",
        (
            (
                "    lock(mem, zone + c.Z_LOCK, claim)\n    if may_take(mem, zone, order, gfp):\n",
                "    may = may_take(mem, zone, order, gfp)\n    lock(mem, zone + c.Z_LOCK, claim)\n"
                "    if may:\n",
            ),
        ),
        "the mark is compared before the zone is locked, as Linux does: two allocations pass on the"
        " same page",
        "I_WATERMARK",
        ("watermark-two-takers",),
        unseen=NO_RESERVE,
    ),
    Mutant(
        "reserve-for-all",
        WATERMARK,
        (
            (
                "    if gfp & c.GFP_HIGH != 0:\n        least -= least >> 1\n",
                "    if True:\n        least -= least >> 1\n",
            ),
        ),
        "ordinary allocations have half of the reserve, too",
        "I_WATERMARK",
        ("watermark-two-takers",),
        unseen=NO_RESERVE,
    ),
    Mutant(
        "reserve-for-none",
        WATERMARK,
        (
            (
                "    if gfp & c.GFP_HIGH != 0:\n        least -= least >> 1\n",
                "    if gfp & c.GFP_OOM != 0:\n        least -= least >> 1\n",
            ),
        ),
        "GFP_HIGH has no part of the reserve: the minimum is memory that it never gets",
        "I_WATERMARK",
        ("watermark-reserve-and-ordinary", "watermark-object-of-reserve"),
        unseen=NO_RESERVE,
    ),
    Mutant(
        "boost-wakes-no-one",
        "shmalloc/kernels/reclaim.py",
        (
            (
                "    if load_relaxed(mem, zone + c.Z_BOOST) != 0:\n",
                "    if load_relaxed(mem, zone + c.Z_BOOST) < 0:\n",
            ),
        ),
        "the marks are raised, and the reclaimer that is to lower them again sleeps on",
        "I_PROGRESS",
        ("watermark-boost-and-end", "reclaim-boost"),
        unseen="no run has a reclaimer",
    ),
    Mutant(
        "bulk-below-low",
        "shmalloc/kernels/pages_bulk.py",
        (
            (
                "        asked: Gfp = gfp | c.ALLOC_WMARK_LOW\n",
                "        asked: Gfp = gfp\n",
            ),
        ),
        "alloc_bulk takes the first zone down to its minimum while others have more than they need",
        "I_WATERMARK",
        ("watermark-bulk-and-bulk",),
        unseen=NO_RESERVE,
        precedent="docs/bugs.md 51",
    ),
    Mutant(
        "run-below-minimum",
        "shmalloc/kernels/runs.py",
        (
            (
                "    if not keeps_minimum(mem, zone, end - start):\n        return start\n",
                "",
            ),
        ),
        "an array out of whole blocks takes pages that are to stay free",
        "I_WATERMARK",
        ("watermark-run-and-page",),
        unseen=NO_RESERVE,
        precedent="docs/bugs.md 51",
    ),
    Mutant(
        "range-below-minimum",
        "shmalloc/kernels/contig.py",
        (
            (
                "    if not keeps_minimum(mem, zone, -free_around(mem, start, end)):\n"
                "        return c.E_NOMEM\n",
                "",
            ),
        ),
        "a range of pages takes those that are to stay free",
        "I_WATERMARK",
        ("watermark-range-and-page",),
        unseen=NO_RESERVE,
        precedent="docs/bugs.md 51",
    ),
    Mutant(
        "wake-above-minimum-alone",
        "shmalloc/kernels/waiters.py",
        (
            (
                "    if load(mem, c.H_WAITERS) > 0:\n",
                "    zone = fixed(mem, c.H_AT_ZONES)\n"
                "    if load(mem, c.H_WAITERS) > 0 and load_relaxed(mem, zone + c.Z_FREE) > (\n"
                "        load_relaxed(mem, zone + c.Z_MIN)\n    ):\n",
            ),
        ),
        "a free wakes sleepers only for pages above the minimum: one that may have the reserve"
        " sleeps beside it",
        "I_PROGRESS",
        ("watermark-nofail-and-free",),
        unseen="a sleeper wakes every 50 ms natively and looks again",
    ),
    Mutant(
        "wake-for-free-pages-alone",
        "shmalloc/kernels/waiters.py",
        (
            (
                "    if load(mem, c.H_WAITERS) > 0:\n",
                "    zone = fixed(mem, c.H_AT_ZONES)\n"
                "    if load(mem, c.H_WAITERS) > 0 and load_relaxed(mem, zone + c.Z_FREE) > 0:\n",
            ),
        ),
        "a free asks the zone's counter whether there is something to wake for, and another holder"
        " of the lock makes the lists anew: the counter is 0 for a moment",
        "I_PROGRESS",
        ("wait-remake-wake-3",),
        unseen="a sleeper wakes every 50 ms natively and looks again",
        precedent="docs/bugs.md 53",
    ),
    Mutant(
        "thisnode-anywhere",
        "shmalloc/kernels/gfp.py",
        (
            (
                "    return fixed(mem, zone_at(mem, zone_id) + c.Z_NODE) == home\n",
                "    return fixed(mem, zone_at(mem, zone_id) + c.Z_NODE) >= home\n",
            ),
        ),
        "GFP_THISNODE goes on to the next node when its own has no page",
        "I_WATERMARK",
        ("watermark-home-and-away",),
        unseen="no workload sets the flag",
    ),
    Mutant(
        "slab-forgets-flags",
        "shmalloc/kernels/slab.py",
        (
            (
                "    order = mem[cache + cs.K_ORDER]\n"
                "    pfn = slab_pages(mem, claim, order, gfp & c.GFP_OF_SLABS, cs.OWNER_SLAB)\n",
                "    order = mem[cache + cs.K_ORDER]\n"
                "    pfn = slab_pages(mem, claim, order, 0, cs.OWNER_SLAB)\n",
            ),
        ),
        "a slab grows by ordinary pages, whatever the flags of the object say",
        "I_WATERMARK",
        ("watermark-object-of-reserve",),
        unseen="no workload sets the flag",
    ),
)

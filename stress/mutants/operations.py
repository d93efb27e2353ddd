"""Mutants of operations that nothing explored before: bulk, kmalloc, memory that is passed on."""

from __future__ import annotations

from stress.mutants.mutant import LOOKS_AGAIN, Mutant

REAP = "shmalloc/kernels/reap.py"
BULK = "shmalloc/kernels/pages_bulk.py"
CONTIG = "shmalloc/kernels/contig.py"
LATE = "a death, an adoption and a reaping would have to meet within a microsecond"

MUTANTS = (
    Mutant(
        "reap-looks-then-frees",
        REAP,
        (
            (
                "is_owned_by(w0, w1, holder) and take_pages(mem, claim, pfn, w0, w1, w1)",
                "is_owned_by(w0, w1, holder)",
            ),
        ),
        "a reaper looks at the label of a block and frees it by the owner word: a receiver that has"
        " adopted it in between, under the same owner word, loses it",
        "X_DOUBLE_ALLOC",
        ("pass-adopt-reap",),
        unseen=LATE,
        precedent="docs/bugs.md 49",
    ),
    Mutant(
        "reap-frees-what-it-found",
        REAP,
        (
            (
                "            if found == 0 and load(mem, at) == owner:\n"
                "                if cas(mem, at, owner, owner_word(mem, claim)):\n"
                "                    found",
                "            if found == 0 and load(mem, at) == owner:\n                found",
            ),
        ),
        "a reaper finds an object of the dead and frees it without making it its own: cache_free"
        " asks for no owner, and a receiver has adopted it meanwhile",
        "X_DOUBLE_ALLOC",
        ("pass-object-adopt-reap",),
        unseen=LATE,
        precedent="docs/bugs.md 49",
    ),
    Mutant(
        "adopt-object-unlocked",
        REAP,
        (
            (
                "    held = hold_slab(mem, claim, cache_id, pfn)\n    if held == 0:\n"
                "        return c.E_STATE\n    cache",
                "    if not is_slab_of(page_state(mem, pfn), cache_id):\n"
                "        return c.E_STATE\n    cache",
            ),
            ("c.PO_OBJECT, at)\n    unlock(mem, held)\n", "c.PO_OBJECT, at)\n"),
            (
                "    is_live,\n    list_state,\n",
                "    is_live,\n    is_slab_of,\n    list_state,\n",
            ),
        ),
        "a receiver looks whether the page is still a slab, and then swaps the owner word of the"
        " object: released in between, the page is another process's, and so is the word",
        "X_PAYLOAD",
        ("pass-object-adopt-reuse",),
        unseen=LATE,
        precedent="docs/bugs.md 49",
    ),
    Mutant(
        "bulk-leaves-a-gap",
        BULK,
        (("                mem[at + claimed] = pfn\n", ""),),
        "a list from which a block was refused is not closed: what goes back to the zones are its"
        " first blocks, the refused one among them, and the last ones are lost",
        "I_FREE_HEAD",
        ("bulk-put-same",),
        unseen="the bulk workload frees nothing twice",
    ),
    Mutant(
        "online-wakes-no-one",
        CONTIG,
        (
            (
                "        pages = bring_online(mem, zone, claim, start, end)\n"
                "    unlock_zone(mem, claim, zone)\n    wake_waiters(mem, claim)\n",
                "        pages = bring_online(mem, zone, claim, start, end)\n"
                "    unlock_zone(mem, claim, zone)\n",
            ),
        ),
        "memory comes online beside a sleeper, and nothing wakes it",
        "I_PROGRESS",
        ("wait-online",),
        unseen=LOOKS_AGAIN,
    ),
    Mutant(
        "isolation-ends-in-silence",
        CONTIG,
        (
            (
                "        result = 0\n    unlock_zone(mem, claim, zone)\n"
                "    wake_waiters(mem, claim)\n",
                "        result = 0\n    unlock_zone(mem, claim, zone)\n",
            ),
        ),
        "an isolation ends, or a range is refused, and a sleeper that saw no free page meanwhile"
        " sleeps on beside it",
        "I_PROGRESS",
        ("wait-unisolate", "wait-offline-busy", "wait-range-busy"),
        unseen=LOOKS_AGAIN,
    ),
    Mutant(
        "sweep-wakes-no-one",
        "shmalloc/kernels/recover_pages.py",
        (
            (
                "    unlock_zone(mem, claim, zone)\n    wake_waiters(mem, claim)\n",
                "    unlock_zone(mem, claim, zone)\n",
            ),
        ),
        "recovery gives back what a dead process had in its hands, and wakes only those who slept"
        " before: who looked in between sleeps on",
        "I_PROGRESS",
        ("wait-recover",),
        unseen=LOOKS_AGAIN,
    ),
    Mutant(
        "remote-free-at-home",
        "shmalloc/kernels/cache.py",
        (
            (
                "        return put_freed(mem, claim, cache, entry, at)\n    return keep",
                "        return keep_freed(mem, claim, cache, entry, at)\n    return keep",
            ),
        ),
        "an object of another node's slab is kept in a sheaf of this node",
        "I_SHEAF",
        ("node-free-remote-sheaf", "node-flush-remote"),
        workloads=("slabmix",),
        run_options=("--zones", "2"),
    ),
)

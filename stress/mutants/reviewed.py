"""Mutants that a reviewer thought of who had read the kernels and none of the other mutants.

Most of them survived every hunt at first: each has a world that was missing.
"""

from __future__ import annotations

from stress.mutants.mutant import LOOKS_AGAIN, Mutant

PCP = "shmalloc/kernels/pcp.py"
RETIRE = "shmalloc/kernels/retire.py"
CONTIG = "shmalloc/kernels/contig.py"
SLOTS = "shmalloc/kernels/slots.py"
KMALLOC = "shmalloc/kernels/kmalloc.py"
WATERMARK = "shmalloc/kernels/watermark.py"
PAGE_OWNER = "shmalloc/kernels/page_owner.py"
REBUILD = "shmalloc/kernels/rebuild.py"
CACHE_BULK = "shmalloc/kernels/cache_bulk.py"
PAGES = "shmalloc/kernels/pages.py"
BULK = "shmalloc/kernels/pages_bulk.py"
REAP = "shmalloc/kernels/reap.py"
NOT_ASKED = "no workload asks for it"

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
    Mutant(
        "range-counts-across-its-edge",
        CONTIG,
        (("pages += min(behind, end) - max(at, start)", "pages += behind - at"),),
        "the free pages around a range that come back are counted with what lies in the range, if a"
        " block crosses its edge: the range is taken from below the minimum watermark",
        "I_WATERMARK",
        ("watermark-half-and-page",),
        unseen="a run has no minimum watermark unless it is asked for",
    ),
    Mutant(
        "labels-forget-isolations",
        SLOTS,
        (
            (
                "        if holder >= 0 and label_claim(holder) == claim:\n"
                "            return False\n",
                "        if holder >= 0 and at < 0:\n            return False\n",
            ),
        ),
        "labels of a claim begin again while one of its first life is on a pageblock: the new life"
        " is taken for the one that isolated it",
        "X_LOST_OWNER",
        ("claims-labels-again",),
        unseen="labels begin again after 2^20 lives of one claim",
    ),
    Mutant(
        "large-kmalloc-not-zeroed",
        KMALLOC,
        (
            (
                "return kmalloc_large(mem, claim, size_bytes, gfp & ~c.GFP_MT_MASK)",
                "return kmalloc_large(mem, claim, size_bytes, gfp & c.GFP_OF_SLABS)",
            ),
        ),
        "whole pages of kmalloc get the flags that a slab's pages get, without GFP_ZERO",
        "X_FILLING",
        ("zeroed-large",),
        unseen=NOT_ASKED,
    ),
    Mutant(
        "zeroes-one-page",
        PAGES,
        (("zero_on_alloc(mem, pfn, order)", "zero_on_alloc(mem, pfn, 0)"),),
        "of a block that is asked for zeroed only the first page is",
        "X_FILLING",
        ("zeroed-pair",),
        unseen=NOT_ASKED,
    ),
    Mutant(
        "range-taken-unaccepted",
        CONTIG,
        (
            (
                "accept_for(mem, claim, at, order, c.T_PCP)",
                "accept_for(mem, claim, at, order, kind)",
            ),
        ),
        "a range is given to its owner without being accepted first: its pages are ISOLATED on the"
        " way, which is no type that is accepted",
        "I_BYTES",
        ("accept-middle",),
        unseen=NOT_ASKED,
    ),
    Mutant(
        "boost-above-its-limit",
        WATERMARK,
        (
            (
                "    if load_relaxed(mem, zone + c.Z_BOOST) > most_boost(mem, zone):\n"
                "        store_relaxed(mem, zone + c.Z_BOOST, most_boost(mem, zone))\n",
                "",
            ),
        ),
        "marks sink as memory goes offline, and a boost that was made before does not",
        "I_FIXED",
        ("watermark-boost-and-offline",),
        unseen="memory goes offline in the moment of a boost",
    ),
    Mutant(
        "refill-counts-one-page",
        PCP,
        (("keeps_mark(mem, zone, order, mark)", "keeps_mark(mem, zone, 0, mark)"),),
        "a list of pairs is refilled as if each pair were a page: the last of them is taken from"
        " below the minimum watermark",
        "I_WATERMARK",
        ("watermark-listed-pair",),
        unseen="a run has no minimum watermark unless it is asked for",
    ),
    Mutant(
        "mark-ends-a-sample",
        PAGE_OWNER,
        (
            (
                "return load(mem, proof) & ~c.POISON_BIT\n    return load(mem, proof)",
                "return load(mem, proof)\n    return load(mem, proof)",
            ),
        ),
        "a page that is in use and marked for poison is taken for freed: its entry goes to another",
        "X_LOST_OWNER",
        ("sampled-marked-page",),
        unseen=NOT_ASKED,
    ),
    Mutant(
        "range-wakes-no-reclaimer",
        CONTIG,
        (
            (
                "    wake_if_low(mem, claim, zone)\n    return result\n",
                "    return result\n",
            ),
        ),
        "a range takes the zone below its low mark, and no reclaimer is woken for it",
        "I_PROGRESS",
        ("reclaim-by-range",),
        unseen=LOOKS_AGAIN,
    ),
    Mutant(
        "relist-forgives-a-mark",
        REBUILD,
        (("        free |= w0 & c.POISON_BIT\n", "        free |= 0\n"),),
        "lists are made anew, and the mark of the page that was written to is lost: it is reported"
        " and stays in service",
        "M_WRONG_STATE",
        ("stray-free-page",),
        unseen="nothing writes to free pages in a run",
    ),
    Mutant(
        "adoption-loses-a-mark",
        REAP,
        (
            (
                "return transition_owned(mem, pfn, w0, w1, mine, new_owner)",
                "return transition2(mem, pfn, w0, w1, mine, new_owner)",
            ),
            (
                "import in_range, page_state, transition_owned",
                "import in_range, page_state, transition2",
            ),
        ),
        "a page is marked for poison while it is adopted: the swap of the receiver fails, or takes"
        " the mark away",
        "M_WRONG_STATE",
        ("pass-adopt-marked",),
        unseen="a page would have to be marked and adopted within a microsecond",
    ),
    Mutant(
        "bulk-leaves-holes",
        BULK,
        (("            mem[out + given] = pfn\n", "            mem[out + i] = pfn\n"),),
        "a page of a list was written to while it was free and is retired: the list has a hole in"
        " its place, and its end is missing",
        "X_FILLING",
        ("filled-bulk",),
        unseen="nothing writes to free pages in a run",
    ),
    Mutant(
        "claim-settles-before-it-wins",
        SLOTS,
        (
            (
                "    if not cas2(mem, pair, epoch, dead, epoch + 1, dead):\n"
                "        return c.E_AGAIN\n    settle_on(mem, claim, on)\n",
                "    settle_on(mem, claim, on)\n"
                "    if not cas2(mem, pair, epoch, dead, epoch + 1, dead):\n"
                "        return c.E_AGAIN\n",
            ),
        ),
        "of two that take one claim the loser has written its CPU into it",
        "X_LOST_OWNER",
        ("claims-claim-claim",),
        unseen="workers have claims of their own",
    ),
    Mutant(
        "reap-steps-over-what-merged",
        REAP,
        (
            (
                "pfn = next_slab(mem, pfn + 1, cache_id)",
                "pfn = next_slab(mem, pfn + (1 << order_of(page_state(mem, pfn))), cache_id)",
            ),
        ),
        "behind a slab that went away the walk goes on by the order of the block that it merged to",
        "I_TEARDOWN",
        ("pass-object-adopt-reap",),
        unseen="it cannot be seen at all",
        equivalent="the walk looks at the page where the slab was. If it is a tail by then, its"
        " order is 0, and the walk goes on at the next page, as it did. If it is the head of a"
        " block, all pages of that block are free, or have one owner: no other slab can be passed",
    ),
    Mutant(
        "bulk-free-keeps-far-objects",
        CACHE_BULK,
        (
            (
                "    if fixed(mem, c.H_NODES) > 1"
                " and node_of_slab(mem, w0) != home_node(mem, claim):\n"
                "        return c.E_STATE\n",
                "",
            ),
        ),
        "a list of objects of another node goes into the sheaf of this CPU",
        "I_SHEAF",
        ("node-free-remote",),
        unseen="it cannot be seen at all",
        equivalent="which node an object in a sheaf is of decides nothing: fill_sheaf itself takes"
        " objects of other nodes where its own has none, a flush gives each run back under the lock"
        " of the node of its slab, and an allocation with GFP_THISNODE passes the sheaves by. Only"
        " what a later allocation costs is lost",
    ),
)

"""Mutants of ranges: isolation, memory hotplug, contiguous pages."""

from __future__ import annotations

from stress.mutants.mutant import OFTEN, Mutant

CONTIG = "shmalloc/kernels/contig.py"
RANGES = ("contig",)
WALKED = (("contig", "pfn-walker"), ("--ram", "16MiB"))  # few pages: a walker comes by often

MUTANTS = (
    Mutant(
        "isolate-without-drain", CONTIG,
        (("    if result == 0 and drain_all(mem, claim) < 0:\n",
          "    if result == 0 and mem[c.H_CPUS] < 0:\n"),),
        "a range is isolated while pages of it hide on per-CPU lists, and are given out from there",
        "I_PCP_COUNT", ("contig-isolate-free",), ("contig", "churn"), OFTEN,
        precedent="P7 disable pcplists during memory offline", commit="ec6e8c7e0314",
    ),
    Mutant(
        "isolate-without-carve", CONTIG,
        (("    carve_pageblocks(mem, zone, claim, start, end)\n"
          "    for at in range(start, end, step):\n        isolate_block",
          "    for at in range(start, end, step):\n        isolate_block"),),
        "a free block that reaches over the border of the range is not cut: half of it is isolated"
        " and half is given out",
        "I_FREE_HEAD", ("contig-isolate-merge", "contig"), RANGES, OFTEN,
        precedent="B6 fix move_freepages_block() range error",
    ),
    Mutant(
        "restore-without-carve", CONTIG,
        (("    carve_pageblocks(mem, zone, claim, start, end)\n"
          "    for at in range(start, end, 1 << fixed(mem, c.H_PAGEBLOCK_ORDER)):\n        if",
          "    for at in range(start, end, 1 << fixed(mem, c.H_PAGEBLOCK_ORDER)):\n        if"),),
        "an isolation ends while its free pages are merged with those of an isolated neighbour",
        "I_FREE_HEAD", ("contig-isolate-return", "contig-isolate-restore"), RANGES,
        precedent="B6 fix up block types when merging compatible blocks",
    ),
    Mutant(
        "rehome-one-short", CONTIG,
        (("    at = start\n    while at < end:\n        w0 = page_state(mem, at)\n"
          "        if type_of(w0) == c.T_FREE:\n            rehome(",
          "    at = start\n    while at < end - 1:\n        w0 = page_state(mem, at)\n"
          "        if type_of(w0) == c.T_FREE:\n            rehome("),),
        "the last page of a range stays on the list of its old type",
        "I_FREE_HEAD", ("contig-isolate-merge", "contig"), ("contig", "churn"), OFTEN,
        precedent="B6 move_freepages range off by one",
    ),
    Mutant(
        "large-block-freed-whole", "shmalloc/kernels/buddy.py",
        (("    if order > fixed(mem, c.H_PAGEBLOCK_ORDER) and is_half_isolated(mem, pfn, order):\n",
          "    if order > fixed(mem, c.H_MAX_ORDER):\n"),),
        "docs/bugs.md 16, our own: a block of several pageblocks, one of which was isolated while"
        " it was in use, is freed as one: its pageblocks get one type, and the isolation is over",
        "I_FREE_HEAD", ("contig-isolate-large",), ("contig", "oom-edge"),
        precedent="B5 split_large_buddy: free large blocks by pageblock",
    ),
    Mutant(
        "isolate-twice", CONTIG,
        (("        if block_mt(mem, at) == c.MT_ISOLATE:\n            return c.E_BUSY\n",
          "        if block_mt(mem, at) == c.MT_ISOLATE:\n            return 0\n"),),
        "a range that another process has isolated is taken for ours: when one of the two returns"
        " it, the other one's isolation has ended without his knowledge",
        "I_FREE_HEAD", ("contig-isolate-same",), RANGES, OFTEN,
    ),
    Mutant(
        "isolation-not-saved", "shmalloc/kernels/zone.py",
        (("<< c.BLOCK_ISOLATOR_SHIFT | saved | c.MT_ISOLATE",
          "<< c.BLOCK_ISOLATOR_SHIFT | c.MT_ISOLATE"),),
        "the type to return to is not written down",
        "I_FREE_HEAD", ("contig-isolate-same", "contig-isolate-isolate"), RANGES, OFTEN,
    ),
    Mutant(
        "isolated-counts-as-free", "shmalloc/kernels/zone.py",
        (("    if mt == c.MT_ISOLATE:\n        at = zone + c.Z_FREE_ISOLATED\n", ""),),
        "isolated pages are counted as free: the watermarks promise what no process can have",
        "I_CONSERVATION", ("contig-isolate-merge", "contig"), RANGES,
        precedent="B3 isolated count is not the sum of its lists", commit="d9dddbf55667",
    ),
    Mutant(
        "carve-shrinks-first", "shmalloc/kernels/buddy.py",
        (("""\
    left = head
    own = order  # what stays at the old head
""",
          """\
    if pfn != head:
        make_free(mem, head, fixed(mem, zone + c.Z_INDEX), order, mt)
    left = head
    own = order  # what stays at the old head
"""),),
        "a carve makes the old head small before the heads inside of it are written",
        "I_TAIL", ("contig-isolate-legal",), *WALKED,
    ),
    Mutant(
        "range-left-to-right", CONTIG,
        (("    at = pfn + (1 << order) - 1\n    while at >= pfn:\n",
          "    at = pfn\n    while at < pfn + (1 << order):\n"),
         ("at, owner)\n        at -= 1\n", "at, owner)\n        at += 1\n")),
        "a contiguous range is given out from the left: its head shrinks to one page first and"
        " leaves the others uncovered",
        "I_TAIL", ("contig-range-legal",), *WALKED,
    ),
    Mutant(
        "offline-takes-nothing", CONTIG,
        (("        head = head_of(mem, at)\n        if head >= 0 and type_of(page_state(mem, head))"
          " == c.T_FREE:\n            border",
          "        head = at\n        if head >= 0 and type_of(page_state(mem, head))"
          " == c.T_FREE:\n            border"),),
        "docs/bugs.md 1, our own: the range has merged with an isolated neighbour, its first page"
        " is a tail, and offline steps over all of it and answers success",
        "I_FREE_HEAD", ("contig-offline-merged",), RANGES, OFTEN,
    ),
    Mutant(
        "offline-stays-managed", CONTIG,
        (("            unmanage(mem, zone, 1 << order)\n", ""),),
        "pages that are offline still count as the zone's",
        "I_CONSERVATION", ("contig-offline-alloc",), RANGES,
        precedent="B7 fix counting of free pages after take off from buddy",
        commit="bac9c6fa1f92",
    ),
    Mutant(
        "range-taken-unlocked", CONTIG,
        (("        failed_at = take_range(mem, zone, claim, start, end, owner)\n"
          "    unlock_zone(mem, claim, zone)\n",
          "        unlock_zone(mem, claim, zone)\n"
          "        failed_at = take_range(mem, zone, claim, start, end, owner)\n"
          "    else:\n        unlock_zone(mem, claim, zone)\n"),),
        "the isolated range is cut up and taken after the zone was let go",
        "I_LIST_LINKS", ("contig-range-range", "contig-range-alloc"), RANGES,
    ),
    Mutant(
        "offline-busy-stays-isolated", CONTIG,
        (("    if result < 0:\n        unisolate_range(mem, claim, start, end)\n"
          "        return result\n    event(mem, claim, c.EV_OFFLINE)",
          "    if result < 0:\n        return result\n    event(mem, claim, c.EV_OFFLINE)"),),
        "offline_range that finds a page in use forgets to end its isolation: no process can"
        " allocate there, and none knows why",
        "X_RANGE", ("contig-offline-alloc", "crash:range-offline"), RANGES, OFTEN,
    ),
    Mutant(
        "range-busy-stays-isolated", CONTIG,
        (("        free_contig_range(mem, claim, start, failed_at)\n        if result == 0:\n"
          "            result = c.E_BUSY\n",
          "        free_contig_range(mem, claim, start, failed_at)\n        return c.E_BUSY\n"),),
        "the same of alloc_contig_range",
        "X_RANGE", ("contig-range-alloc", "crash:range-contig"), RANGES, OFTEN,
    ),
    Mutant(
        "range-busy-keeps-pages", CONTIG,
        (("        free_contig_range(mem, claim, start, failed_at)\n        if result",
          "        if result"),),
        "alloc_contig_range that meets a page it cannot have keeps those it has taken before",
        "I_TEARDOWN", ("filled-contig",), unseen="no workload writes to a free page",
    ),
    Mutant(
        "range-skips-poison-check", CONTIG,
        (("        if not intact_on_alloc(mem, claim, at, 0):\n", "        if at < 0:\n"),),
        "a range of pages is given out although one was written to while it was free",
        "X_FILLING", ("filled-contig",), unseen="no workload writes to a free page",
    ),
    Mutant(
        "unisolate-ends-offline", CONTIG,
        (("                if offline == 0:\n                    return False\n",
          "                pass\n"),),
        "unisolate_range ends what is offline for good: its pages are in no list, and their"
        " pageblock says that they are in service",
        "X_RANGE", ("contig-offline-unisolate",),
        unseen="each worker gives back only what it has, and how it has it",
    ),
    Mutant(
        "isolation-stays-after-a-skip", CONTIG,
        (("        unisolate_range(mem, claim, start, end)  # who does",
          "        pass  # who does"),),
        "isolate_range that had to leave out the list of a stopped process says E_BUSY and leaves"
        " its pageblocks isolated",
        "X_RANGE", ("contig-isolate-stopped",), unseen="no worker stops with its list's lock",
    ),
    Mutant(
        "range-end-stays-isolated", CONTIG,
        (("        event(mem, claim, c.EV_CONTIG)\n    unisolate_range(mem, claim, first, last)",
          "        event(mem, claim, c.EV_CONTIG)\n"
          "    unisolate_range(mem, claim, first, last - step)"),),
        "alloc_contig_range ends its isolation one pageblock early",
        "X_RANGE", ("contig-range-alloc", "crash:range-contig"), RANGES, OFTEN,
    ),
)  # fmt: skip

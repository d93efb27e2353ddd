"""Mutants of the buddy: merges, splits, descriptors and the walkers that look on."""

from __future__ import annotations

from stress.mutants.mutant import Mutant

BUDDY = "shmalloc/kernels/buddy.py"
DESCRIPTOR = "shmalloc/kernels/descriptor.py"
PAGES = ("churn", "orders")
WALKED = (("pfn-walker",), ("--ram", "16MiB"))  # few pages, so that a walker comes by often

MUTANTS = (
    Mutant(
        "merge-any-order", DESCRIPTOR,
        ((
            "    return type_of(w0) == c.T_FREE and order_of(w0) == order and zone_of_word(w0) =="
            " zone_id",
            "    return type_of(w0) == c.T_FREE and zone_of_word(w0) == zone_id",
        ),),
        "page_is_buddy without its order test: a block of four is merged with the free page beside"
        " it as if that were four pages, and the pages behind it belong to another process",
        "I_LIST_LINKS", ("buddy-merge-merge-3", "buddy-merge-take-3", "buddy"), PAGES,
        precedent="B1 page_is_buddy without the order",
    ),
    Mutant(
        "merge-across-zones", BUDDY,
        ((
            """\
    if buddy < fixed(mem, zone + c.Z_START) or buddy + (1 << order) > fixed(mem, zone + c.Z_END):
        return 0
    w0 = page_state(mem, buddy)
    if not is_free_head(w0, fixed(mem, zone + c.Z_INDEX), order):
""",
            """\
    w0 = page_state(mem, buddy)
    if type_of(w0) != c.T_FREE or order_of(w0) != order:
""",
        ),),
        "no bounds and no zone in page_is_buddy: at an odd border the buddy lies in another zone,"
        " whose lists are under another lock",
        "I_FREE_HEAD", ("buddy-zone-border",), PAGES,
        precedent="B2 a merge that looked at no border: buddy of 0x2000 computed as pfn 0",
    ),
    Mutant(
        "merge-isolated", BUDDY,
        (("    if other != mt and (other == c.MT_ISOLATE or mt == c.MT_ISOLATE):\n"
          "        return 0\n", ""),),
        "an isolated block merges with a normal buddy: half of the whole lies in a pageblock of"
        " another type, and the isolated count is no longer the sum of its lists",
        "I_FREE_HEAD", ("contig-isolate-merge", "contig"), ("contig",),
        precedent="B3 prevent merging between isolated and other pageblocks",
        commit="d9dddbf55667",
    ),
    Mutant(
        "merge-once", BUDDY,
        (("    while merged < fixed(mem, c.H_MAX_ORDER):\n",
          "    if merged < fixed(mem, c.H_MAX_ORDER):\n"),),
        "a merge that does not try the next order: two free buddies stay apart for ever",
        "I_UNMERGED", ("buddy-merge-merge-3", "buddy"), PAGES,
    ),
    Mutant(
        "merge-tails-first", BUDDY,
        (
            ("    if not make_free(mem, whole, fixed(mem, zone + c.Z_INDEX), merged, mt):\n",
             "    fold(mem, claim, pfn, order, merged)\n"
             "    if not make_free(mem, whole, fixed(mem, zone + c.Z_INDEX), merged, mt):\n"),
            ("        return c.E_STATE\n    fold(mem, claim, pfn, order, merged)\n",
             "        return c.E_STATE\n"),
        ),
        "the right buddy becomes a tail before the left head has grown over it: for one write a"
        " page is covered by no head, and a lock-free walker steps into it",
        "I_TAIL", ("buddy-merge-legal", "buddy-merge-walk"), *WALKED,
        precedent="B15 order of the writes around a head",
    ),
    Mutant(
        "split-uncovers-first", BUDDY,
        (
            ("""\
    if expand(mem, zone, claim, pfn, high, order, mt) < 0:
        return c.E_STATE
    account(mem, zone, mt, -(1 << order))
""",
             """\
    account(mem, zone, mt, -(1 << order))
"""),
            ("""\
        report(mem, claim, c.I_FREE_HEAD, pfn, c.IS_TYPE | kind, page_state(mem, pfn))
        return c.E_STATE
    return pfn
""",
             """\
        report(mem, claim, c.I_FREE_HEAD, pfn, c.IS_TYPE | kind, page_state(mem, pfn))
        return c.E_STATE
    if expand(mem, zone, claim, pfn, high, order, mt) < 0:
        return c.E_STATE
    return pfn
"""),
        ),
        "a split shrinks the old head first and writes the heads of the upper halves afterwards:"
        " in between they are covered by no head",
        "I_TAIL", ("buddy-split-legal", "buddy-split-walk"), *WALKED,
    ),
    Mutant(
        "split-forgets-a-level", BUDDY,
        (("    while order > low:\n        order -= 1\n        if put_piece",
          "    while order > low + 1:\n        order -= 1\n        if put_piece"),),
        "expand stops one level early: the upper half of the last cut is on no list",
        "I_TAIL", ("buddy-alloc-alloc", "buddy"), PAGES,
        precedent="B16 expand() forgets one level",
    ),
    Mutant(
        "split-keeps-wrong-half", BUDDY,
        (("put_piece(mem, zone, claim, pfn + (1 << order), order, mt) < 0",
          "put_piece(mem, zone, claim, pfn, order, mt) < 0"),),
        "expand puts the lower half on the list and hands out the same pages",
        "I_FREE_HEAD", ("buddy-alloc-alloc", "buddy"), PAGES,
        precedent="B16 expand() keeps the upper half",
    ),
    Mutant(
        "type-from-the-page", BUDDY,
        (("    mt = block_mt(mem, pfn)\n    merged = absorb(",
          "    mt = mt_of(page_state(mem, pfn))\n    merged = absorb("),),
        "a free goes to the list of the type that the page had when it was given out; its"
        " pageblock was isolated since, so an isolated page is given out again",
        "I_FREE_HEAD", ("contig-isolate-merge", "contig"), ("contig",),
        precedent="B4 fix incorrect isolation behavior by rechecking migratetype",
        commit="ad53f92e",
    ),
    Mutant(
        "account-to-wrong-type", BUDDY,
        (("(mem, zone, mt, -(1 << order))\n    accept_for",
          "(mem, zone, given_mt, -(1 << order))\n    accept_for"),),
        "an isolated block is taken and the count of the type that was asked for goes down: both"
        " counters are wrong from then on",
        "I_CONSERVATION", ("contig-range-alloc", "contig-offline-alloc"), ("contig",),
        precedent="B7 consolidate free page accounting",
    ),
    Mutant(
        "relist-counts-once", BUDDY,
        (("    account(mem, zone, old_mt, -(1 << order))\n", ""),),
        "a block moves to the list of another type and is counted there, but still here, too",
        "I_CONSERVATION", ("slab-new-new", "slab"), ("frag", "slabmix"),
        precedent="B6 fix freelist movement during block conversion",
    ),
    Mutant(
        "version-not-bumped", "shmalloc/kernels/bits.py",
        (("    version = ((w0 >> c.VERSION_SHIFT) + 1) & c.VERSION_MASK\n",
          "    version = (w0 >> c.VERSION_SHIFT) & c.VERSION_MASK\n"),),
        "a page's next life has the version of the last one: a swap prepared against the last one"
        " succeeds, and a reader cannot tell that the page changed under it",
        "X_VERSION", ("buddy-version-watch",), *WALKED,
        precedent="S4 freelist without its counter: ABA",
    ),
    Mutant(
        "free-without-claim", DESCRIPTOR,
        (("    if transition2(mem, pfn, w0, w1, taken | (w0 & c.POISON_BIT), 0):\n"
          "        return w0\n",
          "    transition2(mem, pfn, w0, w1, taken | (w0 & c.POISON_BIT), 0)\n    return w0\n"),),
        "a free does not look whether its swap was the one that took the page: of two frees of one"
        " page both put it on a list",
        "M_DOUBLE_FREE", ("buddy-free-free-same",),
        unseen="workloads never free one page from two processes at once",
        precedent="B9 freed a second time after the last reference was dropped",
        commit="462a8e08e0e6",
    ),
    Mutant(
        "free-fails-at-a-mark", DESCRIPTOR,
        (("    if w0 & c.POISON_BIT == 0 and transition_marked(mem, pfn, w0, w1, taken, 0):\n"
          "        return w0 | c.POISON_BIT\n", ""),),
        "docs/bugs.md 22, our own: a page is marked to leave service between its owner's look and"
        " his swap; his free is refused as a double one, and the page is lost",
        "M_DOUBLE_FREE", ("pcp-free-poison",),
        unseen="a page would have to be marked within the few instructions of its owner's free",
    ),
    Mutant(
        "claim-in-two-stores", DESCRIPTOR,
        (("    if transition2(mem, pfn, w0, w1, taken | (w0 & c.POISON_BIT), 0):\n"
          "        return w0\n",
          "    if transition(mem, pfn, w0, taken | (w0 & c.POISON_BIT)):\n"
          "        cas(mem, descriptor_at(mem, pfn) + 1, w1, 0)\n        return w0\n"),),
        "the two-word swap of a free made two: between them the page has no owner and names its old"
        " owner, which is where a free block's list link may be",
        "X_WALKER", ("buddy-merge-walk", "buddy"), ("pfn-walker",),
        precedent="B19 flag and head in two words, not written together",
    ),
    Mutant(
        "owner-before-page", DESCRIPTOR,
        (("    if type_of(w0) != c.T_PCP or not transition2(mem, pfn, w0, w1, given, owner):\n",
          "    cas(mem, d + 1, w1, owner)\n"
          "    if type_of(w0) != c.T_PCP or not transition(mem, pfn, w0, given):\n"),),
        "an allocation writes the owner first and the state afterwards: a walker meets a page that"
        " is free and owned",
        "X_WALKER", ("buddy-split-walk", "buddy"), ("pfn-walker",),
        precedent="B11 published before it is initialised",
    ),
    Mutant(
        "walker-reads-halves", "shmalloc/kernels/walk.py",
        (
            ("from shmalloc.words import fixed, load2\n",
             "from shmalloc.words import fixed, load, load2\n"),
            ("        w0, w1 = load2(mem, descriptor_at(mem, pfn))\n",
             "        w0 = load(mem, descriptor_at(mem, pfn))\n"
             "        w1 = load(mem, descriptor_at(mem, pfn) + 1)\n"),
        ),
        "a walker reads the halves of a descriptor one by one and judges a pair that never was",
        "X_WALKER", ("buddy-split-walk", "buddy-merge-walk"), ("pfn-walker",),
        precedent="B19 make compound_head() robust",
    ),
    Mutant(
        "walker-reads-order-twice", "shmalloc/kernels/walk.py",
        (
            ("from shmalloc.kernels.descriptor import legal_pair\n",
             "from shmalloc.kernels.descriptor import legal_pair, page_state\n"),
            ("            pfn += 1 << order_of(w0)\n    return pfn\n",
             "            pfn += 1 << order_of(page_state(mem, pfn))\n    return pfn\n"),
        ),
        "a walker checks one reading of a descriptor and steps by another one",
        "X_WALKER", ("buddy-split-walk", "buddy-merge-walk"), ("pfn-walker",),
        precedent="B17 buddy_order_unsafe read twice",
        equivalent="every value that word 0 ever holds is legal for its page (that is I_TAIL, and"
        " next_word is the only way to make one), so the second reading is as good as the first:"
        " the step stays inside of the zone, whatever it is, and the walker promises no more. In"
        " Linux the order shares its word with other uses of a page, here it never does.",
    ),
    Mutant(
        "lookup-believes-parent", DESCRIPTOR,
        (("            if at + (1 << order_of(w0)) > pfn:\n                return at\n"
          "            return c.E_AGAIN\n",
          "            return at\n"),),
        "head_of climbs to the first page that is no tail and does not ask whether that block"
        " reaches as far: in a split it names a head that has just shrunk",
        "X_WALKER", ("buddy-split-lookup",),
        unseen="head_of is asked without a lock only for an address that is owned, and misuse",
        equivalent="the page below the answer was read as a tail, at a moment during the call, and"
        " a tail lies in the block of its parent: at that moment that block did cover the page, so"
        " the answer was true once during the call, which is all that a reader without a lock can"
        " have. Under the lock nothing moves. The original says E_AGAIN there, which is kinder to"
        " its callers, and no more.",
    ),
    Mutant(
        "owner-of-any-head", "shmalloc/kernels/walk.py",
        (("            if at + (1 << order_of(w0)) > pfn:\n                return at, w0, w1\n"
          "            return c.E_AGAIN, 0, 0\n",
          "            return at, w0, w1\n"),),
        "look_up climbs to the first page that is no tail and takes its owner, although that block"
        " may have been freed, split and given to another owner since the page was read as a tail",
        "X_WALKER", ("lookup-owner-reuse-3",),
        unseen="a worker asks only for pages of its own, whose blocks stay as they are",
        precedent="B19 make compound_head() robust",
    ),
    Mutant(
        "link-drops-the-state", "shmalloc/kernels/lists.py",
        (("(load_relaxed(mem, at) & c.CARRIED_MASK) | (node << 3))", "node << 3)"),),
        "with links inside of descriptors a list operation on a neighbour wipes its type, order"
        " and version",
        "I_TAIL", ("buddy-split-walk-descriptor",), PAGES, ("--link-store", "descriptor"),
        precedent="B22 the thread's Option 1: links in the descriptor",
    ),
    Mutant(
        "unlink-one-way", "shmalloc/kernels/lists.py",
        (("    set_link(mem, after + 1, before)\n    set_link(mem, before, after)\n"
          "    # What is",
          "    set_link(mem, before, after)\n    # What is"),),
        "a block leaves the middle of a list and its successor still names it as predecessor",
        "I_LIST_LINKS", ("buddy-merge-take", "buddy"), PAGES,
        precedent="B21 remove from the middle by a stale predecessor",
    ),
)  # fmt: skip

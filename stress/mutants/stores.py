"""Mutants of the link stores that keep free blocks on no list."""

from __future__ import annotations

from stress.mutants.mutant import Mutant

INDEX = "shmalloc/kernels/index_store.py"
ARRAYS = "shmalloc/kernels/store_arrays.py"
PAGES = ("churn", "orders")
ACCEPT = "shmalloc/kernels/accept.py"
UNACCEPTED = ("--link-store", "index", "--geometry", "unaccepted=on")
BITMAP = "shmalloc/kernels/bitmap_store.py"
ON_BITMAP = ("--link-store", "bitmap")
KILLS = ("--faults", "kill:every=100ms")
ON_INDEX = ("--link-store", "index")

MUTANTS = (
    Mutant(
        "index-keeps-the-place",
        INDEX,
        (("    set_place(mem, last, place)\n", ""),),
        "the last block moves into the gap that another one left, and its descriptor still names"
        " the entry that it had: it can no longer be taken, nor merged",
        "I_LIST_LINKS",
        ("store-index-swap", "store-index-swap-3"),
        PAGES,
        ON_INDEX,
        precedent="the thread's arrays: who is moved must be told where it is",
    ),
    Mutant(
        "index-leaves-a-hole",
        INDEX,
        (("    mem[first + place - 1] = last\n", ""),),
        "a block leaves the middle of its array, nothing fills the gap, and the last entry is"
        " forgotten with its block",
        "I_LIST_LINKS",
        ("store-index-swap", "store-index-swap-3"),
        PAGES,
        ON_INDEX,
    ),
    Mutant(
        "index-remembers-the-gone",
        INDEX,
        (("    set_place(mem, pfn, 0)\n    return 0\n", "    return 0\n"),),
        "a block that was merged keeps its place in the second word of a descriptor that is a tail"
        " from then on",
        "I_TAIL",
        ("store-index-swap", "store-index-walk"),
        PAGES,
        ON_INDEX,
    ),
    Mutant(
        "index-one-array-for-all-orders",
        ARRAYS,
        (("(mem, zone + c.Z_STORE + level) + before", "(mem, zone + c.Z_STORE + level)"),),
        "the arrays of all orders begin at one place: blocks of two orders are written to one"
        " entry",
        "I_LIST_LINKS",
        ("store-index-swap", "store-index-swap-3", "store-index-walk"),
        PAGES,
        ON_INDEX,
    ),
    Mutant(
        "bitmap-summary-too-early",
        BITMAP,
        (
            (
                "        if word != 1 << (number & IN_WORD):\n"
                "            return c.E_STATE if mem[area_count(zone, order, mt)] == 1 else 0\n",
                "",
            ),
        ),
        "the bit of a summary is cleared although the word below has another block: that one can"
        " no longer be found",
        "I_LIST_LINKS",
        ("store-bitmap-swap", "store-bitmap-swap-3"),
        PAGES,
        ON_BITMAP,
    ),
    Mutant(
        "bitmap-summary-stays",
        BITMAP,
        (("        if word != 1 << (number & IN_WORD):\n", "        if word != 0:\n"),),
        "a word becomes zero and its summary goes on to name it: the next search ends there",
        "I_LIST_LINKS",
        ("store-bitmap-swap", "store-bitmap-walk"),
        PAGES,
        ON_BITMAP,
    ),
    Mutant(
        "bitmap-counts-from-the-zone",
        BITMAP,
        (
            (
                "    pfn = first_pfn(mem, zone) + (number << order)\n",
                "    pfn = fixed(mem, zone + c.Z_START) + (number << order)\n",
            ),
        ),
        "the number of a block is taken from the start of a zone that begins inside of a largest"
        " block",
        "I_LIST_LINKS",
        ("store-bitmap-border",),
        PAGES,
        (*ON_BITMAP, "--geometry", "start-pfn=1"),
    ),
    Mutant(
        "bitmap-keeps-the-dead",
        "shmalloc/kernels/free_area.py",
        (("        bitmap_clear(mem, zone, order, mt)\n", "        return\n"),),
        "a zone is made anew after a death, or after a stray write, on top of the bits that were"
        " there",
        "I_LIST_LINKS",
        ("crash:pages-order-0-bitmap",),
        PAGES,
        (*ON_BITMAP, *KILLS),
    ),
    Mutant(
        "owner-of-the-unaccepted",
        ACCEPT,
        (
            (
                "        if is_unaccepted(mem, start):\n",
                "        if start == pfn and is_unaccepted(mem, start):\n",
            ),
        ),
        "a block in the middle of an unaccepted pageblock is given out, and its owner touches it",
        "I_FREE_HEAD",
        ("accept-middle",),
        ("churn",),
        UNACCEPTED,
    ),
    Mutant(
        "accepted-again",
        ACCEPT,
        (("        if is_unaccepted(mem, start):\n", "        if start >= 0:\n"),),
        "a pageblock is cleared whenever a page of it is given out: what its other owners wrote is"
        " gone",
        "X_PAYLOAD",
        ("accept-stamp-stamp",),
        ("churn",),
        UNACCEPTED,
    ),
    Mutant(
        "isolation-accepts",
        "shmalloc/kernels/zone.py",
        (
            (
                " | (word & c.BLOCK_UNACCEPTED)\n    store_relaxed(mem, at, (holder",
                "\n    store_relaxed(mem, at, (holder",
            ),
        ),
        "an isolated pageblock is said to be accepted afterwards, and its pages are given out as"
        " they are",
        "I_BYTES",
        ("accept-isolate",),
        unseen="the memory of a run is zero when it is made, as accepted memory is",
    ),
)

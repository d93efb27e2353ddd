"""Mutants of the link stores that keep free blocks on no list."""

from __future__ import annotations

from stress.mutants.mutant import Mutant

INDEX = "shmalloc/kernels/index_store.py"
PAGES = ("churn", "orders")
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
        INDEX,
        (("fixed(mem, zone + c.Z_STORE) + before", "fixed(mem, zone + c.Z_STORE)"),),
        "the arrays of all orders begin at one place: blocks of two orders are written to one"
        " entry",
        "I_LIST_LINKS",
        ("store-index-swap", "store-index-swap-3", "store-index-walk"),
        PAGES,
        ON_INDEX,
    ),
)

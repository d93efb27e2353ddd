"""Sizes and chances of what samples allocations: the table of page_owner, and the stack depot.

The words themselves are drawn in kernels/page_owner.py and kernels/stack_depot.py; layout.py says
where they lie in a segment. A rate of N means: one page, or object, in N.
"""

from __future__ import annotations

from shmalloc import constants as c

MOST_RATE = 1 << 20
STACK_WORDS = 1 << 17  # of the stack depot: about a thousand stacks of 16 frames
LEAST_STACK_WORDS = 1 << 10
LEAST_ENTRIES, MOST_ENTRIES = 1 << 12, 1 << 18
CHANCE_ONE = 1 << 31


def sampled_entries(pages: int, rate: int) -> int:
    """Entries of page_owner unless a number is asked for: four times what it samples of pages."""
    wanted = min(max(4 * pages // rate, LEAST_ENTRIES), MOST_ENTRIES)
    return 1 << (wanted - 1).bit_length()


def page_owner_words(entries: int) -> int:
    """Words of the table of sampled allocations: its head, the keys, the entries."""
    return c.PO_KEYS + entries * (1 + c.PE_STRIDE)


def stack_buckets(words: int) -> int:
    """Buckets of a stack depot of so many words, one for each 32: a power of two."""
    return 1 << (words // 32).bit_length() - 1


def chance_of(order: int, rate: int) -> int:
    """How many of 2^31 blocks of an order are sampled, if each page is with a chance of 1/rate.

    In integers, so that it is the same number on every machine.
    """
    pages = 1 << order
    return CHANCE_ONE - int(((rate - 1) ** pages << 31) // rate**pages)


def sampling_rules(rate: int, entries: int, stack_words: int) -> tuple[tuple[bool, str], ...]:
    """What must hold of a geometry's fields, each with what is said if it does not; 0: default."""
    is_power = entries & (entries - 1) == 0
    return (
        (
            0 <= rate <= MOST_RATE,
            f"page_owner: 1/{rate}; sample one of 1 to {MOST_RATE:,}, or 0: none",
        ),
        (
            entries == 0 or (is_power and entries >= c.PO_WINDOW),
            f"page_owner_entries: {entries}; use a power of two of at least {c.PO_WINDOW}",
        ),
        (
            stack_words == 0 or stack_words >= LEAST_STACK_WORDS,
            f"stack_words: {stack_words}; use at least {LEAST_STACK_WORDS}",
        ),
    )

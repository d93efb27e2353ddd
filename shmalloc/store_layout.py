"""How many words an index or a bitmap takes: the levels of a zone (kernels/store_arrays.py).

Numbers alone, so that ``Layout`` can be computed from them. A level has an array for every order
and migratetype; each order has half the words of the order below it.
"""

from __future__ import annotations

from shmalloc import constants as c


def store_rooms(link_store: str, first: int, pages: int, max_order: int) -> list[int]:
    """Words of one array of order 0 in each level, for a zone of ``pages`` from ``first`` on."""
    largest = 1 << max_order
    span = -(-(first + pages) // largest) * largest - first // largest * largest
    if link_store == "index":
        return [span]
    rooms = []
    for _ in range(c.STORE_LEVELS if link_store == "bitmap" else 0):
        span = -(-span // (c.STORE_BITS * largest)) * largest
        rooms.append(span)
    return rooms


def level_words(room: int, max_order: int) -> int:
    """Words of a level."""
    return sum(room >> order for order in range(max_order + 1)) * c.MT_COUNT

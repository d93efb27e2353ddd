"""Atomic words: an int64 or a pair of them, in the body of an entry.

Compiled code uses the words of shmalloc.words at the index itself. These kernels are for Python:
each looks whether the handle still names its structure, and returns that as the last value.
A structure that is ended between the look and the access is a misuse of its users.

A value has all 64 bits. A pair is read and swapped as one, as every pair of the segment.
"""

from __future__ import annotations

from shmalloc.dialect import kernel
from shmalloc.structures.kernels.entries import ST_BODY, is_live
from shmalloc.units import Memory, WordIndex
from shmalloc.words import cas, cas2, exchange, fetch_add, load, load2


@kernel
def atomic_load(mem: Memory, at: WordIndex, state: int) -> tuple[int, bool]:
    return load(mem, at + ST_BODY), is_live(mem, at, state)


@kernel
def atomic_exchange(mem: Memory, at: WordIndex, state: int, value: int) -> tuple[int, bool]:
    """Store ``value``; what was there before."""
    if not is_live(mem, at, state):
        return 0, False
    return exchange(mem, at + ST_BODY, value), True


@kernel
def atomic_cas(mem: Memory, at: WordIndex, state: int, old: int, new: int) -> tuple[int, bool]:
    """1 if the value was ``old`` and is ``new`` now, else 0."""
    if not is_live(mem, at, state):
        return 0, False
    return int(cas(mem, at + ST_BODY, old, new)), True


@kernel
def atomic_add(mem: Memory, at: WordIndex, state: int, delta: int) -> tuple[int, bool]:
    """Add; what was there before. Wraps at 64 bits."""
    if not is_live(mem, at, state):
        return 0, False
    return fetch_add(mem, at + ST_BODY, delta), True


@kernel
def pair_load(mem: Memory, at: WordIndex, state: int) -> tuple[int, int, bool]:
    first, second = load2(mem, at + ST_BODY)
    return first, second, is_live(mem, at, state)


@kernel
def pair_exchange(
    mem: Memory, at: WordIndex, state: int, first: int, second: int
) -> tuple[int, int, bool]:
    """Store a pair; what was there before."""
    while is_live(mem, at, state):
        old0, old1 = load2(mem, at + ST_BODY)
        if cas2(mem, at + ST_BODY, old0, old1, first, second):
            return old0, old1, True
    return 0, 0, False


@kernel
def structure_is(mem: Memory, at: WordIndex, state: int) -> bool:
    """Whether the handle still names its structure."""
    return is_live(mem, at, state)


@kernel
def pair_cas(mem: Memory, at: WordIndex, old0: int, old1: int, new0: int, new1: int) -> bool:
    """Whether the pair was (old0, old1); then it is (new0, new1). Ask ``structure_is`` before."""
    return cas2(mem, at + ST_BODY, old0, old1, new0, new1)

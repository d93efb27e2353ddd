"""The flight recorder: the last accesses of a CPU, to be read after its death.

One ring for each CPU slot, in the segment, so that it is there when the process is not. Only the
owner of the slot writes, nothing orders it, and the allocator never reads it.

A ring, in words: NEXT, how many items it ever got; MASK, its size - 1; from FIRST on items of two
words, a kind with what it is about (``| word << AT_SHIFT``) and a value::

    kind                  about          value
    CLOCK                 -              time stamp counter
    OPERAND               its number     what the next access was given: the delta of a fetch_add;
                                         old, new of cas; old0, old1, new0, new1 of cas2; of load2
                                         the second word
    OP_* of ops.py        word           as in an event: read, written, found; 1 or 0 for a swap
    OP_* | DIED           word           first operand; the process was killed before it did this

A read or a write of one word is one item, an atomic update is its operands and itself. The clock
costs 8 ns, eight times an item, so it is read at updates, where CPUs meet, and there only where the
last one is CLOCK_EVERY items away. The accesses of one CPU are in their order, and none was made
before the clock in front of it: that is how ``merged`` sorts them, to some twenty accesses.

NEXT is written last, and a ring is read when its owner is parked or dead: no item is seen half.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from shmalloc import constants as c
from shmalloc.memory import Ram

NEXT = 0
MASK = 1
FIRST = c.FLIGHT_FIRST
AT_SHIFT = 8
KIND_MASK = (1 << AT_SHIFT) - 1
CLOCK = 0x40
OPERAND = 0x41
CLOCK_EVERY = 16
DIED = 0x80


@dataclass(frozen=True)
class Access:
    """One recorded access. ``clock``: it was not made before that."""

    cpu: int
    clock: int
    op: int
    at: int
    value: int
    operands: tuple[int, ...]
    died: bool


def accesses(ram: Ram, cpu: int, ring_at: int) -> list[Access]:
    """What the ring of ``cpu`` at word ``ring_at`` still holds, oldest first.

    What was recorded before the first clock in it is left out: its time is unknown.
    """
    found: list[Access] = []
    operands: dict[int, int] = {}
    clock: int | None = None
    for what, value in _items(ram, ring_at):
        kind, about = what & KIND_MASK, what >> AT_SHIFT
        if kind == CLOCK:
            clock = value
        elif kind == OPERAND:
            operands[about] = value
        else:
            op, died = kind & ~DIED, bool(kind & DIED)
            if clock is not None:
                given = (value,) if died else tuple(operands[k] for k in sorted(operands))
                found.append(Access(cpu, clock, op, about, value, given, died))
            operands.clear()
    return found


def _items(ram: Ram, ring_at: int) -> Iterable[tuple[int, int]]:
    """The items of a ring, past all hooks: else reading a ring could write it."""
    words = ram.array
    following, entries = int(words[ring_at + NEXT]), int(words[ring_at + MASK]) + 1
    for number in range(max(0, following - entries), following):
        item = ring_at + FIRST + (number % entries) * c.FLIGHT_ITEM_WORDS
        yield int(words[item]), int(words[item + 1])


def merged(rings: Iterable[list[Access]]) -> list[Access]:
    """The accesses of all rings by time; those of one CPU stay in their order."""
    return sorted((access for ring in rings for access in ring), key=lambda access: access.clock)

"""Ranges that a CPU of a program keeps isolated or offline, and what must hold of them at the end.

A CPU notes the one range that it keeps in a word of its work area, after it has got it, and takes
the note back before it gives the range back (as held.py does with blocks)::

    [ 1 | offline: 1 bit | end: 20 bits | start: 20 bits ]     0: it keeps none

The check compares all pageblocks with these notes: an isolation that no note names was left over by
an operation that is done; a range that is noted and in service was taken from its holder. An
isolation ends with the life of its maker, an offline range does not.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import kernel
from shmalloc.kernels.reporting import report
from shmalloc.units import Claim, Memory, Pfn
from shmalloc.words import fixed
from stress.programs.held import slot_at

RANGE = 15  # the word of the work area
END_SHIFT = 20
PFN_MASK = (1 << END_SHIFT) - 1
OFFLINE_BIT = 1 << 40
KEPT_BIT = 1 << 41


@kernel
def keep_range(mem: Memory, claim: Claim, start: Pfn, end: Pfn) -> None:
    """Note that the CPU has isolated [start, end)."""
    mem[slot_at(mem, claim, RANGE)] = KEPT_BIT | end << END_SHIFT | start


@kernel
def keep_offline(mem: Memory, claim: Claim, start: Pfn, end: Pfn) -> None:
    """Note that the CPU has taken [start, end) offline."""
    mem[slot_at(mem, claim, RANGE)] = KEPT_BIT | OFFLINE_BIT | end << END_SHIFT | start


@kernel
def let_range_go(mem: Memory, claim: Claim) -> None:
    """Take the note back. Call this before the range is given back, not after it."""
    mem[slot_at(mem, claim, RANGE)] = 0


@kernel
def noted(mem: Memory, pfn: Pfn) -> int:
    """The note of the range that ``pfn`` is in, 0: of no CPU; of two, the offline one."""
    found = 0
    for claim in range(fixed(mem, c.H_CPUS)):
        note = mem[slot_at(mem, claim, RANGE)]
        if note & PFN_MASK <= pfn < note >> END_SHIFT & PFN_MASK:
            found = max(found, note)
    return found


@kernel
def check_ranges(mem: Memory, by: Claim, deaths: int) -> int:
    """Compare every pageblock with the notes; the number of violations, each of them reported.

    ``deaths``: how many CPUs died: one of them may have left a range offline, and not noted it yet.
    Their isolations are the business of the caller.
    """
    bad = 0
    step = 1 << fixed(mem, c.H_PAGEBLOCK_ORDER)
    for pfn in range(0, fixed(mem, c.H_PAGES), step):
        word = mem[fixed(mem, c.H_AT_BLOCKS) + (pfn >> fixed(mem, c.H_PAGEBLOCK_ORDER))]
        isolated = word & c.MT_MASK == c.MT_ISOLATE
        offline = isolated and word >> c.BLOCK_ISOLATOR_SHIFT == 0
        note = noted(mem, pfn)
        wrong = isolated != (note != 0) or (note & OFFLINE_BIT != 0) != offline
        if wrong and not (note == 0 and offline and deaths > 0):
            report(mem, by, c.X_RANGE, pfn, note, word)
            bad += 1
    return bad

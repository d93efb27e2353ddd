"""What all audits share: compare a number or a word with what it must be, and report a difference.

An audit trusts no word before it has checked it: every loop has a bound that no word of the segment
can raise beyond the size of the segment, and a word is followed only after its range was checked.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import kernel
from shmalloc.kernels.reporting import report
from shmalloc.units import Claim, Int, Memory, WordIndex
from shmalloc.words import load_relaxed


@kernel
def complain(mem: Memory, claim: Claim, code: int, where: Int, expected: Int, found: Int) -> int:
    """1 and one report if the two numbers differ, else 0."""
    if expected == found:
        return 0
    report(mem, claim, code, where, expected, found)
    return 1


@kernel
def wrong_word(mem: Memory, claim: Claim, code: int, at: WordIndex, expected: Int) -> int:
    """1 and one report if the word at ``at`` does not hold ``expected``, else 0."""
    return complain(mem, claim, code, c.AT_WORD | at, expected, load_relaxed(mem, at))


@kernel
def outside(mem: Memory, claim: Claim, at: WordIndex, least: int, most: int) -> int:
    """1 and one report (I_FIXED) unless the word at ``at`` is from ``least`` to ``most``."""
    found = load_relaxed(mem, at)
    if least <= found <= most:
        return 0
    report(mem, claim, c.I_FIXED, c.AT_WORD | at, most, found)
    return 1


@kernel
def is_link(word: int) -> bool:
    """Whether a word that is only a list link has no bit beside the link."""
    return word & c.LINK_MASK == word

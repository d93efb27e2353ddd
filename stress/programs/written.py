"""What the CPUs of a program write into the memory that they own, and find there at its free.

An allocator that hands one page to two, or writes a list link into a page in use, is seen by what
is in the memory, whatever its own words say. An owner signs both ends of a block, and the first
word of an object::

    block    [signature] ... [signature]      signature: claim and pfn, or claim and address
    object   [signature] ...

They are plain accesses of the owner alone, so two owners of one page are a data race as well. The
next owner signs anew: nothing is required of memory that was freed.

In a state that is BLANK (initial_state.py) nothing is signed: where an invariant is checked after
every write, each write more multiplies the schedules that have to be told apart.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import kernel
from shmalloc.kernels.reporting import report
from shmalloc.kernels.zone import frame_at
from shmalloc.units import Claim, Memory, ObjectAddress, Order, Pfn, WordIndex
from shmalloc.words import fixed

SIGNED = 0x5EED << 32  # like no link, no owner word and no filling
SIGNED_CLAIM_SHIFT = 20
BLANK = 7  # of the words of CPU 1 (held.py): 1: nothing is signed; written before the CPUs start


@kernel
def blank_at(mem: Memory) -> WordIndex:
    return fixed(mem, c.H_AT_WORK) + fixed(mem, c.H_WORK_WORDS) + BLANK


@kernel
def is_blank(mem: Memory) -> bool:
    return fixed(mem, blank_at(mem)) != 0


@kernel
def signature(claim: Claim, what: int) -> int:
    """``what``: a pfn, or the address of an object."""
    return SIGNED + (claim << SIGNED_CLAIM_SHIFT) + what


@kernel
def last_word(mem: Memory, pfn: Pfn, order: Order) -> WordIndex:
    """The last word of a block."""
    return frame_at(mem, pfn) + (1 << (order + fixed(mem, c.H_PAGE_SHIFT))) - 1


@kernel
def sign_block(mem: Memory, claim: Claim, pfn: Pfn, order: Order) -> None:
    """Write to a block that the CPU has just been given."""
    if not is_blank(mem):
        mem[frame_at(mem, pfn)] = signature(claim, +pfn)
        mem[last_word(mem, pfn, order)] = signature(claim, +pfn)


@kernel
def find_unsigned(mem: Memory, claim: Claim, at: WordIndex, what: int) -> int:
    """1, with a report, if the word at ``at`` is not as the CPU left it; else 0."""
    if is_blank(mem) or mem[at] == signature(claim, what):
        return 0
    report(mem, claim, c.X_PAYLOAD, c.AT_WORD | at, signature(claim, what), mem[at])
    return 1


@kernel
def check_block(mem: Memory, claim: Claim, pfn: Pfn, order: Order) -> int:
    """0 if the block is as its owner left it; otherwise a report."""
    wrong = find_unsigned(mem, claim, frame_at(mem, pfn), +pfn)
    return wrong + find_unsigned(mem, claim, last_word(mem, pfn, order), +pfn)


@kernel
def sign_object(mem: Memory, claim: Claim, address: ObjectAddress) -> None:
    if not is_blank(mem):
        mem[address] = signature(claim, +address)


@kernel
def check_object(mem: Memory, claim: Claim, address: ObjectAddress) -> int:
    return find_unsigned(mem, claim, +address, +address)

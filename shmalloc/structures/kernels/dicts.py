"""The dict for Python: a hash table by the entry of its structure (entries.py).

Each kernel looks whether the handle still names its structure. An operation that began before the
structure was destroyed may still write: destroying it then is a misuse of its users.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import kernel
from shmalloc.structures.kernels.entries import ST_PARAMETERS, is_live
from shmalloc.structures.kernels.hashtable import NUMBER_MASK, dict_find, entry_of
from shmalloc.structures.kernels.hashtable_writes import dict_begin
from shmalloc.units import Claim, Memory, WordIndex
from shmalloc.words import fixed


@kernel
def structure_find(
    mem: Memory, at: WordIndex, state: int, hashed: int, skip: int
) -> tuple[int, int, int, WordIndex]:
    """``dict_find`` of the dict whose entry is at ``at``, and the word of what it found.

    E_STATE: it was destroyed.
    """
    if not is_live(mem, at, state):
        return c.E_STATE, 0, 0, 0
    d: WordIndex = fixed(mem, at + ST_PARAMETERS)
    place, version, lengths = dict_find(mem, d, hashed, skip)
    if place & NUMBER_MASK == 0:
        return place, version, 0, 0
    return place, version, lengths, entry_of(mem, d, place & NUMBER_MASK)


@kernel
def structure_begin(
    mem: Memory, claim: Claim, at: WordIndex, state: int, hashed: int, lengths: int
) -> int:
    """``dict_begin`` of the dict whose entry is at ``at``. E_STATE: it was destroyed."""
    if not is_live(mem, at, state):
        return c.E_STATE
    return dict_begin(mem, claim, fixed(mem, at + ST_PARAMETERS), hashed, lengths)

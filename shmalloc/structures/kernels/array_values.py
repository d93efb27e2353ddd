"""Arrays as values of a hash table: the entry has a reference to the array, of its own.

The reference is a record (kernels/array_table.py) within the entry, in the state of a ticket. It
belongs to no process, so it outlives the one that put it there; E_ARRAY says to which page. It is
dropped when the entry is freed, by the process in whose name the entry is ENDING; if that one
dies, another one does the same again (``dict_reclaim``).

It is never the last reference that is dropped: the dropper takes one of its own first, and drops
that last, so that its own recovery would free the pages. That also leaves no tag that names a
record in the table's memory, which may be another structure's afterwards.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import unit
from shmalloc.kernels.array_table import (
    add_reference,
    announce_record,
    next_sequence,
    record_at,
    root_of,
)
from shmalloc.kernels.lock import owner_word
from shmalloc.kernels.shared_arrays import drop_array, drop_ticket, open_array
from shmalloc.structures.kernels.hashtable import (
    D_ENTRIES,
    D_HINT,
    E_ARRAY,
    E_RECORD,
    ENDING,
    NUMBER_BITS,
    NUMBER_MASK,
    USE_BITS,
    entry_of,
)
from shmalloc.units import Claim, Memory, Pfn, WordIndex
from shmalloc.words import cas2, fixed, load, load2, load_relaxed, store, store_relaxed


@unit
def hold_array(mem: Memory, claim: Claim, d: WordIndex, token: int, slot: int) -> int:
    """Give the entry that we write a reference to the array that we hold by ``slot``.

    Returns 0. E_BUSY: the array has too many; E_STATE: we do not hold it. Then drop the entry.
    """
    at = entry_of(mem, d, token & NUMBER_MASK)
    root = root_of(mem, claim)
    held = record_at(mem, root, slot)
    pfn: Pfn = load(mem, held) >> c.RE_PFN_SHIFT
    generation = load_relaxed(mem, held + c.RE_GENERATION)
    sequence = next_sequence(mem, root)
    record = at + E_RECORD
    store(mem, at + E_ARRAY, pfn + 1)
    announced = pfn << c.RE_PFN_SHIFT
    announce_record(mem, record, sequence, generation, announced | c.RE_SENDING)
    result = add_reference(mem, record, sequence, pfn, generation, 0)
    if result < 0:
        return result
    # Not a store: who changes the count next may have done it.
    cas2(mem, record, announced | c.RE_SENDING, sequence, announced | c.RE_TRANSIT, sequence)
    return 0


@unit
def end_array_value(mem: Memory, claim: Claim, d: WordIndex, token: int) -> int:
    """Drop the reference of an entry that is ENDING in our name, and free the entry.

    Returns 0. E_STATE: it is not ours; E_NOMEM, E_BUSY: not now, ``dict_reclaim`` finds it.
    """
    at = entry_of(mem, d, token & NUMBER_MASK)
    version = token >> NUMBER_BITS
    ending = version << USE_BITS | ENDING
    state, life = load2(mem, at)
    if state != ending or life != owner_word(mem, claim):
        return c.E_STATE
    result = end_reference(mem, claim, at)
    if result < 0:
        cas2(mem, at, ending, life, ending, 0)
        return result
    cas2(mem, at, ending, life, (version + 1) << USE_BITS, 0)
    store_relaxed(mem, d + D_HINT, token & NUMBER_MASK)
    return 0


@unit
def end_reference(mem: Memory, claim: Claim, at: WordIndex) -> int:
    """Drop the reference of the entry at ``at``, if it has one; ours alone to do.

    What a dead process did of it is found done. Returns 0, or why we can have no reference now.
    """
    named = load(mem, at + E_ARRAY)
    if named == 0:
        return 0
    record = at + E_RECORD
    generation = load_relaxed(mem, record + c.RE_GENERATION)
    slot, number, _ = open_array(mem, claim, named - 1, generation)
    if slot >= 0:
        sequence = load(mem, record + c.RE_SEQUENCE)
        drop_ticket(mem, record, sequence, named - 1, generation)
        drop_array(mem, claim, slot, number)
    elif slot != c.E_STATE:  # that one: the array is gone, so ours was not counted
        return slot
    store(mem, record, 0)
    store(mem, at + E_ARRAY, 0)
    return 0


@unit
def end_all_references(mem: Memory, claim: Claim, d: WordIndex) -> int:
    """The same of every entry, when no process uses the table any more; to be called again."""
    for index in range(fixed(mem, d + D_ENTRIES)):
        result = end_reference(mem, claim, entry_of(mem, d, index + 1))
        if result < 0:
            return result
    return 0

"""References that outlive their process's work: of the dead, of a fork's child, of tickets.

    recover_arrays    what a dead claim held is dropped, its half-made arrays are freed, its tickets
                      become orphans; also the orderly end of a living claim, by itself
    copy_references   what a process holds, once more for the claim of a child that it is to fork
    reap_tickets      orphans that no process loaded in time
    give_table_back   the pages of a table that is not needed any more

``recover_arrays`` runs in phase 2 of a recovery (recover.py) and may be killed at any write: what
it did is then found done, and what the recoverer itself held is a matter of its own recovery. The
records of the dead change only here, except that loaders drop tickets and settle.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import kernel, unit
from shmalloc.kernels.array_table import (
    add_reference,
    announce_record,
    entry_at,
    grow,
    is_of_table,
    record_at,
    root_of,
    settle,
    slots_of,
    table_owner,
    table_word,
    tag_of,
    tagged_record,
    take_sequences,
)
from shmalloc.kernels.bits import order_of, type_of
from shmalloc.kernels.shared_arrays import (
    array_owner,
    drop_array,
    drop_held,
    drop_ticket,
    open_array,
)
from shmalloc.kernels.slab_format import give_pages_back
from shmalloc.kernels.zone import descriptor_at
from shmalloc.units import Claim, Memory, Owner, Pfn, WordIndex
from shmalloc.words import cas2, fixed, load, load2, load_relaxed, store, store_relaxed


@unit
def recover_arrays(mem: Memory, claim: Claim, victim: Claim) -> int:
    """End every reference of claim ``victim``, whose process makes none any more; how many."""
    if load(mem, table_word(mem, victim)) == 0:
        return 0
    if load(mem, table_word(mem, victim)) & c.TABLE_GROWS != 0:
        free_loose_pages(mem, claim, victim)
        store(mem, table_word(mem, victim), root_of(mem, victim))
    root = root_of(mem, victim)
    ended = 0
    for slot in range(slots_of(mem, root)):
        record = record_at(mem, root, slot)
        if load(mem, record) != 0:
            end_record(mem, claim, record)
            ended += 1
    if root != 0:
        store(mem, root + c.RT_HELD, 0)
    return ended


@unit
def end_record(mem: Memory, claim: Claim, record: WordIndex) -> None:
    """End one reference of a claim that ended. See array_table.py for what the states mean."""
    word, sequence = load2(mem, record)
    state = word & c.RE_STATE_MASK
    pfn: Pfn = word >> c.RE_PFN_SHIFT
    if state == c.RE_MAKING:
        end_making(mem, claim, record, sequence)
    elif state == c.RE_TRANSIT or state == c.RE_SENDING:
        orphan(mem, record, pfn, sequence)
    elif state != c.RE_ORPHAN and state != c.RE_FREE:
        generation = load_relaxed(mem, record + c.RE_GENERATION)
        count, tag = load2(mem, entry_at(mem, pfn))
        is_live = count >> c.AR_GENERATION_SHIFT == generation and count & c.AR_REFS_MASK != 0
        named = is_live and tag == tag_of(record, sequence, c.TAG_ADDED)
        dropped = is_live and tag == tag_of(record, sequence, c.TAG_DROPPED)
        if state == c.RE_HELD and not is_live:
            free_named(mem, claim, load_relaxed(mem, record + c.RE_NAME))  # it died freeing them
            store(mem, record, 0)
        elif state == c.RE_HELD and not dropped:
            drop_held(mem, claim, record, pfn, sequence)
        elif state != c.RE_HELD and named:
            store(mem, record, pfn << c.RE_PFN_SHIFT | c.RE_HELD)
            drop_held(mem, claim, record, pfn, sequence)
        elif state == c.RE_ENTERING:
            end_making(mem, claim, record, sequence)
        else:
            store(mem, record, 0)


@kernel
def end_making(mem: Memory, claim: Claim, record: WordIndex, sequence: int) -> None:
    """Free the pages of an array that was not published."""
    free_named(mem, claim, array_owner(sequence))
    store(mem, record, 0)


@unit
def free_named(mem: Memory, claim: Claim, name: Owner) -> None:
    """Free all pages of one owner, which no other CPU can reach."""
    pfn = 0
    while pfn < fixed(mem, c.H_PAGES):
        w0, w1 = load2(mem, descriptor_at(mem, pfn))
        if type_of(w0) == c.T_TAIL:
            pfn += 1
        else:
            if type_of(w0) == c.T_ALLOCATED and w1 == name:
                give_pages_back(mem, claim, pfn, order_of(w0), name)
            pfn += 1 << order_of(w0)


@unit
def free_loose_pages(mem: Memory, claim: Claim, victim: Claim) -> None:
    """Free a page of the victim's table that no root names yet."""
    for pfn in range(fixed(mem, c.H_PAGES)):
        w0, w1 = load2(mem, descriptor_at(mem, pfn))
        if type_of(w0) == c.T_ALLOCATED and w1 == table_owner(victim):
            if not is_of_table(mem, victim, pfn):
                give_pages_back(mem, claim, pfn, 0, table_owner(victim))


@kernel
def orphan(mem: Memory, record: WordIndex, pfn: Pfn, sequence: int) -> None:
    """Make a ticket an orphan whose end was not noticed yet; one that was not counted is free.

    A loader may drop it at the same time.
    """
    generation = load_relaxed(mem, record + c.RE_GENERATION)
    while True:
        count, tag = load2(mem, entry_at(mem, pfn))
        is_live = count >> c.AR_GENERATION_SHIFT == generation and count & c.AR_REFS_MASK != 0
        if is_live and tagged_record(tag) == record:
            settle(mem, pfn, tag)
        word, found = load2(mem, record)
        state = word & c.RE_STATE_MASK
        if state == c.RE_SENDING:
            store(mem, record, 0)
            return
        if state != c.RE_TRANSIT or found != sequence:
            return
        store_relaxed(mem, record + c.RE_NAME, 0)
        after = pfn << c.RE_PFN_SHIFT | c.RE_ORPHAN
        if cas2(mem, record, word, sequence, after, sequence):
            return


@unit
def copy_references(mem: Memory, claim: Claim, child: Claim) -> tuple[int, int, int]:
    """Give claim ``child``, which holds nothing, all that we hold: (how many, first number, moved).

    Called before a fork, by the process that forks. The copy of our slot s has number first + s;
    with our own number, which the claim may have had before for the same array, a late ``settle``
    of that time would free it. It has slot s, too, unless a ticket of the claim's last process is
    there: ``moved`` copies have another one. E_NOMEM, E_BUSY: then recover ``child``.
    """
    ours = root_of(mem, claim)
    slots = slots_of(mem, ours)
    beyond = slots
    copied = 0
    first = 0
    moved = 0
    for slot in range(slots):
        record = record_at(mem, ours, slot)
        if load(mem, record) & c.RE_STATE_MASK == c.RE_HELD:
            place = slot
            free = is_free_slot(mem, claim, child, place)
            while free == 0:
                place = beyond
                beyond += 1
                free = is_free_slot(mem, claim, child, place)
            if copied == 0 and free > 0:
                first = take_sequences(mem, root_of(mem, child), slots)
            result = free
            if free > 0:
                result = copy_record(mem, record, child, place, first + slot)
            if result < 0:
                return result, 0, 0
            copied += 1
            moved += int(place != slot)
    if copied > 0:
        store(mem, root_of(mem, child) + c.RT_HELD, copied)
    return copied, first, moved


@kernel
def is_free_slot(mem: Memory, claim: Claim, child: Claim, slot: int) -> int:
    """Whether a slot of the table of ``child``, which grows to have it, is free; or E_NOMEM."""
    while slot >= slots_of(mem, root_of(mem, child)):
        if grow(mem, claim, child) < 0:
            return c.E_NOMEM
    return int(load(mem, record_at(mem, root_of(mem, child), slot)) == 0)


@kernel
def copy_record(mem: Memory, ours: WordIndex, child: Claim, slot: int, sequence: int) -> int:
    """Give ``child`` what a record of ours holds; the new count, E_BUSY or E_STATE."""
    record = record_at(mem, root_of(mem, child), slot)
    pfn: Pfn = load(mem, ours) >> c.RE_PFN_SHIFT
    generation = load_relaxed(mem, ours + c.RE_GENERATION)
    announce_record(mem, record, sequence, generation, pfn << c.RE_PFN_SHIFT | c.RE_OPENING)
    result = add_reference(mem, record, sequence, pfn, generation, 1)
    if result >= 0:
        store(mem, record, pfn << c.RE_PFN_SHIFT | c.RE_HELD)
    return result


@unit
def reap_tickets(mem: Memory, claim: Claim, holder: Claim, now: int, grace: int) -> int:
    """Drop the orphans of ``holder`` that were noticed ``grace`` ago; how many.

    An orphan that is seen for the first time is dated ``now``, in the same unit.
    """
    root = root_of(mem, holder)
    reaped = 0
    for slot in range(slots_of(mem, root)):
        record = record_at(mem, root, slot)
        word, sequence = load2(mem, record)
        if word & c.RE_STATE_MASK == c.RE_ORPHAN:
            since = load(mem, record + c.RE_NAME)
            if since == 0:
                store(mem, record + c.RE_NAME, now)
                since = now
            if now - since >= grace:
                reaped += reap_ticket(mem, claim, record, word >> c.RE_PFN_SHIFT, sequence)
    return reaped


@unit
def reap_ticket(mem: Memory, claim: Claim, record: WordIndex, pfn: Pfn, sequence: int) -> int:
    """Drop one ticket, of a living sender or not; 1, or 0 if it was loaded meanwhile.

    By a reference of our own, so that the last reference is one of our records (our recovery would
    finish what we began).
    """
    generation = load_relaxed(mem, record + c.RE_GENERATION)
    slot, number, _ = open_array(mem, claim, pfn, generation)
    if slot < 0:
        return 0
    left = drop_ticket(mem, record, sequence, pfn, generation)
    drop_array(mem, claim, slot, number)
    return int(left >= 0)


@unit
def give_table_back(mem: Memory, claim: Claim, holder: Claim) -> int:
    """Free the pages of a table of which no record is in use and no ticket is awaited.

    E_BUSY: it has one. For the end of a segment's use; a table otherwise stays with its claim.
    """
    root = root_of(mem, holder)
    for slot in range(slots_of(mem, root)):
        if load(mem, record_at(mem, root, slot)) != 0:
            return c.E_BUSY
    store(mem, table_word(mem, holder), c.TABLE_GROWS)
    free_loose_pages(mem, claim, holder)
    store(mem, table_word(mem, holder), 0)
    return 0

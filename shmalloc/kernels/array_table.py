"""References to arrays: an entry for each page, and a table of records for each claim.

An array is one block of pages, or several in a row, named by the pfn of the first. Two structures
say who uses it::

    entry of a page     [ generation << 24 | references ][ tag: the last change of the count ]
    record of a claim   [ pfn << 4 | state ][ sequence number ][ generation ][ owner word, or time ]

Entries are a region of the segment and are never freed, so a stale handle can always be judged: a
page's generation grows with each array that begins there. Records lie in pages that belong to the
claim's table (``table_word``) and stay with that claim's number. Record ``slot`` of a claim is one
reference: a count alone could not say whose references die with a process.

A count and a record cannot change in one write. The count's change is the linearization point, by
a two-word swap whose tag names the record and what was done (ADDED, DROPPED). The CPU that changes
the entry next first writes into that record what the tag says (``settle``), so at each moment
record and tag together tell the truth, also of a process that died between its two writes:

    OPENING, ENTERING, SENDING   counted if and only if the entry's tag says ADDED of this record
    HELD, TRANSIT, ORPHAN        counted unless the entry's tag says DROPPED of this record

Rules for callers. Only the claim's own process, one thread at a time, takes records of its table;
others only settle them, and drop those in transit. ``sequence`` numbers are never used twice in a
segment. Freeing the pages of the last reference is the business of shared_arrays.py.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import kernel, unit
from shmalloc.kernels.bits import type_of
from shmalloc.kernels.slab_format import slab_pages
from shmalloc.kernels.zone import descriptor_at, frame_at, pfn_of_word
from shmalloc.units import Claim, Int, Memory, Owner, Pfn, WordIndex
from shmalloc.words import cas2, fetch_add, fixed, load, load2, load_relaxed, store, store_relaxed

TABLES = c.OWNER_ARRAYS >> c.OWNER_CLAIM_BITS


@kernel
def entry_at(mem: Memory, pfn: Pfn) -> WordIndex:
    """The pair [count, tag] of the arrays that begin at ``pfn``."""
    return fixed(mem, c.H_AT_ARRAYS) + pfn * c.AR_STRIDE


@kernel
def tag_of(record: WordIndex, sequence: int, change: int) -> int:
    """What an entry says of its last change: the record, low bits of its sequence, the change."""
    return record << c.TAG_RECORD_SHIFT - 1 | (sequence & c.TAG_SEQUENCE_MASK) << 1 | change


@kernel
def tagged_record(tag: int) -> WordIndex:
    return (tag >> c.TAG_RECORD_SHIFT) << 1


@kernel
def settle(mem: Memory, pfn: Pfn, tag: int) -> None:
    """Write into its record what the entry of ``pfn`` says of its last change, unless it is there.

    The record may be used for another reference meanwhile: then nothing matches. A tag that a stray
    write made names no record.
    """
    record = tagged_record(tag)
    if record < fixed(mem, c.H_AT_FRAMES) or record + c.RE_STRIDE > fixed(mem, c.H_WORDS):
        return
    while True:
        word, sequence = load2(mem, record)
        if word >> c.RE_PFN_SHIFT != pfn or (sequence ^ tag >> 1) & c.TAG_SEQUENCE_MASK != 0:
            return
        after = settled(word & c.RE_STATE_MASK, tag & 1)
        if after < 0:
            return
        new = pfn << c.RE_PFN_SHIFT | after if after != c.RE_FREE else 0
        if cas2(mem, record, word, sequence, new, sequence):
            return


@kernel
def is_counted(state: int, held: int) -> bool:
    """Whether a record that is settled is a reference: a process's own, or (``held`` 0) a ticket"""
    if held != 0:
        return state == c.RE_HELD
    return state == c.RE_TRANSIT or state == c.RE_ORPHAN


@kernel
def settled(state: int, change: int) -> int:
    """The state that follows once the change is written into the record; -1: it is there."""
    if change == c.TAG_DROPPED:
        if is_counted(state, 1) or is_counted(state, 0):
            return c.RE_FREE
    elif state == c.RE_OPENING or state == c.RE_ENTERING:
        return c.RE_HELD
    elif state == c.RE_SENDING:
        return c.RE_TRANSIT
    return -1


# --- the table of a claim ------------------------------------------------------------------------
@kernel
def table_word(mem: Memory, claim: Claim) -> WordIndex:
    """The word that says where a claim's table begins; 0: it has none. TABLE_GROWS: see ``grow``"""
    return fixed(mem, c.H_AT_REFERENCES) + claim


@kernel
def root_of(mem: Memory, claim: Claim) -> WordIndex:
    """The first page of a claim's table, or 0::

    [ next root ][ held ][ pages << 32 | where to look for a free record ][ next sequence number ]
    [ pages of records ... ]
    """
    return load(mem, table_word(mem, claim)) & ~c.TABLE_GROWS


@kernel
def slots_of(mem: Memory, root: WordIndex) -> int:
    """Records of a table."""
    if root == 0:
        return 0
    return (load(mem, root + c.RT_PAGES) >> 32) << fixed(mem, c.H_PAGE_SHIFT) - c.RE_SHIFT


@kernel
def page_word(mem: Memory, root: WordIndex, page: int) -> WordIndex:
    """The word of a root page that names page ``page`` of records; 0: its root does not exist."""
    places = (1 << fixed(mem, c.H_PAGE_SHIFT)) - c.RT_FIRST
    at = root
    left = page
    while at != 0 and left >= places:
        at = load_relaxed(mem, at + c.RT_NEXT)
        left -= places
    return 0 if at == 0 else at + c.RT_FIRST + left


@kernel
def record_at(mem: Memory, root: WordIndex, slot: int) -> WordIndex:
    """The record of a slot below ``slots_of``."""
    shift = fixed(mem, c.H_PAGE_SHIFT) - c.RE_SHIFT
    page = load_relaxed(mem, page_word(mem, root, slot >> shift))
    return page + ((slot & (1 << shift) - 1) << c.RE_SHIFT)


@kernel
def next_sequence(mem: Memory, root: WordIndex) -> int:
    """A number that no other reference of this segment has or had."""
    return take_sequences(mem, root, 1)


@kernel
def take_sequences(mem: Memory, root: WordIndex, count: int) -> int:
    """The first of ``count`` such numbers in a row."""
    sequence = load_relaxed(mem, root + c.RT_SEQUENCE)
    store_relaxed(mem, root + c.RT_SEQUENCE, sequence + count)
    return sequence


@kernel
def count_held(mem: Memory, root: WordIndex, more: int) -> None:
    """How many references the process holds: it compares this with what it knows of."""
    store_relaxed(mem, root + c.RT_HELD, load_relaxed(mem, root + c.RT_HELD) + more)


@unit
def take_slot(mem: Memory, claim: Claim) -> int:
    """A free slot of the claim's table, which grows by a page if none is found soon; or E_NOMEM."""
    root = root_of(mem, claim)
    slots = slots_of(mem, root)
    if root != 0:
        at = load_relaxed(mem, root + c.RT_PAGES) & c.RT_CURSOR_MASK
        for _ in range(min(slots, c.RE_TRIES)):
            if at >= slots:
                at = 0
            if load(mem, record_at(mem, root, at)) == 0:
                point_at(mem, root, at + 1)
                return +at
            at += 1
    if grow(mem, claim, claim) < 0:
        return c.E_NOMEM
    point_at(mem, root_of(mem, claim), slots + 1)
    return slots


@kernel
def point_at(mem: Memory, root: WordIndex, slot: int) -> None:
    """The next search begins at ``slot``."""
    pages = load_relaxed(mem, root + c.RT_PAGES) & ~c.RT_CURSOR_MASK
    store_relaxed(mem, root + c.RT_PAGES, pages | slot)


@unit
def grow(mem: Memory, claim: Claim, holder: Claim) -> int:
    """Add a page of free records to the table of ``holder``: 0 or E_NOMEM.

    TABLE_GROWS is set meanwhile: recovery then looks for a page of this table that no root names.
    """
    at = table_word(mem, holder)
    root = root_of(mem, holder)
    store(mem, at, root | c.TABLE_GROWS)
    if root == 0:
        root = table_page(mem, claim, holder)
        if root > 0:
            store_relaxed(mem, root + c.RT_SEQUENCE, first_sequence(mem))
            store(mem, at, root | c.TABLE_GROWS)
    result = c.E_NOMEM
    if root > 0:
        result = add_page(mem, claim, holder, root)
    store(mem, at, load_relaxed(mem, at) & ~c.TABLE_GROWS)
    return result


@kernel
def add_page(mem: Memory, claim: Claim, holder: Claim, root: WordIndex) -> int:
    """Make a page of records, and a further root if the last one is full."""
    pages = load_relaxed(mem, root + c.RT_PAGES) >> 32
    at = page_word(mem, root, pages)
    if at == 0:
        further = table_page(mem, claim, holder)
        if further < 0:
            return c.E_NOMEM
        last = root
        while load_relaxed(mem, last + c.RT_NEXT) != 0:
            last = load_relaxed(mem, last + c.RT_NEXT)
        store(mem, last + c.RT_NEXT, further)
        at = further + c.RT_FIRST
    page = load_relaxed(mem, at)  # not 0: a process died here, the page is empty
    if page == 0:
        page = table_page(mem, claim, holder)
        if page < 0:
            return c.E_NOMEM
        store(mem, at, page)
    cursor = load_relaxed(mem, root + c.RT_PAGES) & c.RT_CURSOR_MASK
    store(mem, root + c.RT_PAGES, (pages + 1) << 32 | cursor)
    return 0


@kernel
def first_sequence(mem: Memory) -> int:
    """Where the sequence numbers of a new table begin; a table has 2^40 of them."""
    return (fetch_add(mem, c.H_ARRAYS, 1) + 1) << c.RT_SEQUENCE_SHIFT


@kernel
def table_owner(claim: Claim) -> Owner:
    """Owner word of the pages of a claim's table."""
    return c.OWNER_ARRAYS | claim


@kernel
def table_page(mem: Memory, claim: Claim, holder: Claim) -> WordIndex:
    """Word index of a new page of zeros that belongs to a claim's table; or negative.

    It may be part of the reserve: who has no room for a reference cannot take over, and drop, what
    the dead referred to.
    """
    pfn = slab_pages(mem, claim, 0, c.GFP_HIGH, table_owner(holder))
    if pfn < 0:
        return c.E_NOMEM
    first = frame_at(mem, pfn)
    for i in range(first, first + (1 << fixed(mem, c.H_PAGE_SHIFT))):
        store_relaxed(mem, i, 0)
    return first


@kernel
def is_record(mem: Memory, at: WordIndex) -> bool:
    """Whether a word from outside may be a record: it lies in a page of some table, which stays."""
    if at < fixed(mem, c.H_AT_FRAMES) or at + c.RE_STRIDE > fixed(mem, c.H_WORDS):
        return False
    pfn = pfn_of_word(mem, at)
    if at & (c.RE_STRIDE - 1) != 0 or pfn >= fixed(mem, c.H_PAGES):
        return False
    w0, w1 = load2(mem, descriptor_at(mem, pfn))
    return type_of(w0) == c.T_ALLOCATED and w1 >> c.OWNER_CLAIM_BITS == TABLES


@kernel
def is_of_table(mem: Memory, claim: Claim, pfn: Pfn) -> bool:
    """Whether a claim's table reaches the page: it is a root, or a root names it."""
    root = root_of(mem, claim)
    at = root
    while at != 0:
        if pfn_of_word(mem, at) == pfn:
            return True
        at = load_relaxed(mem, at + c.RT_NEXT)
    if root != 0:
        for page in range((load_relaxed(mem, root + c.RT_PAGES) >> 32) + 1):
            at = page_word(mem, root, page)
            if at != 0 and load_relaxed(mem, at) == frame_at(mem, pfn):
                return True
    return False


# --- references ----------------------------------------------------------------------------------
@kernel
def announce_record(
    mem: Memory, record: WordIndex, sequence: int, generation: int, word: Int
) -> None:
    """Begin to use a free record of ours."""
    store_relaxed(mem, record + c.RE_SEQUENCE, sequence)
    store_relaxed(mem, record + c.RE_GENERATION, generation)
    store(mem, record, word)


@unit
def add_reference(
    mem: Memory, record: WordIndex, sequence: int, pfn: Pfn, generation: int, held: int
) -> int:
    """Count the reference of an announced record; the new count, or E_STATE, E_BUSY: then it is
    free again. The record still says OPENING, or (``held`` 0) SENDING."""
    entry = entry_at(mem, pfn)
    code = 0
    while code == 0:
        old, tag = load2(mem, entry)
        references = old & c.AR_REFS_MASK
        if old >> c.AR_GENERATION_SHIFT != generation or references == 0:
            code = c.E_STATE
        elif references == c.AR_REFS_MASK:
            code = c.E_BUSY
        else:
            settle(mem, pfn, tag)
            if held != 0:  # before the swap: then others may settle the record
                store_relaxed(mem, record + c.RE_NAME, load(mem, descriptor_at(mem, pfn) + 1))
            # The linearization point of an open, and of a send.
            if cas2(mem, entry, old, tag, old + 1, tag_of(record, sequence, c.TAG_ADDED)):
                return references + 1
    store(mem, record, 0)
    return code


@unit
def drop_reference(
    mem: Memory, record: WordIndex, sequence: int, pfn: Pfn, generation: int, held: int
) -> int:
    """Uncount the reference of a record, HELD or (``held`` 0) in transit; how many are left.

    E_STATE: there is no such reference, or another CPU dropped it. The record still says what it
    was; at 0 no other CPU can reach the entry.
    """
    entry = entry_at(mem, pfn)
    while True:
        old, tag = load2(mem, entry)
        references = old & c.AR_REFS_MASK
        if old >> c.AR_GENERATION_SHIFT != generation or references == 0:
            return c.E_STATE
        settle(mem, pfn, tag)
        word, found = load2(mem, record)
        if word >> c.RE_PFN_SHIFT != pfn or found != sequence:
            return c.E_STATE
        if not is_counted(word & c.RE_STATE_MASK, held):
            return c.E_STATE
        if cas2(mem, entry, old, tag, old - 1, tag_of(record, sequence, c.TAG_DROPPED)):
            return references - 1

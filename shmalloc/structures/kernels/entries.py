"""Entries: where structures are made, found and destroyed, and the blocks of pages that they own.

Entries lie in a region of their own, so a stale handle never reads another kind of memory::

    [ state, life ][ first block ][ pending block ][ 4 words: parameters ][ 8 words: body ]
      state = generation << 8 | kind << 4 | phase

The pair (state, life) changes by one two-word swap. ``life`` is the owner word of the process that
makes or ends the structure, 0 otherwise. A handle holds the state of a live structure; generations
never repeat, so one read tells that the structure is another one, or gone.

    FREE -> MAKING     make_structure: no process sees it yet
    MAKING -> LIVE     publish_structure
    LIVE -> ENDING     end_structure: one process wins; it gives the blocks back
    ENDING -> FREE
    MAKING, ENDING of a dead process, ENDING of none
                       -> ENDING of the one that looks for a free entry

A block's descriptor says whose it is: OWNER_STRUCTURE + the entry, which no reap frees. Before that
it belongs to its maker like any page. A block on its way in or out stands in PENDING as well; it is
given back by the one that finishes for the dead, if its descriptor names the entry and DATA does
not name the block. Blocks form a chain through their first word; what lies behind BLOCK_HEADER is
the kind's own.

Rules for callers: between ``make_structure`` and ``publish_structure`` the maker alone writes the
entry. A structure is ended when no process uses it: an operation that began before may still write.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import hot, kernel, unit
from shmalloc.kernels.bits import mt_of, next_word, order_of, type_of, zone_of_word
from shmalloc.kernels.descriptor import transition_owned
from shmalloc.kernels.lock import owner_word
from shmalloc.kernels.pages import alloc_pages, free_pages_of
from shmalloc.kernels.slots import label
from shmalloc.kernels.zone import descriptor_at, frame_at, pfn_of_word
from shmalloc.structures.kernels.array_values import end_all_references
from shmalloc.structures.kernels.lives import life_is_over
from shmalloc.units import Claim, Memory, Order, Owner, Pfn, WordIndex
from shmalloc.words import cas2, fixed, load, load2, store, store_relaxed

ST_STATE = 0
ST_LIFE = 1
ST_DATA = 2
ST_PENDING = 3
ST_PARAMETERS = 4
ST_ARRAYS = 6  # of a dict: the table whose arrays are dropped when it ends
ST_BODY = 8
BLOCK_HEADER = 16  # words in front of a block's contents
FREE = 0
MAKING = 1
LIVE = 2
ENDING = 3
PHASE_MASK = 0xF
KIND_SHIFT = 4
KIND_MASK = 0xF
GENERATION_SHIFT = 8


@kernel
def entry_at(mem: Memory, number: int) -> WordIndex:
    """Word index of entry ``number``."""
    first: WordIndex = fixed(mem, c.H_AT_STRUCTURES)
    return first + number * c.ST_STRIDE


@hot
def is_live(mem: Memory, at: WordIndex, state: int) -> bool:
    """Whether the structure that a handle names is still there."""
    live: bool = load(mem, at + ST_STATE) == state
    return live


@kernel
def with_phase(state: int, phase: int) -> int:
    return (state & ~PHASE_MASK) | phase


@kernel
def tag_of(at: WordIndex) -> Owner:
    """The owner word of the blocks of the entry at ``at``."""
    return c.OWNER_STRUCTURE + (+at)


@unit
def make_structure(mem: Memory, claim: Claim, kind: int) -> WordIndex:
    """Begin a structure: its entry, with an empty body. E_NOMEM: every entry is taken."""
    for number in range(fixed(mem, c.H_STRUCTURES)):
        at = entry_at(mem, number)
        state, life = load2(mem, at)
        unfinished = life == 0 and state & PHASE_MASK == ENDING
        if unfinished or (life != 0 and life_is_over(mem, life)):
            finish_structure(mem, claim, at, state, life)
            state, life = load2(mem, at)
        if state & PHASE_MASK == FREE:
            generation = (state >> GENERATION_SHIFT) + 1
            made = generation << GENERATION_SHIFT | kind << KIND_SHIFT | MAKING
            if cas2(mem, at, state, life, made, owner_word(mem, claim)):
                for i in range(ST_DATA, c.ST_STRIDE):
                    store_relaxed(mem, at + i, 0)
                return at
    return c.E_NOMEM


@unit
def add_block(mem: Memory, claim: Claim, at: WordIndex, order: Order) -> WordIndex:
    """Give the structure that we make a block of 2^order pages; its first word, or E_NOMEM."""
    pfn = alloc_pages(mem, claim, order, c.MT_UNMOVABLE, owner_word(mem, claim))
    if pfn < 0:
        return +pfn
    block = frame_at(mem, pfn)
    store_relaxed(mem, block, load(mem, at + ST_DATA))
    store(mem, at + ST_PENDING, block)
    own_block(mem, claim, pfn, tag_of(at))
    store(mem, at + ST_DATA, block)
    store(mem, at + ST_PENDING, 0)
    return block


@kernel
def own_block(mem: Memory, claim: Claim, pfn: Pfn, owner: Owner) -> bool:
    """Let a block that we own belong to ``owner``: from here on no reap frees it."""
    w0, w1 = load2(mem, descriptor_at(mem, pfn))
    kept = next_word(
        w0, c.T_ALLOCATED, order_of(w0), zone_of_word(w0), mt_of(w0), label(mem, claim)
    )
    return transition_owned(mem, pfn, w0, w1, kept, owner)


@unit
def publish_structure(mem: Memory, claim: Claim, at: WordIndex) -> int:
    """The structure that we made is complete: its state, which a handle holds."""
    state, life = load2(mem, at)
    live = with_phase(state, LIVE)
    if life == owner_word(mem, claim) and cas2(mem, at, state, life, live, 0):
        return live
    return c.E_STATE


@unit
def end_structure(mem: Memory, claim: Claim, at: WordIndex, state: int) -> int:
    """End the structure that ``state`` names, published or still ours. Returns 0 or E_STATE."""
    now, life = load2(mem, at)
    phase = state & PHASE_MASK
    if now != state or (phase != LIVE and phase != MAKING):
        return c.E_STATE
    if life != 0 and life != owner_word(mem, claim):
        return c.E_STATE
    return finish_structure(mem, claim, at, state, life)


@kernel
def finish_structure(mem: Memory, claim: Claim, at: WordIndex, state: int, life: Owner) -> int:
    """Become the one that ends it, give its blocks back, free the entry. Returns 0 or E_STATE.

    E_NOMEM: its arrays cannot be dropped now; the next process that makes a structure ends it.
    """
    ending = with_phase(state, ENDING)
    me = owner_word(mem, claim)
    if not cas2(mem, at, state, life, ending, me):
        return c.E_STATE
    if end_arrays(mem, claim, at) < 0:
        cas2(mem, at, ending, me, ending, 0)
        return c.E_NOMEM
    give_pending(mem, claim, at)
    block = load(mem, at + ST_DATA)
    while block != 0:
        store(mem, at + ST_PENDING, block)
        store(mem, at + ST_DATA, load(mem, block))
        give_pending(mem, claim, at)
        block = load(mem, at + ST_DATA)
    cas2(mem, at, ending, me, ending & ~(PHASE_MASK | KIND_MASK << KIND_SHIFT), 0)
    return 0


@kernel
def end_arrays(mem: Memory, claim: Claim, at: WordIndex) -> int:
    """Drop the arrays of a dict, before any of its blocks goes. Returns 0, or why not now."""
    table: WordIndex = load(mem, at + ST_ARRAYS)
    if table == 0:
        return 0
    result = end_all_references(mem, claim, table)
    if result == 0:
        store(mem, at + ST_ARRAYS, 0)
    return result


@kernel
def give_pending(mem: Memory, claim: Claim, at: WordIndex) -> None:
    """Free the pending block, if it is the structure's and not, or no longer, in its chain."""
    block = load(mem, at + ST_PENDING)
    if block != 0 and block != load(mem, at + ST_DATA):
        free_tagged(mem, claim, block, tag_of(at))
    store(mem, at + ST_PENDING, 0)


@kernel
def free_tagged(mem: Memory, claim: Claim, block: WordIndex, tag: Owner) -> None:
    """Free the block at word ``block`` if it bears ``tag``; else it was freed before, or never
    ours."""
    pfn = pfn_of_word(mem, block)
    w0, w1 = load2(mem, descriptor_at(mem, pfn))
    if type_of(w0) == c.T_ALLOCATED and w1 == tag:
        free_pages_of(mem, claim, pfn, order_of(w0), tag)

"""Changes of a hash table (hashtable.py): entries taken, put into chains, taken out, and freed.

::

    token = dict_begin(...)             an entry of ours; its key and value are written
    place, version, _ = dict_find(...)  the caller compares keys, and repeats until
    dict_exchange(..., place, version, token)       does not answer E_AGAIN

``dict_exchange`` inserts (no entry leaves), replaces, or removes (none comes). Its one swap
decides; a caller that loses against another one compares again. Each step that follows the swap
may be left undone by a death, and is found by ``settle_bucket`` or ``dict_reclaim``.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import hot, kernel, unit
from shmalloc.kernels.lock import owner_word
from shmalloc.structures.kernels.hashtable import (
    D_ENTRIES,
    D_HINT,
    D_SPARE,
    E_ARRAY,
    E_HASH,
    E_LENGTHS,
    E_NEXT,
    ENDING,
    FREE,
    NUMBER_BITS,
    NUMBER_MASK,
    USE_BITS,
    USE_MASK,
    USED,
    WRITING,
    bucket_of,
    entry_of,
    is_linked,
    is_settled,
    settle_bucket,
)
from shmalloc.structures.kernels.lives import life_is_over
from shmalloc.units import Claim, Memory, WordIndex
from shmalloc.words import cas2, fixed, load, load2, load_relaxed, store_relaxed


@hot
def dict_begin(mem: Memory, claim: Claim, d: WordIndex, hashed: int, lengths: int) -> int:
    """Take a free entry to write a key and a value into; its token. E_AGAIN: none is free."""
    count = fixed(mem, d + D_ENTRIES)
    number = load_relaxed(mem, d + D_HINT)
    for _ in range(count):
        if number > count or number == 0:
            number = 1
        at = entry_of(mem, d, number)
        state = load(mem, at)
        if state & USE_MASK == FREE:
            if cas2(mem, at, state, 0, state | WRITING, owner_word(mem, claim)):
                store_relaxed(mem, d + D_HINT, number + 1)
                store_relaxed(mem, at + E_HASH, hashed)
                store_relaxed(mem, at + E_LENGTHS, lengths)
                return token_of(state, number)
        number += 1
    return c.E_AGAIN


@hot
def token_of(state: int, number: int) -> int:
    """What names entry ``number`` in the version of ``state``."""
    return (state >> USE_BITS) << NUMBER_BITS | number


@kernel
def has_spare(mem: Memory, d: WordIndex) -> bool:
    """Whether enough entries are free for those that replace others."""
    missing: int = fixed(mem, d + D_SPARE)
    count = fixed(mem, d + D_ENTRIES)
    number = load_relaxed(mem, d + D_HINT)
    for _ in range(count):
        if missing > 0:
            if number > count or number == 0:
                number = 1
            missing -= int(load(mem, entry_of(mem, d, number)) & USE_MASK == FREE)
            number += 1
    return missing == 0


@hot
def dict_exchange(
    mem: Memory, claim: Claim, d: WordIndex, place: int, version: int, token: int
) -> int:
    """Let the entry of a place leave, if it names one, and that of ``token``, which we have
    written, come instead (0: none), if the bucket is still at ``version``.

    Returns 0, or the token of the entry that left if ``end_array_value`` is due. E_AGAIN: another
    change came first; E_NOMEM: a new key finds no room. Then ours is still WRITING.
    """
    bucket = bucket_of(mem, d, place >> NUMBER_BITS)
    old = place & NUMBER_MASK
    new = token & NUMBER_MASK
    found, head = load2(mem, bucket)
    if found != version or not is_settled(head):
        return c.E_AGAIN
    if old == 0 and not has_spare(mem, d):
        return c.E_NOMEM
    behind = head
    left = 0  # the version of the entry that leaves: once it has left, others may free it
    if old != 0:
        behind = load(mem, entry_of(mem, d, old) + E_NEXT)
        left = load(mem, entry_of(mem, d, old)) >> USE_BITS
    if new != 0:
        store_relaxed(mem, entry_of(mem, d, new) + E_NEXT, behind)
    chain = new if new != 0 else behind
    if old != 0 and old != head:
        chain = head | old << NUMBER_BITS | new << 2 * NUMBER_BITS
    if not cas2(mem, bucket, version, head, version + 1, chain):
        return c.E_AGAIN
    if not is_settled(chain):
        settle_bucket(mem, d, bucket)
    if new != 0:
        state = (token >> NUMBER_BITS) << USE_BITS
        written = owner_word(mem, claim)
        cas2(mem, entry_of(mem, d, new), state | WRITING, written, state | USED, 0)
    return retire(mem, claim, d, old, left) if old != 0 else 0


@kernel
def retire(mem: Memory, claim: Claim, d: WordIndex, number: int, version: int) -> int:
    """Free an entry that is in no chain, in that version. Returns 0, or its token if it has an
    array: it is ours then, and ``end_array_value`` is due."""
    at = entry_of(mem, d, number)
    while True:
        state, life = load2(mem, at)
        if state >> USE_BITS != version or state & USE_MASK == ENDING:
            return 0
        if load(mem, at + E_ARRAY) == 0:
            if cas2(mem, at, state, life, (version + 1) << USE_BITS, 0):
                store_relaxed(mem, d + D_HINT, number)
                return 0
        elif cas2(mem, at, state, life, state | ENDING, owner_word(mem, claim)):
            return token_of(state, number)


@unit
def dict_drop(mem: Memory, claim: Claim, d: WordIndex, token: int) -> int:
    """Give up an entry that we write; as ``retire``. E_STATE: it is not ours, or in a chain."""
    number = token & NUMBER_MASK
    state, life = load2(mem, entry_of(mem, d, number))
    if state != (token >> NUMBER_BITS) << USE_BITS | WRITING or life != owner_word(mem, claim):
        return c.E_STATE
    if is_linked(mem, d, number):
        return c.E_STATE
    return retire(mem, claim, d, number, token >> NUMBER_BITS)


@unit
def dict_reclaim(mem: Memory, claim: Claim, d: WordIndex) -> int:
    """Free the entries that dead writers left. 0, or the token of one with an array, which is
    ours: ``end_array_value``, and call this again."""
    for index in range(fixed(mem, d + D_ENTRIES)):
        token = reclaim_entry(mem, claim, d, index + 1)
        if token != 0:
            return token
    return 0


@kernel
def reclaim_entry(mem: Memory, claim: Claim, d: WordIndex, number: int) -> int:
    """The same of one entry."""
    at = entry_of(mem, d, number)
    state, life = load2(mem, at)
    use = state & USE_MASK
    is_left = life == 0 or life_is_over(mem, life)
    if use == FREE or not is_left:
        return 0
    if use == ENDING:
        if cas2(mem, at, state, life, state, owner_word(mem, claim)):
            return token_of(state, number)
    elif not is_linked(mem, d, number):
        return retire(mem, claim, d, number, state >> USE_BITS)
    elif use == WRITING:
        cas2(mem, at, state, life, state ^ WRITING ^ USED, 0)
    return 0

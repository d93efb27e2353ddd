"""What CPUs do with a dict in its programs (structure_dicts.py), and what must hold afterwards.

A key is its own hash. A value is ten times its key, plus a digit that no other put uses, in two
words, so that a reader that believes a torn or foreign entry is seen. Who changes a key notes which
value it had before. So each value that was ever there was seen to leave once, or is there at the
end: an update that is lost, or made twice, breaks that count.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import kernel
from shmalloc.structures.kernels.hashtable import (
    D_BUCKETS,
    E_DATA,
    E_HASH,
    E_NEXT,
    FREE,
    NUMBER_MASK,
    USE_MASK,
    USED,
    dict_find,
    dict_is_at,
    dict_length,
    dict_next_bucket,
    dict_nth,
    entry_of,
)
from shmalloc.structures.kernels.hashtable_writes import (
    dict_begin,
    dict_drop,
    dict_exchange,
    dict_reclaim,
)
from shmalloc.units import Claim, Memory
from shmalloc.words import expect, fixed, load_relaxed, store_relaxed
from stress.programs.structure_world import BODY, NOTES, SLOTS, STUCK, WRONG, deaths, done

STRIDE = E_DATA + 2
BLOCK = BODY + 32
KEYS = 4
DIGITS = 10  # values of key k: 10 k + 1 to 10 k + 9
FIRST = 9  # the digit of a value that is there at the start
VALUES = DIGITS * (KEYS + 1)
CAME = NOTES  # of each value: whether its put has returned, or it was there at the start
LEFT = NOTES + 52  # of each CPU: two values that it saw leave
REFUSED = NOTES + 60  # puts that found no room
JUDGE = SLOTS - 1


# --- operations, as a process makes them ---------------------------------------------------------
@kernel
def lookup(mem: Memory, key: int) -> tuple[int, int, int]:
    """(place, version of its bucket, value); without a value it names no entry."""
    while True:
        place, version, _ = dict_find(mem, BODY, key, 0)
        if place & NUMBER_MASK == 0:
            return place, version, 0
        at = entry_of(mem, BODY, place & NUMBER_MASK) + E_DATA
        first = load_relaxed(mem, at)
        second = load_relaxed(mem, at + 1)
        if dict_is_at(mem, BODY, place, version):
            expect(mem, first == second and first // DIGITS == key, WRONG)
            return place, version, first


@kernel
def fill(mem: Memory, token: int, value: int) -> None:
    at = entry_of(mem, BODY, token & NUMBER_MASK) + E_DATA
    store_relaxed(mem, at, value)
    store_relaxed(mem, at + 1, value)


@kernel
def put_value(mem: Memory, claim: Claim, value: int, place: int) -> int:
    """Give a key this value; the one that it had, 0: none. -1: there is no room."""
    key = value // DIGITS
    token = dict_begin(mem, claim, BODY, key, 0)
    if token < 0:
        mem[REFUSED + claim] = 1
        return -1
    fill(mem, token, value)
    while True:
        at, version, was = lookup(mem, key)
        result = dict_exchange(mem, claim, BODY, at, version, token)
        if result == c.E_NOMEM:
            expect(mem, dict_drop(mem, claim, BODY, token) == 0, WRONG)
            mem[REFUSED + claim] = 1
            return -1
        if result == 0:
            mem[CAME + value] = 1
            mem[LEFT + 2 * claim + place] = was
            return was


@kernel
def take_key(mem: Memory, claim: Claim, key: int, place: int) -> int:
    """Remove a key; the value that it had, 0: none."""
    while True:
        at, version, was = lookup(mem, key)
        if was == 0:
            return 0
        if dict_exchange(mem, claim, BODY, at, version, 0) == 0:
            mem[LEFT + 2 * claim + place] = was
            return was


@kernel
def put(mem: Memory, claim: Claim, key: int) -> int:
    return done(mem, claim, put_value(mem, claim, key * DIGITS + 2 * claim + 1, 0))


@kernel
def put_twice(mem: Memory, claim: Claim, key: int) -> int:
    """The second put writes the entry that the first one freed."""
    first = put_value(mem, claim, key * DIGITS + 2 * claim + 1, 0)
    second = put_value(mem, claim, key * DIGITS + 2 * claim + 2, 1)
    expect(mem, first >= 0 and second >= 0, STUCK)
    return done(mem, claim, second)


@kernel
def take(mem: Memory, claim: Claim, key: int) -> int:
    return done(mem, claim, take_key(mem, claim, key, 0))


@kernel
def take_both(mem: Memory, claim: Claim, key: int, other: int) -> int:
    take_key(mem, claim, key, 0)
    return done(mem, claim, take_key(mem, claim, other, 1))


@kernel
def take_then_put(mem: Memory, claim: Claim, key: int, other: int) -> int:
    """The second key gets the entry of the first one."""
    take_key(mem, claim, key, 0)
    return done(mem, claim, put_value(mem, claim, other * DIGITS + 2 * claim + 1, 1))


@kernel
def get(mem: Memory, claim: Claim, key: int) -> int:
    _, _, value = lookup(mem, key)
    return done(mem, claim, value)


@kernel
def get_both(mem: Memory, claim: Claim, key: int, other: int) -> int:
    """Two keys of one bucket, neither of which is ever missing."""
    _, _, first = lookup(mem, key)
    _, _, second = lookup(mem, other)
    expect(mem, first != 0 and second != 0, WRONG)
    return done(mem, claim, first * 100 + second)


@kernel
def times_in_bucket(mem: Memory, index: int, key: int) -> int:
    """How often a key is in a bucket, as an iteration sees it: all of it at one version."""
    while True:
        found = 0
        nth = 0
        place, first, _ = dict_nth(mem, BODY, index, 0)
        version = first
        while place & NUMBER_MASK != 0 and version == first:
            value = load_relaxed(mem, entry_of(mem, BODY, place & NUMBER_MASK) + E_DATA)
            found += int(value // DIGITS == key)
            nth += 1
            place, version, _ = dict_nth(mem, BODY, index, nth)
        if version == first:
            return found


@kernel
def look_around(mem: Memory, claim: Claim, key: int) -> int:
    """Go through all buckets; ``key`` is there all the time."""
    found = 0
    index = dict_next_bucket(mem, BODY, 0)
    while index >= 0:
        found += times_in_bucket(mem, index, key)
        index = dict_next_bucket(mem, BODY, index + 1)
    expect(mem, found == 1, WRONG)
    return done(mem, claim, found)


@kernel
def count(mem: Memory, claim: Claim, least: int, most: int) -> int:
    length = dict_length(mem, BODY)
    expect(mem, least <= length and length <= most, WRONG)
    return done(mem, claim, length)


@kernel
def begin_and_drop(mem: Memory, claim: Claim, key: int) -> int:
    """A writer that is interrupted before its exchange; afterwards it cannot drop any more."""
    token = dict_begin(mem, claim, BODY, key, 0)
    if token >= 0:
        fill(mem, token, VALUES - 1)
        expect(mem, dict_drop(mem, claim, BODY, token) == 0, WRONG)
        expect(mem, dict_drop(mem, claim, BODY, token) < 0, WRONG)
    return done(mem, claim, 0)


@kernel
def reclaim_then_put(mem: Memory, claim: Claim, key: int) -> int:
    """What a writer does that finds no free entry, or is told to recover."""
    dict_reclaim(mem, claim, BODY)
    result = put_value(mem, claim, key * DIGITS + 2 * claim + 1, 0)
    return done(mem, claim, result)


@kernel
def put_then_drop(mem: Memory, claim: Claim, key: int) -> int:
    """A writer that is interrupted behind its exchange: what it put is not dropped."""
    token = dict_begin(mem, claim, BODY, key, 0)
    value = key * DIGITS + 2 * claim + 1
    fill(mem, token, value)
    result = c.E_AGAIN
    was = 0
    while result == c.E_AGAIN:
        at, version, was = lookup(mem, key)
        result = dict_exchange(mem, claim, BODY, at, version, token)
    mem[CAME + value] = 1
    mem[LEFT + 2 * claim] = was
    expect(mem, dict_drop(mem, claim, BODY, token) < 0, WRONG)
    return done(mem, claim, was)


# --- what must hold: by plain reads, not by the kernels of the table -----------------------------
@kernel
def entry_words(number: int) -> int:
    return BLOCK + (number - 1) * STRIDE


@kernel
def linked(mem: Memory, wanted: int) -> int:
    """Entries in chains whose value is ``wanted``, or with 0 all of them; -1: a chain is broken."""
    found = 0
    for bucket in range(mem[BODY + 1] + 1):
        number = mem[BODY + D_BUCKETS + 2 * bucket + 1]
        steps = 0
        while number != 0:
            steps += 1
            if steps > mem[BODY] or number > mem[BODY]:
                return -1
            at = entry_words(number)
            if mem[at] & USE_MASK != USED or mem[at + E_HASH] & mem[BODY + 1] != bucket:
                return -1
            found += int(wanted == 0 or mem[at + E_DATA] == wanted)
            number = mem[at + E_NEXT]
    return found


@kernel
def times_left(mem: Memory, value: int) -> int:
    found = 0
    for place in range(2 * 3):
        found += int(mem[LEFT + place] == value)
    return found


@kernel
def recovered(mem: Memory) -> None:
    """What the next reader, and the next writer that finds no place, do."""
    for bucket in range(fixed(mem, BODY + 1) + 1):
        dict_find(mem, BODY, bucket, 0)
    dict_reclaim(mem, JUDGE, BODY)


@kernel
def accounted(mem: Memory) -> int:
    """Each value left once or is there, no key twice, and every entry is free or in a chain.

    A dead CPU may not have said which value it saw leave, nor that its own came.
    """
    dead = deaths(mem)
    recovered(mem)
    keys = linked(mem, 0)
    if keys < 0:
        return STUCK
    unseen = 0
    for key in range(1, KEYS + 1):
        there = 0
        for digit in range(1, DIGITS):
            value = key * DIGITS + digit
            now = linked(mem, value)
            seen = now + times_left(mem, value)
            there += now
            if seen > 1 or (seen > 0 and mem[CAME + value] == 0 and dead == 0):
                return WRONG
            unseen += int(mem[CAME + value] != 0 and seen == 0)
        if there > 1:
            return WRONG
        keys -= there
    if keys != 0 or unseen > dead:
        return WRONG
    free = 0
    for number in range(1, fixed(mem, BODY) + 1):
        free += int(mem[entry_words(number)] & USE_MASK == FREE)
    return 0 if free + linked(mem, 0) == fixed(mem, BODY) else STUCK


@kernel
def one_was_refused(mem: Memory) -> int:
    """One of two new keys at most has room, and the spare entry is free."""
    if deaths(mem) == 0 and linked(mem, 0) > 1:
        return WRONG
    return accounted(mem)

"""A bounded queue for many producers and consumers: a ring of tickets, and buffers that go round.

Words from ``q`` on, in a block of the structure; a line for each word that CPUs fight for::

    [ buffers | mask | room ] [ HEAD ] [ TAIL ] [ READABLE ] [ WRITABLE, HINT, SHUT ]
    slot x (mask + 1)      pair: [ ticket << 1 | full, token ]       mask + 1 >= buffers
    buffer x buffers       pair: [ version << 2 | use, life ][ length ][ word of its data ]

A message is written into a buffer that its producer owns, and published by one swap of the slot of
the next ticket: this is where a put takes effect. TAIL follows, by any CPU. A token names a buffer
and its version, which changes each time the buffer becomes FREE, so a token is published once.

    FREE -> WRITING       queue_begin: the producer owns it; its death gives it back
    WRITING -> QUEUED     after the publication; a help, no step of the protocol
    WRITING, QUEUED -> READING    queue_take, of the token in the slot of HEAD: a get takes effect
    READING -> FREE       queue_release, when the consumer has its copy

So one word says whose a message is, and every CPU may finish what it finds: slots are emptied and
HEAD and TAIL moved by those who need it, and no CPU waits for another that is stopped.

A buffer that is WRITING in the name of a life that is over was published or not: its slot tells. A
buffer that is READING in such a name holds a message that no program has seen, since queue_release
comes before ``get`` returns: the next consumer that looks for such (queue_adopt) gets it.

Sleepers set a flag, look again and sleep on it; who publishes or releases clears it and wakes them.
A death between the two costs the sleepers 50 ms.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import hot, kernel, unit
from shmalloc.kernels.lock import owner_word
from shmalloc.structures.kernels.entries import ST_PARAMETERS, is_live
from shmalloc.structures.kernels.lives import life_is_over
from shmalloc.units import Claim, Memory, Owner, WordIndex
from shmalloc.words import (
    cas,
    cas2,
    exchange,
    fixed,
    give_way,
    load,
    load2,
    load_relaxed,
    relax,
    store,
    store_relaxed,
    wait,
    wake,
)

Q_BUFFERS = 0
Q_MASK = 1
Q_ROOM = 2  # bytes of a message at most
Q_HEAD = 16
Q_TAIL = 32
Q_READABLE = 48
Q_WRITABLE = 64
Q_HINT = 65  # where to look for a free buffer first
Q_SHUT = 66  # 1: nothing is put any more; for Python (queues.py)
Q_SLOTS = 80
SLOT_WORDS = 2
BUFFER_WORDS = 4
BF_LENGTH = 2
BF_DATA = 3
FREE = 0
WRITING = 1
QUEUED = 2
READING = 3
USE_MASK = 3
USE_BITS = 2
TOKEN_BITS = 20  # of the buffer's number in a token
TOKEN_MASK = (1 << TOKEN_BITS) - 1
SHORT_SPINS = 20
ASLEEP = c.LOCK_CONTENDED  # no owner: the low bits are 0 (recovery.py)


@hot
def buffer_at(mem: Memory, q: WordIndex, number: int) -> WordIndex:
    """First word of a buffer's pair."""
    slots: int = fixed(mem, q + Q_MASK) + 1
    return q + Q_SLOTS + slots * SLOT_WORDS + number * BUFFER_WORDS


@hot
def slot_at(mem: Memory, q: WordIndex, ticket: int) -> WordIndex:
    mask: int = fixed(mem, q + Q_MASK)
    return q + Q_SLOTS + (ticket & mask) * SLOT_WORDS


@hot
def token_of(state: int, number: int) -> int:
    """What names buffer ``number`` in the version of ``state``."""
    return (state >> USE_BITS) << TOKEN_BITS | number


@hot
def data_of(mem: Memory, q: WordIndex, token: int) -> WordIndex:
    """Word of the contents of the buffer that a token names."""
    at: WordIndex = fixed(mem, buffer_at(mem, q, token & TOKEN_MASK) + BF_DATA)
    return at


@hot
def is_use(state: int, token: int, use: int) -> bool:
    """Whether a buffer with ``state`` is in that use, in the version of the token."""
    return state == (token >> TOKEN_BITS) << USE_BITS | use


@hot
def wake_sleepers(mem: Memory, at: WordIndex) -> None:
    """Wake all who sleep on a flag, if there are any."""
    if load(mem, at) != 0 and exchange(mem, at, 0) != 0:
        wake(mem, at, c.MAX_CPUS)


@hot
def patience(mem: Memory, tries: int) -> None:
    """What to do between two tries: spin, then let others run, who may be on our processor."""
    if tries < SHORT_SPINS:
        relax(mem)
    else:
        give_way(mem)


# --- putting -------------------------------------------------------------------------------------
@hot
def queue_begin(mem: Memory, claim: Claim, q: WordIndex) -> int:
    """Take a free buffer to write a message into; its token. E_AGAIN: none is free."""
    count = fixed(mem, q + Q_BUFFERS)
    number = load_relaxed(mem, q + Q_HINT)
    for _ in range(count):
        if number >= count:
            number = 0
        at = buffer_at(mem, q, number)
        state, life = load2(mem, at)
        if state & USE_MASK == FREE and cas2(
            mem, at, state, life, state | WRITING, owner_word(mem, claim)
        ):
            store_relaxed(mem, q + Q_HINT, number + 1)
            return token_of(state, number)
        number += 1
    return c.E_AGAIN


@hot
def queue_publish(mem: Memory, claim: Claim, q: WordIndex, token: int, length: int) -> int:
    """Publish the message that we have written. ``length`` is what ``queue_take`` gives."""
    at = buffer_at(mem, q, token & TOKEN_MASK)
    store_relaxed(mem, at + BF_LENGTH, length)
    published = False
    while not published:
        ticket = load(mem, q + Q_TAIL)
        slot = slot_at(mem, q, ticket)
        mark, inside = load2(mem, slot)
        if mark == ticket << 1:
            published = cas2(mem, slot, mark, inside, mark | 1, token)
        elif mark < ticket << 1:
            # The slot of a message that was taken, for with ours all buffers are accounted for.
            empty_slot(mem, q, slot, mark, inside)
        if published or mark > ticket << 1:
            cas(mem, q + Q_TAIL, ticket, ticket + 1)  # also for a producer that has not come to it
    state = (token >> TOKEN_BITS) << USE_BITS
    cas2(mem, at, state | WRITING, owner_word(mem, claim), state | QUEUED, 0)
    wake_sleepers(mem, q + Q_READABLE)
    return 0


@kernel
def empty_slot(mem: Memory, q: WordIndex, slot: WordIndex, mark: int, inside: int) -> None:
    """Prepare a slot whose message was taken for the ticket of the next round."""
    following = (mark >> 1) + fixed(mem, q + Q_MASK) + 1
    cas2(mem, slot, mark, inside, following << 1, 0)


@unit
def queue_drop(mem: Memory, claim: Claim, q: WordIndex, token: int) -> int:
    """Give up a buffer that we write to. E_STATE: it is not ours, or was published."""
    at = buffer_at(mem, q, token & TOKEN_MASK)
    state, life = load2(mem, at)
    if not is_use(state, token, WRITING) or life != owner_word(mem, claim):
        return c.E_STATE
    if is_published(mem, q, token):
        return c.E_STATE
    return free_buffer(mem, q, at, state, life)


@kernel
def free_buffer(mem: Memory, q: WordIndex, at: WordIndex, state: int, life: Owner) -> int:
    """Make a buffer free, in its next version. Returns 0, or E_STATE: it has changed."""
    following = ((state >> USE_BITS) + 1) << USE_BITS
    if not cas2(mem, at, state, life, following, 0):
        return c.E_STATE
    wake_sleepers(mem, q + Q_WRITABLE)
    return 0


@kernel
def is_published(mem: Memory, q: WordIndex, token: int) -> bool:
    """Whether a token stands in a slot. Its producer is dead, or it is we: none comes later."""
    found = False
    for ticket in range(fixed(mem, q + Q_MASK) + 1):
        mark, inside = load2(mem, slot_at(mem, q, ticket))
        found = found or (mark & 1 == 1 and inside == token)
    return found


@unit
def queue_reclaim(mem: Memory, claim: Claim, q: WordIndex) -> int:
    """Free the buffers of producers that died before they published; how many."""
    freed = 0
    for number in range(fixed(mem, q + Q_BUFFERS)):
        at = buffer_at(mem, q, number)
        state, life = load2(mem, at)
        if state & USE_MASK == WRITING and life_is_over(mem, life):
            if is_published(mem, q, token_of(state, number)):
                cas2(mem, at, state, life, state ^ WRITING ^ QUEUED, 0)
            elif free_buffer(mem, q, at, state, life) == 0:
                freed += 1
    return freed


@unit
def queue_begin_wait(mem: Memory, claim: Claim, q: WordIndex) -> int:
    """``queue_begin`` that sleeps once for a free buffer; E_AGAIN: none came."""
    for tries in range(fixed(mem, c.H_SPINS)):
        token = queue_begin(mem, claim, q)
        if token != c.E_AGAIN:
            return token
        patience(mem, tries)
    exchange(mem, q + Q_WRITABLE, ASLEEP)
    queue_reclaim(mem, claim, q)
    token = queue_begin(mem, claim, q)
    if token == c.E_AGAIN:
        wait(mem, q + Q_WRITABLE, ASLEEP)
        token = queue_begin(mem, claim, q)
    return token


@kernel
def queue_shut(mem: Memory, claim: Claim, q: WordIndex) -> int:
    """Say that nothing is put any more. Returns 1 if it was said before."""
    before: int = exchange(mem, q + Q_SHUT, 1)
    return before


# --- getting -------------------------------------------------------------------------------------
@hot
def queue_take(mem: Memory, claim: Claim, q: WordIndex) -> tuple[int, int]:
    """Take the oldest message: (token, length). The token is E_AGAIN if there is none.

    Copy it, then call ``queue_release``.
    """
    while True:
        ticket = load(mem, q + Q_HEAD)
        slot = slot_at(mem, q, ticket)
        mark, token = load2(mem, slot)
        if mark == ticket << 1:
            return c.E_AGAIN, 0
        if mark == ticket << 1 | 1:
            at = buffer_at(mem, q, token & TOKEN_MASK)
            state, life = load2(mem, at)
            waiting = is_use(state, token, QUEUED) or is_use(state, token, WRITING)
            taken = False
            if waiting:
                taken = cas2(mem, at, state, life, state | READING, owner_word(mem, claim))
            if taken or not waiting:
                empty_slot(mem, q, slot, mark, token)
                cas(mem, q + Q_HEAD, ticket, ticket + 1)
            if taken:
                return token, load_relaxed(mem, at + BF_LENGTH)
        else:
            cas(mem, q + Q_HEAD, ticket, ticket + 1)


@hot
def queue_release(mem: Memory, claim: Claim, q: WordIndex, token: int) -> int:
    """Give back the buffer of a message that we have copied. E_STATE: it is not ours."""
    at = buffer_at(mem, q, token & TOKEN_MASK)
    state = (token >> TOKEN_BITS) << USE_BITS | READING
    return free_buffer(mem, q, at, state, owner_word(mem, claim))


@kernel
def queue_return(mem: Memory, claim: Claim, q: WordIndex, token: int) -> int:
    """Leave a message that we took, and could not copy, to the next ``queue_adopt``."""
    at = buffer_at(mem, q, token & TOKEN_MASK)
    state = (token >> TOKEN_BITS) << USE_BITS | READING
    if not cas2(mem, at, state, owner_word(mem, claim), state, 0):
        return c.E_STATE
    wake_sleepers(mem, q + Q_READABLE)
    return 0


@unit
def queue_adopt(mem: Memory, claim: Claim, q: WordIndex) -> tuple[int, int]:
    """Take a message that a dead consumer took and no program has seen: as ``queue_take``."""
    for number in range(fixed(mem, q + Q_BUFFERS)):
        at = buffer_at(mem, q, number)
        state, life = load2(mem, at)
        if state & USE_MASK == READING and (life == 0 or life_is_over(mem, life)):
            if cas2(mem, at, state, life, state, owner_word(mem, claim)):
                return token_of(state, number), load_relaxed(mem, at + BF_LENGTH)
    return c.E_AGAIN, 0


@unit
def queue_take_wait(mem: Memory, claim: Claim, q: WordIndex) -> tuple[int, int]:
    """``queue_take`` that sleeps once for a message; also one that a dead consumer left."""
    for tries in range(fixed(mem, c.H_SPINS)):
        token, length = queue_take(mem, claim, q)
        if token != c.E_AGAIN:
            return token, length
        patience(mem, tries)
    exchange(mem, q + Q_READABLE, ASLEEP)
    token, length = queue_adopt(mem, claim, q)
    if token == c.E_AGAIN:
        token, length = queue_take(mem, claim, q)
    if token == c.E_AGAIN:
        wait(mem, q + Q_READABLE, ASLEEP)
        token, length = queue_take(mem, claim, q)
    return token, length


# --- looking -------------------------------------------------------------------------------------
@kernel
def queue_length(mem: Memory, q: WordIndex) -> int:
    """Messages in the queue a moment ago, in order; those of dead consumers besides."""
    tail: int = load(mem, q + Q_TAIL)
    head: int = load(mem, q + Q_HEAD)
    return max(tail - head, 0)


@kernel
def queue_prepare(mem: Memory, q: WordIndex, buffers: int, mask: int, room: int) -> int:
    """Write an empty queue; the word of each buffer's data follows (``queue_place``)."""
    store_relaxed(mem, q + Q_BUFFERS, buffers)
    store_relaxed(mem, q + Q_MASK, mask)
    store_relaxed(mem, q + Q_ROOM, room)
    for i in range(Q_HEAD, Q_SLOTS):
        store_relaxed(mem, q + i, 0)
    for ticket in range(mask + 1):
        store_relaxed(mem, q + Q_SLOTS + ticket * SLOT_WORDS, ticket << 1)
        store_relaxed(mem, q + Q_SLOTS + ticket * SLOT_WORDS + 1, 0)
    first = q + Q_SLOTS + (mask + 1) * SLOT_WORDS
    for i in range(buffers * BUFFER_WORDS):
        store_relaxed(mem, first + i, 0)
    return 0


@kernel
def queue_place(mem: Memory, q: WordIndex, mask: int, number: int, data: WordIndex) -> int:
    """Tell where the data of a buffer lies; before any process uses the queue."""
    first = q + Q_SLOTS + (mask + 1) * SLOT_WORDS
    store(mem, first + number * BUFFER_WORDS + BF_DATA, data)
    return 0


# --- for Python: through the entry ---------------------------------------------------------------
@kernel
def entry_begin(mem: Memory, claim: Claim, at: WordIndex, state: int) -> int:
    """``queue_begin`` of the queue whose entry is at ``at``. E_STATE: it was destroyed."""
    if not is_live(mem, at, state):
        return c.E_STATE
    return queue_begin(mem, claim, fixed(mem, at + ST_PARAMETERS))


@kernel
def entry_take(mem: Memory, claim: Claim, at: WordIndex, state: int) -> tuple[int, int]:
    """``queue_take`` of the queue whose entry is at ``at``. E_STATE: it was destroyed."""
    if not is_live(mem, at, state):
        return c.E_STATE, 0
    token, length = queue_take(mem, claim, fixed(mem, at + ST_PARAMETERS))
    return token, length

"""A pool of frames: equal pieces of memory that processes take, fill, pass on and give back.

Words from ``p`` on, in a block of the structure::

    [ frames | bytes ] [ RETURNED, HINT ]
    frame x frames     pair: [ version, life ][ word of its data ][ - ]

The pair says whose the frame is: ``life`` is the owner word of its holder, 0: free. Every change of
holder is one two-word swap, and taking counts the version, so a token (frame and version) of an
earlier taking changes nothing. A frame whose holder's life is over is as good as free: a process
that finds no other takes it.

Sleepers set RETURNED, look again and sleep on it; who gives a frame back clears it and wakes them.
"""

from __future__ import annotations

from shmalloc import constants as c
from shmalloc.dialect import hot, kernel, unit
from shmalloc.kernels.lock import owner_word
from shmalloc.structures.kernels.entries import ST_PARAMETERS, is_live
from shmalloc.structures.kernels.lives import life_is_over
from shmalloc.structures.kernels.ring import ASLEEP, TOKEN_BITS, TOKEN_MASK, patience, wake_sleepers
from shmalloc.units import Claim, Memory, Owner, WordIndex
from shmalloc.words import cas2, exchange, fixed, load2, load_relaxed, store, store_relaxed, wait

F_COUNT = 0
F_BYTES = 1
F_RETURNED = 16
F_HINT = 17  # where to look for a free frame first
F_FRAMES = 32
FRAME_WORDS = 4
FR_LIFE = 1
FR_DATA = 2


@hot
def frame_pair(mem: Memory, p: WordIndex, number: int) -> WordIndex:
    """First word of the pair of frame ``number``."""
    return p + F_FRAMES + number * FRAME_WORDS


@kernel
def frame_data(mem: Memory, p: WordIndex, number: int) -> WordIndex:
    """Word of the data of frame ``number``."""
    at: WordIndex = fixed(mem, frame_pair(mem, p, number) + FR_DATA)
    return at


@hot
def take_pair(
    mem: Memory, claim: Claim, p: WordIndex, number: int, version: int, life: Owner
) -> int:
    """Swap the holder of a frame for us; its token, or E_AGAIN: it has changed."""
    at = frame_pair(mem, p, number)
    if cas2(mem, at, version, life, version + 1, owner_word(mem, claim)):
        return (version + 1) << TOKEN_BITS | number
    return c.E_AGAIN


@hot
def frame_take(mem: Memory, claim: Claim, p: WordIndex) -> int:
    """Take a free frame; its token. E_AGAIN: none is free."""
    count = fixed(mem, p + F_COUNT)
    number = load_relaxed(mem, p + F_HINT)
    for _ in range(count):
        if number >= count:
            number = 0
        version, life = load2(mem, frame_pair(mem, p, number))
        if life == 0:
            token = take_pair(mem, claim, p, number, version, life)
            if token != c.E_AGAIN:
                store_relaxed(mem, p + F_HINT, number + 1)
                return token
        number += 1
    return c.E_AGAIN


@unit
def frame_take_over(mem: Memory, claim: Claim, p: WordIndex) -> int:
    """Take a frame whose holder is dead; its token. E_AGAIN: there is none."""
    for number in range(fixed(mem, p + F_COUNT)):
        version, life = load2(mem, frame_pair(mem, p, number))
        if life != 0 and life_is_over(mem, life):
            token = take_pair(mem, claim, p, number, version, life)
            if token != c.E_AGAIN:
                return token
    return c.E_AGAIN


@unit
def frame_take_wait(mem: Memory, claim: Claim, p: WordIndex) -> int:
    """``frame_take`` that sleeps once for a frame; also one of a dead holder. E_AGAIN: none."""
    for tries in range(fixed(mem, c.H_SPINS)):
        token = frame_take(mem, claim, p)
        if token != c.E_AGAIN:
            return token
        patience(mem, tries)
    exchange(mem, p + F_RETURNED, ASLEEP)
    token = frame_take_over(mem, claim, p)
    if token == c.E_AGAIN:
        token = frame_take(mem, claim, p)
    if token == c.E_AGAIN:
        wait(mem, p + F_RETURNED, ASLEEP)
        token = frame_take(mem, claim, p)
    return token


@hot
def frame_give(mem: Memory, claim: Claim, p: WordIndex, token: int) -> int:
    """Give a frame back. E_STATE: we do not hold it in that taking."""
    version = token >> TOKEN_BITS
    at = frame_pair(mem, p, token & TOKEN_MASK)
    if not cas2(mem, at, version, owner_word(mem, claim), version, 0):
        return c.E_STATE
    wake_sleepers(mem, p + F_RETURNED)
    return 0


@kernel
def frame_adopt(mem: Memory, claim: Claim, p: WordIndex, token: int, giver: Owner) -> int:
    """Become the holder of a frame that ``giver``, a life, passes on.

    E_STATE: it does not hold it in that taking, or not any more.
    """
    version = token >> TOKEN_BITS
    at = frame_pair(mem, p, token & TOKEN_MASK)
    if cas2(mem, at, version, giver, version, owner_word(mem, claim)):
        return 0
    return c.E_STATE


@kernel
def frame_is_ours(mem: Memory, claim: Claim, p: WordIndex, token: int) -> bool:
    """Whether we hold the frame in that taking."""
    version, life = load2(mem, frame_pair(mem, p, token & TOKEN_MASK))
    ours: bool = version == token >> TOKEN_BITS and life == owner_word(mem, claim)
    return ours


@kernel
def frames_free(mem: Memory, p: WordIndex) -> int:
    """Frames that had no holder a moment ago."""
    free = 0
    for number in range(fixed(mem, p + F_COUNT)):
        free += int(load_relaxed(mem, frame_pair(mem, p, number) + FR_LIFE) == 0)
    return free


@kernel
def frames_prepare(mem: Memory, p: WordIndex, count: int, size: int) -> int:
    """Write a pool of free frames; the word of each frame's data follows (``frame_place``)."""
    for i in range(F_FRAMES + count * FRAME_WORDS):
        store_relaxed(mem, p + i, 0)
    store_relaxed(mem, p + F_COUNT, count)
    store_relaxed(mem, p + F_BYTES, size)
    return 0


@kernel
def frame_place(mem: Memory, p: WordIndex, number: int, data: WordIndex) -> int:
    """Tell where the data of a frame lies; before any process uses the pool."""
    store(mem, frame_pair(mem, p, number) + FR_DATA, data)
    return 0


@kernel
def own_life(mem: Memory, claim: Claim) -> int:
    """The owner word of our life, which a frame on its way names as its giver."""
    return +owner_word(mem, claim)


# --- for Python: through the entry ---------------------------------------------------------------
@kernel
def entry_frame(mem: Memory, claim: Claim, at: WordIndex, state: int) -> int:
    """``frame_take`` of the pool whose entry is at ``at``. E_STATE: it was destroyed."""
    if not is_live(mem, at, state):
        return c.E_STATE
    return frame_take(mem, claim, fixed(mem, at + ST_PARAMETERS))

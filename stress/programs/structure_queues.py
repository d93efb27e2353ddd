"""Programs about the queue (shmalloc/structures/kernels/ring.py): one or two buffers, two slots.

A message is one plain word, the number of its producer, so a message that is read before it was
published, or written before it was copied, is a data race. Each consumer notes what it got.
"""

from __future__ import annotations

from dataclasses import replace

from shmalloc import constants as c
from shmalloc.dialect import Kernel, kernel
from shmalloc.memory import Ram
from shmalloc.structures.kernels.ring import (
    Q_HEAD,
    Q_SLOTS,
    Q_TAIL,
    READING,
    SLOT_WORDS,
    TOKEN_MASK,
    USE_MASK,
    WRITING,
    data_of,
    queue_adopt,
    queue_begin,
    queue_begin_wait,
    queue_drop,
    queue_place,
    queue_prepare,
    queue_publish,
    queue_reclaim,
    queue_release,
    queue_return,
    queue_take,
    queue_take_wait,
)
from shmalloc.units import Claim, Memory
from shmalloc.words import expect, fixed, store
from stress.machine.program import Program
from stress.programs.initial_state import catalogue
from stress.programs.structure_world import (
    BODY,
    BODY_WORDS,
    NOTES,
    OVER,
    SLOTS,
    STUCK,
    WRONG,
    deaths,
    done,
    world,
)

MASK = 1
BUFFERS = BODY + Q_SLOTS + (MASK + 1) * SLOT_WORDS
DATA = BODY + BODY_WORDS - 4
GOT = NOTES  # of each CPU: two messages
PUT = NOTES + 32  # of each CPU: two messages whose put has returned
EXPECTED = NOTES + 8  # a bit for each message that is there at the start
GAVE_UP = NOTES + 9  # CPUs that slept too often
DRAINED = NOTES + 16  # of each message: how often it was left
JUDGE = SLOTS - 1  # the CPU that the check runs on; it takes no part in the program
SLEEPS = 4  # of one CPU for one message; without a death none sleeps so often
EARLIER = 7  # messages that are there at the start: EARLIER, EARLIER + 1
VALUES = 9  # the largest message
NAMES = {BODY + Q_HEAD: "head", BODY + Q_TAIL: "tail"}


@kernel
def write(mem: Memory, claim: Claim, token: int, value: int) -> int:
    mem[data_of(mem, BODY, token)] = value
    queue_publish(mem, claim, BODY, token, value)
    mem[PUT + 2 * claim + int(value > 3)] = value
    return 0


@kernel
def put_value(mem: Memory, claim: Claim, value: int) -> int:
    """Put, and sleep for a place if there is none."""
    token = queue_begin(mem, claim, BODY)
    for _ in range(SLEEPS):
        if token == c.E_AGAIN:
            token = queue_begin_wait(mem, claim, BODY)
    if token == c.E_AGAIN:
        store(mem, GAVE_UP, 1)
        return +token
    return write(mem, claim, token, value)


@kernel
def note(mem: Memory, claim: Claim, token: int, length: int, place: int) -> int:
    """Copy a message, give its buffer back, and keep the copy."""
    value = mem[data_of(mem, BODY, token)]
    expect(mem, value == length, WRONG)
    queue_release(mem, claim, BODY, token)
    mem[GOT + 2 * claim + place] = value
    return value


@kernel
def get_value(mem: Memory, claim: Claim, place: int) -> int:
    """Get, and sleep for a message if there is none."""
    token, length = queue_take(mem, claim, BODY)
    for _ in range(SLEEPS):
        if token == c.E_AGAIN:
            token, length = queue_take_wait(mem, claim, BODY)
    if token == c.E_AGAIN:
        store(mem, GAVE_UP, 1)
        return 0
    return note(mem, claim, token, length, place)


@kernel
def put_one(mem: Memory, claim: Claim) -> int:
    return done(mem, claim, put_value(mem, claim, claim + 1))


@kernel
def put_two(mem: Memory, claim: Claim) -> int:
    put_value(mem, claim, claim + 1)
    return done(mem, claim, put_value(mem, claim, claim + 4))


@kernel
def get_one(mem: Memory, claim: Claim) -> int:
    return done(mem, claim, get_value(mem, claim, 0))


@kernel
def get_two(mem: Memory, claim: Claim) -> int:
    first = get_value(mem, claim, 0)
    return done(mem, claim, first * 10 + get_value(mem, claim, 1))


@kernel
def try_get(mem: Memory, claim: Claim) -> int:
    token, length = queue_take(mem, claim, BODY)
    if token < 0:
        return done(mem, claim, 0)
    return done(mem, claim, note(mem, claim, token, length, 0))


@kernel
def try_put(mem: Memory, claim: Claim) -> int:
    """Only if there is a place at once."""
    token = queue_begin(mem, claim, BODY)
    if token < 0:
        return done(mem, claim, token)
    return done(mem, claim, write(mem, claim, token, claim + 1))


@kernel
def begin_and_drop(mem: Memory, claim: Claim) -> int:
    """A producer that is interrupted before it publishes; afterwards it cannot drop any more."""
    token = queue_begin(mem, claim, BODY)
    if token >= 0:
        mem[data_of(mem, BODY, token)] = VALUES
        expect(mem, queue_drop(mem, claim, BODY, token) == 0, WRONG)
        expect(mem, queue_drop(mem, claim, BODY, token) < 0, WRONG)
    return done(mem, claim, 0)


@kernel
def take_and_return(mem: Memory, claim: Claim) -> int:
    """A consumer that is interrupted before it has a copy: another one gets the message."""
    token, _ = queue_take(mem, claim, BODY)
    if token >= 0:
        queue_return(mem, claim, BODY, token)
    return done(mem, claim, 0)


@kernel
def adopt_one(mem: Memory, claim: Claim) -> int:
    """Only what dead consumers left."""
    token, length = queue_adopt(mem, claim, BODY)
    if token < 0:
        return done(mem, claim, 0)
    return done(mem, claim, note(mem, claim, token, length, 0))


# --- what must hold ------------------------------------------------------------------------------
@kernel
def drain(mem: Memory) -> None:
    """Take every message that is left, in or out of order, as one more consumer would."""
    token = 0
    while token != c.E_AGAIN:
        token, _ = queue_take(mem, JUDGE, BODY)
        if token == c.E_AGAIN:
            token, _ = queue_adopt(mem, JUDGE, BODY)
        if token != c.E_AGAIN:
            value = mem[data_of(mem, BODY, token)]
            mem[DRAINED + value] = mem[DRAINED + value] + 1
            queue_release(mem, JUDGE, BODY, token)


@kernel
def free_buffers(mem: Memory) -> int:
    """How many messages an empty queue takes."""
    queue_reclaim(mem, JUDGE, BODY)
    free = 0
    while queue_begin(mem, JUDGE, BODY) != c.E_AGAIN:
        free += 1
    return free


@kernel
def times(mem: Memory, value: int) -> int:
    """How often consumers came to have ``value``."""
    found = mem[DRAINED + value]
    for place in range(6):
        found += int(mem[GOT + place] == value)
    return found


@kernel
def in_order(mem: Memory) -> bool:
    """Of what one CPU got, messages of one producer come in the order in which it put them."""
    wrong = 0
    for cpu in range(3):
        first = mem[GOT + 2 * cpu]
        second = mem[GOT + 2 * cpu + 1]
        wrong += int(second != 0 and first == second + 3)
        wrong += int(first == EARLIER + 1 and second == EARLIER)
    return wrong == 0


@kernel
def nothing_is_lost(mem: Memory) -> int:
    """Every message whose put has returned comes once, and every buffer is free then.

    A dead consumer costs one message at most: it died between ``queue_release`` and the return of
    its ``get``. What it had taken before that comes late.
    """
    dead = deaths(mem)
    if dead == 0 and (mem[GAVE_UP] != 0 or not in_order(mem)):
        return STUCK
    drain(mem)
    expected = mem[EXPECTED]
    for place in range(6):
        expected |= 1 << mem[PUT + place]
    missing = 0
    for value in range(1, VALUES + 1):
        found = times(mem, value)
        if found > 1:
            return WRONG
        missing += int(expected >> value & 1 == 1 and found == 0)
    if missing > dead:
        return WRONG
    return 0 if free_buffers(mem) == fixed(mem, BODY) else STUCK


class Words:
    """The words of a queue, prepared by the kernels themselves."""

    def __init__(self, buffers: int, messages: int = 0) -> None:
        self.ram = Ram.of_words(DATA + 8)
        self.ram[c.H_SPINS] = 0
        queue_prepare(self.ram, BODY, buffers, MASK, 8)
        for number in range(buffers):
            queue_place(self.ram, BODY, MASK, number, DATA + number)
        for k in range(messages):
            token = queue_begin(self.ram, 0, BODY)
            self.ram[DATA + k] = EARLIER + k
            queue_publish(self.ram, 0, BODY, token, EARLIER + k)
        self.messages = [EARLIER + k for k in range(messages)]

    def use(self, number: int, use: int, life: int = OVER) -> Words:
        """Put a buffer in some use, in the name of ``life``."""
        at = BUFFERS + 4 * number
        self.ram[at] = self.ram[at] & ~USE_MASK | use
        self.ram[at + 1] = life
        return self

    def take(self) -> Words:
        """A consumer whose life is over has taken the first message."""
        token, _ = queue_take(self.ram, 0, BODY)
        return self.use(token & TOKEN_MASK, READING)

    @property
    def init(self) -> list[tuple[int, int]]:
        return [(at, int(self.ram[at])) for at in range(BODY, DATA + 4) if self.ram[at]]


def queue_world(name: str, threads: tuple[Kernel, ...], story: str, words: Words) -> Program:
    note = (EXPECTED, sum(1 << value for value in words.messages))
    program = world(name, threads, nothing_is_lost, story, [*words.init, note], NAMES)
    return replace(program, check_writes=True)


def queue_put_get(name: str) -> Program:
    return queue_world(
        name,
        (put_one, get_one),
        "the swap of the slot, then the look at READABLE, against the flag, the look at the slot,"
        " then the sleep",
        Words(1),
    )


def queue_full(name: str) -> Program:
    return queue_world(
        name,
        (put_one, get_two),
        "the only buffer is full: the producer sleeps until the consumer has given it back",
        Words(1, messages=1),
    )


def queue_put_put(name: str) -> Program:
    return queue_world(
        name,
        (put_one, put_one),
        "two producers swap the slot of one ticket: the loser moves TAIL for the winner and takes"
        " the next slot",
        Words(2),
    )


def queue_get_get(name: str) -> Program:
    return queue_world(
        name,
        (get_one, get_one),
        "two consumers swap the buffer of one ticket: the loser empties the slot and moves HEAD"
        " for the winner",
        Words(2, messages=2),
    )


def queue_try(name: str) -> Program:
    return queue_world(
        name,
        (try_put, try_get),
        "a get that finds nothing says so of one moment; a put that finds no free buffer likewise",
        Words(1, messages=1),
    )


def queue_drop_get(name: str) -> Program:
    return queue_world(
        name,
        (begin_and_drop, put_one),
        "a producer gives its buffer up, and another one that sleeps for a buffer gets it",
        Words(1),
    )


def queue_return_get(name: str) -> Program:
    return queue_world(
        name,
        (take_and_return, get_one),
        "a consumer gives a message back; one that found nothing, and is about to sleep, gets it",
        Words(1, messages=1),
    )


def queue_orphan_get(name: str) -> Program:
    return queue_world(
        name,
        (adopt_one, adopt_one),
        "a dead consumer has taken the only message: one of two living ones gets it, and once",
        Words(1, messages=1).take(),
    )


def queue_orphan_put(name: str) -> Program:
    return queue_world(
        name,
        (put_one, get_two),
        "a dead consumer holds the only buffer: the producer waits for it until it was read again",
        Words(1, messages=1).take(),
    )


def queue_unpublished(name: str) -> Program:
    return queue_world(
        name,
        (put_one, get_one),
        "a dead producer owns the only buffer, and has not published it: it is free again",
        Words(1).use(0, WRITING),
    )


def queue_published(name: str) -> Program:
    return queue_world(
        name,
        (put_one, get_two),
        "a dead producer has published the only buffer, which still says WRITING: it is no garbage",
        Words(1, messages=1).use(0, WRITING),
    )


def queue_3(name: str) -> Program:
    return queue_world(
        name,
        (put_one, put_one, get_two),
        "two producers, one buffer, one consumer: every wake reaches one that can go on",
        Words(1),
    )


def queue_stale_3(name: str) -> Program:
    return queue_world(
        name,
        (try_get, get_one, put_one),
        "a consumer reads a slot and is late: its buffer goes round, and is written again when the"
        " consumer swaps it; the version makes the swap fail",
        Words(1, messages=1),
    )


def queue_round(name: str) -> Program:
    return queue_world(
        name,
        (put_two, get_two),
        "one buffer goes round: its version tells a stale token from the next message in it",
        Words(1),
    )


PROGRAMS = catalogue(
    "structure",
    queue_put_get,
    queue_full,
    queue_put_put,
    queue_get_get,
    queue_try,
    queue_drop_get,
    queue_return_get,
    queue_orphan_get,
    queue_orphan_put,
    queue_unpublished,
    queue_published,
    queue_round,
    queue_stale_3,
    queue_3,
)

"""Programs about the pool (shmalloc/structures/kernels/frames.py): one or two frames.

A frame has one plain word, which its holder writes and reads: two holders at once are a data race,
and one of them would find the other's number.
"""

from __future__ import annotations

from dataclasses import replace

from shmalloc import constants as c
from shmalloc.dialect import Kernel, kernel
from shmalloc.kernels.lock import owner_word
from shmalloc.memory import Ram
from shmalloc.structures.kernels.frames import (
    F_FRAMES,
    F_HINT,
    F_RETURNED,
    FRAME_WORDS,
    frame_adopt,
    frame_data,
    frame_give,
    frame_is_ours,
    frame_place,
    frame_take,
    frame_take_over,
    frame_take_wait,
    frames_prepare,
)
from shmalloc.structures.kernels.ring import TOKEN_MASK
from shmalloc.units import Claim, Memory
from shmalloc.words import expect, fixed, load, store
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

DATA = BODY + BODY_WORDS - 4
PASSED = NOTES  # 1 + the token of a frame that CPU 0 passes on
GAVE_UP = NOTES + 1
JUDGE = SLOTS - 1
SLEEPS = 4
NAMES = {BODY + F_RETURNED: "returned", BODY + F_HINT: "hint", PASSED: "passed"}


@kernel
def word_of(mem: Memory, token: int) -> int:
    return +frame_data(mem, BODY, token & TOKEN_MASK)


@kernel
def get_frame(mem: Memory, claim: Claim) -> int:
    """Take a frame, and sleep for one if there is none."""
    token = frame_take(mem, claim, BODY)
    for _ in range(SLEEPS):
        if token == c.E_AGAIN:
            token = frame_take_wait(mem, claim, BODY)
    if token == c.E_AGAIN:
        store(mem, GAVE_UP, 1)
    return token


@kernel
def use(mem: Memory, claim: Claim, token: int) -> None:
    """A holder that died may have left anything in the frame, so it is written first."""
    mem[word_of(mem, token)] = claim + 1
    expect(mem, mem[word_of(mem, token)] == claim + 1, WRONG)
    expect(mem, frame_is_ours(mem, claim, BODY, token), WRONG)


@kernel
def take_use_give(mem: Memory, claim: Claim) -> int:
    token = get_frame(mem, claim)
    if token >= 0:
        use(mem, claim, token)
        expect(mem, frame_give(mem, claim, BODY, token) == 0, WRONG)
        expect(mem, frame_give(mem, claim, BODY, token) < 0, WRONG)  # not a second time
    return done(mem, claim, 0)


@kernel
def try_use_give(mem: Memory, claim: Claim) -> int:
    """Only if one is free at once."""
    token = frame_take(mem, claim, BODY)
    if token >= 0:
        use(mem, claim, token)
        frame_give(mem, claim, BODY, token)
    return done(mem, claim, int(token >= 0))


@kernel
def pass_on(mem: Memory, claim: Claim) -> int:
    """Passes a frame on, and tries to give it back all the same: one of the two holds."""
    token = get_frame(mem, claim)
    if token < 0:
        return done(mem, claim, 0)
    mem[word_of(mem, token)] = 77
    store(mem, PASSED, token + 1)
    return done(mem, claim, int(frame_give(mem, claim, BODY, token) == 0))


@kernel
def receive(mem: Memory, claim: Claim) -> int:
    """Adopts what CPU 0 has passed on, if it has, and gives it back."""
    token = load(mem, PASSED) - 1
    if token < 0 or frame_adopt(mem, claim, BODY, token, owner_word(mem, 0)) < 0:
        return done(mem, claim, 0)
    expect(mem, mem[word_of(mem, token)] == 77, WRONG)
    frame_give(mem, claim, BODY, token)
    return done(mem, claim, 1)


@kernel
def all_come_back(mem: Memory) -> int:
    """Every frame can be taken, those of the dead included, and each once."""
    if deaths(mem) == 0 and mem[GAVE_UP] != 0:
        return STUCK
    count = fixed(mem, BODY)
    taken = 0
    while frame_take(mem, JUDGE, BODY) != c.E_AGAIN:
        taken += 1
    while frame_take_over(mem, JUDGE, BODY) != c.E_AGAIN:
        taken += 1
    return 0 if taken == count else STUCK


def words(frames: int, dead: int = 0) -> list[tuple[int, int]]:
    """The words of a pool; the first ``dead`` frames are in the hands of a dead process."""
    ram = Ram.of_words(DATA + 4)
    frames_prepare(ram, BODY, frames, 8)
    for number in range(frames):
        frame_place(ram, BODY, number, DATA + number)
    for number in range(dead):
        ram[BODY + F_FRAMES + number * FRAME_WORDS + 1] = OVER
    return [(at, int(ram[at])) for at in range(BODY, DATA) if ram[at]]


def pool(
    name: str, threads: tuple[Kernel, ...], story: str, init: list[tuple[int, int]]
) -> Program:
    return replace(world(name, threads, all_come_back, story, init, NAMES), check_writes=True)


def pool_take(name: str) -> Program:
    return pool(
        name,
        (take_use_give, take_use_give),
        "the swap that gives a frame back, then the look at RETURNED, against the flag, the look"
        " at the frame, then the sleep",
        words(1),
    )


def pool_try(name: str) -> Program:
    return pool(
        name,
        (take_use_give, try_use_give),
        "one CPU takes a frame only if that needs no sleep; the hint is no promise",
        words(1),
    )


def pool_dead(name: str) -> Program:
    return pool(
        name,
        (take_use_give, take_use_give),
        "the only frame is in the hands of a dead process: one of two that want it takes it over",
        words(1, dead=1),
    )


def pool_pass(name: str) -> Program:
    return pool(
        name,
        (pass_on, receive),
        "a frame is passed on and given back at once: the swap lets one of the two have it",
        words(1),
    )


def pool_3(name: str) -> Program:
    return pool(
        name,
        (take_use_give, take_use_give, take_use_give),
        "two frames, one of a dead process, and three CPUs: a wake may reach one that finds none",
        words(2, dead=1),
    )


PROGRAMS = catalogue("structure", pool_take, pool_try, pool_dead, pool_pass, pool_3)

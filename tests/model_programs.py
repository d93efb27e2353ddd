"""Programs that the model memories are tested with: classic races, and random programs.

A random program is data: ``interpret`` reads its instructions from the memory itself, so that one
compiled kernel runs thousands of different programs. Its words::

    0..15  data    64..  code: CPU_CODE words for each CPU, INSTRUCTIONS x (what, i, a, b)
"""

from __future__ import annotations

import random

from shmalloc.dialect import kernel
from shmalloc.words import (
    cas,
    cas2,
    exchange,
    fence,
    fetch_add,
    fetch_and,
    fetch_or,
    fixed,
    give_way,
    heavy_fence,
    load,
    load2,
    load_relaxed,
    mark,
    now,
    relax,
    store,
    store_relaxed,
    wait,
    wake,
)
from stress.machine.program import Program
from stress.machine.vocabulary import choose

DATA_WORDS = 16
MARKS = 20
CODE = 64
INSTRUCTIONS = 12
CPU_CODE = INSTRUCTIONS * 4
WHATS = 23  # those that random programs have; behind them more ways to spin
CHOOSE = 27
HEAVY_FENCE = 28
FLAG = 0
TURN = 1
HEAD = 0
POPPED = 16


# --- the interpreter of random programs ----------------------------------------------------------
@kernel
def plain_access(mem, what, i, a, acc):
    if what == 0:
        return acc + mem[i]
    mem[i] = a + (acc & 3)
    return acc


@kernel
def atomic_access(mem, what, i, a, acc):
    if what == 2:
        return acc + load(mem, i)
    if what == 3:
        return acc + load_relaxed(mem, i)
    if what == 4:
        store(mem, i, a)
    elif what == 5:
        store_relaxed(mem, i, a)
    elif what == 6:
        return acc + exchange(mem, i, a)
    elif what == 7:
        return acc + fetch_add(mem, i, a)
    elif what == 8:
        return acc + fetch_or(mem, i, a)
    elif what == 9:
        return acc + fetch_and(mem, i, a)
    return acc


@kernel
def swap_access(mem, what, i, a, b, acc):
    if what == 10:
        if cas(mem, i, a, b):
            return acc + 1
    elif what == 11:
        if cas2(mem, i, a, a, b, acc & 3):
            return acc + 2
    elif what == 12:
        low, high = load2(mem, i)
        return acc + low * 3 + high
    return acc


@kernel
def waiting_access(mem, what, i, a, acc):
    if what == 13:
        wait(mem, i, a)
    elif what == 14:
        wake(mem, i, 1 + (a & 1))
    elif what == 15:
        while load(mem, i) < a:
            relax(mem)
    elif what == 16:
        for _attempt in range(3):
            if load(mem, i) == a:
                return acc + 5
            give_way(mem)
    elif what == 17:
        while exchange(mem, i, 1) == 1:
            relax(mem)
    return acc


@kernel
def other_access(mem, what, i, acc):
    if what == 18:
        fence(mem)
    elif what == 19:
        mark(mem, MARKS + (i & 3))
    elif what == 20:
        return acc + now(mem)
    elif what == 21:
        return acc + fixed(mem, i)
    return acc


@kernel
def spinning_access(mem, what, i, a, b, acc):
    if what == 23:
        while not cas(mem, i, a, b):
            relax(mem)
    elif what == 24:
        first = load(mem, i)
        second = load(mem, a)
        while first + second == 0:
            relax(mem)
            first = load(mem, i)
            second = load(mem, a)
        return acc + 2 * first + second
    elif what == 25:
        seen = 0
        while load(mem, i) == 0:
            if load(mem, a) != 0:
                seen = 1
            relax(mem)
        return acc + seen
    elif what == 26:
        relax(mem)
    return acc


@kernel
def interpret(mem, cpu):
    acc = cpu
    for k in range(INSTRUCTIONS):
        at = CODE + cpu * CPU_CODE + k * 4
        what = fixed(mem, at)
        i = fixed(mem, at + 1)
        a = fixed(mem, at + 2)
        b = fixed(mem, at + 3)
        if what < 2:
            acc = plain_access(mem, what, i, a, acc)
        elif what < 10:
            acc = atomic_access(mem, what, i, a, acc)
        elif what < 13:
            acc = swap_access(mem, what, i, a, b, acc)
        elif what < 18:
            acc = waiting_access(mem, what, i, a, acc)
        elif what < 22:
            acc = other_access(mem, what, i, acc)
        elif what == CHOOSE:
            acc += choose(mem, 2 + (i & 1))
        elif what == HEAVY_FENCE:
            heavy_fence(mem, i)
        elif what > 22:
            acc = spinning_access(mem, what, i, a, b, acc)
        acc = acc & 1023
    return acc


@kernel
def even_total(mem):
    """Fails for some final memories and not for others; its own write must be undone."""
    total = 0
    for i in range(DATA_WORDS):
        total += mem[i]
    mem[DATA_WORDS] = total
    return total & 3


def random_program(seed: int) -> Program:
    """2 to 4 CPUs that run random instructions, a few of which deadlock, spin or leave memory."""
    rng = random.Random(seed)
    cpus = rng.randint(2, 4)
    image: list[tuple[int, int]] = [(i, rng.randint(0, 3)) for i in range(DATA_WORDS)]
    for cpu in range(cpus):
        for k in range(INSTRUCTIONS):
            what = rng.choice((rng.randrange(WHATS), rng.randrange(13)))
            if rng.random() < 0.06:
                what = rng.choice((CHOOSE, CHOOSE, HEAVY_FENCE))
            i = rng.randrange(4) if rng.random() < 0.7 else rng.randrange(DATA_WORDS)
            if what in (11, 12) and rng.random() < 0.95:
                i &= ~1
            if rng.random() < 0.005:
                i = rng.choice((-1, 10**9, CODE + cpus * CPU_CODE))
            at = CODE + cpu * CPU_CODE + k * 4
            code = (what, i, rng.randint(0, 3), rng.randint(0, 3))
            image += [(at + offset, value) for offset, value in enumerate(code)]
    words = CODE + cpus * CPU_CODE
    threads = (interpret,) * cpus
    return Program("test", words, threads, init=image, check=even_total, check_writes=True)


# --- classics ------------------------------------------------------------------------------------
@kernel
def increment(mem, cpu):
    mem[FLAG] = mem[FLAG] + 1


@kernel
def expect_two(mem):
    return mem[FLAG] - 2


@kernel
def pop(mem):
    while True:
        top = load(mem, HEAD)
        if top == 0:
            return 0
        following = load(mem, top)
        if cas(mem, HEAD, top, following):
            return top


@kernel
def push(mem, node):
    while True:
        top = load(mem, HEAD)
        store(mem, node, top)
        if cas(mem, HEAD, top, node):
            return 0


@kernel
def pop_and_keep(mem, cpu):
    """Takes one node and keeps it: the victim of ABA."""
    mem[POPPED + cpu] = pop(mem)


@kernel
def pop_two_push_one(mem, cpu):
    first = pop(mem)
    mem[POPPED + cpu] = pop(mem)
    if first != 0:
        push(mem, first)


@kernel
def owned_once(mem):
    """1 if a node that was taken is still on the stack, or on it twice."""
    node = mem[HEAD]
    for _step in range(8):
        if node == 0:
            return 0
        if node == mem[POPPED] or node == mem[POPPED + 1]:
            return 1
        node = mem[node]
    return 1


@kernel
def sleep_on_flag(mem, cpu):
    while load(mem, FLAG) == 0:
        wait(mem, FLAG, 0)


@kernel
def raise_flag(mem, cpu):
    store(mem, FLAG, 1)
    wake(mem, FLAG, 64)


@kernel
def raise_flag_silently(mem, cpu):
    store(mem, FLAG, 1)


@kernel
def spin_on_flag(mem, cpu):
    while load(mem, FLAG) == 0:
        relax(mem)


@kernel
def spin_three_times(mem, cpu):
    for _attempt in range(3):
        if load(mem, TURN) == 1:
            return 1
        relax(mem)
    return 0


@kernel
def write_behind_the_end(mem, cpu):
    store(mem, 8 + cpu, 1)


@kernel
def fixed_behind_the_end(mem, cpu):
    return fixed(mem, 8)


@kernel
def odd_pair(mem, cpu):
    return cas2(mem, 1, 0, 0, 1, 1)


@kernel
def spin_without_relax(mem, cpu):
    while load(mem, FLAG) == 0:
        store(mem, TURN, cpu)


@kernel
def read_behind_the_end(mem):
    return mem[8]


@kernel
def descend(mem, depth):
    if depth == 0:
        return load(mem, FLAG)
    return descend(mem, depth - 1) + load(mem, TURN)


@kernel
def deep(mem, cpu):
    return descend(mem, 5_000)


@kernel
def count_marks(mem, cpu):
    mark(mem, MARKS)
    return now(mem)

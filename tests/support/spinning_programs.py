"""Random programs of spinning_reference.py: 2 to 6 CPUs that access, spin, sleep and wake.

Most of what a CPU waits for is done by another one, and most locks are given back, or nearly all
programs would stop.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from math import factorial, prod
from typing import NamedTuple

from stress.machine.program import Program
from support import reference
from support.explorations import as_program
from support.reference import Instruction, Straight
from support.spinning_reference import WHAT

LOOPS = ("spin_until", "spin_thrice", "spin_lock", "spin_cas", "spin_either", "spin_seen")
TWO_WORDS = ("spin_either", "spin_seen")  # ``a`` is a word, too
STRAIGHT = tuple(reference.WHAT)
FREQUENT = ("load", "store", "store", "fetch_add", "cas")
FENCED = ("load", "store", "store", "heavy_fence", "heavy_fence", "cas")
SELDOM_LEFT_OUT = 0.85  # of what lets another CPU go on
LENGTHS = {2: (1, 4), 3: (1, 3), 4: (1, 2), 5: (1, 2), 6: (1, 1)}


class Drawn(NamedTuple):
    program: Straight
    free_spins: int


def draw(rng: random.Random, memory: str, most: int) -> Drawn:
    """A program, and how many repeated spins its searches allow.

    It has at most ``most`` schedules under ``memory``, often far less, as far as can be told from
    its length.
    """
    limit = most // rng.choice((1, 10, 100))
    while True:
        drawn = draw_any(rng)
        if expected_schedules(drawn.program, memory) <= limit:
            return drawn


def expected_schedules(program: Straight, memory: str) -> int:
    """How many there are if each loop spins once, none sleeps, and flushes follow their stores."""
    lengths = [
        sum(
            3 if one.op in LOOPS else 1 + (memory != "sc" and one.op in reference.STORES)
            for one in code
        )
        for code in program.cpus
    ]
    return factorial(sum(lengths)) // prod(map(factorial, lengths))


def draw_any(rng: random.Random) -> Drawn:
    cpus = rng.choice((2, 2, 2, 3, 3, 3, 4, 4, 5, 6))
    words = rng.choice((2, 2, 3, 4))
    kinds = rng.choice((STRAIGHT, FREQUENT, FREQUENT, FENCED))
    codes = [
        [straight_instruction(rng, kinds, words) for _ in range(rng.randint(*LENGTHS[cpus]))]
        for _ in range(cpus)
    ]
    for _ in range(rng.choice((0, 1, 1, 1, 2, 2, 3))):
        add_waiting(rng, codes, words)
    init = tuple(rng.choice((0, 0, 0, 1)) for _ in range(words))
    program = Straight("random", init, tuple(tuple(code) for code in codes))
    enough = patience(program)
    return Drawn(program, rng.choice((enough, 1, 1, rng.randint(0, 3))))


def straight_instruction(rng: random.Random, kinds: Sequence[str], words: int) -> Instruction:
    return reference.random_instruction(rng, kinds, words)


def add_waiting(rng: random.Random, codes: list[list[Instruction]], words: int) -> None:
    """One CPU waits in some way, and as a rule another one ends it."""
    waiter, helper = rng.sample(codes, 2)
    word, other = rng.randrange(words), rng.randrange(words)
    op = rng.choice((*LOOPS, "wait", "wait", "relax"))
    at = rng.randint(0, len(waiter))
    if op == "relax":
        waiter.insert(at, Instruction(op))
        return
    a = other if op in TWO_WORDS else rng.randint(0, 1) + (op == "spin_until")
    waiter.insert(at, Instruction(op, word, a, rng.randint(1, 2)))
    if op in ("spin_lock", "spin_cas"):
        helper, first = waiter, at + 1  # it gives the lock back itself
    else:
        first = 0
    if rng.random() < SELDOM_LEFT_OUT:
        end_waiting(rng, helper, first, waiter[at])


def end_waiting(
    rng: random.Random, helper: list[Instruction], first: int, waiting: Instruction
) -> None:
    at = rng.randint(first, len(helper))
    op, word, a, _ = waiting
    if op == "wait":
        helper.insert(at, Instruction("wake", word, rng.randint(0, 1)))
        helper.insert(at, Instruction("store", word, a + 1))
    elif op in ("spin_lock", "spin_cas"):
        helper.insert(at, Instruction("store", word, 0 if op == "spin_lock" else a))
    else:
        helper.insert(at, Instruction(rng.choice(("store", "fetch_add")), word, max(a, 1)))


def patience(program: Straight) -> int:
    """How many spins a CPU can repeat before it goes on to something else."""
    worth = {"relax": 1, "spin_thrice": 3}
    return max(sum(worth.get(one.op, 0) for one in code) for code in program.cpus)


def as_explored(program: Straight) -> Program:
    """The program as the explorer takes it."""
    return as_program(program, WHAT)

"""Random programs that fail exactly if they can end with certain words: a verdict to compare."""

from __future__ import annotations

import random
from dataclasses import replace

import model_programs as m
from shmalloc.dialect import kernel
from stress.machine.program import Program
from support.spinning_classes import Enumerator, TooManyError
from support.spinning_programs import Drawn, as_explored, draw, patience

COUNT = 32  # words of these programs that are free; the values follow
VALUES = 33


@kernel
def ends_otherwise(mem):
    for i in range(mem[COUNT]):
        if mem[i] != mem[VALUES + i]:
            return 0
    return 1


def asked(rng: random.Random, memory: str, most: int) -> tuple[Drawn, Program, bool]:
    """A program that asks for an end, and whether brute force comes to it.

    It stops in every schedule, and none of its CPUs gives up a spin that could still succeed: how
    often one spins before that is a choice of the search.
    """
    while True:
        drawn = draw(rng, memory, most)
        drawn = drawn._replace(free_spins=max(1, patience(drawn.program)))
        try:
            ends = Enumerator(drawn.program, memory, drawn.free_spins, most).traces
        except TooManyError:
            continue
        if ends.failing or not ends.outcomes:
            continue
        count = len(drawn.program.init)
        finals = {outcome[:count] for outcome in ends.outcomes}
        wanted = tuple(rng.choice(sorted(finals))[word] for word in range(count))
        return drawn, asking(drawn, wanted), wanted in finals


def asking(drawn: Drawn, wanted: tuple[int, ...]) -> Program:
    """The program with a check that fails where it ends with the words ``wanted``."""
    assert VALUES + len(wanted) < m.CODE
    program = as_explored(drawn.program)
    question = [(COUNT, len(wanted)), *enumerate(wanted, start=VALUES)]
    return replace(program, init=[*program.init, *question], check=ends_otherwise)

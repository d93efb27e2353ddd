"""Programs for tests of the explorer: scripts as data, and the few kernels that need loops.

A script is a list of instructions for each CPU, run by ``interpret`` of model_programs.py: one
compiled kernel for all of them, and every instruction but ``hold`` and ``await_`` is one step.
A script may use the words below ``DATA_WORDS`` of that file.

``run_schedule`` runs one schedule that the test chooses. With no directives CPU 0 runs to its end,
then CPU 1, and so on; a store is visible at once.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import model_programs as m
from shmalloc.dialect import kernel
from shmalloc.words import cas2, fetch_add, load, relax, store
from stress import Program
from stress.explorer.token import Directive
from stress.explorer.witness import run_directives, steering
from stress.machine.block_layout import Settings
from stress.machine.engines import make_machine

NOTHING = 22
DATA, FLAG, LOCK, OTHER_LOCK, OTHER, PAIR = 0, 1, 2, 3, 4, 6


# --- scripts -------------------------------------------------------------------------------------
class Instruction(NamedTuple):
    what: int
    i: int = 0
    a: int = 0
    b: int = 0


def read(i: int) -> Instruction:
    return Instruction(0, i)


def write(i: int) -> Instruction:
    """Plain. Writes 8 or more: never 0."""
    return Instruction(1, i, 8)


def load_(i: int) -> Instruction:
    return Instruction(2, i)


def load_relaxed_(i: int) -> Instruction:
    return Instruction(3, i)


def store_(i: int, value: int = 1) -> Instruction:
    return Instruction(4, i, value)


def store_relaxed_(i: int, value: int = 1) -> Instruction:
    return Instruction(5, i, value)


def exchange_(i: int, value: int) -> Instruction:
    return Instruction(6, i, value)


def fetch_add_(i: int, delta: int = 1) -> Instruction:
    return Instruction(7, i, delta)


def cas_(i: int, old: int, new: int) -> Instruction:
    return Instruction(10, i, old, new)


def swap_zeros(i: int) -> Instruction:
    """``cas2`` of two zeros for 1 and the low bits of what the CPU read so far and its number."""
    return Instruction(11, i, 0, 1)


def load2_(i: int) -> Instruction:
    return Instruction(12, i)


def wait_(i: int, old: int = 0) -> Instruction:
    return Instruction(13, i, old)


def wake_one(i: int) -> Instruction:
    return Instruction(14, i)


def await_(i: int, least: int = 1) -> Instruction:
    """Spin with relax until the word is that large."""
    return Instruction(15, i, least)


def hold(i: int) -> Instruction:
    """Take a spinning lock; ``store_(i, 0)`` gives it back."""
    return Instruction(17, i)


def fence_() -> Instruction:
    return Instruction(18)


def script(*codes: list[Instruction], name: str = "script", **options: Any) -> Program:
    """One CPU for each of ``codes``."""
    image = []
    for cpu, code in enumerate(codes):
        rows = [*code, *[Instruction(NOTHING)] * (m.INSTRUCTIONS - len(code))]
        assert len(rows) == m.INSTRUCTIONS
        words = [word for row in rows for word in row]
        image += list(enumerate(words, start=m.CODE + cpu * m.CPU_CODE))
    init = [*options.pop("init", ()), *image]
    words = m.CODE + len(codes) * m.CPU_CODE
    return Program(name, words, [m.interpret] * len(codes), init=init, **options)


# --- one schedule --------------------------------------------------------------------------------
def run_schedule(
    engine: str, program: Program, *directives: str, memory: str = "sc"
) -> tuple[str, int] | None:
    """How the schedule of ``directives`` ends: kind and word of the failure, None without one.

    ``"0.1-1"``: when actor 0 has made 1 step, actor 1 makes the next; ``"s.0-1"``: it starts.
    """
    settings = Settings(model=memory, races=True, step_limit=200)
    model = program
    world = make_machine(engine, model, steering(settings, len(model.threads)))
    signature = run_directives(world, [_directive(text) for text in directives])
    return None if signature is None else (signature[0], signature[2])


def _directive(text: str) -> Directive:
    place, following = text.split("-")
    actor, count = place.split(".")
    return Directive(None if actor == "s" else int(actor), int(count), int(following))


# --- kernels -------------------------------------------------------------------------------------
@kernel
def never_both(mem):
    """Invariant or check: 5 if both words are set."""
    return 5 if mem[DATA] != 0 and mem[FLAG] != 0 else 0


@kernel
def never_flag_alone(mem):
    """Invariant: 6 if FLAG is set and DATA is not."""
    return 6 if mem[DATA] == 0 and mem[FLAG] != 0 else 0


@kernel
def read_validated(mem, cpu):
    """Both halves one by one, and the first again: equal means that they belong together."""
    for _attempt in range(3):
        low = load(mem, PAIR)
        high = load(mem, PAIR + 1)
        if load(mem, PAIR) == low:
            store(mem, OTHER, high)
            return high
    return -1


@kernel
def swap_in_a_loop(mem, cpu):
    """Both halves one by one; ``cas2`` says whether they belong together."""
    while True:
        low = load(mem, PAIR)
        high = load(mem, PAIR + 1)
        if cas2(mem, PAIR, low, high, low + 1, high + 1):
            fetch_add(mem, OTHER, 1)
            return high
        relax(mem)


@kernel
def store_first(mem, cpu):
    """Store buffering: a store here, then a load of what the other CPU stores."""
    store(mem, DATA + cpu, 1)
    store(mem, OTHER + cpu, 1 + load(mem, DATA + 1 - cpu))


@kernel
def both_read_zero(mem):
    """Check: 4 if neither CPU saw the store of the other."""
    return 4 if mem[OTHER] == 1 and mem[OTHER + 1] == 1 else 0

"""The world of the programs about structures: CPU slots, one structure, and what the CPUs note.

::

    header, CPU slots | structure | notes | number of threads | done | died

Each CPU of the program has a slot, and two more have one for the supervisors of crash mode. There
are no pages: a structure that needs some finds them where the program says. ``died`` is zero but in
crash mode, where it tells a supervisor which CPUs are dead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from shmalloc import constants as c
from shmalloc.dialect import Kernel, kernel
from shmalloc.kernels.reporting import cpu_at
from shmalloc.kernels.slots import mark_dead
from shmalloc.units import Claim, Memory
from shmalloc.word_values import lock_value
from shmalloc.words import fixed, load, relax, store, wake
from stress.machine.program import Program
from stress.programs.naming import code_name

SLOTS = 6
EPOCH = 5  # of every slot; any number would do
BODY = c.CPUS_AT + SLOTS * c.C_STRIDE
BODY_WORDS = 128
NOTES = BODY + BODY_WORDS
NOTE_WORDS = 64
THREADS = NOTES + NOTE_WORDS
DONE = THREADS + 2  # of each CPU: 1 when its thread is about to return
DIED = DONE + SLOTS
WORDS = DIED + SLOTS + 2
PATIENCE = 1_000  # sleeps; no run comes to so many
EVERY = c.MAX_CPUS
WRONG = c.X_PAYLOAD
STUCK = c.I_PROGRESS


@kernel
def bury(mem: Memory, claim: Claim) -> None:
    """Mark every dead CPU, and end its life, as a recovery does in the end.

    A supervisor may die after any of its writes: the next one does the same again.
    """
    for victim in range(SLOTS):
        if load(mem, DIED + victim) != 0:
            mark_dead(mem, claim, victim, EPOCH)
            store(mem, cpu_at(mem, victim) + c.C_EPOCH, EPOCH + 1)


@kernel
def done(mem: Memory, claim: Claim, result: int) -> int:
    """The last call of a thread; ``result``."""
    store(mem, DONE + claim, 1)
    return result


@kernel
def all_done(mem: Memory) -> bool:
    """Whether every CPU of the program has returned or died."""
    missing = 0
    for cpu in range(fixed(mem, THREADS)):
        missing += int(load(mem, DONE + cpu) == 0 and load(mem, DIED + cpu) == 0)
    return missing == 0


@kernel
def keep_awake(mem: Memory, claim: Claim, first: int, second: int) -> None:
    """What sleepers natively do by themselves: each looks again after 50 ms. Two words of sleep."""
    while not all_done(mem):
        wake(mem, first, EVERY)
        wake(mem, second, EVERY)
        relax(mem)


@kernel
def deaths(mem: Memory) -> int:
    dead = 0
    for victim in range(SLOTS):
        dead += int(load(mem, DIED + victim) != 0)
    return dead


def world(
    name: str,
    threads: Sequence[Any],
    check: Kernel,
    story: str,
    init: Sequence[tuple[int, int]] = (),
    names: Mapping[int, str] | None = None,
) -> Program:
    """A program over one structure whose words start at BODY."""
    slots = [(c.CPUS_AT + cpu * c.C_STRIDE + c.C_EPOCH, EPOCH) for cpu in range(SLOTS)]
    found = {DIED + cpu: f"death of cpu {cpu}" for cpu in range(SLOTS)} | dict(names or {})
    return Program(
        name=name,
        words=WORDS,
        threads=tuple(threads),
        check=check,
        story=story,
        init=[(c.H_CPUS, SLOTS), (THREADS, len(threads)), *slots, *init],
        observe=[("r", cpu) for cpu in range(len(threads))],
        word_name=lambda index: found.get(index, ""),
        value_name=lambda index, value: lock_value(value) if index == BODY else "",
        code_name=code_name,
        world="1 structure",
    )


def life(cpu: int, epoch: int = EPOCH) -> int:
    """The owner word of a slot's life; with another epoch than EPOCH, of one that is over."""
    return epoch << c.LIFE_EPOCH_SHIFT | (cpu + 1)


OVER = life(SLOTS - 1, EPOCH - 1)

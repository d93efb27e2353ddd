"""From a failing trace to a ``Failure``: shrunk to the needed directives and repeated in Python.

Shrinking is delta debugging (Zeller and Hildebrandt, TSE 2002) over the directives of the schedule
(steer.py); each attempt is a replay on the engine that found the failure, natively in microseconds.
The result is 1-minimal: without any one of its directives the failure is another one or none. Two
failures are the same if they have the same kind and code, and races and torn reads the same word.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from stress.explorer.report.trace import kind_of
from stress.explorer.strategies.steer import choices_at, extract, flag_at, steer, steer_words
from stress.explorer.token import Choice, Directive, Directives
from stress.machine import block as cb
from stress.machine.block_layout import Settings
from stress.machine.engines import make_machine
from stress.machine.interpreted import InterpretedMachine
from stress.machine.machine import VERDICTS, Block, Machine
from stress.machine.models import MODELS
from stress.machine.program import Program

SHRINK_SECONDS = 1.0
Signature = tuple[str, int, int]


@dataclass(frozen=True)
class Witness:
    """A failing schedule as directives."""

    signature: Signature
    directives: Directives
    shrunk: bool
    replays: int
    seconds: float


def steering(settings: Settings, cpus: int) -> Settings:
    """The same machine, with room for directives."""
    words = steer_words(settings.step_limit, MODELS[settings.model].actors(cpus))
    return Settings(
        step_limit=settings.step_limit,
        idle_limit=settings.idle_limit,
        model=settings.model,
        races=settings.races,
        parking=settings.parking,
        free_spins=settings.free_spins,
        tree_words=words,
        log=settings.log,
    )


def signature_of(machine: Machine) -> Signature | None:
    """How the last schedule failed: kind, code and word; None if it did not."""
    block = machine.block
    outcome = int(block[cb.OUTCOME])
    if outcome in (cb.PASSED, cb.ABANDONED, cb.ERROR):
        return None
    verdict = VERDICTS[outcome]
    at = int(block[cb.FAULT_AT]) if outcome in (cb.RACE, cb.TORN) else 0
    return kind_of(verdict), int(block[cb.CODE]), at


def run_directives(machine: Machine, directives: Sequence[Directive | Choice]) -> Signature | None:
    """Run one schedule by its directives."""
    block = machine.block
    actors = int(block[cb.ACTORS])
    area = int(block[cb.TREE_AT])
    start = (actors,)
    coded = sorted(
        (*(start if d.actor is None else (d.actor,)), d.count, d.following)
        for d in directives
        if isinstance(d, Directive)
    )
    _write_triples(block, area, coded)
    chosen = [(d.actor, d.count, d.value) for d in directives if isinstance(d, Choice)]
    _write_triples(block, choices_at(block), chosen)
    machine.call(steer)
    return signature_of(machine)


def _write_triples(block: Block, at: int, triples: Sequence[tuple[int, ...]]) -> None:
    """Their number, and they."""
    block[at] = len(triples)
    for k, triple in enumerate(triples):
        for offset, value in enumerate(triple):
            block[at + 1 + 3 * k + offset] = value


def _read_triples(block: Block, at: int, count: int) -> list[list[int]]:
    return [[int(block[at + 1 + 3 * k + j]) for j in range(3)] for k in range(count)]


def directives_of(machine: Machine, trace: Sequence[int]) -> Directives:
    """The directives at which ``trace`` leaves the default schedule."""
    block = machine.block
    first = int(block[cb.REPEAT_AT])
    for k, actor in enumerate(trace):
        block[first + k] = actor
    count = machine.call(extract, len(trace))
    actors = int(block[cb.ACTORS])
    switches = _read_triples(block, int(block[cb.TREE_AT]), count)
    at = choices_at(block)
    chosen = _read_triples(block, at, int(block[at]))
    return (
        *(Directive(None if a == actors else a, c, n) for a, c, n in switches),
        *(Choice(*triple) for triple in chosen),
    )


def find_witness(
    program: Program, settings: Settings, engine: str, trace: Sequence[int]
) -> Witness | None:
    """The failure of ``trace`` with few directives; None if it does not fail again."""
    start = time.perf_counter()
    machine = make_machine(engine, program, steering(settings, len(program.threads)))
    directives = directives_of(machine, trace)
    wanted = run_directives(machine, directives)
    if wanted is None:
        return None
    attempts = Attempts(lambda kept: run_directives(machine, kept) == wanted, SHRINK_SECONDS)
    kept, shrunk = shrink(directives, attempts)
    seconds = time.perf_counter() - start
    return Witness(wanted, kept, shrunk, attempts.count, seconds)


class Attempts:
    """The test of delta debugging, with a count and a time limit."""

    def __init__(
        self, fails: Callable[[Sequence[Directive | Choice]], bool], seconds: float
    ) -> None:
        self._fails = fails
        self._deadline = time.perf_counter() + seconds
        self.count = 0

    def still_fails(self, directives: Directives) -> bool:
        self.count += 1
        return self._fails(directives)

    @property
    def out_of_time(self) -> bool:
        return time.perf_counter() > self._deadline


def shrink(directives: Directives, attempts: Attempts) -> tuple[Directives, bool]:
    """Drop all directives that are not needed; False with them if time ran out first."""
    kept = list(directives)
    parts = 2
    while kept:
        size = -(-len(kept) // parts)
        for first in range(0, len(kept), size):
            if attempts.out_of_time:
                return tuple(kept), False
            without = kept[:first] + kept[first + size :]
            if attempts.still_fails(tuple(without)):
                kept = without
                parts = max(parts - 1, 2)
                break
        else:
            if size == 1:
                return tuple(kept), True
            parts = min(2 * parts, len(kept))
    return (), True


def traced_machine(
    program: Program, settings: Settings, directives: Sequence[Directive | Choice]
) -> tuple[InterpretedMachine, Signature | None]:
    """Run the schedule again, interpreted, with the source of every step."""
    chosen = steering(settings, len(program.threads))
    machine = make_machine("interpreted", program, chosen, trace=True)
    assert isinstance(machine, InterpretedMachine)
    return machine, run_directives(machine, directives)


def preempted_steps(machine: Machine) -> list[bool]:
    """The steps of the last steered schedule that preempted a CPU."""
    block = machine.block
    return [block[flag_at(block, step)] == 1 for step in range(int(block[cb.STEPS]))]

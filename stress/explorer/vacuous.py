"""Passes that say little: no two CPUs of the program meet, or it requires nothing.

One complete schedule tells the first of all. If no two CPUs touch a common word in it, each of them
reads what it would read alone, so it does the same in every other schedule; unless it chooses. An
invariant sees their order all the same.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, replace

from shmalloc.engine import ops
from shmalloc.words import expect
from stress.explorer.strategies.table import RANDOM
from stress.machine import block as cb
from stress.machine.block_layout import Settings
from stress.machine.interpreted import InterpretedMachine
from stress.machine.machine import Event, events_of
from stress.machine.program import Program
from stress.machine.vocabulary import says

APART = "no two CPUs touch a common word, so every schedule does the same"
NOTHING_REQUIRED = (
    "the program requires nothing (no check, invariant or expect): a pass says only that no"
    " schedule ends in a {failures}"
)


def requires_nothing(program: Program) -> bool:
    """Whether ``program`` neither says what must hold nor asks for its outcomes."""
    if program.check or program.invariant or program.observe:
        return False
    return not says(program.threads, expect)


def nothing_required(races: bool) -> str:
    """What the result says of such a program."""
    failures = ("data race", "deadlock", "fault") if races else ("deadlock", "fault")
    return NOTHING_REQUIRED.format(failures=" or ".join(failures))


def never_meet(program: Program, settings: Settings) -> bool:
    """Whether no two CPUs of ``program`` touch a common word, and nothing sees their order."""
    if program.invariant is not None:
        return False
    strategy = RANDOM["random"]
    room = strategy.room(program.words, len(program.threads))
    chosen = replace(settings, log=True, races=False, parking=False, tree_words=room)
    machine = InterpretedMachine(program, **asdict(chosen))
    machine.call(strategy.driver(), 1, 1)
    if machine.block[cb.OUTCOME] != cb.PASSED:
        return False
    events = events_of(machine.block)
    if program.spurious > 0 or any(event.op == ops.OP_CHOOSE for event in events):
        return False
    touched = {(event.cpu, word) for event in events for word in _words(event)}
    return max(Counter(word for _, word in touched).values(), default=0) < 2


def _words(event: Event) -> tuple[int, ...]:
    if event.op > ops.LAST_ADDRESSED and event.op != ops.OP_FLUSH:
        return ()
    pair = event.op in (ops.OP_CAS2, ops.OP_LOAD2)
    return (event.address, event.address + 1) if pair else (event.address,)

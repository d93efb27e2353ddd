"""Whether the CPUs of a program meet at all: a pass of a program in which none do says nothing.

One complete schedule tells it of all. If no two CPUs touch a common word in it, each of them reads
what it would read alone, so it does the same in every other schedule; unless it chooses.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, replace

from shmalloc.engine import ops
from stress.explorer.strategies.table import RANDOM
from stress.machine import block as cb
from stress.machine.block_layout import Settings
from stress.machine.interpreted import InterpretedMachine
from stress.machine.machine import Event, events_of
from stress.machine.program import Program

APART = "no two CPUs touch a common word, so every schedule does the same"


def never_meet(program: Program, settings: Settings) -> bool:
    """Whether no two CPUs of ``program`` touch a common word."""
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

"""A schedule that was cut because a CPU spins without ``relax``: told as the mistake that it is.

The scheduler cannot know that such a CPU waits, so it may let it run for ever, and a higher step
limit would change nothing. The proof is in the schedule itself, run again on the interpreted
engine: a CPU comes back to the same place in its kernels with the same locals, it did not relax
meanwhile, and no word changed. Left alone it would do the same again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace

from shmalloc.compiler.source import readable
from shmalloc.engine import ops
from shmalloc.errors import MisuseError
from stress.explorer.strategies import loop
from stress.machine import block as cb
from stress.machine.block_layout import Settings
from stress.machine.interpreted import InterpretedMachine
from stress.machine.machine import Event, events_of
from stress.machine.program import Program
from stress.machine.site import Site

Operands = tuple[int, int, int, int]
MOST_STEPS = 20_000  # a longer schedule takes too long to be run again in Python


class EndlessLoopError(MisuseError):
    """A CPU of ``program`` repeats itself for ever, alone and without ``relax``."""

    def __init__(self, program: str, cpu: int, place: str) -> None:
        super().__init__(
            f"threads: cpu {cpu} spins without relax at {place}; call relax(mem) in the loop,"
            " so that other CPUs run"
        )
        self.program = program


def require_relax(program: Program, settings: Settings, trace: Sequence[int]) -> None:
    """Raise ``EndlessLoopError`` if a CPU spins without ``relax`` at the end of ``trace``, which
    was cut."""
    if len(trace) > MOST_STEPS:
        return
    machine = InterpretedMachine(program, trace=True, **asdict(replace(settings, tree_words=0)))
    block = machine.block
    block.states = [[] for _ in program.threads]
    first = int(block[cb.REPEAT_AT])
    block[first : first + len(trace)] = trace
    machine.call(loop.follow, len(trace))
    if block[cb.OUTCOME] != cb.ABANDONED:
        return
    for cpu in range(len(program.threads)):
        site = _spins_at(machine, cpu)
        if site is not None:
            place = f"{readable(site.file)}:{site.line} in {site.function}"
            raise EndlessLoopError(program.name, cpu, place)


def _spins_at(machine: InterpretedMachine, cpu: int) -> Site | None:
    """Where ``cpu`` spins; None if it does not."""
    block = machine.block
    states = block.states[cpu]
    if block[cb.STATE + cpu] != cb.READY or not states:
        return None
    events = events_of(block)
    made = [index for index, event in enumerate(events) if _is_own(event, cpu)]
    if len(states) != len(made) + 1:  # the last one is pending
        return None
    operands = _operands(machine, events)
    quiet = _quiet_since(events, operands)
    for local in range(len(made) - 1, -1, -1):
        if made[local] < quiet or events[made[local]].op in (ops.OP_RELAX, ops.OP_WAIT):
            return None
        if states[local] == states[-1]:
            return block.posted[cpu][local][0]
    return None


def _is_own(event: Event, cpu: int) -> bool:
    return event.cpu == cpu and event.op != ops.OP_FLUSH


def _operands(machine: InterpretedMachine, events: Sequence[Event]) -> list[Operands]:
    """The operands of each event."""
    following = [0] * len(machine.program.threads)
    found: list[Operands] = []
    for event in events:
        if event.op == ops.OP_FLUSH:
            found.append((event.value, 0, 0, 0))
            continue
        found.append(machine.block.operands[event.cpu][following[event.cpu]])
        following[event.cpu] += 1
    return found


def _quiet_since(events: Sequence[Event], operands: Sequence[Operands]) -> int:
    """The first event behind the last one that may have changed a word."""
    for index in range(len(events) - 1, -1, -1):
        if _may_change(events[index], operands[index]):
            return index + 1
    return 0


def _may_change(event: Event, operands: Operands) -> bool:
    given = operands[0]
    if event.op in (ops.OP_CAS, ops.OP_CAS2):
        return event.value == 1
    if event.op == ops.OP_EXCHANGE:
        return event.value != given
    if event.op == ops.OP_FETCH_ADD:
        return given != 0
    if event.op == ops.OP_FETCH_OR:
        return event.value | given != event.value
    if event.op == ops.OP_FETCH_AND:
        return event.value & given != event.value
    others = (ops.OP_FLUSH, ops.OP_WAKE, ops.OP_CHOOSE)  # a choice may be another one next time
    return ops.FIRST_WRITE <= event.op <= ops.LAST_WRITE or event.op in others

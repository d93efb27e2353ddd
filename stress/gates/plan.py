"""From a schedule of the explorer to gates: who runs from where to where, and who is held.

A schedule is cut into *turns*: consecutive steps of one CPU. Every CPU is held before the first
access of each of its turns, and free within it. Where a turn ends because its CPU ended, nothing
is held; so a schedule of few preemptions has few gates, whatever its length.

Steps of a CPU are counted from 1, as the process counts its accesses (state.py). Where a memory
model delays a store, its CPU is held before it instead, if that is the same (``_visible``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from shmalloc.engine import ops
from stress.explorer.report.trace import Step, Trace, addresses_of, may_change

NOT_FORCED = "a processor alone can let a later access pass a store that waits in its buffer"
TO_THE_END = ("check", "deadlock", "livelock")  # kinds that are seen when all that can has ended


@dataclass(frozen=True)
class Turn:
    """``cpu`` makes its accesses ``first`` to ``last``; ``step``: the first of them.

    ``sleeps``: the last one is a wait in which it falls asleep.
    """

    cpu: int
    first: int
    last: int
    step: Step
    sleeps: bool = False


@dataclass(frozen=True)
class Gate:
    """A place at which a CPU is held: before its access ``count``, at the ``nth`` execution of the
    line of ``step``. ``preempts``: it could have gone on."""

    cpu: int
    count: int
    step: Step
    nth: int
    preempts: bool


@dataclass(frozen=True)
class Plan:
    """What the coordinator does.

    ``turns``: in order. ``held``: accesses before which a CPU is held when all turns are over.
    ``outcomes``: of each CPU, numbers of accesses and what they give. ``shown``: two steps to be
    held at once, of a race or a torn read. ``unforced``: the steps that only a processor's buffer
    could make in this order.
    """

    cpus: int
    turns: tuple[Turn, ...]
    held: dict[int, int]
    outcomes: tuple[tuple[tuple[int, int], ...], ...]
    shown: tuple[Step, ...] = ()
    unforced: tuple[Step, ...] = ()
    gates: tuple[Gate, ...] = field(default=())


def plan_of(trace: Trace, kind: str) -> Plan:
    """The gates of a failing schedule."""
    steps, unforced = _visible(trace.steps)
    held: dict[int, int] = {}
    shown: tuple[Step, ...] = ()
    if kind == "race" and trace.conflict is not None:
        earlier, later = (trace.steps[index] for index in trace.conflict)
        shown = earlier, later
        steps = _before_both(steps, earlier, later)
        held = {earlier.cpu: _count(trace.steps, earlier), later.cpu: _count(trace.steps, later)}
    elif kind == "torn" and trace.conflict is not None:
        second = trace.steps[trace.conflict[1]]
        shown = (trace.steps[trace.conflict[0]], second)
        steps = [step for step in steps if step.index < second.index]
        held = {second.cpu: _count(trace.steps, second)}
    elif kind not in TO_THE_END:
        held = _stopped(steps, trace)
    if trace.fault is not None and kind == "undefined":
        held[trace.fault.cpu] = _made(steps, trace.fault.cpu) + 1
        shown = (trace.fault,)
    turns = turns_of(steps)
    return Plan(
        trace.cpus,
        tuple(turns),
        held,
        tuple(_outcomes(steps, cpu) for cpu in range(trace.cpus)),
        shown,
        tuple(unforced),
        tuple(_gates(turns, steps)),
    )


def _visible(steps: Sequence[Step]) -> tuple[list[Step], list[Step]]:
    """Steps in the order in which they took effect, without flushes; those that cannot be so.

    What other CPUs did before a store became visible is moved before that store: its CPU is held
    there, with all that it does later. That is the same schedule, unless the CPU read a word
    meanwhile that another one changed after that: then only its buffer can make this order.
    """
    found = [step for step in steps if step.op != ops.OP_FLUSH]
    unforced: list[Step] = []
    for flush in (step for step in steps if step.op == ops.OP_FLUSH):
        store = _flushed(steps, flush)
        if store is None:
            continue
        first = next(k for k, step in enumerate(found) if step.index == store.index)
        end = next((k for k in range(first, len(found)) if found[k].index > flush.index), None)
        between = found[first:end]
        if _overtakes(between, store.cpu):
            unforced.append(store)
        else:
            others = [step for step in between if step.cpu != store.cpu]
            found[first:end] = [*others, *(step for step in between if step.cpu == store.cpu)]
    return found, unforced


def _overtakes(steps: Sequence[Step], cpu: int) -> bool:
    """Whether ``cpu`` read a word that another CPU changed afterwards."""
    read: set[int] = set()
    for step in steps:
        if step.cpu == cpu and step.op <= ops.LAST_READ:
            read.update(addresses_of(step))
        elif step.cpu != cpu and may_change(step) and read & set(addresses_of(step)):
            return True
    return False


def _flushed(steps: Sequence[Step], flush: Step) -> Step | None:
    """The store that a flush completes: the first of its CPU to that word without one before."""
    stores = [
        step
        for step in steps[: flush.index]
        if step.cpu == flush.cpu
        and step.address == flush.address
        and ops.FIRST_WRITE <= step.op <= ops.LAST_STORE
    ]
    earlier = sum(
        step.op == ops.OP_FLUSH and step.cpu == flush.cpu and step.address == flush.address
        for step in steps[: flush.index]
    )
    return stores[earlier] if earlier < len(stores) else None


def _before_both(steps: Sequence[Step], earlier: Step, later: Step) -> list[Step]:
    """What leads to both steps: nothing that the CPU of the earlier one did from there on."""
    return [
        step
        for step in steps
        if step.index < later.index and (step.cpu != earlier.cpu or step.index < earlier.index)
    ]


def _count(steps: Sequence[Step], wanted: Step) -> int:
    """The number of an access among those of its CPU."""
    return _made([s for s in steps if s.index <= wanted.index], wanted.cpu)


def _made(steps: Sequence[Step], cpu: int) -> int:
    return sum(step.cpu == cpu and step.op != ops.OP_FLUSH for step in steps)


def _stopped(steps: Sequence[Step], trace: Trace) -> dict[int, int]:
    """Every CPU stays where the schedule left it; the one of the fault makes it."""
    held = {cpu: _made(steps, cpu) + 1 for cpu in range(trace.cpus)}
    if trace.fault is not None:
        held[trace.fault.cpu] += 1
    elif trace.faulted is not None and steps:
        held.pop(steps[-1].cpu)
    return held


def turns_of(steps: Sequence[Step]) -> list[Turn]:
    """Consecutive steps of one CPU, each as a turn."""
    turns: list[Turn] = []
    made: dict[int, int] = {}
    for step in steps:
        count = made[step.cpu] = made.get(step.cpu, 0) + 1
        sleeps = step.op == ops.OP_WAIT and step.value == 1
        if turns and turns[-1].cpu == step.cpu and not turns[-1].sleeps:
            first, begun = turns.pop(), count
            turns.append(Turn(step.cpu, first.first, begun, first.step, sleeps))
        else:
            turns.append(Turn(step.cpu, count, count, step, sleeps))
    return turns


def _outcomes(steps: Sequence[Step], cpu: int) -> tuple[tuple[int, int], ...]:
    """What a ``choose`` gave, and which waits woke by themselves."""
    own = [step for step in steps if step.cpu == cpu]
    return tuple(
        (count, step.value)
        for count, step in enumerate(own, 1)
        if (step.op == ops.OP_CHOOSE and step.value)
        or (step.op == ops.OP_WAIT and step.value == ops.RETURNED_EARLY)
    )


def _gates(turns: Sequence[Turn], steps: Sequence[Step]) -> list[Gate]:
    """Where a CPU is held between two of its turns."""
    found = []
    for number, turn in enumerate(turns):
        if turn.first > 1:
            line = [s for s in steps if s.cpu == turn.cpu and s.site == turn.step.site]
            nth = 1 + next(k for k, s in enumerate(line) if s.index == turn.step.index)
            slept = any(
                one.sleeps
                for one in turns[:number]
                if one.cpu == turn.cpu and one.last == turn.first - 1
            )
            found.append(Gate(turn.cpu, turn.first, turn.step, nth, not slept))
    return found

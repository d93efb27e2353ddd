"""The two steps that a failure is about: those that race or tear, or whose order decides.

Happens-before gives the pair of a race (machine/races.py), the two halves that of a torn read. For
all other kinds the last preemption gives it: an access of the CPU that was stopped, and a step
between that access and the CPU's next step.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from shmalloc.engine import ops
from stress.explorer.report.trace import Step, addresses_of, may_change
from stress.machine import block as cb
from stress.machine.interpreted import InterpretedMachine

Pair = tuple[int, int]


def conflict_of(
    machine: InterpretedMachine, steps: Sequence[Step], stake: Collection[int]
) -> Pair | None:
    """The two steps of a failure, the earlier first; on words at stake if possible."""
    outcome = int(machine.block[cb.OUTCOME])
    if not steps:
        return None
    block = machine.block
    if outcome == cb.RACE:
        return _racing_pair(steps, int(block[cb.OTHER_CPU]), int(block[cb.FAULT_AT]))
    if outcome == cb.TORN:
        return _torn_pair(steps, int(block[cb.FAULT_CPU]), int(block[cb.FAULT_AT]))
    return deciding_pair(steps, stake) or deciding_pair(steps)


def _racing_pair(steps: Sequence[Step], other: int, word: int) -> Pair | None:
    """The access that found the race, and the last conflicting access of the other CPU."""
    last = steps[-1]
    for step in reversed(steps[:-1]):
        meet = step.cpu == other and word in addresses_of(step) and step.op != ops.OP_FLUSH
        plain = ops.OP_READ in (step.op, last.op) or ops.OP_WRITE in (step.op, last.op)
        if meet and plain and (may_change(step) or may_change(last)):
            return step.index, last.index
    return None


def _torn_pair(steps: Sequence[Step], cpu: int, pair: int) -> Pair | None:
    """The last single read of each half."""
    halves: dict[int, int] = {}
    for step in steps:
        if step.cpu == cpu and step.op <= ops.OP_LOAD_RELAXED and step.address & ~1 == pair:
            halves[step.address] = step.index
    if len(halves) != 2:
        return None
    first, second = sorted(halves.values())
    return first, second


def deciding_pair(steps: Sequence[Step], stake: Collection[int] = ()) -> Pair | None:
    """An access of a preempted CPU, and a step between it and the CPU's next step.

    The last such pair on one word of which one writes: the preemption made its order.
    ``stake``: only pairs on these words.
    """
    for start in reversed([step for step in steps if step.preempted]):
        victim = _runner_before(steps, start.index)
        if victim is None:
            continue
        resumed = next((t.index for t in steps[start.index :] if t.cpu == victim), len(steps))
        window = [t for t in steps[start.index : resumed] if t.cpu != victim]
        for earlier in reversed([t for t in steps[: start.index] if t.cpu == victim]):
            for later in window:
                shared = set(addresses_of(earlier)) & set(addresses_of(later))
                if shared and (not stake or shared & set(stake)):
                    if may_change(later) or may_change(earlier):
                        return earlier.index, later.index
    return None


def _runner_before(steps: Sequence[Step], index: int) -> int | None:
    """The CPU that was preempted at step ``index``."""
    for step in reversed(steps[:index]):
        if step.op != ops.OP_FLUSH:
            return step.cpu
    return None

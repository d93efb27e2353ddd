"""From a run to a trace: its steps with their source, what they changed, and what is at stake.

``trace_of`` takes a machine that the explorer has steered; ``steps_of`` takes any interpreted
machine that traces and has just run, with or without the scheduler's record of preemptions.
"""

from __future__ import annotations

from collections.abc import Sequence

from shmalloc.compiler.integers import wrap
from shmalloc.dialect import is_kernel
from shmalloc.engine import ops
from shmalloc.memory import Ram
from stress.explorer.report.conflict import conflict_of
from stress.explorer.report.origin import Origin, origin_of
from stress.explorer.report.trace import Blocked, Step, Trace, addresses_of, may_change
from stress.machine import block as cb
from stress.machine.interpreted import InterpretedMachine
from stress.machine.machine import Event, events_of, fault_of
from stress.machine.models import MODELS
from stress.machine.names import Finding, found_in
from stress.machine.program import Program
from stress.machine.site import Site

Values = tuple[int, ...]


def trace_of(machine: InterpretedMachine, preempted: Sequence[bool] = ()) -> Trace:
    """The last schedule of an interpreted machine that traces.

    ``preempted``: the steps that preempted a CPU (``witness.preempted_steps``).
    """
    block = machine.block
    steps = steps_of(machine, preempted)
    outcome = int(block[cb.OUTCOME])
    memory = tuple(int(word) for word in machine.ram.array)
    fault = fault_step(machine, steps)
    blocked = _blocked(machine, steps) if outcome in (cb.DEADLOCK, cb.LIVELOCK) else ()
    origin = _origin(machine)
    stake = [word for finding in findings_of(machine.program, memory) for word in finding.words]
    stake += [] if stake else origin.words
    stake += list(addresses_of(fault)) if fault else []
    stake += [one.address for one in blocked]
    if outcome in (cb.RACE, cb.TORN):
        stake.append(int(block[cb.FAULT_AT]))
    stake = sorted({word for word in stake if 0 <= word < machine.program.words})
    return Trace(
        cpus=len(machine.program.threads),
        steps=steps,
        conflict=conflict_of(machine, steps, stake),
        fault=fault,
        blocked=blocked,
        memory=memory,
        origin=origin.sites,
        faulted=block.faulted if outcome in (cb.ARITHMETIC, cb.EXPECTATION) else None,
        written=block.written if outcome == cb.WROTE else "",
        returns=tuple(int(block[cb.RETURN + cpu]) for cpu in range(int(block[cb.CPUS]))),
        at_stake=tuple(stake),
    )


def findings_of(program: Program, memory: Sequence[int]) -> tuple[Finding, ...]:
    """The violations that a run of ``program`` left in ``memory``."""
    return found_in(program.findings, memory) if memory else ()


def steps_of(machine: InterpretedMachine, preempted: Sequence[bool] = ()) -> tuple[Step, ...]:
    """The steps of the last run of ``machine``, each with its calls and what it changed."""
    events = events_of(machine.block)
    effects = _Effects(machine)
    made: dict[tuple[int, bool], int] = {}
    posted = dict.fromkeys(range(len(machine.program.threads)), 0)
    found: list[Step] = []
    for index, event in enumerate(events):
        actor = event.cpu, event.op == ops.OP_FLUSH
        made[actor] = made.get(actor, 0) + 1
        stack: tuple[Site, ...] = ()
        operands: Values = (event.value,)
        if event.op != ops.OP_FLUSH:
            stack = machine.block.posted[event.cpu][posted[event.cpu]]
            operands = machine.block.operands[event.cpu][posted[event.cpu]]
            posted[event.cpu] += 1
        before, after = effects.of(event, operands)
        step = Step(
            index, event.cpu, made[actor], event.op, event.address, event.value, event.second,
            stack, index > 0 and events[index - 1].cpu != event.cpu,
            bool(preempted) and preempted[index], before, after,
        )  # fmt: skip
        found.append(step)
    return tuple(found)


class _Effects:
    """The memory of a run, step by step: what each step found and left."""

    def __init__(self, machine: InterpretedMachine) -> None:
        ram = Ram.of_words(machine.program.words)
        machine.program.initialize(ram)
        self._memory = ram.array.tolist()
        self._buffered = MODELS[machine.settings.model].delays_stores

    def of(self, event: Event, operands: Values) -> tuple[Values, Values]:
        """The words of ``event`` before and after it; empty if it has none."""
        op, at = event.op, event.address
        count = len(addresses_of(event))
        if not count:
            return (), ()
        if op <= ops.LAST_READ or op in (ops.OP_FIXED, ops.OP_WAIT):
            seen = (event.value, event.second)[:count] if op <= ops.LAST_READ else ()
            return seen, seen
        before = tuple(self._memory[at : at + count])
        after = _after(event, operands, before)
        delayed = self._buffered and ops.FIRST_WRITE <= op <= ops.LAST_STORE
        if not delayed:
            self._memory[at : at + count] = after
        return before, after


def _after(event: Event, operands: Values, before: Values) -> Values:
    op = event.op
    if op == ops.OP_FLUSH or op <= ops.LAST_STORE:
        return (event.value,)
    if op == ops.OP_CAS:
        return (operands[1],) if event.value else before
    if op == ops.OP_CAS2:
        return (operands[2], operands[3]) if event.value else before
    if op == ops.OP_EXCHANGE:
        return (operands[0],)
    if op == ops.OP_FETCH_ADD:
        return (wrap(before[0] + operands[0]),)
    if op == ops.OP_FETCH_OR:
        return (before[0] | operands[0],)
    if op == ops.OP_FETCH_AND:
        return (before[0] & operands[0],)
    return before


def fault_step(machine: InterpretedMachine, steps: Sequence[Step]) -> Step | None:
    """The access that was refused, as the step it would have been."""
    event = fault_of(machine.block)
    if event is None:
        return None
    own = [step for step in steps if step.cpu == event.cpu]
    posted = machine.block.posted[event.cpu]
    done = sum(step.op != ops.OP_FLUSH for step in own)
    if done == len(posted):  # its stack overflowed between two accesses
        return None
    return Step(
        len(steps),
        event.cpu,
        len(own) + 1,
        event.op,
        event.address,
        event.value,
        0,
        posted[done],
        bool(steps) and steps[-1].cpu != event.cpu,
        False,
    )


def _origin(machine: InterpretedMachine) -> Origin:
    """The line at which the check or the invariant returned its code."""
    block = machine.block
    watcher = {cb.FAILED: machine.program.check, cb.INVARIANT: machine.program.invariant}.get(
        int(block[cb.OUTCOME])
    )
    if block.judged is None or not is_kernel(watcher):
        return Origin()
    return origin_of(watcher, block.judged, int(block[cb.CODE]), block.returned())


# --- who waits for whom --------------------------------------------------------------------------
def _blocked(machine: InterpretedMachine, steps: Sequence[Step]) -> tuple[Blocked, ...]:
    block = machine.block
    found: dict[int, Blocked] = {}
    for cpu in range(int(block[cb.CPUS])):
        asleep = block[cb.STATE + cpu] == cb.ASLEEP
        others_run = block[cb.OUTCOME] == cb.DEADLOCK  # a cycle closes while others can continue
        if block[cb.STATE + cpu] == cb.FINISHED or (others_run and not asleep):
            continue
        own = [t for t in steps if t.cpu == cpu and addresses_of(t)]
        address = int(block[cb.AT + cpu]) if asleep or not own else own[-1].address
        posted = block.posted[cpu]
        site = posted[-1][0] if posted and posted[-1] else None
        holder = _holder(machine, steps, cpu, address, asleep)
        found[cpu] = Blocked(cpu, address, holder, not asleep, site)
    return _cycle_first(found)


def _holder(
    machine: InterpretedMachine, steps: Sequence[Step], cpu: int, word: int, asleep: bool
) -> int | None:
    """The CPU that holds the lock at ``word``; for other words, the last CPU that changed it.

    None for a word that a CPU sleeps at, where the program says which of those are locks: who
    sleeps for memory, or for an event, waits for no holder.
    """
    locks = machine.program.locks
    if word in locks:
        holder = int(machine.ram.array[word]) & cb.HOLDER_MASK
        return holder - 1 if 0 < holder <= len(machine.program.threads) else None
    if asleep and locks:
        return None
    for step in reversed(steps):
        if word in addresses_of(step) and may_change(step):
            return step.cpu if step.cpu != cpu else None
    return None


def _cycle_first(found: dict[int, Blocked]) -> tuple[Blocked, ...]:
    """The CPUs of a ring in ring order, then the others."""
    for start in found:
        ring: list[int] = []
        cpu: int | None = start
        while cpu is not None and cpu in found and cpu not in ring:
            ring.append(cpu)
            cpu = found[cpu].holder
        if cpu == start:
            return tuple(found[c] for c in ring) + tuple(found[c] for c in found if c not in ring)
    return tuple(found.values())

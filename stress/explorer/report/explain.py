"""From a failing schedule to an explanation: steps with their source, the pair that decides, why.

The shrunk schedule runs once more on the interpreted engine; what it did becomes a ``Trace``.
"""

from __future__ import annotations

from collections.abc import Sequence

from shmalloc.compiler.runtime import FAULTS
from stress.machine import block as s
from shmalloc.engine import ops
from stress.machine.interpreted import InterpretedMachine
from stress.machine.machine import Event, events_of, fault_of
from stress.machine.site import Site
from stress.explorer.report.failure import Blocked, Step, Trace, as_memory
from stress.explorer.witness import preempted_steps

Pair = tuple[int, int]


def trace_of(world: InterpretedMachine) -> Trace:
    """The last schedule of an interpreted world that traces."""
    block = world.block
    steps = _steps(world)
    outcome = int(block[s.OUTCOME])
    blocked = _blocked(world, steps) if outcome in (s.DEADLOCK, s.LIVELOCK) else ()
    return Trace(
        cpus=len(world.program.threads),
        steps=steps,
        conflict=_conflict(world, steps, outcome),
        fault=_fault(world, steps),
        blocked=blocked,
        faulted=world.block.faulted if outcome == s.ARITHMETIC else None,
        memory=as_memory(world.ram.array),
        returns=tuple(int(block[s.RETURN + cpu]) for cpu in range(int(block[s.CPUS]))),
    )


def _steps(world: InterpretedMachine) -> tuple[Step, ...]:
    events = events_of(world.block)
    preempted = preempted_steps(world)
    made: dict[tuple[int, bool], int] = {}
    posted = dict.fromkeys(range(len(world.program.threads)), 0)
    found: list[Step] = []
    for index, event in enumerate(events):
        actor = event.cpu, event.op == ops.OP_FLUSH
        made[actor] = made.get(actor, 0) + 1
        stack: tuple[Site, ...] = ()
        if event.op != ops.OP_FLUSH:
            stack = world.block.posted[event.cpu][posted[event.cpu]]
            posted[event.cpu] += 1
        switched = index > 0 and events[index - 1].cpu != event.cpu
        step = Step(
            index, event.cpu, made[actor], event.op, event.address, event.value, event.second,
            stack, switched, preempted[index],
        )  # fmt: skip
        found.append(step)
    return tuple(found)


def _fault(world: InterpretedMachine, steps: Sequence[Step]) -> Step | None:
    """The access that was refused, as the step it would have been."""
    event = fault_of(world.block)
    if event is None:
        return None
    own = [step for step in steps if step.cpu == event.cpu]
    posted = world.block.posted[event.cpu]
    done = sum(step.op != ops.OP_FLUSH for step in own)
    if done == len(posted):  # its stack ran over between two accesses
        return None
    return Step(
        len(steps), event.cpu, len(own) + 1, event.op, event.address, event.value, 0, posted[done],
        bool(steps) and steps[-1].cpu != event.cpu, False,
    )  # fmt: skip


# --- the pair that decides -----------------------------------------------------------------------
def words_of(step: Step | Event) -> tuple[int, ...]:
    """The words that a step touches."""
    if step.op in (ops.OP_CAS2, ops.OP_LOAD2):
        return step.address, step.address + 1
    addressed = step.op <= ops.LAST_ADDRESSED or step.op == ops.OP_FLUSH
    return (step.address,) if addressed else ()


def writes(step: Step) -> bool:
    """Whether a step may have changed its word."""
    if step.op in (ops.OP_CAS, ops.OP_CAS2):
        return step.value == 1
    return ops.FIRST_WRITE <= step.op <= ops.LAST_WRITE or step.op == ops.OP_FLUSH


def _conflict(world: InterpretedMachine, steps: Sequence[Step], outcome: int) -> Pair | None:
    if not steps:
        return None
    block = world.block
    if outcome == s.RACE:
        return _racing_pair(steps, int(block[s.OTHER_CPU]), int(block[s.FAULT_AT]))
    if outcome == s.TORN:
        return _torn_pair(steps, int(block[s.FAULT_CPU]), int(block[s.FAULT_AT]))
    return deciding_pair(steps)


def _racing_pair(steps: Sequence[Step], other: int, word: int) -> Pair | None:
    """The access that found the race, and the last of the other CPU that it conflicts with."""
    last = steps[-1]
    for step in reversed(steps[:-1]):
        meet = step.cpu == other and word in words_of(step) and step.op != ops.OP_FLUSH
        plain = ops.OP_READ in (step.op, last.op) or ops.OP_WRITE in (step.op, last.op)
        if meet and plain and (writes(step) or writes(last)):
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


def deciding_pair(steps: Sequence[Step]) -> Pair | None:
    """An access of a preempted CPU, and what came between it and the CPU's next step.

    The last such pair on one word of which one writes: its order is what the preemption made.
    """
    for start in reversed([step for step in steps if step.preempted]):
        victim = _runner_before(steps, start.index)
        if victim is None:
            continue
        resumed = next((t.index for t in steps[start.index :] if t.cpu == victim), len(steps))
        window = [t for t in steps[start.index : resumed] if t.cpu != victim]
        for earlier in reversed([t for t in steps[: start.index] if t.cpu == victim]):
            for later in window:
                if set(words_of(earlier)) & set(words_of(later)):
                    if writes(later) or writes(earlier):
                        return earlier.index, later.index
    return None


def _runner_before(steps: Sequence[Step], index: int) -> int | None:
    """The CPU that was preempted at step ``index``."""
    for step in reversed(steps[:index]):
        if step.op != ops.OP_FLUSH:
            return step.cpu
    return None


# --- who waits for whom --------------------------------------------------------------------------
def _blocked(world: InterpretedMachine, steps: Sequence[Step]) -> tuple[Blocked, ...]:
    block = world.block
    found: dict[int, Blocked] = {}
    for cpu in range(int(block[s.CPUS])):
        asleep = block[s.STATE + cpu] == s.ASLEEP
        others_run = block[s.OUTCOME] == s.DEADLOCK  # a cycle closes while others could go on
        if block[s.STATE + cpu] == s.FINISHED or (others_run and not asleep):
            continue
        own = [t for t in steps if t.cpu == cpu and words_of(t)]
        address = int(block[s.AT + cpu]) if asleep or not own else own[-1].address
        posted = block.posted[cpu]
        site = posted[-1][0] if posted and posted[-1] else None
        found[cpu] = Blocked(cpu, address, _holder(world, steps, cpu, address), not asleep, site)
    return _cycle_first(found)


def _holder(world: InterpretedMachine, steps: Sequence[Step], cpu: int, word: int) -> int | None:
    """Who holds the lock at ``word``; where it is none, who changed it last."""
    if word in world.program.locks:
        holder = int(world.ram.array[word]) & s.HOLDER_MASK
        return holder - 1 if 0 < holder <= len(world.program.threads) else None
    for step in reversed(steps):
        if word in words_of(step) and writes(step):
            return step.cpu if step.cpu != cpu else None
    return None


def _cycle_first(found: dict[int, Blocked]) -> tuple[Blocked, ...]:
    """The CPUs of a ring in its order, then the others."""
    for start in found:
        ring: list[int] = []
        cpu: int | None = start
        while cpu is not None and cpu in found and cpu not in ring:
            ring.append(cpu)
            cpu = found[cpu].holder
        if cpu == start:
            return tuple(found[c] for c in ring) + tuple(found[c] for c in found if c not in ring)
    return tuple(found.values())


# --- in words ------------------------------------------------------------------------------------
def cause_of(kind: str, code: int, trace: Trace) -> str:
    """One or two sentences on what went wrong."""
    pair = _in_words(trace)
    ring = _ring(trace)
    texts = {
        "check": f"The check returned {code} when all CPUs were done.{pair}",
        "invariant": f"The invariant returned {code} after the last step shown.{pair}",
        "race": f"Nothing orders two accesses to one word, and one of them is plain.{pair}",
        "torn": "A CPU read the halves of a pair one by one; both were swapped in between, so it"
        f" holds a pair that never existed, and used it.{pair}",
        "deadlock": f"CPUs sleep, and nobody is left to wake them.{ring}",
        "livelock": f"All CPUs that are not done spin on words that nobody changes.{ring}",
        "memory": f"An access outside of memory, or to a pair at an odd word.{_refused(trace)}",
        "undefined": f"A word was read before anybody wrote it.{_refused(trace)}",
        "arithmetic": _arithmetic(code),
        "stack": "A kernel used up its stack: its calls nest too deeply."
        + (_refused(trace) if trace.fault else ""),
    }
    return texts[kind]


def _arithmetic(code: int) -> str:
    what = {
        "division": "a division by zero", "shift": "a shift by less than 0 or more than 63 bits",
        "step": "a range with step 0",
    }.get(FAULTS.get(code, ""), "")  # fmt: skip
    return f"A kernel did what has no meaning: {what}."


def name_of(step: Step) -> str:
    names = ops.NAMES[step.op]
    return f"cpu {step.cpu}'s {names} of word {step.address}"


def _in_words(trace: Trace) -> str:
    if trace.conflict is None:
        return ""
    earlier, later = (trace.steps[index] for index in trace.conflict)
    return f" {name_of(later).capitalize()} came after {name_of(earlier)}."


def _ring(trace: Trace) -> str:
    parts = []
    for one in trace.blocked:
        how = "spins on" if one.spinning else "sleeps at"
        held = f", held by cpu {one.holder}" if one.holder is not None else ""
        parts.append(f"cpu {one.cpu} {how} word {one.address}{held}")
    text = "; ".join(parts)
    return f" {text[:1].upper()}{text[1:]}." if text else ""


def _refused(trace: Trace) -> str:
    if trace.fault is None:
        return " It happened in the check or invariant."
    return f" {name_of(trace.fault).capitalize()}."

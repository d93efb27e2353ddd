"""Failures made by hand, of kernels that are real: their lines exist in this file.

A scenario is a list of ``Act``; ``build`` numbers the steps and finds each line by its text, so
that adding a line here breaks nothing. ``stop=True``: the previous CPU could have continued.
"""

from __future__ import annotations

import inspect
from typing import NamedTuple

from shmalloc.dialect import kernel
from shmalloc.engine import ops
from shmalloc.words import cas, cas2, fetch_add, load, relax, store
from stress.explorer.report.failure import Blocked, Failure, Step, Trace
from stress.machine.program import Program
from stress.machine.site import Site

TOKEN = "shm1:lost-update:0.1,1.0"


# --- kernels -------------------------------------------------------------------------------------
@kernel
def increment(mem, cpu):
    mem[0] = mem[0] + 1
    return 10 + cpu


@kernel
def both_counted(mem):
    return 0 if mem[0] == 2 else 7


@kernel
def left(mem, cpu):
    store(mem, 0, 1)
    return load(mem, 4)


@kernel
def right(mem, cpu):
    store(mem, 4, 1)
    return load(mem, 0)


@kernel
def lock(mem, i, cpu):
    while not cas(mem, i, 0, cpu + 1):
        relax(mem)


@kernel
def two_then_four(mem, cpu):
    lock(mem, 2, cpu)
    lock(mem, 4, cpu)
    return 0


@kernel
def four_then_two(mem, cpu):
    lock(mem, 4, cpu)
    lock(mem, 2, cpu)
    return 0


@kernel
def beyond(mem, cpu):
    if 1 < 2 and mem[0] >= 0:  # a line with <b>markup</b> & "quotes" in it
        mem[99] = 5
    return 0


@kernel
def swap_both(mem, cpu):
    cas2(mem, 6, 0, 0, 1, 1)
    return 0


@kernel
def read_halves(mem, cpu):
    low = load(mem, 6)
    high = load(mem, 7)
    return low + high


@kernel
def count_many(mem, cpu):
    for _step in range(64):
        fetch_add(mem, 8 + cpu, 1)
    return 0


# --- from a list to a failure --------------------------------------------------------------------
class Act(NamedTuple):
    cpu: int
    op: int
    address: int
    value: int
    text: str = ""  # of the source line, in the kernel of the CPU or one that it called
    inner: object = None  # the kernel that it called, where the line is in that one
    second: int = 0
    stop: bool = False


def site_of(kernel_, text: str) -> Site:
    """The first line of ``kernel_`` that contains ``text``."""
    lines, first = inspect.getsourcelines(kernel_)
    for offset, line in enumerate(lines):
        if text in line:
            return Site(kernel_.__code__.co_filename, first + offset, kernel_.__name__)
    raise LookupError(f"{text!r} in {kernel_.__name__}")


def stack_of(program: Program, act: Act) -> tuple[Site, ...]:
    outer = program.threads[act.cpu]
    if act.inner is None:
        return (site_of(outer, act.text),) if act.text else ()
    called = site_of(outer, f"{act.inner.__name__}(mem, {act.address}")
    return (site_of(act.inner, act.text), called)


def step_of(program: Program, index: int, local: int, act: Act, switched: bool = False) -> Step:
    return Step(
        index,
        act.cpu,
        local,
        act.op,
        act.address,
        act.value,
        act.second,
        stack_of(program, act),
        switched,
        act.stop,
    )


def steps_of(program: Program, acts: list[Act]) -> tuple[Step, ...]:
    steps: list[Step] = []
    locals_ = [0] * len(program.threads)
    for index, act in enumerate(acts):
        locals_[act.cpu] += 1
        switched = index > 0 and acts[index - 1].cpu != act.cpu
        steps.append(step_of(program, index, locals_[act.cpu], act, switched))
    return tuple(steps)


def build(program, kind, acts, cause, *, conflict=None, fault=None, blocked=(), memory=(),
          returns=(), **more) -> Failure:  # fmt: skip
    """A failure of ``program`` with the steps ``acts``."""
    steps = steps_of(program, acts)
    if fault is not None:
        fault = step_of(program, len(steps), 1, fault)
    values = [0] * program.words
    for address, value in memory:
        values[address] = value
    trace = Trace(
        cpus=len(program.threads),
        steps=steps,
        conflict=conflict,
        fault=fault,
        blocked=blocked,
        memory=tuple(values),
        returns=returns,
    )
    facts = {
        "code": 0,
        "schedule": TOKEN,
        "shrunk": True,
        "found_after": 12,
        "replays": 5,
        "shrink_seconds": 0.02,
        "preemptions": sum(act.stop for act in acts),
    }
    return Failure(program=program, kind=kind, trace=trace, cause=cause, **(facts | more))


# --- scenarios -----------------------------------------------------------------------------------
READ_WRITE = "mem[0] = mem[0] + 1"


def lost_update_acts(program_cpu_0_value: int = 1) -> list[Act]:
    return [
        Act(0, ops.OP_READ, 0, 0, READ_WRITE),
        Act(1, ops.OP_READ, 0, 0, READ_WRITE, stop=True),
        Act(1, ops.OP_WRITE, 0, 1, READ_WRITE),
        Act(0, ops.OP_WRITE, 0, program_cpu_0_value, READ_WRITE),
    ]


def race() -> Failure:
    """Found at the first pair of accesses that nothing orders."""
    program = Program("lost-update", 16, [increment, increment])
    cause = "cpu 1 writes word 0 although nothing orders it after the read of cpu 0."
    return build(program, "race", lost_update_acts()[:3], cause, conflict=(0, 2), memory=[(0, 1)])


def failed_check(name: str = "lost-update") -> Failure:
    program = Program(name, 16, [increment, increment], check=both_counted)
    cause = "both_counted returned 7: the update of cpu 1 at step 2 was overwritten at step 3."
    return build(
        program,
        "check",
        lost_update_acts(),
        cause,
        conflict=(0, 2),
        code=7,
        memory=[(0, 1)],
        returns=(10, 11),
    )


def store_buffering() -> Failure:
    """Both CPUs read 0: their stores were still in their buffers."""
    program = Program("store-buffering", 16, [left, right], check=both_counted)
    acts = [
        Act(0, ops.OP_STORE, 0, 1, "store(mem, 0, 1)"),
        Act(0, ops.OP_LOAD, 4, 0, "load(mem, 4)"),
        Act(1, ops.OP_STORE, 4, 1, "store(mem, 4, 1)"),
        Act(1, ops.OP_LOAD, 0, 0, "load(mem, 0)"),
        Act(0, ops.OP_FLUSH, 0, 1),
        Act(1, ops.OP_FLUSH, 4, 1),
    ]
    cause = "Both loads came before the other CPU's store left its buffer."
    return build(program, "check", acts, cause, conflict=(3, 4), code=1, memory_model="tso",
                 memory=[(0, 1), (4, 1)], returns=(0, 0))  # fmt: skip


def deadlock() -> Failure:
    program = Program("two-locks", 16, [two_then_four, four_then_two])
    take = "cas(mem, i, 0, cpu + 1)"
    acts = [
        Act(0, ops.OP_CAS, 2, 1, take, lock),
        Act(1, ops.OP_CAS, 4, 1, take, lock, stop=True),
        Act(1, ops.OP_CAS, 2, 0, take, lock),
        Act(0, ops.OP_CAS, 4, 0, take, lock),
    ]
    blocked = (
        Blocked(0, 4, 1, True, site_of(lock, "relax")),
        Blocked(1, 2, 0, False, site_of(lock, "relax")),
    )
    return build(
        program,
        "deadlock",
        acts,
        "Two CPUs wait for each other.",
        blocked=blocked,
        memory=[(2, 1), (4, 2)],
    )


def out_of_range() -> Failure:
    program = Program("<b>beyond</b> & more", 16, [beyond])
    acts = [Act(0, ops.OP_READ, 0, 0, "mem[0] >= 0")]
    fault = Act(0, ops.OP_WRITE, 99, 5, "mem[99]")
    return build(program, "memory", acts, "cpu 0 writes <word 99> of 16 & dies.", fault=fault)


def torn() -> Failure:
    program = Program("halves", 16, [read_halves, swap_both])
    acts = [
        Act(0, ops.OP_LOAD, 6, 0, "low = load(mem, 6)"),
        Act(1, ops.OP_CAS2, 6, 1, "cas2(mem, 6", stop=True),
        Act(0, ops.OP_LOAD, 7, 1, "high = load(mem, 7)"),
    ]
    cause = "cpu 0 holds the halves of two different writes of the pair [6, 7]."
    return build(program, "torn", acts, cause, conflict=(1, 2), memory=[(6, 1), (7, 1)])


def long_run(steps: int = 40, cpus: int = 2) -> Failure:
    """Each CPU makes ``steps`` steps in a row; the race is in the middle of those of cpu 0."""
    program = Program("counters", 32, [count_many] * cpus)
    acts = [
        Act(cpu, ops.OP_FETCH_ADD, 8 + cpu, k, "fetch_add")
        for cpu in range(cpus)
        for k in range(steps)
    ]
    pair = (steps // 2, steps + steps // 2) if cpus > 1 else None
    return build(program, "race", acts, "A pair in the middle of long runs.", conflict=pair)


ALL = (race, failed_check, store_buffering, deadlock, out_of_range, torn, long_run)

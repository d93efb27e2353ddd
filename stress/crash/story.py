"""A failed run in words: who died where, what the others did then, what the check saw.

The run is made once more, interpreted, and every step is shown with its line: those before the
death, and from there on those that others can see (writes, sleeps, wake-ups), unless all are asked
for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from shmalloc.engine import ops
from stress.crash import strategy as crash_strategy
from stress.crash.result import CrashFailure
from stress.crash.runner import Run, Runner
from stress.explorer.report import wording
from stress.explorer.report.failure import Step
from stress.machine import block as cb
from stress.machine.interpreted import InterpretedMachine
from stress.machine.machine import events_of, fault_of
from stress.machine.site import Site

BEFORE = 12  # steps shown before the death
AFTERWARDS = 60  # and behind it
WIDTH = 118
Explain = Callable[[InterpretedMachine], Sequence[str]]


def tell(failure: CrashFailure, explain: Explain | None = None, full: bool = False) -> str:
    """The run of ``failure`` step by step. ``explain``: lines on what the check left in memory."""
    runner = Runner(failure.case, "interpreted", trace=True)
    run = runner.run(failure.schedule, failure.victim, failure.point, failure.then)
    world = runner.machine
    assert isinstance(world, InterpretedMachine)
    lines = [_headline(failure, run), *_deaths(failure, runner)]
    lines += ["", *_table(failure, world, full), ""]
    lines += _end(world)
    lines += explain(world) if explain else ()
    lines += [failure.again_title, f"  {failure.again('interpreted')}"]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _headline(failure: CrashFailure, run: Run) -> str:
    code = f" {run.code}" if run.code else ""
    second = f", the supervisor before its write {failure.then}" if failure.then else ""
    died = f"CPU {failure.victim} died before its write {failure.point}{second}"
    if failure.point == 0:
        died = "nobody died"
    return f"{failure.case.name}: {run.kind}{code}; {died}; schedule {failure.schedule}"


def _deaths(failure: CrashFailure, runner: Runner) -> Iterator[str]:
    """Where each of the dead stood."""
    block = runner.block
    world = runner.machine
    assert isinstance(world, InterpretedMachine)
    dead = (failure.victim, failure.case.living)[: int(block[crash_strategy.DEATHS])]
    for death, cpu in enumerate(dead):
        if int(block[crash_strategy.ENDED]) >> death & 1:
            yield f"CPU {cpu} had returned when it died."
            continue
        step = _posted(world, cpu)
        yield f"CPU {cpu} did not make: {_unmade(step)}"
        for depth, site in enumerate(step.stack):
            called = "called from " if depth else ""
            yield f"      {called}{wording.path_at(site)} in {site.function}"
            yield f"          {wording.source_at(site)}"


def _posted(world: InterpretedMachine, cpu: int) -> Step:
    """The access at which ``cpu`` stands."""
    block = world.block
    stack = world.block.posted[cpu][-1]
    op, at = int(block[cb.OP + cpu]), int(block[cb.AT + cpu])
    return Step(0, cpu, 0, op, at, int(block[cb.ARG + cpu]), 0, stack, False, False)


def _unmade(step: Step) -> str:
    words = wording.words_of(step)
    stored = ops.FIRST_WRITE <= step.op <= ops.LAST_STORE
    return str(words) if stored else str(words._replace(rest=""))


def _steps(world: InterpretedMachine) -> list[Step]:
    made = [0] * len(world.program.threads)
    found = []
    for index, event in enumerate(events_of(world.block)):
        stack = world.block.posted[event.cpu][made[event.cpu]]
        made[event.cpu] += 1
        found.append(
            Step(index, event.cpu, made[event.cpu], event.op, event.address, event.value,
                 event.second, stack, False, False)
        )  # fmt: skip
    return found


def _table(failure: CrashFailure, world: InterpretedMachine, full: bool) -> Iterator[str]:
    """One line a step, with a line for each death."""
    block = world.block
    steps = _steps(world)
    deaths = [
        int(block[crash_strategy.DIED_STEP + k]) for k in range(int(block[crash_strategy.DEATHS]))
    ]
    dead = (failure.victim, failure.case.living)
    shown = _chosen(steps, deaths, full)
    previous = -1
    for step in [*steps, None]:
        index = len(steps) if step is None else step.index
        for death, at in enumerate(deaths):
            if at == index:
                yield f"  ---- CPU {dead[death]} dies"
                previous = index - 1
        if step is None or step.index not in shown:
            continue
        if step.index != previous + 1:
            yield f"       ... {wording.count_of(step.index - previous - 1, 'step')}"
        previous = step.index
        yield _line(step, failure.case.living)


def _chosen(steps: Sequence[Step], deaths: Sequence[int], full: bool) -> set[int]:
    if full or not deaths:
        return {step.index for step in steps}
    first = deaths[0]
    near = {step.index for step in steps if first - BEFORE <= step.index < first}
    after = [t.index for t in steps if t.index >= first and crash_strategy.is_point(t.op)]
    half = AFTERWARDS // 2
    return near | set(after[:half]) | set(after[-half:])


def _line(step: Step, living: int) -> str:
    who = f"cpu {step.cpu}" if step.cpu < living else f"sup {step.cpu}"
    place = wording.place_in_file(step.site)
    said = f"  {step.index:>5}  {who}  {wording.words_of(step)}"
    return f"{said:<58} {place:<18} {wording.source_at(step.site)}"[:WIDTH]


def _end(world: InterpretedMachine) -> Iterator[str]:
    """Who never came to its end, and the access that could not be made."""
    block = world.block
    fault = fault_of(world.block)
    if fault is not None:
        yield f"refused: {fault}"
    for cpu in range(len(world.program.threads)):
        if block[cb.STATE + cpu] in (cb.ASLEEP, cb.YIELDED, cb.READY) and world.block.posted[cpu]:
            site: Site = world.block.posted[cpu][-1][0]
            how = "sleeps" if block[cb.STATE + cpu] == cb.ASLEEP else "is still"
            yield f"CPU {cpu} {how} at word {block[cb.AT + cpu]}: {wording.path_at(site)}"

"""A failed crash run, in the form that the printers of ``explorer/report`` take.

The run is repeated, interpreted. The account has all that the explorer says of a failure: the steps
with the names of the case's program, those that touch the words at stake, and what the check found.
A death is no step: it is a marker between the steps, and the cause says which access it prevented.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from shmalloc.engine import ops
from stress.crash import strategy as crash_strategy
from stress.crash.result import CrashFailure
from stress.crash.runner import Run, Runner
from stress.explorer.report import text
from stress.explorer.report.account import Account
from stress.explorer.report.cause import cause_of
from stress.explorer.report.explain import trace_of
from stress.explorer.report.naming import Naming
from stress.explorer.report.places import path_at, source_at
from stress.explorer.report.trace import Marker, Step, Trace, kind_of
from stress.explorer.report.wording import words_of
from stress.machine import block as cb
from stress.machine.interpreted import InterpretedMachine
from stress.machine.program import Program

WIDTH = 120
NO_FAILURE = {
    "passed": "Everything was recovered.",
    "abandoned": "The run reached its step limit; whether it would have ended is unknown.",
}


@dataclass(frozen=True, eq=False, kw_only=True)
class CrashAccount(Account):
    """``failure``: the options of the run. ``run``: how the repetition ended."""

    failure: CrashFailure
    run: Run

    @property
    def headline(self) -> str:
        """``pages-order-0: check 6 I_TAIL; cpu 0 died before its write 5``."""
        failure = self.failure
        if failure.point == 0:
            return f"{super().headline}; no CPU died"
        second = f", the supervisor before its write {failure.then}" if failure.then else ""
        died = f"cpu {failure.victim} died before its write {failure.point}{second}"
        return f"{super().headline}; {died}"

    @property
    def lanes(self) -> list[str]:
        """The lanes of the supervisors come last."""
        living = self.failure.case.living
        lanes = super().lanes[: self.trace.cpus]
        return [*lanes[:living], *(f"{lane} (supervisor)" for lane in lanes[living:])]

    @property
    def facts(self) -> list[str]:
        return [f"schedule {self.failure.schedule}"]

    @property
    def again_title(self) -> str:
        return self.failure.again_title

    @property
    def again(self) -> list[str]:
        return [self.failure.again("interpreted")]


def account_of(failure: CrashFailure) -> CrashAccount:
    """Repeat the run of ``failure``."""
    runner = Runner(failure.case, "interpreted", trace=True)
    run = runner.run(failure.schedule, failure.victim, failure.point, failure.then)
    machine = runner.machine
    assert isinstance(machine, InterpretedMachine)
    deaths = _deaths(failure, machine)
    trace = _without_idle(trace_of(machine), failure.case.living)
    trace = replace(trace, markers=tuple(marker for marker, _ in deaths))
    kind = kind_of(run.kind)
    told = [line for _, lines in deaths for line in lines]
    told.append(_cause(machine.program, kind, run.code, trace))
    return CrashAccount(
        program=machine.program,
        kind=kind,
        code=run.code,
        trace=trace,
        cause="\n".join(told),
        failure=failure,
        run=run,
    )


def tell(failure: CrashFailure, full: bool = False, width: int = WIDTH) -> str:
    """The run of ``failure`` as text; ``full``: with every step."""
    return text.render(account_of(failure), width, full=full)


def page(failure: CrashFailure) -> str:
    """The run of ``failure`` as one self-contained page."""
    from stress.explorer.report import html  # jinja2: only where a page is wanted

    return html.render(account_of(failure))


def _without_idle(trace: Trace, living: int) -> Trace:
    """``trace`` without the supervisors that never began."""
    active = {step.cpu for step in trace.steps} | {blocked.cpu for blocked in trace.blocked}
    cpus = max(living - 1, *active) + 1 if active else living
    return replace(trace, cpus=cpus, returns=trace.returns[:cpus])


def _cause(program: Program, kind: str, code: int, trace: Trace) -> str:
    return NO_FAILURE[kind] if kind in NO_FAILURE else cause_of(program, kind, code, trace)


def _deaths(failure: CrashFailure, machine: InterpretedMachine) -> list[tuple[Marker, list[str]]]:
    """Each death: its place between the steps, and what it prevented."""
    block = machine.block
    dead = (failure.victim, failure.case.living)[: int(block[crash_strategy.DEATHS])]
    writes = (failure.point, failure.then)
    found = []
    for death, cpu in enumerate(dead):
        ended = bool(int(block[crash_strategy.ENDED]) >> death & 1)
        marker = Marker(int(block[crash_strategy.DIED_STEP + death]), cpu, f"cpu {cpu} dies")
        said = [f"cpu {cpu} had returned when it died."] if ended else []
        found.append((marker, said or list(_prevented(machine, cpu, writes[death]))))
    return found


def _prevented(machine: InterpretedMachine, cpu: int, write: int) -> Iterator[str]:
    """The access that a dead CPU did not make, and the calls that led to it."""
    block = machine.block
    stack = block.posted[cpu][-1]
    op, at, value = (int(block[word + cpu]) for word in (cb.OP, cb.AT, cb.ARG))
    words = words_of(
        Step(0, cpu, 0, op, at, value, 0, stack, False, False), Naming(machine.program)
    )
    stored = ops.FIRST_WRITE <= op <= ops.LAST_STORE
    yield f"cpu {cpu} died before its write {write}: {words if stored else words._replace(rest='')}"
    for depth, site in enumerate(stack):
        called = "called from " if depth else ""
        yield f"    {called}{path_at(site)} in {site.function}: {source_at(site)}"

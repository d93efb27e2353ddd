"""What a schedule did to a real segment, and whether that is what the explorer said.

The check or the invariant of the program judges the memory that the processes have left, or in
which they are held. It is the audit that any run makes, from the same source; it runs alone, so it
is interpreted. A deadlock is what the system says of sleeping processes, a fault what the compiled
kernel reports.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from shmalloc.compiler.rewrite import placed
from shmalloc.compiler.runnable import runnable
from shmalloc.engine import ops
from shmalloc.errors import KernelFault
from shmalloc.memory import Unexpected, WordError
from stress.explorer.replay import replay
from stress.explorer.report.cause import grouped
from stress.explorer.report.explain import findings_of
from stress.explorer.report.naming import Naming, number
from stress.explorer.report.places import place_in_file
from stress.explorer.report.trace import Step, Trace
from stress.explorer.token import Token
from stress.gates.coordinator import Course, follow
from stress.gates.plan import NOT_FORCED, Plan, plan_of
from stress.gates.team import Team, gate_engine
from stress.machine import block as cb
from stress.machine.program import Program
from stress.machine.vocabulary import CheckedRam

FAULTS = {"memory": ("outside", "odd pair"), "expectation": ("expectation",)}
NO_MEANING = ("division", "shift", "step", "choice")


@dataclass(frozen=True, eq=False)
class Realized:
    """A token, made to happen.

    ``happened``: the real segment shows what the token says. ``code``: what its check or invariant
    returned. ``text``: what was seen, a sentence or more. ``note``: why it did not happen, or what
    could not be forced. ``seconds``: without compiling and without the explorer's replay.
    """

    program: Program
    token: str
    plan: Plan
    happened: bool
    code: int
    text: str
    note: str
    seconds: float

    @property
    def said(self) -> str:
        """``check 4``: what the token says."""
        token = Token.parse(self.token)
        return f"{token.kind} {token.code}" if token.code else token.kind


def realize(program: Program, token: str) -> Realized:
    """Make the schedule of ``token`` happen in real processes.

    Raises ``MisuseError`` for an invalid token, one of another program, or one that no longer fails
    as it says; ``EnvironmentUnfitError`` where compiled kernels cannot run.
    """
    from shmalloc.errors import MisuseError

    again = replay(program, token)
    parsed = Token.parse(token)
    if again.failure is None or not again.reproduced:
        raise MisuseError(f"token: {again}; only a schedule that fails can be made to happen")
    trace = again.failure.trace
    plan = plan_of(trace, parsed.kind)
    gate_engine().warm(program.threads)
    begin = time.perf_counter()
    with Team(program) as team:
        for cpu, outcomes in enumerate(plan.outcomes):
            team.set_outcomes(cpu, outcomes)
        team.start()
        course = follow(team, plan)
        happened, code, text = judged(team, plan, course, trace, parsed)
    seconds = time.perf_counter() - begin
    note = "" if happened else course.astray
    if plan.unforced:
        note = "; ".join(part for part in (note, _unforced(plan, program)) if part)
    return Realized(program, str(parsed), plan, happened, code, text, note, seconds)


def _unforced(plan: Plan, program: Program) -> str:
    named = Naming(program)
    stores = ", ".join(f"cpu {s.cpu}'s write of {named.in_prose(s.address)}" for s in plan.unforced)
    return f"{stores} came later than the gates can hold it: {NOT_FORCED}"


def judged(
    team: Team, plan: Plan, course: Course, trace: Trace, token: Token
) -> tuple[bool, int, str]:
    """Whether it happened, the code, and what was seen."""
    if token.kind in ("check", "invariant"):
        return _refused(team, course, token)
    if token.kind in ("deadlock", "livelock"):
        return _stuck(team, course, trace, token.kind)
    if token.kind in ("race", "torn", "undefined"):
        return _shown(team, plan, course, token.kind)
    for cpu, end in enumerate(team.ends):
        wanted = FAULTS.get(token.kind, NO_MEANING)
        if end is not None and end.fault in wanted:
            right = token.kind != "expectation" or end.code == token.code
            return right, end.code, f"The process of cpu {cpu} was refused: {end.text}."
    return False, 0, "No process made a fault."


def judge(team: Team, watcher: Any) -> int:
    """What a check or an invariant says of the memory as it is."""
    seen = CheckedRam(team.ram.array.data, lambda: team.returns)
    kernel = runnable(watcher)
    try:
        return int(kernel(seen) or 0)
    except (ArithmeticError, Unexpected, WordError) as error:
        fault = placed(error, None)
        assert isinstance(fault, KernelFault)
        raise fault from error


def _refused(team: Team, course: Course, token: Token) -> tuple[bool, int, str]:
    program = team.program
    open_ones = [*course.asleep, *course.spinning]
    if course.astray or (token.kind == "check" and open_ones):
        still = ", ".join(f"cpu {cpu}" for cpu in open_ones)
        return False, 0, course.astray or f"Not judged: {still} did not end."
    code = judge(team, program.check if token.kind == "check" else program.invariant)
    when = "when all had ended" if token.kind == "check" else "while all were held"
    if code == 0:
        return False, 0, f"The {token.kind} found nothing {when}."
    found = findings_of(program, [int(word) for word in team.ram.array])
    said = (
        "\n".join(grouped(found))
        if found
        else f"  it returned {Naming(program).code(code) or code}"
    )
    return code == token.code, code, f"The {token.kind} of the real segment found {when}:\n{said}"


def _stuck(team: Team, course: Course, trace: Trace, kind: str) -> tuple[bool, int, str]:
    named = Naming(team.program)
    if kind == "livelock":
        told = "; ".join(f"cpu {c} runs, after {n:,} accesses" for c, n in course.spinning.items())
        return bool(course.spinning) and not course.astray, 0, f"No end: {told}." if told else ""
    lines = [
        f"cpu {cpu} sleeps at {named.in_prose(word)}{_held_by(team, trace, cpu, word)}"
        for cpu, word in course.asleep.items()
    ]
    said = f"The processes hang: {'; '.join(lines)}." if lines else "No process sleeps."
    return bool(course.asleep) and not course.astray and not course.spinning, 0, said


def _held_by(team: Team, trace: Trace, cpu: int, word: int) -> str:
    """By the lock in the real segment; for another word, who the explorer says could change it."""
    holder = next((one.holder for one in trace.blocked if one.cpu == cpu), None)
    if word in team.program.locks:
        holder = (int(team.ram[word]) & cb.HOLDER_MASK) - 1
    return f", held by cpu {holder}" if holder is not None and holder >= 0 else ""


def _shown(team: Team, plan: Plan, course: Course, kind: str) -> tuple[bool, int, str]:
    """Both accesses of a race held at once, or a read between the halves of a swapped pair."""
    if not plan.shown or course.astray:
        return (
            False,
            0,
            "The accesses were not held." if plan.shown else "No two accesses are known.",
        )
    if kind == "torn":
        first, second = plan.shown
        value = int(team.ram[first.address])
        half = Naming(team.program).in_prose(first.address)
        said = f"Held: {_line(team, second)}; it has read {half} as {number(first.value)}"
        happened = _is_held(course, second) and value != first.value
        return happened, 0, f"{said}, which is {number(value)} now."
    lines = [_line(team, step) for step in plan.shown if _is_held(course, step)]
    all_held = len(lines) == len(plan.shown)
    return all_held, 0, f"Held at once: {'; '.join(lines)}." if lines else "None was held."


def _is_held(course: Course, step: Step) -> bool:
    op, at, _ = course.held.get(step.cpu, (-1, -1, 0))
    return (op, at) == (step.op, step.address)


def _line(team: Team, step: Step) -> str:
    """``cpu 1 before its write of count (0 there), counter.py:12``."""
    word = Naming(team.program).in_prose(step.address)
    value = Naming(team.program).value(step.address, int(team.ram[step.address]))
    where = f", {place_in_file(step.site)}" if step.site is not None else ""
    return f"cpu {step.cpu} before its {ops.NAMES[step.op]} of {word}, which is {value}{where}"

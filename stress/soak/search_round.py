"""A round that explores: a line of ``shmstress explore``, ``replay`` or ``crash``."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from shmalloc.errors import MisuseError
from shmalloc.sizes import parse_duration
from stress.check.unprepared import UnpreparedError, prepared
from stress.crash.case import CrashCase
from stress.crash.document import document as crash_document
from stress.crash.result import AT_END, CrashFailure, Key, key_of
from stress.crash.result import VERDICT_OF as CRASH_VERDICT_OF
from stress.crash.runner import Runner
from stress.crash.schedules import Schedule
from stress.crash.search import Effort, Hunt
from stress.crash.sites import OPERATION_NAMES
from stress.crash.targets import load_cases
from stress.explorer.explore import explore
from stress.explorer.loading import around
from stress.explorer.replay import replay
from stress.explorer.report.document import document as explorer_document
from stress.explorer.result import ERROR, VERDICT_OF
from stress.explorer.targets import load_program
from stress.explorer.token import Token
from stress.line import Line
from stress.progress import Report, Step
from stress.quantities import nearest, parse_seed
from stress.records.failures import (
    finding_of_crash,
    finding_of_failure,
    identity_of,
    identity_of_crash,
)
from stress.records.finding import SCHEDULE, Finding
from stress.records.fingerprint import Ignored
from stress.soak.messages import Begun, Going, Message, Outcome
from stress.verdict import Verdict

TELL_EVERY_S = 0.5
PREPARATION = "preparation"
ALONE = "a kernel that runs alone prepares memory without a fault"
Tell = Callable[[Message], None]
Readers = dict[str, tuple[str, Callable[[str], object]]]  # option -> parameter, its text read


def _seconds(text: str) -> float | None:
    return None if text in ("0", "0s") else parse_duration(text, "duration")


_EFFORT: Readers = {
    "duration": ("seconds", _seconds),
    "seed": ("seed", parse_seed),
    "depth": ("depth", int),
    "engine": ("engine", str),
    "races": ("races", bool),
}
_EXPLORE: Readers = {
    **_EFFORT,
    "strategy": ("strategy", str),
    "memory": ("memory", str),
    "schedules": ("schedules", int),
    "preemptions": ("preemptions", int),
    "delays": ("delays", int),
    "step-limit": ("step_limit", int),
    "workers": ("workers", int),
}
_CRASH: Readers = {
    **_EFFORT,
    "seeds": ("seeds", int),
    "classes": ("classes", int),
    "again": ("again", int),
    "stride": ("stride", int),
}
_ONE_DEATH: Readers = {
    "schedule": ("schedule", str),
    "victim": ("victim", int),
    "write": ("point", int),
    "then": ("then", int),
    "engine": ("engine", str),
}


def explored(line: Line, ignored: Ignored, tell: Tell) -> Outcome:
    """``shmstress explore PROGRAM``."""
    name = _target(line)
    arguments = _arguments(line, _EXPLORE)
    try:
        program = prepared(name, partial(load_program, name, _folders(line)))
    except UnpreparedError as error:
        return _unprepared(error, str(line))
    result = explore(
        program,
        progress=_steps(tell),
        known=(lambda one: identity_of(one).fingerprint in ignored) if ignored else None,
        **arguments,
    )
    failures = [one for one in (result.failure, *(one for one, _ in result.known)) if one]
    return Outcome(
        VERDICT_OF[result.verdict],
        operations=result.schedules,
        seconds=result.seconds,
        result={**explorer_document(result), "failure": None},  # the finding has it
        found=tuple(map(finding_of_failure, failures)),
        troubles=(result.note,) if result.verdict == ERROR else (),
    )


def replayed(line: Line, ignored: Ignored, tell: Tell) -> Outcome:
    """``shmstress replay TOKEN``: its schedule, interpreted, fails again, or it does not."""
    token = _target(line)
    tell(Begun())
    name = Token.parse(token).target
    try:
        program = prepared(name, partial(load_program, name, _folders(line)))
    except UnpreparedError as error:
        return _unprepared(error, str(line))
    again = replay(program, token)
    if again.failure is None:
        return Outcome(Verdict.PASSED, operations=1)
    return Outcome(Verdict.FAILED, operations=1, found=(finding_of_failure(again.failure),))


def crashed(line: Line, ignored: Ignored, tell: Tell) -> Outcome:
    """``shmstress crash CASE``: all deaths that the line asks for, or the one that it names."""
    name = _target(line)
    try:
        cases = prepared(name, partial(load_cases, [name], _folders(line)))
    except UnpreparedError as error:
        return _unprepared(error, str(line))
    if len(cases) != 1:
        raise MisuseError(f"program: {name!r} means {', '.join(cases)}; name one")
    case = next(iter(cases.values()))
    if "schedule" in line.options:
        tell(Begun())
        return _one_death(case, **_arguments(line, _ONE_DEATH))
    effort = Effort(**_arguments(line, _CRASH))
    result = Hunt(case, effort, OPERATION_NAMES, report=_steps(tell)).run()
    result.ignore(lambda one: identity_of_crash(one).fingerprint in ignored)
    return Outcome(
        CRASH_VERDICT_OF[result.verdict],
        operations=result.runs,
        seconds=result.seconds,
        result={**crash_document(result), "first_failure": None},
        found=tuple(map(finding_of_crash, (*result.failures, *result.ignored))),
    )


def _one_death(
    case: CrashCase, schedule: str, victim: int = 0, point: int = 0, then: int = 0,
    engine: str = "native",
) -> Outcome:  # fmt: skip
    """One run of crash mode, and the name of the place of the death, by which it is known."""
    parsed = Schedule.parse(schedule, case.living)
    run = Runner(case, engine).run(parsed, victim, point, then)
    if not run.failed:
        verdict = Verdict.VACUOUS if run.kind == "abandoned" else Verdict.PASSED
        return Outcome(verdict, operations=1)
    reader = Runner(case, "interpreted", trace=True)
    reader.run(parsed)
    points = reader.points()[victim]
    at = points[point - 1] if 0 < point <= len(points) else None
    key = key_of(at, OPERATION_NAMES) if point else Key("(no CPU died)", AT_END)
    stack = () if at is None else at.stack
    failure = CrashFailure(case, parsed, victim, point, then, run.kind, run.code, key, stack)
    return Outcome(Verdict.FAILED, operations=1, found=(finding_of_crash(failure),))


# --- parts ---------------------------------------------------------------------------------------
def _target(line: Line) -> str:
    if len(line.targets) != 1:
        raise MisuseError(f"{line.command}: {len(line.targets)} targets; name one")
    return line.targets[0]


def _folders(line: Line) -> Sequence[Path]:
    """Where the path of a target starts: in the folder of ``--from``, else near this one."""
    root = line.options.get("from")
    return around() if root is None else [Path(str(root))]


def _arguments(line: Line, known: Readers) -> dict[str, Any]:
    """Parameter -> value of the options of ``line``. Raises ``MisuseError``."""
    found: dict[str, Any] = {}
    for name, value in line.options.items():
        if name == "from":
            continue
        if name not in known:
            raise nearest(name, known, line.command)
        parameter, read = known[name]
        try:
            found[parameter] = value if isinstance(value, bool) else read(value)
        except MisuseError:
            raise
        except ValueError as error:
            raise MisuseError(f"{name}: {value!r}; {error}") from error
    return found


def _steps(tell: Tell) -> Report:
    """A report that sends a step now and then; the first one says that the work has begun."""
    due_s = 0.0

    def report(step: Step) -> None:
        nonlocal due_s
        now_s = time.monotonic()
        if due_s == 0.0:
            tell(Begun())
        if now_s >= due_s:
            due_s = now_s + TELL_EVERY_S
            tell(Going(step))

    return report


def _unprepared(error: UnpreparedError, command: str) -> Outcome:
    """A kernel fails although it is alone: found before any schedule."""
    found = Finding(
        kind=SCHEDULE,
        invariant=PREPARATION,
        site=error.name,
        report=str(error),
        command=command,
        sentence=ALONE,
    )
    return Outcome(Verdict.FAILED, found=(found,))

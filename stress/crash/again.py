"""Repeat one crash run and show it step by step: what the line below a failure does."""

from __future__ import annotations

from dataclasses import dataclass

from shmalloc.errors import MisuseError
from stress.crash.account import tell
from stress.crash.case import CrashCase
from stress.crash.result import AT_END, CrashFailure, Key
from stress.crash.runner import Run, Runner
from stress.crash.schedules import Schedule


@dataclass(frozen=True)
class Rerun:
    """``run``: how it ended. ``text``: its steps in words."""

    run: Run
    text: str

    def __str__(self) -> str:
        return self.text


def rerun(
    case: CrashCase,
    schedule: str,
    victim: int = 0,
    write: int = 0,
    then: int = 0,
    engine: str = "native",
    full: bool = False,
) -> Rerun:
    """Run ``case`` once: ``victim`` dies before its ``write``-th write, a supervisor ``then``.

    0: it lives. ``full``: show every step. Raises ``MisuseError``.
    """
    parsed = Schedule.parse(schedule, case.living)
    if not 0 <= victim < case.living:
        raise MisuseError(f"victim: {victim}; use 0 to {case.living - 1}")
    if write < 0 or then < 0 or (then and not write):
        raise MisuseError("write, then: use at least 1; --then needs --write")
    run = Runner(case, engine).run(parsed, victim, write, then)
    failure = CrashFailure(
        case, parsed, victim, write, then, run.kind, run.code, Key("", AT_END), ()
    )
    lines = [tell(failure, full).rstrip("\n")]
    wanted = 2 if then else 1 if write else 0
    if run.deaths < wanted:
        lines.append(
            f"{run.deaths} of {wanted} requested deaths took place: the CPU makes fewer writes"
        )
    return Rerun(run, "\n".join(lines))

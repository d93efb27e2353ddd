"""Exploring as a part of a test: kept failures first, then the search, with the test's own seed.

``Explorer`` is what the fixture ``explorer`` gives and what the mark ``explore`` calls. A schedule
that failed before runs first; it is found by the name of the program and the memory model, so it is
tried on kernels that have changed since, too. If it fails, that is the result; if it passes, the
search goes on as usual.

What it does not do: write what failed (session.py does, once the test has ended).
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from shmalloc.errors import EnvironmentUnfitError, MisuseError
from shmalloc.pytest_plugin.options import Settings
from shmalloc.pytest_plugin.outcomes import FOR_OUTCOMES, failed, unfit, vacuous
from shmalloc.pytest_plugin.record import (
    FAILS,
    KEPT,
    PASSES,
    REPLAYED,
    UNFIT_NOW,
    VERDICT,
    Found,
    Record,
    record_of,
)
from shmalloc.pytest_plugin.state import State
from shmalloc.sizes import parse_duration
from stress.explorer.address import target_of
from stress.explorer.digest import digest_of
from stress.explorer.explore import DEFAULT_SECONDS, explore
from stress.explorer.replay import CLOCKED_KINDS, Replay, replay
from stress.explorer.report.failure import Failure
from stress.explorer.result import ABANDONED, BUDGET, ERROR, FAILED, Exploration
from stress.explorer.token import Token
from stress.machine.program import Program
from stress.pytest_plugin.wording import command_for
from stress.quantities import counted

LEAST_SHARE_S = 1e-3  # of a program whose family has used up its time
REPLAY = "replay"  # the strategy of a result that one schedule gave


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class FailureOfTest(Failure):
    """A failure, and the line that runs its test again. ``origin``: of one that was replayed."""

    command: str
    origin: str = ""

    @property
    def facts(self) -> list[str]:
        """How it was found, or why it was replayed."""
        return [self.origin, *super().facts] if self.origin else super().facts

    @property
    def again_title(self) -> str:
        return "to see it again:"

    @property
    def again(self) -> list[str]:
        return [self.command]


class Explorer:
    """``explorer(program, **options)``: ``explore`` as a part of a test, with its seed.

    Takes the options of ``explore`` and gives its result, whether it passed or failed. A program
    of which nothing was tested ends the test: it is skipped, or fails with ``--shm-strict``.
    """

    def __init__(self, state: State) -> None:
        self._state = state

    def __repr__(self) -> str:
        return "explorer"

    @property
    def _record(self) -> Record:
        """That of the test that runs."""
        assert self._state.item is not None
        return record_of(self._state.item, self._state.settings.seed)

    def __call__(self, program: Program, **options: Any) -> Exploration:
        __tracebackhide__ = FOR_OUTCOMES
        found = self.explored(program, options)
        reason = why_vacuous(found)
        if reason is not None:
            vacuous(self._record, reason, self._state.settings.strict)
        return found

    def explored(
        self, program: Program, options: Mapping[str, Any], seconds: float | None = None
    ) -> Exploration:
        """The result for one program, noted in the record of the test.

        ``seconds``: its share of the budget; by default what the options say, scaled.
        """
        arguments = _arguments(options, self._state.settings, self._record.seed)
        if seconds is not None:
            arguments["seconds"] = seconds
        try:
            return self._noted(self._found(program, arguments))
        except EnvironmentUnfitError as error:
            reason = str(error)
        __tracebackhide__ = FOR_OUTCOMES
        return unfit(self._record, reason)

    def _found(self, program: Program, arguments: dict[str, Any]) -> Exploration:
        settings = self._state.settings
        if settings.replay is not None:
            return self._wanted_replay(program, settings.replay)
        if settings.budget.is_nothing:
            return _nothing(program, arguments, f"--shm-budget {settings.budget.text}")
        for name in ("seconds", "schedules"):
            if arguments.get(name, 1) == 0:
                return _nothing(program, arguments, f"{name}=0")
        kept = self._kept_failure(program, arguments)
        return kept if kept is not None else explore(program, **arguments)

    def _wanted_replay(self, program: Program, token: str) -> Exploration:
        """What ``--shm-replay`` asks for. Another program is not explored: the next may be it."""
        parsed = Token.parse(token)
        if parsed.target not in (program.name, target_of(program)):
            return self._result(program, None, parsed, 0.0)
        started = time.perf_counter()
        again = replay(program, token)
        self._record.tell(REPLAYED, str(again))
        self._record.note(str(again))
        return self._result(program, again, parsed, time.perf_counter() - started, str(again))

    def _kept_failure(self, program: Program, arguments: Mapping[str, Any]) -> Exploration | None:
        """The first kept failure of this program that fails again."""
        for failure in self._state.kept.of(self._record.node):
            memory = arguments.get("memory", "sc")
            if (failure.program, failure.memory) != (program.name, memory):
                continue
            started = time.perf_counter()
            since = time.strftime("%Y-%m-%d", time.localtime(failure.first_s))
            again = _replayed(program, failure.token, arguments.get("races", True))
            became = UNFIT_NOW if again is None else PASSES if again.failure is None else FAILS
            self._record.kept[failure.token] = became
            text = f"the schedule kept since {since} {became}: {failure.title}"
            self._record.note(text)
            self._record.tell(KEPT, text)
            if again is not None and again.failure is not None:
                seconds = time.perf_counter() - started
                origin = f"kept since {since} and replayed first"
                return self._result(program, again, Token.parse(failure.token), seconds, origin)
        return None

    def _result(
        self, program: Program, again: Replay | None, token: Token, seconds: float, origin: str = ""
    ) -> Exploration:
        """One schedule as an exploration; its token is that of the kernels as they are now."""
        failure = None if again is None else again.failure
        if again is not None and failure is not None:
            now = replace(token, kind=again.kind, code=again.code, digest=digest_of(program))
            failure = self._ours(replace(failure, schedule=str(now)), origin)
        return Exploration(
            program=program,
            verdict=BUDGET if failure is None else FAILED,
            strategy=REPLAY,
            memory=token.memory,
            engine="interpreted",
            seed=self._record.seed,
            schedules=int(again is not None),
            steps=0 if failure is None else len(failure.trace.steps),
            classes=None,
            estimate=None,
            abandoned=0,
            redundant=0,
            failure=failure,
            failures=int(failure is not None),
            seconds=seconds,
        )

    def _ours(self, failure: Failure, origin: str = "") -> FailureOfTest:
        token = failure.schedule
        command = command_for(self._state.config, self._record.node, "--shm-replay", token)
        plain = {field.name: getattr(failure, field.name) for field in fields(Failure)}
        return FailureOfTest(**plain, command=command, origin=origin)

    def _noted(self, found: Exploration) -> Exploration:
        record = self._record
        failure = found.failure
        if failure is not None and not isinstance(failure, FailureOfTest):
            found = replace(found, failure=self._ours(failure))
            failure = found.failure
        with record.lock:
            record.note(str(found))
            record.tell(VERDICT, found.verdict)
            if failure is not None:
                text = failure.report(self._state.width)
                record.fail(
                    Found(
                        found.program.name, found.memory, failure.schedule, failure.headline, text
                    )
                )
        return found


def _arguments(options: Mapping[str, Any], settings: Settings, seed: int) -> dict[str, Any]:
    """The arguments of ``explore``: the test's, scaled; the command line's engine wins."""
    arguments: dict[str, Any] = {"seed": seed, "engine": settings.usual_engine, **options}
    if settings.engine is not None:
        arguments["engine"] = settings.engine
    arguments["seconds"] = settings.budget.seconds_of(_seconds(options))
    if arguments.get("schedules"):
        arguments["schedules"] = settings.budget.schedules_of(arguments["schedules"])
    return arguments


def _seconds(options: Mapping[str, Any]) -> float | None:
    """The seconds that a test asks for, as a number; also "2s"."""
    wanted: float | str | None = options.get("seconds", DEFAULT_SECONDS)
    return parse_duration(wanted, "seconds") if isinstance(wanted, str) else wanted


def _replayed(program: Program, token: str, races: bool) -> Replay | None:
    """The schedule of a kept failure, run; None if the program is no longer one it is for."""
    try:
        parsed = Token.parse(token)
        return None if parsed.kind in CLOCKED_KINDS and not races else replay(program, token)
    except MisuseError:  # of a program with fewer CPUs now, or damaged in the file
        return None


def _nothing(program: Program, arguments: Mapping[str, Any], why: str) -> Exploration:
    """The result of a program for which there was no time at all."""
    return Exploration(
        program=program,
        verdict=ABANDONED,
        strategy=str(arguments.get("strategy", "auto")),
        memory=str(arguments.get("memory", "sc")),
        engine=arguments["engine"],
        seed=arguments["seed"],
        schedules=0,
        steps=0,
        classes=None,
        estimate=None,
        abandoned=0,
        redundant=0,
        note=f"{why}: nothing was explored",
    )


def why_vacuous(found: Exploration) -> str | None:
    """Why a result says nothing; None if it says something."""
    name = found.program.name
    if found.strategy == REPLAY:
        return None
    if found.verdict == ABANDONED and found.abandoned:
        cut = f"{found.abandoned:,} of {counted(found.schedules, 'schedule')}"
        return f"{name}: {cut} were cut at the step limit, and no search came to its end"
    if found.verdict == ABANDONED or (found.passed and found.schedules == 0):
        return f"{name}: {found.note or 'no schedule ended within the budget'}"
    return None


# --- what a test returns -------------------------------------------------------------------------
def explore_all(explorer: Explorer, value: object, options: Mapping[str, Any]) -> None:
    """Explore what a marked test returned, and end the test as the results say.

    The seconds are for all programs together; a program leaves to the next what it did not need.
    Raises ``MisuseError`` if the test returned no program.
    """
    __tracebackhide__ = FOR_OUTCOMES
    record, settings = explorer._record, explorer._state.settings
    programs = programs_of(value)
    if not programs:
        vacuous(record, "the test returned no program", settings.strict)
    results = list(_explored(explorer, programs, options))
    reports = [r.failure.report(explorer._state.width) for r in results if r.failure is not None]
    reports += [f"{result}\n{result.note}" for result in results if result.verdict == ERROR]
    if reports:
        record.shown = True
        failed("\n\n".join(reports))
    reasons = [reason for result in results if (reason := why_vacuous(result)) is not None]
    if reasons:
        vacuous(record, "; ".join(reasons), settings.strict)


def programs_of(value: object) -> list[Program]:
    """The programs that a test returned: one, or a family in any iterable, or by name."""
    if isinstance(value, Program):
        return [value]
    members: Iterable[object] = ()
    if isinstance(value, Mapping):
        members = value.values()
    elif isinstance(value, Iterable) and not isinstance(value, str | bytes):
        members = value
    else:
        raise MisuseError(f"the test returned {value!r}; return a Program, or several in a list")
    found = []
    for one in members:
        if not isinstance(one, Program):
            raise MisuseError(f"the test returned {one!r} among its programs; return Programs")
        found.append(one)
    return found


def _explored(
    explorer: Explorer, programs: list[Program], options: Mapping[str, Any]
) -> Iterable[Exploration]:
    left = explorer._state.settings.budget.seconds_of(_seconds(options))
    for number, program in enumerate(programs):
        started = time.perf_counter()
        share = max(left / (len(programs) - number), LEAST_SHARE_S) if left else None
        yield explorer.explored(program, options, share)
        if left:
            left -= time.perf_counter() - started

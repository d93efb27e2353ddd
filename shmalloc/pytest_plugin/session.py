"""What happens around the tests that use the plugin, in each process that runs tests.

::

    before the first test   kernels are compiled (compiling.py)
    setup of a test         what it did in an earlier run of it is forgotten
    report of its call      failures are kept, or kept ones dropped; sections and properties
    end                     problems with the folder of kept failures are told

Registered when the first test that may use us has been collected, never before.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import suppress

import pytest

from shmalloc.pytest_plugin.loading import of_plugin, what_hides_stress
from shmalloc.pytest_plugin.outcomes import skipped
from shmalloc.pytest_plugin.record import (
    FIXED,
    NEEDS,
    PASSES,
    PROBLEM,
    REPLAYED,
    UNFIT_NOW,
    Record,
    forget,
    known_record,
)
from shmalloc.pytest_plugin.state import State

SECTION = "shmalloc"


class Part:
    """The hooks of a process that runs tests."""

    def __init__(self, state: State) -> None:
        self._state = state

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> None:
        """Compile what the tests that were chosen call, unless none is going to run."""
        option = session.config.option
        idle = option.collectonly or getattr(option, "setupplan", False)
        needs = {need for item in session.items for need in item.stash.get(NEEDS, ()) if need}
        if needs and not idle and what_hides_stress() is None:  # else the test says so
            compiling = of_plugin("compiling")
            say = compiling.of_one_process(self._state.say, self._state.worker)
            compiling.compile_for(sorted(needs), self._state.settings, say)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        forget(item)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, None, None]:
        """A test that explored nothing because of ``--shm-replay`` has not passed."""
        self._wrap_again(item)
        yield
        record, wanted = known_record(item), self._state.settings.replay
        if record is not None and wanted is not None and not _has(record, REPLAYED):
            skipped("--shm-replay is for a program of another test")

    def _wrap_again(self, item: pytest.Item) -> None:
        """pytest-rerunfailures gives a test of a class a new function for each run."""
        marks = self._state.settings.marks
        ours = NEEDS in item.stash and any(item.get_closest_marker(mark) for mark in marks)
        if ours and isinstance(item, pytest.Function):
            from shmalloc.pytest_plugin.returned import wrap

            wrap(self._state, item)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        record = known_record(item)
        if record is not None and call.when == "call":
            _settle(self._state, record, call)
            report.user_properties = list(item.user_properties)
            _show(record, report, failed=call.excinfo is not None)
            _show_notes(report, call)
        return report


def _has(record: Record, name: str) -> bool:
    return any(known == name for known, _ in record.item.user_properties)


def _settle(state: State, record: Record, call: pytest.CallInfo[None]) -> None:
    """Bring the kept failures of the test up to date with what it did."""
    skip = call.excinfo is not None and isinstance(call.excinfo.value, pytest.skip.Exception)
    if state.settings.replay is None and not skip:
        failure_of = of_plugin("kept").Failure
        before = {failure.token: failure for failure in state.kept.of(record.node)}
        now, moment_s = {}, time.time()
        if call.excinfo is not None:  # those that were not run again stay
            gone = (PASSES, UNFIT_NOW)
            now = {t: f for t, f in before.items() if record.kept.get(t) not in gone}
            for token, found in record.failures.items():
                names = (found.program, found.memory)
                same = [t for t, f in now.items() if (f.program, f.memory) == names]
                first = [now.pop(t) for t in same]
                first_s = min((f.first_s for f in first), default=moment_s)
                times = sum(f.times for f in first) + 1
                now[token] = failure_of(*names, token, found.headline, first_s, moment_s, times)
        if set(now) != set(before) or record.failures:
            state.kept.keep(record.node, now.values())
        for token in set(before) - set(now) if call.excinfo is None else ():
            record.tell(FIXED, before[token].title)
    _warn(state, record)


def _warn(state: State, record: Record) -> None:
    """A problem with the disk is a warning of the test that met it."""
    for text in dict.fromkeys(state.problems):
        record.tell(PROBLEM, text)
        with suppress(Warning):  # where warnings are errors, the section at the end has it
            record.item.warn(pytest.PytestWarning(f"shmalloc: {text}"))
    state.problems.clear()


def _show(record: Record, report: pytest.TestReport, failed: bool) -> None:
    """The section of a test: the reports of what failed, unless the error of the test has them; a
    line for each result of a test that passed."""
    failed = failed and report.outcome == "failed"
    text = "\n\n".join(record.reports if failed else record.lines)
    if not text or (failed and record.shown):
        return
    add = getattr(report.longrepr, "addsection", None)
    if failed and add is not None:
        add(SECTION, text)  # a part of the error, so that it is in JUnit files, too
    else:
        report.sections.append((SECTION, text))


def _show_notes(report: pytest.TestReport, call: pytest.CallInfo[None]) -> None:
    """What Hypothesis noted, the example that failed, where pytest shows the text of ours alone."""
    error = None if call.excinfo is None else call.excinfo.value
    notes: list[str] = getattr(error, "__notes__", [])
    add = getattr(report.longrepr, "addsection", None)
    if notes and add is not None and isinstance(error, pytest.fail.Exception) and not error.pytrace:
        add("notes", "\n".join(notes))

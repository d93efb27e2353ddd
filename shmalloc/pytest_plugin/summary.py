"""The section at the end of a session, the properties of its JUnit file, and a last look around.

It hears of tests through the properties of their reports, so it is the same in a session of one
process and in the controller of pytest-xdist. It says nothing if no test used the plugin.

The last look: a process that was killed leaves its segment in /dev/shm. Workers of xdist do end so
(a crash, a timeout); what they left is removed when all of them are gone.
"""

from __future__ import annotations

import re
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from shmalloc.processes import printable
from shmalloc.pytest_plugin.record import FIXED, KEPT, PROBLEM, REPLAYED, SEED, UNFIT, VACUOUS
from shmalloc.pytest_plugin.state import State

TITLE = "shmalloc"
SEGMENT = re.compile(r"shm-(\d+)-\d+-[0-9a-f]{16}")  # generated names (shmalloc/leftovers.py)
SHARED_MEMORY = "/dev/shm"
MINUTE = "%Y-%m-%d %H:%M"


class Part:
    """The hooks of the process that talks to the user."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._found: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
        self._used = False
        self._disturbed = (
            False  # a worker was lost, or Ctrl-C: one that used us may have said nothing
        )

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        for name, value in report.user_properties:
            if name == SEED:
                self._used = True
            values = self._found[name][report.nodeid] if name.startswith("shm_") else []
            if value not in values:
                values.append(str(value))

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Before the JUnit file is written: its property; and an exit code that tells the truth."""
        if self._used:
            _add_to_junit(session.config, SEED, f"{self._state.settings.seed:#x}")
        status = session.exitstatus
        lost = self._state.settings.replay is not None and not self._found[REPLAYED]
        if lost and status in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
            session.exitstatus = pytest.ExitCode.USAGE_ERROR
        if self._state.settings.fixed and status == pytest.ExitCode.NO_TESTS_COLLECTED:
            session.exitstatus = pytest.ExitCode.OK  # no test has a kept failure

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        lines = self._lines()
        if lines:
            terminalreporter.section(TITLE)
            for line in lines:
                terminalreporter.line(line)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, error: object) -> None:
        """A worker of xdist has ended."""
        self._disturbed |= error is not None

    def pytest_keyboard_interrupt(self) -> None:
        self._disturbed = True

    def pytest_unconfigure(self) -> None:
        if (self._used or self._disturbed) and _orphans():
            from shmalloc.leftovers import sweep

            sweep()

    def _lines(self) -> list[str]:
        settings = self._state.settings
        lines = []
        if self._used:
            seed = f"{settings.seed:#x}"
            lines.append(f"session seed {seed} (repeat with --shm-seed {seed})")
        skipped = "failed by --shm-strict" if settings.strict else "skipped"
        lines += self._listed(VACUOUS, f"tested nothing, {skipped}")
        lines += self._listed(UNFIT, "cannot run on this machine, skipped")
        lines += self._listed(KEPT, "ran a kept failure first")
        lines += self._listed(FIXED, "turned green, kept failures are dropped")
        lines += self._listed(PROBLEM, "had a problem with kept failures")
        if settings.replay is not None and not self._found[REPLAYED]:
            lines.append("--shm-replay: no test of this session explores the program of the token")
        if settings.fixed:
            lines += self._fixed()
        return lines

    def _listed(self, name: str, what: str) -> list[str]:
        """``2 tests tested nothing``, and which and why."""
        found = self._found[name]
        if not found:
            return []
        count = "1 test" if len(found) == 1 else f"{len(found)} tests"
        rows = [f"  {node}: {value}" for node, values in found.items() for value in values]
        return [f"{count} {what}:", *map(printable, rows)]

    def _fixed(self) -> list[str]:
        """What ``--shm-fixed`` lists: all that turned green in this rootdir, the latest last."""
        rows = [
            f"  {time.strftime(MINUTE, time.localtime(when))}  {node}: {failure.headline}"
            for node, failure, when in self._state.kept.fixed()
        ]
        return ["turned green:", *map(printable, rows)] if rows else ["turned green: nothing"]


def _add_to_junit(config: pytest.Config, name: str, value: str) -> None:
    """A property of the suite. pytest's own fixture for that does not reach xdist's controller."""
    try:
        from _pytest.junitxml import xml_key
    except ImportError:  # a private name: without it the property is lost, the terminal has it
        return
    xml: Any = config.stash.get(xml_key, None)
    if xml is not None:
        xml.add_global_property(name, value)


def _orphans() -> bool:
    """Whether /dev/shm has a segment whose owner is gone. Costs a look at its names."""
    try:
        names = [path.name for path in Path(SHARED_MEMORY).iterdir()]
    except OSError:
        return False
    found = (SEGMENT.fullmatch(name) for name in names)
    return any(match and not Path(f"/proc/{match[1]}").exists() for match in found)

"""Native runs as a part of a test: ``stress_run``, and what the mark ``stress`` does.

A run is that of ``shmstress run``: worker processes on a segment of their own, audited. Only one
runs at a time on the machine, unless ``--shm-oversubscribe`` is given (turn.py). Ctrl-C and SIGTERM
end a run in order, and then do to pytest what they always do.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from typing import Any

from shmalloc.pytest_plugin.outcomes import FOR_OUTCOMES, failed, unfit, vacuous
from shmalloc.pytest_plugin.record import VERDICT, Record
from shmalloc.pytest_plugin.state import State
from stress.pytest_plugin.specs import spec_of
from stress.pytest_plugin.turn import Turn
from stress.pytest_plugin.wording import command_for
from stress.report.text import last_line, result_lines
from stress.run.controller import Controller
from stress.run.fork_server import clean_up
from stress.run.interrupts import Interrupts
from stress.run.progress import Progress
from stress.run.result import RunResult
from stress.spec import RunSpec
from stress.verdict import Verdict
from stress.workloads import OWN

TRY_AGAIN = "to try again, run: "  # begins a line of a report: shmstress knows our workloads alone
ENDED_IN_A_KERNEL = 1  # exit code of pytest if the run cannot be ended in any other way


class StressRun:
    """``stress_run(spec, **options)``: a run as a part of a test, with its seed.

    ``spec``: a dictionary of options, a ``RunSpec``, a ``Workload``, two kernels ``(step, finish)``
    or nothing. Gives the ``RunResult``, whether it passed or failed. A run that tested nothing ends
    the test: it is skipped, or fails with ``--shm-strict``.
    """

    def __init__(self, state: State, record: Record) -> None:
        self._state = state
        self._record = record

    def __repr__(self) -> str:
        return "stress_run"

    def __call__(self, spec: object = None, **options: Any) -> RunResult:
        __tracebackhide__ = FOR_OUTCOMES
        from stress.commands.run import require_limits

        settings, record = self._state.settings, self._record
        if settings.budget.is_nothing:
            vacuous(record, f"--shm-budget {settings.budget.text}: nothing ran", settings.strict)
        if options.get("seconds") == 0:
            vacuous(record, "seconds=0: nothing ran", settings.strict)
        name = getattr(record.item, "originalname", record.item.name)
        wanted = spec_of(options, spec, settings, record.seed, name)
        require_limits(wanted)
        return self._noted(self._run(wanted))

    def _run(self, spec: RunSpec) -> RunResult:
        me = f"{os.getpid()}\n{self._record.node}"
        turn = nullcontext() if self._state.settings.oversubscribe else Turn(me, self._state.say)
        interrupts = Interrupts()
        first = threading.current_thread() is threading.main_thread()
        with _one_at_a_time, turn, interrupts if first else nullcontext():
            progress = _Lines(self._state.say)
            result = Controller(spec, progress, interrupts, None, self._abandon).run()
            if os.getpid() != self._state.pid:
                clean_up()  # a child of pytest-forked ends without exit handlers
        if interrupts.requested:
            _obey(interrupts.signal_name)
        return result

    def _noted(self, result: RunResult) -> RunResult:
        __tracebackhide__ = FOR_OUTCOMES
        record = self._record
        record.tell(VERDICT, result.verdict.name)
        record.note(_told([last_line(result)], result)[0])
        if result.verdict is Verdict.VACUOUS:
            vacuous(record, _why_vacuous(result), self._state.settings.strict)
        if result.verdict is Verdict.UNFIT:
            unfit(record, "; ".join(text for _, text in result.troubles))
        if result.verdict is not Verdict.PASSED:
            record.reports.append("\n".join(self.report(result)))
        return result

    def report(self, result: RunResult) -> list[str]:
        """A failed run in words, with the line that runs the test again with the same inputs."""
        told = _told(result_lines(result), result)
        seed = f"{self._state.settings.seed:#x}"
        again = command_for(self._state.config, self._record.node, "--shm-seed", seed)
        return [*told, "to run the test again, with the same inputs:", f"  {again}"]

    def _abandon(self, result: RunResult) -> None:
        """This process is stuck in a kernel: all that is left is to say so and to end it."""
        self._state.say("\n".join(self.report(result)))
        sys.stderr.flush()
        os._exit(ENDED_IN_A_KERNEL)


class _Lines(Progress):
    """The progress of a run, as far as it is worth a line: that kernels are compiled."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say

    def tell(self, text: str) -> None:
        self._say(text)


_one_at_a_time = threading.RLock()  # a process has one forkserver


def _obey(name: str | None) -> None:
    """What the signal would have done without the run: pytest hears it now."""
    if name == "SIGINT":
        raise KeyboardInterrupt
    os.kill(os.getpid(), signal.Signals[str(name)])


def _told(lines: Iterable[str], result: RunResult) -> list[str]:
    """Lines of a report, without the command of ``shmstress`` if that cannot know a workload."""
    if all(name in OWN for name in result.spec.workloads):
        return list(lines)
    return [line.partition(" spec: ")[0] for line in lines if not line.startswith(TRY_AGAIN)]


def _why_vacuous(result: RunResult) -> str:
    missed = result.missed_marks()
    return f"never reached: {', '.join(missed)}" if missed else "the workers did nothing"


# --- what a test returns -------------------------------------------------------------------------
def run_returned(stress_run: StressRun, value: object, options: Mapping[str, Any]) -> None:
    """Run what a marked test returned, and end the test as the result says."""
    __tracebackhide__ = FOR_OUTCOMES
    result = stress_run(value, **options)
    if not result.passed:
        stress_run._record.shown = True
        failed("\n".join([f"{_names(result)}: {result.verdict.name}", *stress_run.report(result)]))


def _names(result: RunResult) -> str:
    return ",".join(result.spec.workloads)

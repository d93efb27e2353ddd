"""The process of a round, as the soak sees it: started, listened to, and ended whatever happens.

It is in a process group of its own, so that a Ctrl-C reaches the soak alone, which passes one on.
It dies with the soak (__main__.py), and its workers die with it. A segment that it left is removed
here, after its death. What it writes on standard error is kept for the words about a death.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO

import stress
from shmalloc import constants as c
from shmalloc.errors import Violation
from shmalloc.invariants import name_of
from shmalloc.leftovers import sweep
from stress.run.interrupts import ImmediateEnd
from stress.run.workers import describe_exit
from stress.soak.messages import Begun, Message, Outcome
from stress.soak.stops import Stops
from stress.verdict import Verdict

TICK_S = 0.2
COMPILE_LIMIT_S = 900.0  # until the work begins: all kernels may have to be compiled
GRACE_S = 120.0  # behind the time of the round: audits, the end of a search, a page to write
LEAVE_S = 20.0  # for a process that has said how its round ended
TOLD_BYTES = 4096  # of its last words
Receive = Callable[[Message], None]


class RoundProcess:
    """One child process. Use in a ``with`` block: leaving it leaves no process behind."""

    def __init__(self, command: str, seconds: float, ignored: Iterable[str] = ()) -> None:
        """``seconds``: how long the work lasts; much longer is a trouble of its own.

        ``ignored``: fingerprints that the round goes past.
        """
        self.command = command
        self._limit_s = 2 * seconds + GRACE_S
        self._deadline_s = time.monotonic() + COMPILE_LIMIT_S
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed in __exit__
        ours, theirs = os.pipe()
        self._pipe = Connection(ours, writable=False)
        try:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-P", "-m", "stress.soak"),
                    *(str(theirs), str(os.getpid()), ",".join(ignored), command),
                ],
                env=_variables(),
                stdin=subprocess.DEVNULL,
                stdout=self._errors,
                stderr=self._errors,
                pass_fds=(theirs,),
                process_group=0,
            )
        finally:
            os.close(theirs)

    def __enter__(self) -> RoundProcess:
        return self

    def __exit__(self, *error: object) -> None:
        killed = self.process.poll() is None
        if killed:
            self.process.kill()
        self.process.wait()
        self._pipe.close()
        self._errors.close()
        if killed or self.process.returncode < 0:
            sweep()

    def listen(self, receive: Receive, tick: Callable[[], None], stops: Stops) -> Outcome:
        """All messages to ``receive``, until the last one, which is returned.

        ``tick`` is called several times a second. A first signal is passed on, and the round ends
        early and in order. A process that dies or does not end has an outcome, too. Raises
        ``ImmediateEnd`` for a second signal.
        """
        told = False
        while True:
            tick()
            if stops.at_once:
                raise ImmediateEnd
            if stops.requested and not told:
                told = True
                self.process.send_signal(signal.SIGINT)
            if time.monotonic() > self._deadline_s:
                return self._overdue()
            if not self._pipe.poll(TICK_S):
                continue
            try:
                message = self._pipe.recv()
            except (EOFError, OSError):  # OSError: it was killed in the middle of a message
                return self._died(stops.requested)
            if isinstance(message, Outcome):
                self._see_off()
                return message
            if isinstance(message, Begun):
                self._deadline_s = time.monotonic() + self._limit_s
            receive(message)

    def _see_off(self) -> None:
        try:
            self.process.wait(LEAVE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()

    def _overdue(self) -> Outcome:
        text = f"the round did not end in time; its process was killed. {self._last_words()}"
        return Outcome(Verdict.ERROR, troubles=(text.rstrip(),))

    def _died(self, interrupted: bool) -> Outcome:
        """The pipe ended before the outcome came."""
        self._see_off()
        code = self.process.wait()
        how, said = f"the process of the round {describe_exit(code)}", self._last_words()
        text = f"{how}, saying: {said}" if said else how
        if interrupted:
            return Outcome(Verdict.INTERRUPTED, troubles=(text,))
        if code >= 0 or code == -signal.SIGKILL:  # which we did not send: a lack of memory
            return Outcome(Verdict.ERROR, troubles=(text,))
        found = Violation(name_of(c.I_PROGRESS), "the controller", "a living process", how)
        return Outcome(Verdict.FAILED, violations=(found,), violations_total=1, troubles=(text,))

    def _last_words(self) -> str:
        size = self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, size - TOLD_BYTES))
        return self._errors.read().decode("utf-8", "replace").strip()


def _variables() -> dict[str, str]:
    """The environment, with the packages that this process imported before all others."""
    assert stress.__file__ is not None
    root = str(Path(stress.__file__).parents[1])
    before = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": root if not before else f"{root}{os.pathsep}{before}"}

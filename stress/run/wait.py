"""How the controller waits for workers, and never for a dead one.

``gather`` collects one answer from each of some workers. Meanwhile it looks at every worker: one
that died, broke or fell silent ends the wait with ``Trouble``, so that no wait lasts longer than
the time after which a worker counts as hung. Only a death that was asked for (``DeathHandler``) is
no trouble: another worker takes the slot, and no answer is expected of it.
"""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Protocol

from shmalloc import constants as c
from shmalloc.errors import Violation
from shmalloc.invariants import name_of
from stress.run import bus_error
from stress.run.interrupts import Interrupts
from stress.run.memory import RunMemory
from stress.run.messages import Answer, Broken
from stress.run.watchdog import Watchdog
from stress.run.workers import Member, Workers, describe_exit, process_state
from stress.verdict import Verdict

POLL_S = 0.1
LAST_OPERATIONS = 16


class Trouble(Exception):
    """The run cannot go on: its verdict, and the violation if it is one."""

    def __init__(self, verdict: Verdict, text: str, violation: Violation | None = None) -> None:
        super().__init__(text)
        self.verdict = verdict
        self.text = text
        self.violation = violation


class DeathHandler(Protocol):
    """Handles deaths that were asked for."""

    def handle_death(self, member: Member, code: int) -> bool:
        """Whether this death was one; what follows from it is then done or under way."""

    def handle_answer(self, member: Member, answer: Answer) -> bool:
        """Whether the answer came from a worker that is about to take a dead one's slot."""


class WorkerWait:
    """Listens to the workers for the controller."""

    def __init__(
        self,
        workers: Workers,
        memory: RunMemory,
        interrupts: Interrupts,
        death_handler: DeathHandler | None = None,
    ) -> None:
        self._workers = workers
        self._memory = memory
        self._interrupts = interrupts
        self._death_handler = death_handler

    def gather(self, members: Iterable[Member], watchdog: Watchdog) -> dict[int, Answer]:
        """One answer from each of ``members`` that lives, by CPU slot. Raises ``Trouble``."""
        missing = {member.cpu: member for member in members}
        answers: dict[int, Answer] = {}
        while missing:
            for member, answer in self._listen(POLL_S):
                member.working = False
                answers[member.cpu] = answer
                missing.pop(member.cpu, None)
            if missing:
                self.check(watchdog)
                present = self._workers.members
                missing = {cpu: member for cpu, member in missing.items() if member in present}
        return answers

    def watch(self, watchdog: Watchdog, timeout_s: float) -> None:
        """Wait once while the workers work: no answer is expected. Raises ``Trouble``."""
        for member, answer in self._listen(min(POLL_S, timeout_s)):
            raise AssertionError(f"{member} said {answer} without being asked")
        self.check(watchdog)

    def _listen(self, timeout_s: float) -> Iterator[tuple[Member, Answer]]:
        """Answers of workers that are in their places."""
        for member, answer in self._workers.listen(timeout_s):
            self.refuse_broken(member, answer)
            if self._death_handler is None or not self._death_handler.handle_answer(member, answer):
                yield member, answer

    def refuse_broken(self, member: Member, answer: Answer) -> None:
        """Raise ``Trouble`` if the answer is that the worker cannot go on."""
        if not isinstance(answer, Broken):
            return
        if answer.fault is None:
            raise Trouble(Verdict.ERROR, f"{member} broke:\n{answer.text}")
        if answer.fault in ("outside", "odd pair"):
            violation = self._violation(member, c.M_OUT_OF_RANGE, "accesses inside", answer.text)
            violation = replace(violation, kernel=answer.kernel)
            raise Trouble(Verdict.FAILED, f"{member} left the segment: {answer.text}", violation)
        violation = self._violation(member, c.I_PROGRESS, "a kernel that ends", answer.text)
        violation = replace(violation, kernel=answer.kernel)
        raise Trouble(Verdict.FAILED, f"{member} could not go on: {answer.text}", violation)

    def check(self, watchdog: Watchdog) -> None:
        """Raise ``Trouble`` for the first worker that is dead or silent."""
        for member, code in self._workers.dead():
            if self._death_handler is None or not self._death_handler.handle_death(member, code):
                raise self._died(member, code)
        working = {m.cpu: m for m in self._workers.members if m.working and not m.vacant}
        for cpu in watchdog.look({cpu: self._memory.beat_of(cpu) for cpu in working}):
            raise self._hung(working[cpu], watchdog.timeout_s)

    def _died(self, member: Member, code: int) -> Trouble:
        how, said = describe_exit(code) + member.last_words.of_crash(), member.last_words.others()
        if self._interrupts.requested:  # a signal to the whole group ends the forkserver, too
            name = self._interrupts.signal_name
            return Trouble(Verdict.INTERRUPTED, f"{member} {how} as the run got {name}")
        if code >= 0:
            return Trouble(Verdict.ERROR, f"{member} {how}, saying {said or 'nothing'}")
        if code == -signal.SIGBUS:
            text = f"{member} {how}: {bus_error.cause(self._memory.segment)}"
            return Trouble(Verdict.UNFIT, text)
        if code == -signal.SIGKILL:
            how += ", which the run did not send (the system's out-of-memory killer?)"
        violation = self._violation(member, c.I_PROGRESS, "a living worker", how)
        text = f"{member} {how}" + (f", and said:\n{said}" if said else "")
        return Trouble(Verdict.FAILED, text, violation)

    def _hung(self, member: Member, timeout_s: float) -> Trouble:
        state = process_state(member.pid)
        how = f"fell silent for more than {timeout_s:g} s (process state: {state})"
        violation = self._violation(member, c.I_PROGRESS, "a beat", how)
        return Trouble(Verdict.FAILED, f"{member} {how}", violation)

    def _violation(self, member: Member, code: int, expected: str, found: str) -> Violation:
        history = self._memory.reports.history(member.cpu, LAST_OPERATIONS)
        return Violation(name_of(code), str(member), expected, found, history)

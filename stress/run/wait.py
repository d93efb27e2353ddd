"""The gate: everybody waits for everybody, and nobody waits for the dead.

``gather`` collects one answer from each of some workers. On the way it looks at every worker: one
that died, broke or fell silent ends the wait with ``Trouble``, so that no wait lasts longer than
the time after which a worker counts as hung. Only a death that was asked for (``Mourners``) is no
trouble: somebody else comes in the place of the dead, and nothing is expected of it.
"""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator
from typing import Protocol

from shmalloc import constants as c
from shmalloc.errors import Violation
from shmalloc.invariants import name_of
from stress.run.interrupts import Interrupts
from stress.run.memory import RunMemory
from stress.run.messages import Answer, Broken
from stress.run.watchdog import Watchdog
from stress.run.workers import Crew, Member, describe_exit, process_state
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


class Mourners(Protocol):
    """Who sees to deaths that were asked for."""

    def bury(self, member: Member, code: int) -> bool:
        """Whether this death was one, and all that follows from it is done or under way."""

    def attend(self, member: Member, answer: Answer) -> bool:
        """Whether the answer came from somebody on the way into a dead one's place."""


class Gate:
    """Listens to the crew on behalf of the controller."""

    def __init__(
        self,
        crew: Crew,
        memory: RunMemory,
        interrupts: Interrupts,
        mourners: Mourners | None = None,
    ) -> None:
        self._crew = crew
        self._memory = memory
        self._interrupts = interrupts
        self._mourners = mourners

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
                seated = self._crew.members
                missing = {cpu: member for cpu, member in missing.items() if member in seated}
        return answers

    def watch(self, watchdog: Watchdog, timeout_s: float) -> None:
        """One turn of waiting while everybody works: no answer is expected. Raises ``Trouble``."""
        for member, answer in self._listen(min(POLL_S, timeout_s)):
            raise AssertionError(f"{member} said {answer} without being asked")
        self.check(watchdog)

    def _listen(self, timeout_s: float) -> Iterator[tuple[Member, Answer]]:
        """Answers of workers that are in their places."""
        for member, answer in self._crew.listen(timeout_s):
            self.refuse_broken(member, answer)
            if self._mourners is None or not self._mourners.attend(member, answer):
                yield member, answer

    def refuse_broken(self, member: Member, answer: Answer) -> None:
        """Raise ``Trouble`` where the answer is that the worker cannot go on."""
        if not isinstance(answer, Broken):
            return
        if answer.fault is None:
            raise Trouble(Verdict.ERROR, f"{member} broke:\n{answer.text}")
        if answer.fault in ("outside", "odd pair"):
            violation = self._violation(member, c.M_OUT_OF_RANGE, "accesses inside", answer.text)
            raise Trouble(Verdict.FAILED, f"{member} left the segment: {answer.text}", violation)
        violation = self._violation(member, c.I_PROGRESS, "a kernel that ends", answer.text)
        raise Trouble(Verdict.FAILED, f"{member} could not go on: {answer.text}", violation)

    def check(self, watchdog: Watchdog) -> None:
        """Raise ``Trouble`` for the first worker that is dead or silent."""
        for member, code in self._crew.dead():
            if self._mourners is None or not self._mourners.bury(member, code):
                raise self._died(member, code)
        working = {m.cpu: m for m in self._crew.members if m.working and not m.buried}
        for cpu in watchdog.look({cpu: self._memory.beat_of(cpu) for cpu in working}):
            raise self._hung(working[cpu], watchdog.timeout_s)

    def _died(self, member: Member, code: int) -> Trouble:
        how, said = describe_exit(code) + member.last_words.of_crash(), member.last_words.others()
        if code >= 0:
            return Trouble(Verdict.ERROR, f"{member} {how}, saying {said or 'nothing'}")
        if self._interrupts.requested:
            name = self._interrupts.signal_name
            return Trouble(Verdict.INTERRUPTED, f"{member} {how} as the run got {name}")
        if code == -signal.SIGBUS:
            text = (
                f"{member} {how}: the system could not back a page of the segment; free memory or"
                " enlarge /dev/shm, use a smaller --ram, and --prealloc to know before the start"
            )
            return Trouble(Verdict.UNFIT, text)
        if code == -signal.SIGKILL:
            how += ", which somebody else sent (the system's out-of-memory killer?)"
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

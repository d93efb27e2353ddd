"""The loop of a soak: draw a round, perform it, record it; look into what is new.

::

    known findings again -> [ round -> recorded -> (repeated -> cut down) ]* -> verdict

The end of a round, what it found and the counts of the soak are one transaction; only then is a
finding repeated. A soak that dies in between finds the finding not repeated when it goes on.
"""

from __future__ import annotations

import time

from shmalloc.sizes import parse_duration
from stress.line import Line
from stress.records.finding import VIOLATION, Finding, finding_of
from stress.records.fingerprint import without_numbers
from stress.records.outcomes import by_cause
from stress.records.writer import Records, Work
from stress.run.growth import GrowthWatch
from stress.run.interrupts import ImmediateEnd
from stress.soak.draw import Drawer, Round
from stress.soak.inquiry import Inquiry
from stress.soak.messages import Outcome
from stress.soak.performing import Performer, own_use
from stress.soak.session import Session
from stress.soak.stops import Stops
from stress.soak.view import View
from stress.verdict import Verdict

GIVE_UP_AFTER = 5  # rounds in a row that could not run
CHANGED = (
    "round {number} ran other kernels than those that the soak began with, because their files have"
    " changed; begin another soak"
)
REPLAY_S = 60.0  # of a command that names no duration


class Soak:
    """One session of a soak, on a run of the database that has begun."""

    def __init__(
        self,
        drawer: Drawer,
        records: Records,
        session: Session,
        view: View,
        stops: Stops,
    ) -> None:
        self.spec = session.spec
        self.standing = session.standing
        self._drawer = drawer
        self._records = records
        self._session = session
        self._run_id = session.run_id
        self._view = view
        self._stops = stops
        self._performer = Performer(records, view, stops)
        self._growth = GrowthWatch()
        self._inquiry = Inquiry(session, records, self._again, view, lambda: stops.requested)
        self._open: int | None = None  # the round that is running
        self._spent_s = self.standing.clock_s
        self._begun_s = time.monotonic()
        self.standing.sessions += 1

    def clock_s(self) -> float:
        """How long the soak has run, in all of its sessions."""
        return self._spent_s + time.monotonic() - self._begun_s

    def run(self) -> Verdict:
        """All rounds; the run in the database has ended then."""
        at_once = False
        self._view.begin(self.spec.duration_s, self.standing, self.clock_s)
        self._performer.ignored = self._records.ignored
        try:
            self._records.note_summary(self._run_id, self.standing.as_dict())  # one session more
            self._inquiry.try_known(self.standing)
            recorded = self._records.next_number(self._run_id)
            number = max(recorded, self.standing.last_number + 1)
            while self._goes_on(number):
                self._round(self._drawer.round(number))
                number += 1
        except ImmediateEnd:
            at_once = True
        finally:
            self._view.end()
        return self._end(at_once)

    def _goes_on(self, number: int) -> bool:
        """Whether that round is to be: as close to the duration as whole rounds get."""
        if self.spec.rounds is not None and number > self.spec.rounds:
            return False
        left_s = self.spec.duration_s - self.clock_s()
        enough = self.standing.total == 0 or left_s > self.spec.round_time_s / 2
        given_up = self.standing.bad_in_a_row >= GIVE_UP_AFTER or self.standing.changed
        return enough and not given_up and not self._stops.requested

    def _round(self, drawn: Round) -> None:
        work = Work(drawn.kind, drawn.command, drawn.spec, drawn.seed)
        round_id = self._records.begin_round(self._run_id, work, drawn.on, drawn.number)
        self._open = round_id
        self._view.round(drawn)
        outcome = self._performer.perform(drawn.command, drawn.seconds, round_id)
        names = self._record(drawn, round_id, outcome)
        self._open = None
        self._view.ended(drawn, outcome)
        self._watch_growth(round_id)
        for name in names:
            self._inquiry.look_into(name)

    def _record(self, done: Round, round_id: int, outcome: Outcome) -> list[str]:
        """Write all of a round's end; the fingerprints of what it found."""
        with self._records.together():
            names = self._records.violations(round_id, by_cause(outcome.violations), done.command)
            names += [self._records.finding(round_id, one) for one in outcome.found]
            if outcome.verdict is Verdict.FAILED and not names:
                names.append(self._records.finding(round_id, _of_trouble(done, outcome)))
            names += self._records.violations(round_id, by_cause(outcome.ignored), done.command)
            self._records.end_round(
                round_id,
                outcome.verdict.name,
                outcome.seconds,
                outcome.operations,
                outcome.result or {"troubles": list(outcome.troubles)},
                outcome.latencies,
            )
            new = [name for name in names if name not in self.standing.found]
            self.standing.add(done, outcome, names)
            self.standing.clock_s = self.clock_s()
            if outcome.kernels not in ("", self._session.kernels):
                self.standing.changed = CHANGED.format(number=done.number)
            self._records.note_summary(self._run_id, self.standing.as_dict())
        for name in new:
            if self._records.is_ignored(name):
                continue
            self._view.finding(name, f"round {done.number}: {_headline(outcome)}")
        return names

    def _watch_growth(self, round_id: int) -> None:
        """A round leaves nothing in this process, so what grows from round to round is a leak."""
        self._growth.see(self.clock_s(), own_use())
        for violation in self._growth.violations():
            found = finding_of(violation, self.spec.command_line())
            with self._records.together():
                name = self._records.finding(round_id, found)
                self.standing.growth.append(str(violation))
                self._records.note_summary(self._run_id, self.standing.as_dict())
            self._view.finding(name, str(violation))

    def _again(self, command: str) -> Outcome:
        """A repetition: nothing of it is recorded as a round."""
        return self._performer.perform(command, seconds_of(command))

    def _end(self, at_once: bool) -> Verdict:
        """Settle the verdict, and end the run in the database."""
        self.standing.clock_s = self.clock_s()
        seen = {*self.standing.found, *self.standing.again}
        ignored = [name for name in seen if self._records.is_ignored(name)]
        verdict = self.standing.verdict(ignored, at_once or self._stops.requested)
        with self._records.together():
            if self._open is not None:
                self._records.end_round(self._open, Verdict.INTERRUPTED.name)
            self._records.end_run(self._run_id, verdict.name, self.standing.as_dict())
        return verdict


def seconds_of(command: str) -> float:
    """How long the work of a command line lasts, at most."""
    duration = Line.parse(command).options.get("duration", "0")
    return parse_duration(str(duration), "duration") if duration not in ("0", "0s") else REPLAY_S


def _of_trouble(done: Round, outcome: Outcome) -> Finding:
    """A round that failed for a reason that is no violation."""
    said = "\n".join(outcome.troubles) or outcome.verdict.meaning
    site = without_numbers(said.partition("\n")[0])
    return Finding(VIOLATION, "round", site, report=said, command=done.command)


def _headline(outcome: Outcome) -> str:
    """What was found first, in one line."""
    if outcome.violations:
        return str(outcome.violations[0])
    said = outcome.found[0].report if outcome.found else "\n".join(outcome.troubles)
    return said.partition("\n")[0]

"""``Inquiry``: what follows from a finding: repeated, cut down, explained, tried again next time.

A finding is looked into once, when it is new: ``repeatable`` in the database says that it was. Open
findings of earlier soaks are repeated before the first round, as Hypothesis does with the failing
examples that it knows; one that does not come again although the kernels have changed is fixed, as
in ClusterFuzz. If a round sees it again, it is open again.
"""

from __future__ import annotations

from collections.abc import Callable

from stress.line import COMMANDS, PROGRAM, Line
from stress.quantities import counted
from stress.records.finding import MUTANT, Attachment
from stress.records.reader import Reader
from stress.records.rows import FindingRow
from stress.records.writer import Records
from stress.soak.again import Perform, Repetition, Until, is_native, repeat
from stress.soak.explaining import explained
from stress.soak.reduce import Reducer, Reduction
from stress.soak.run_round import spec_of
from stress.soak.session import Session
from stress.soak.standing import Standing
from stress.soak.view import View
from stress.spec import RunSpec
from stress.verdict import Verdict

GREEN = {Verdict.PASSED, Verdict.VACUOUS}
KNOWN_SHARE = 0.25  # of the duration, at most, for the findings of earlier soaks


class Inquiry:
    """``stopped``: whether the soak was told to end."""

    def __init__(
        self,
        session: Session,
        records: Records,
        perform: Perform,
        view: View,
        stopped: Callable[[], bool],
    ) -> None:
        self._session = session
        self._spec = session.spec
        self._records = records
        self._perform = perform
        self._view = view
        self._stopped = stopped

    def look_into(self, name: str) -> None:
        """Repeat a finding and make it smaller, unless that was done, or it is ignored."""
        finding = self._finding(name)
        if finding.repeatable is not None or self._records.is_ignored(name):
            return
        if not can_be_repeated(finding):
            return
        self._view.doing(f"repeating {name}: {finding.command}")
        repetition = repeat(
            finding.command, name, self._spec.repeat, self._perform, self._goes_on()
        )
        if not repetition.conclusive:  # it is made up for when the soak goes on
            return
        said, command = str(repetition), finding.command
        self._view.tell(f"  {name} {said}")
        if repetition.repeatable and is_native(finding.command):
            smaller = self._reduced(name, finding.command, repetition)
            command = smaller.spec.command_line()
            said += f"; cut down: {_account(smaller)}"
            self._view.tell(f"  {name} cut down: {command}")
        text = f"{said}\nfirst: {finding.command}\nnow: {command}\n"
        with self._records.together():
            report = f"{finding.report}\n\nRepeated: it {said}."
            self._records.reproduced(name, repetition.repeatable, command, report=report)
            file = Attachment.of_text("repetition.txt", text)
            self._records.artifact(self._session.run_id, file, fingerprint=name)
        if self._spec.explain_s is not None and is_native(command) and not self._stopped():
            self._explain(name, self._spec.explain_s, report)

    def _explain(self, name: str, seconds: float, report: str) -> None:
        """Find a schedule for a finding of real processes, and keep it with the finding."""
        self._view.doing(f"explaining {name}")
        found = explained(self._records.path, name, seconds)
        self._view.tell(f"  {name} {found.sentence}")
        finding = self._finding(name)
        more = f"{report}\n\nExplanation: {found.sentence}."
        with self._records.together():
            self._records.reproduced(name, finding.repeatable == 1, finding.command, report=more)
            for file in found.files:
                self._records.artifact(self._session.run_id, file, fingerprint=name)

    def try_known(self, standing: Standing) -> None:
        """Repeat the open findings of earlier soaks."""
        with Reader(self._records.path) as reader:
            findings = reader.findings("open")
            kernels_of = _kernels_by_round(reader)
        goes_on = Until(KNOWN_SHARE * self._spec.duration_s, self._stopped)
        for finding in findings:
            if not goes_on():
                return
            name = finding.fingerprint
            changed = kernels_of.get(finding.last_round_id) != self._session.kernels
            if self._records.is_ignored(name) or not can_be_repeated(finding):
                continue
            if finding.repeatable is None:
                self.look_into(name)
                finding = self._finding(name)
                came = bool(finding.repeatable)
            else:
                self._view.doing(f"repeating the known finding {name}: {finding.command}")
                again = repeat(
                    finding.command, name, self._spec.repeat, self._perform, goes_on, enough=1
                )
                came = again.repeatable
                if changed and again.tries and not again.failed and GREEN >= set(again.verdicts):
                    self._records.set_status(name, "fixed")
                    standing.fixed.append(name)
                    self._view.tell(f"  {name} did not come again, and the kernels changed: fixed")
            if came:
                standing.again.append(name)
                self._view.finding(name, f"known, and it came again: {finding.command}")

    def _goes_on(self) -> Until:
        return Until(self._spec.minimize_time_s, self._stopped)

    def _finding(self, name: str) -> FindingRow:
        with Reader(self._records.path) as reader:
            return reader.finding(name)

    def _reduced(self, name: str, command: str, repetition: Repetition) -> Reduction:
        goes_on = self._goes_on()

        def fails(spec: RunSpec) -> bool:
            for _ in range(repetition.tries_needed):
                outcome = self._perform(spec.command_line())
                if name in outcome.fingerprints:
                    return True
                if outcome.verdict is Verdict.INTERRUPTED or not goes_on():
                    return False
            return False

        self._view.doing(f"cutting {name} down")
        return Reducer(spec_of(Line.parse(command)), fails, goes_on).run(repetition.longest_s)


def can_be_repeated(finding: FindingRow) -> bool:
    """Whether a round can perform its command. It plants no mutants, and a program that was built
    in Python has no command line; growth of a soak shows in none of its rounds."""
    if finding.kind == MUTANT or not finding.command.startswith(f"{PROGRAM} "):
        return False
    return Line.parse(finding.command).command in COMMANDS


def _account(reduction: Reduction) -> str:
    """``3 of 17 smaller rounds failed as well; nothing smaller does``."""
    end = "nothing smaller does" if reduction.complete else "the time was over"
    return f"{reduction.taken} of {counted(reduction.tried, 'smaller round')} failed as well; {end}"


def _kernels_by_round(reader: Reader) -> dict[int | None, str]:
    """Round id -> digest of the kernels that ran in it."""
    kernels = {run.id: run.kernels for run in reader.runs()}
    return {one.id: kernels[one.run_id] for one in reader.rounds()}

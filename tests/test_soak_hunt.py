"""The loop of a soak, with rounds whose outcomes are given: what is recorded, repeated, skipped."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest
from msgspec.structs import replace

from shmalloc.errors import Violation
from stress.line import Line
from stress.records.finding import CRASH, MUTANT, SCHEDULE, Attachment, Finding, fingerprint_of
from stress.records.fingerprint import Ignored
from stress.records.reader import Reader
from stress.records.work import Work
from stress.records.writer import Records
from stress.run.interrupts import ImmediateEnd
from stress.run.process_use import ProcessUse
from stress.soak import explaining, hunt, inquiry
from stress.soak.draw import Drawer
from stress.soak.explaining import Explained
from stress.soak.messages import Outcome
from stress.soak.session import begin_soak, resume_soak
from stress.soak.spec import SoakSpec, parse_weights
from stress.soak.stops import Stops
from stress.soak.view import View
from stress.verdict import Verdict

TAIL = Violation("I_TAIL", "pfn 5", "a tail", "a head")
OTHER = Violation("I_FREE_HEAD", "pfn 9", "a head", "a tail")
NAME = fingerprint_of(TAIL)
PASSED = Outcome(Verdict.PASSED, 100, 1.0)
FAILED = Outcome(Verdict.FAILED, 7, 0.5, violations=(TAIL,), violations_total=1)
UNFIT = Outcome(Verdict.UNFIT, troubles=("no room in /dev/shm",))
DEATH = Finding(
    CRASH, "deadlock", "recover", "it hangs", "shmstress crash x --schedule y --write 3"
)
SPEC = SoakSpec(
    workloads=("churn",), programs=("pages-order-0",), workers=2, duration_s=3600.0,
    weights=parse_weights("run=1"), repeat=2,
)  # fmt: skip


class Performed:
    """In the place of processes: ``outcome_of(command, round)`` says how each ends.

    ``round`` is None for a repetition.
    """

    def __init__(self, outcome_of):
        self.outcome_of = outcome_of
        self.rounds, self.again, self.shown = [], [], []
        self.ignored = ()

    def perform(self, command, seconds, round_id=None):
        (self.again if round_id is None else self.rounds).append(command)
        return self.outcome_of(command, None if round_id is None else len(self.rounds))


class Listening(View):
    """Keeps the fingerprints that are shown."""

    def __init__(self, shown):
        self.shown = shown

    def finding(self, fingerprint, text):
        self.shown.append(fingerprint)


@pytest.fixture
def soaked(tmp_path, monkeypatch):
    """Run a soak of some rounds on ``soak.db``; its verdict, and what was performed."""

    def run(outcome_of, rounds=3, ignored=(), resume=False):
        performed = Performed(outcome_of)
        monkeypatch.setattr(hunt, "Performer", lambda *_: performed)
        with Records(tmp_path / "soak.db", ignored=Ignored(ignored)) as records, Stops() as stops:
            spec = replace(SPEC, rounds=rounds)
            session = resume_soak(records, None) if resume else begin_soak(records, spec)
            view = Listening(performed.shown)
            soak = hunt.Soak(Drawer(session.spec, 2), records, session, view, stops)
            performed.soak = soak
            performed.stops = stops
            performed.verdict = soak.run()
        return performed

    return run


def rows(tmp_path):
    with Reader(tmp_path / "soak.db") as reader:
        return reader.rounds(), reader.findings(), reader.runs()[-1]


# --- rounds --------------------------------------------------------------------------------------
def test_rounds_are_recorded_one_after_the_other(soaked, tmp_path):
    assert soaked(lambda *_: PASSED).verdict is Verdict.PASSED
    rounds, _, run = rows(tmp_path)
    assert [(one.number, one.state, one.verdict) for one in rounds] == [
        (1, "ended", "PASSED"), (2, "ended", "PASSED"), (3, "ended", "PASSED"),
    ]  # fmt: skip
    assert (run.state, run.verdict) == ("ended", "PASSED")


def test_rounds_that_cannot_run_end_the_soak_after_five(soaked):
    done = soaked(lambda *_: UNFIT, rounds=50)
    assert len(done.rounds) == 5 and done.verdict is Verdict.UNFIT
    assert "no room in /dev/shm" in done.soak.standing.troubles[0]


def test_a_round_that_runs_begins_the_count_anew(soaked):
    done = soaked(lambda _, number: PASSED if number % 5 == 0 else UNFIT, rounds=12)
    assert len(done.rounds) == 12


def test_kernels_that_changed_meanwhile_end_the_soak(soaked):
    done = soaked(lambda *_: Outcome(Verdict.PASSED, kernels="other"), rounds=50)
    assert len(done.rounds) == 1 and done.verdict is Verdict.ERROR
    assert done.soak.standing.changed.startswith("round 1 ran other kernels")


def test_a_sudden_end_leaves_no_round_running(soaked, tmp_path):
    def ends_in_the_second(_, number):
        if number == 2:
            raise ImmediateEnd
        return PASSED

    assert soaked(ends_in_the_second).verdict is Verdict.INTERRUPTED
    rounds, _, run = rows(tmp_path)
    assert [one.verdict for one in rounds] == ["PASSED", "INTERRUPTED"]
    assert run.state == "ended"


def test_a_soak_that_broke_goes_on_behind_the_lost_round(soaked, tmp_path):
    def breaks_in_the_second(_, number):
        if number == 2:
            raise OSError("the disk is gone")
        return PASSED

    with pytest.raises(OSError, match="the disk is gone"):
        soaked(breaks_in_the_second)
    done = soaked(lambda *_: PASSED, resume=True)
    rounds, _, run = rows(tmp_path)
    assert [one.state for one in rounds] == ["ended", "lost", "ended"]
    assert len(done.rounds) == 1 and run.summary["rounds"] == {"run": {"PASSED": 2}}


# --- findings ------------------------------------------------------------------------------------
def test_a_finding_is_repeated_once_and_counted_always(soaked, tmp_path):
    done = soaked(lambda *_: FAILED, rounds=20)
    rounds, (found,), _ = rows(tmp_path)
    assert (found.count, found.repeatable, found.status) == (20, 1, "open")
    first_round = len(done.again)
    assert len(rounds) == 20 and first_round < 60
    assert done.verdict is Verdict.FAILED and done.soak.standing.found == {NAME: 20}


def test_the_smallest_round_that_fails_is_kept_with_the_finding(soaked, tmp_path):
    soaked(lambda *_: FAILED, rounds=1)
    rounds, (found,), _ = rows(tmp_path)
    assert Line.parse(found.command).options["workers"] == "1"
    assert "Repeated: it came again in 2 of 2 repetitions; cut down: " in found.report
    with Reader(tmp_path / "soak.db") as reader:
        (file,) = reader.artifacts(fingerprint=NAME)
        assert rounds[0].command in reader.content(file.id).decode()


def test_a_finding_of_processes_is_explained_and_the_test_kept_with_it(
    soaked, tmp_path, monkeypatch
):
    test = Attachment.of_text("test_explained.py", "PROGRAM = ...")
    found = Explained("explained by 2 CPUs", "shm1/x", [test])
    monkeypatch.setattr(inquiry, "explained", lambda path, name, seconds: found)
    monkeypatch.setitem(globals(), "SPEC", replace(SPEC, explain_s=5.0))
    soaked(lambda *_: FAILED, rounds=1)
    _, (row,), _ = rows(tmp_path)
    assert row.report.endswith("Explanation: explained by 2 CPUs.") and row.repeatable == 1
    with Reader(tmp_path / "soak.db") as reader:
        assert "test_explained.py" in {one.name for one in reader.artifacts(fingerprint=NAME)}


def test_an_explanation_that_has_no_end_in_order_says_so(tmp_path):
    (tmp_path / "soak.db").write_text("no database")
    told = explaining.explained(tmp_path / "soak.db", "abc", 5.0)
    assert told.sentence.startswith("not explained: exit code ") and told.files == ()


def test_what_never_comes_again_is_not_cut_down(soaked, tmp_path):
    done = soaked(lambda _, number: FAILED if number else PASSED, rounds=1)
    rounds, (found,), _ = rows(tmp_path)
    assert (found.repeatable, found.command) == (0, rounds[0].command)
    assert done.again == [rounds[0].command] * 2


def test_a_failure_without_a_violation_is_a_finding_too(soaked, tmp_path):
    soaked(lambda *_: Outcome(Verdict.FAILED, troubles=("worker 3 is odd",)), rounds=1)
    _, (found,), _ = rows(tmp_path)
    assert (found.site, found.report.partition("\n")[0]) == ("worker # is odd", "worker 3 is odd")


def test_an_exact_finding_is_repeated_by_its_own_command(soaked, tmp_path):
    dead = Outcome(Verdict.FAILED, found=(DEATH,))
    done = soaked(lambda *_: dead, rounds=1)
    _, (found,), _ = rows(tmp_path)
    assert done.again == [DEATH.command] == [found.command] and found.repeatable == 1


def test_an_ignored_finding_costs_no_repetition_and_fails_no_soak(soaked, tmp_path):
    done = soaked(lambda _, number: FAILED if number == 1 else PASSED, ignored=(NAME[:8],))
    _, (found,), _ = rows(tmp_path)
    assert done.verdict is Verdict.PASSED and done.again == []
    assert (found.status, found.count) == ("ignored", 1)


def test_what_a_round_went_past_is_counted_and_fails_no_soak(soaked, tmp_path):
    past = Outcome(Verdict.PASSED, 100, 1.0, ignored=(TAIL,))
    done = soaked(lambda *_: past, ignored=(NAME,))
    _, (found,), _ = rows(tmp_path)
    assert (done.verdict, done.again, done.shown) == (Verdict.PASSED, [], [])
    assert (found.status, found.count) == ("ignored", 3)


def test_a_new_finding_beside_an_ignored_one_fails_the_soak(soaked, tmp_path):
    both = Outcome(Verdict.FAILED, violations=(OTHER,), violations_total=1, ignored=(TAIL,))
    done = soaked(lambda *_: both, rounds=1, ignored=(NAME,))
    _, found, _ = rows(tmp_path)
    assert done.verdict is Verdict.FAILED and done.shown == [fingerprint_of(OTHER)]
    assert {one.invariant: one.status for one in found} == {
        "I_TAIL": "ignored", "I_FREE_HEAD": "open",
    }  # fmt: skip


def test_rounds_are_told_what_is_ignored(soaked):
    soaked(lambda _, number: FAILED if number else PASSED, rounds=1)
    done = soaked(lambda *_: PASSED, ignored=(NAME,))
    assert NAME in done.ignored


def test_a_repetition_that_could_not_run_says_nothing_of_the_finding(soaked, tmp_path):
    soaked(lambda _, number: FAILED if number else UNFIT, rounds=1)
    _, (found,), _ = rows(tmp_path)
    assert found.repeatable is None and "Repeated" not in found.report


# --- findings of earlier soaks -------------------------------------------------------------------
@pytest.fixture
def known(soaked, tmp_path):
    """A database with an open finding that came again."""
    soaked(lambda *_: FAILED, rounds=1)
    return rows(tmp_path)[1][0]


def test_a_known_finding_is_repeated_before_the_first_round(soaked, known):
    done = soaked(lambda _, number: PASSED if number else FAILED, rounds=1)
    assert done.again == [known.command] and done.verdict is Verdict.FAILED
    assert done.soak.standing.again == [NAME]


def test_a_known_finding_is_fixed_if_it_is_gone_with_other_kernels(
    soaked, known, tmp_path, monkeypatch
):
    monkeypatch.setattr("stress.soak.session.kernels_digest", lambda: "newer")
    done = soaked(lambda *_: PASSED)
    assert done.again == [known.command] * SPEC.repeat and done.verdict is Verdict.PASSED
    assert (rows(tmp_path)[1][0].status, done.soak.standing.fixed) == ("fixed", [NAME])


def test_a_known_finding_stays_open_if_the_kernels_are_the_same(soaked, known, tmp_path):
    done = soaked(lambda *_: PASSED)
    assert rows(tmp_path)[1][0].status == "open" and done.verdict is Verdict.PASSED


def test_a_fixed_finding_that_is_seen_again_is_open_again(soaked, known, tmp_path, monkeypatch):
    monkeypatch.setattr("stress.soak.session.kernels_digest", lambda: "newer")
    soaked(lambda *_: PASSED)
    done = soaked(lambda *_: FAILED, rounds=1)
    assert rows(tmp_path)[1][0].status == "open" and done.verdict is Verdict.FAILED


@pytest.mark.parametrize(
    "kind, command",
    [(MUTANT, "shmstress mutants x"), (SCHEDULE, "print(stress.explorer.replay(program, 'x'))")],
)
def test_what_a_soak_cannot_perform_stays_as_it_is(soaked, tmp_path, kind, command):
    with Records(tmp_path / "soak.db") as records:
        run_id = records.begin_run(Work(kind, command))
        round_id = records.begin_round(run_id, Work(kind, command))
        records.finding(round_id, Finding(kind, "race", "push", "two writes", command))
    done = soaked(lambda *_: PASSED)
    assert (done.again, done.verdict) == ([], Verdict.PASSED)
    assert rows(tmp_path)[1][0].repeatable is None


def test_another_failure_in_its_place_is_no_fix(soaked, known, tmp_path, monkeypatch):
    monkeypatch.setattr("stress.soak.session.kernels_digest", lambda: "newer")
    other = Outcome(Verdict.FAILED, violations=(OTHER,), violations_total=1)
    soaked(lambda _, number: PASSED if number else other)
    assert rows(tmp_path)[1][0].status == "open"


def test_a_finding_whose_soak_died_before_it_was_repeated_is_repeated_then(soaked, tmp_path):
    def dies_in_the_repetition(_, number):
        if number is None:
            raise OSError("killed")
        return FAILED

    with pytest.raises(OSError, match="killed"):
        soaked(dies_in_the_repetition)
    assert rows(tmp_path)[1][0].repeatable is None
    soaked(lambda _, number: PASSED if number else FAILED, resume=True)
    assert rows(tmp_path)[1][0].repeatable == 1


# --- the soak's own process ----------------------------------------------------------------------
def leaking(monkeypatch, bytes_a_round):
    """Let the process of the soak seem to grow by so much with each round."""
    used = iter(range(40 << 20, 1 << 40, bytes_a_round or 1))
    now = iter(range(0, 10_000_000, 20))
    monkeypatch.setattr(hunt.Soak, "clock_s", lambda soak: float(next(now)))
    monkeypatch.setattr(
        hunt, "own_use", lambda: (ProcessUse(1, "soak", 0, next(used), 0, 13, 1, 1.0),)
    )


def test_a_soak_that_grows_with_its_rounds_fails(soaked, tmp_path, monkeypatch):
    leaking(monkeypatch, 1 << 20)
    done = soaked(lambda *_: PASSED, rounds=30)
    _, (found,), _ = rows(tmp_path)
    assert done.verdict is Verdict.FAILED and found.invariant == "X_MEMORY_GROWTH"
    assert (found.site, found.repeatable, done.again) == ("soak (pid #)", None, [])


def test_a_soak_that_does_not_grow_passes(soaked, monkeypatch):
    leaking(monkeypatch, 0)
    assert soaked(lambda *_: PASSED, rounds=30).verdict is Verdict.PASSED


def test_growth_of_an_earlier_soak_is_not_repeated(soaked, monkeypatch):
    with monkeypatch.context() as patch:
        leaking(patch, 1 << 20)
        soaked(lambda *_: PASSED, rounds=30)
    done = soaked(lambda *_: PASSED)
    assert done.again == [] and done.verdict is Verdict.PASSED


def test_a_number_is_used_once_although_its_round_was_dropped(soaked, tmp_path):
    soaked(lambda *_: PASSED, rounds=3)
    with closing(sqlite3.connect(tmp_path / "soak.db")) as file, file:
        file.execute("DELETE FROM rounds")
        file.execute("UPDATE runs SET spec = json_set(spec, '$.rounds', '5')")
    soaked(lambda *_: PASSED, resume=True)
    assert [one.number for one in rows(tmp_path)[0]] == [4, 5]

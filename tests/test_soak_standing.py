"""How far a soak is: its counts, its verdict, and what it says at the end."""

import json

import pytest

from shmalloc.errors import MisuseError, Violation
from stress.records.finding import fingerprint_of
from stress.records.reader import Reader
from stress.records.writer import Records, Work
from stress.soak.draw import Drawer, Round
from stress.soak.messages import Outcome
from stress.soak.session import begin_soak, resume_soak
from stress.soak.spec import SoakSpec
from stress.soak.standing import Standing
from stress.soak.summary import Summary, first_line
from stress.verdict import Verdict

TAIL = Violation("I_TAIL", "pfn 5", "a tail", "a head")
NAME = fingerprint_of(TAIL)
PASSED = Outcome(Verdict.PASSED, 100, 2.0, {"marks": {"steal": 3, "wait": 0}})
WAITED = Outcome(Verdict.PASSED, 10, 1.0, {"marks": {"wait": 2}})
FAILED = Outcome(Verdict.FAILED, 7, 0.5, violations=(TAIL,), violations_total=1)
SPEC = SoakSpec(workloads=("churn",), programs=("*",), workers=2, duration_s=60.0)


def a_round(number=1, kind="run", on=("small-ram",)):
    return Round(number, kind, 5, "shmstress run --workload churn", 20.0, "churn", {}, on)


def standing(*outcomes, found=()):
    counts = Standing()
    for number, outcome in enumerate(outcomes, 1):
        counts.add(a_round(number), outcome, found if outcome is FAILED else ())
    return counts


# --- verdicts ------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "counts, interrupted, verdict",
    [
        (standing(PASSED, WAITED), False, Verdict.PASSED),
        (standing(PASSED), False, Verdict.VACUOUS),  # no round waited
        (standing(), False, Verdict.VACUOUS),
        (standing(Outcome(Verdict.VACUOUS)), False, Verdict.VACUOUS),
        (standing(PASSED), True, Verdict.INTERRUPTED),
        (standing(PASSED, FAILED, found=(NAME,)), True, Verdict.FAILED),
        (standing(PASSED, WAITED, Outcome(Verdict.UNFIT)), False, Verdict.UNFIT),
        (standing(PASSED, WAITED, Outcome(Verdict.ERROR)), False, Verdict.ERROR),
    ],
)
def test_the_verdict_of_a_soak_is_the_worst_that_holds(counts, interrupted, verdict):
    assert counts.verdict((), interrupted) is verdict


def test_a_finding_that_is_ignored_fails_no_soak():
    counts = standing(PASSED, WAITED, FAILED, found=(NAME,))
    assert counts.verdict((NAME,), False) is Verdict.PASSED
    assert counts.verdict((), False) is Verdict.FAILED


def test_a_known_finding_that_came_again_fails_the_soak():
    counts = standing(PASSED, WAITED)
    counts.again.append(NAME)
    assert counts.verdict((), False) is Verdict.FAILED


def test_growth_of_the_soak_itself_fails_it():
    counts = standing(PASSED, WAITED)
    counts.growth.append("the soak's memory grows")
    assert counts.verdict((), False) is Verdict.FAILED


def test_a_round_that_was_interrupted_misses_no_mark():
    cut = Outcome(Verdict.INTERRUPTED, result={"marks": {"steal": 0}})
    assert standing(PASSED, WAITED, cut).missed_marks == []


def test_counts_are_the_same_after_a_night_in_the_database():
    counts = standing(PASSED, FAILED, Outcome(Verdict.ERROR, troubles=("broke",)), found=(NAME,))
    counts.clock_s, counts.sessions = 12.5, 2
    assert Standing.from_dict(json.loads(json.dumps(counts.as_dict()))) == counts


# --- sessions ------------------------------------------------------------------------------------
def summaries(path):
    with Reader(path) as reader:
        return [run.summary for run in reader.runs()]


def test_a_soak_goes_on_where_its_last_round_ended(tmp_path):
    with Records(tmp_path / "soak.db") as records:
        session = begin_soak(records, SPEC)
        counts = standing(PASSED)
        counts.clock_s = 40.0
        records.note_summary(session.run_id, counts.as_dict())
    with Records(tmp_path / "soak.db") as records:
        again = resume_soak(records, None)
    assert (again.run_id, again.spec, again.standing) == (session.run_id, SPEC, counts)


def test_a_soak_that_goes_on_may_get_more_time(tmp_path):
    with Records(tmp_path / "soak.db") as records:
        begin_soak(records, SPEC)
    with Records(tmp_path / "soak.db") as records:
        assert resume_soak(records, 600.0).spec.duration_s == 600.0


def test_a_soak_whose_time_is_over_does_not_go_on(tmp_path):
    with Records(tmp_path / "soak.db") as records:
        session = begin_soak(records, SPEC)
        counts = standing(PASSED)
        counts.clock_s = 59.0
        records.end_run(session.run_id, "PASSED", counts.as_dict())
    over = pytest.raises(MisuseError, match="is over after 1m; use a longer --duration")
    with Records(tmp_path / "soak.db") as records, over:
        resume_soak(records, None)


def test_a_soak_that_is_running_does_not_go_on(tmp_path):
    with Records(tmp_path / "soak.db") as records, Records(tmp_path / "soak.db") as second:
        begin_soak(records, SPEC)
        with pytest.raises(MisuseError, match="has a living writer"):
            resume_soak(second, None)


def test_without_a_soak_there_is_nothing_to_go_on_with(tmp_path):
    with Records(tmp_path / "soak.db") as records:
        records.begin_run(Work("run", "shmstress run"))
        with pytest.raises(MisuseError, match="has no soak; leave --resume out"):
            resume_soak(records, None)


# --- the end -------------------------------------------------------------------------------------
@pytest.fixture
def summary(tmp_path):
    """Of a soak with a finding and a round that was lost."""
    path = tmp_path / "soak.db"
    with Records(path) as records:
        session = begin_soak(records, SPEC)
        work = Work("run", "shmstress run --workload churn --seed 0x9")
        records.begin_round(session.run_id, work)  # never ended
        seen = records.begin_round(session.run_id, work)
        names = records.violations(seen, [TAIL], work.command)
        session.standing.add(a_round(2), FAILED, names)
        session.standing.add(a_round(3), PASSED, ())
        records.end_round(seen, "FAILED")
        records.reproduced(NAME, True, "shmstress run --workload churn --workers 1")
    with Records(path):  # marks what was lost
        pass
    return Summary.of(session, Verdict.FAILED, Drawer(SPEC, 2), path)


def test_a_finding_is_told_with_the_line_that_shows_it_again(summary):
    text = "\n".join(summary.lines())
    assert f"!!! {NAME} I_TAIL at pfn #: open, seen in 1 round, came again" in text
    assert "to see it again: shmstress run --workload churn --workers 1" in text


def test_a_round_that_was_lost_is_told(summary):
    line = next(line for line in summary.lines() if "was lost" in line)
    assert line.startswith("round 1 was lost") and line.endswith("--workload churn --seed 0x9")


def test_the_last_line_has_the_verdict_and_the_seed(summary):
    *_, last = summary.lines()
    assert last.startswith("FAILED seed=0x1 rounds=2 findings=1 lost=1 sessions=0 seconds=0 spec:")


def test_the_table_adds_rounds_up(summary):
    row = next(line.split() for line in summary.lines() if line.startswith("run "))
    assert row[1:9] == ["2", "1", "1", "0", "0", "2", "107", "43"]


def test_features_that_no_round_had_are_told(summary):
    never, always = summary.coverage()
    assert "fault:kill" in never and always == ["small-ram"]


def test_the_document_has_what_the_text_has(summary):
    document = json.loads(summary.document())
    assert document["verdict"] == "FAILED" and document["exit_code"] == 1
    assert document["rounds"] == {"run": {"FAILED": 1, "PASSED": 1}}
    assert [one["fingerprint"] for one in document["findings"]] == [NAME]
    assert [one["number"] for one in document["lost"]] == [1]


def test_a_soak_that_goes_on_says_how_far_it_is(summary):
    assert first_line(summary.session).endswith("going on after 2 rounds, 1m are left")

"""Schedules made to happen in real processes, of each kind of failure; and what is said if not."""

from __future__ import annotations

import pytest

from shmalloc.errors import MisuseError
from stress import explore
from stress.gates.plan import plan_of, turns_of
from stress.gates.report import lines_of, ordinal
from stress.gates.verdict import realize
from stress.gates.wild import play
from support import gated_programs
from support.runs import shmstress

KINDS = [
    (gated_programs.LOST, "check", "it returned 7"),
    (gated_programs.RACE, "race", "Held at once: cpu 0 before its"),
    (
        gated_programs.CROSSED,
        "deadlock",
        "cpu 0 sleeps at b, held by cpu 1; cpu 1 sleeps at a, held by cpu",
    ),
    (gated_programs.TORN, "torn", "it has read word 0 as 0, which is 1 now"),
    (gated_programs.OUTSIDE, "memory", "word 100 is outside the segment"),
    (gated_programs.ODD, "expectation", "expectation 9 was not met"),
    (gated_programs.APART, "invariant", "it returned 3"),
    (gated_programs.CHOSEN, "check", "it returned 4"),
    (gated_programs.EARLY, "check", "it returned 6"),
    (gated_programs.UNTOLD, "deadlock", "cpu 0 sleeps at word 0"),
    (gated_programs.SPUN, "livelock", "No end: cpu 0 runs"),
]


def failing(program, **how):
    """The token of a failure that the explorer finds."""
    how = {
        "races": program is gated_programs.RACE or program is gated_programs.TORN,
        "seconds": 20,
        **how,
    }
    failure = explore(program, **how).failure
    assert failure is not None
    return failure


@pytest.mark.parametrize(("program", "kind", "text"), KINDS, ids=[p.name for p, _, _ in KINDS])
def test_a_failure_of_the_explorer_happens_in_real_processes(program, kind, text):
    failure = failing(program)
    real = realize(program, failure.schedule)
    assert failure.kind == kind
    assert real.happened, f"{real.text} {real.note}"
    assert text in real.text


def test_a_process_that_is_held_does_not_age():
    failure = failing(gated_programs.HASTY)
    assert realize(gated_programs.HASTY, failure.schedule).happened


def test_a_load_that_passes_a_store_is_not_forced_and_said():
    failure = failing(gated_programs.BUFFERED, memory="tso")
    real = realize(gated_programs.BUFFERED, failure.schedule)
    assert not real.happened
    assert "a processor alone can let a later access pass a store" in real.note


def test_a_schedule_of_tso_that_delays_no_store_happens():
    failure = failing(gated_programs.LOST, memory="tso")
    assert "/tso/" in failure.schedule and realize(gated_programs.LOST, failure.schedule).happened


def test_a_schedule_without_a_preemption_needs_no_gate():
    failure = failing(gated_programs.APART)
    assert realize(gated_programs.APART, failure.schedule).plan.gates == ()


def test_a_gate_is_told_with_the_line_and_its_execution():
    failure = failing(gated_programs.LOST)
    lines = list(lines_of(realize(gated_programs.LOST, failure.schedule)))
    assert lines[0].startswith("lost: 2 processes over one segment, 1 gate, ")
    assert lines[1].startswith(
        "  cpu 0 is held before store count <- 1, the 2nd time at gated_prog"
    )
    assert lines[-1] == "it happened in real processes: check 7"


def test_a_token_that_does_not_fail_is_refused():
    token = failing(gated_programs.LOST).schedule.rpartition("/")[0] + "/-"
    with pytest.raises(MisuseError, match="only a schedule that fails can be made to happen"):
        realize(gated_programs.LOST, token)


def test_turns_are_runs_of_one_cpu():
    trace = failing(gated_programs.LOST).trace
    turns = [(turn.cpu, turn.first, turn.last) for turn in turns_of(trace.steps)]
    assert turns == [(0, 1, 1), (1, 1, 2), (0, 2, 2)]


def test_of_a_race_neither_access_is_made():
    trace = failing(gated_programs.RACE).trace
    plan = plan_of(trace, "race")
    earlier, later = (trace.steps[index] for index in trace.conflict)
    assert plan.shown == (earlier, later)
    assert all(turn.last < plan.held[turn.cpu] for turn in plan.turns)


@pytest.mark.parametrize(
    ("number", "text"), [(1, "1st"), (2, "2nd"), (3, "3rd"), (4, "4th"), (11, "11th"), (22, "22nd")]
)
def test_an_ordinal(number, text):
    assert ordinal(number) == text


def test_without_gates_every_run_is_counted():
    wild = play(gated_programs.LOST, runs=20, seconds=60.0)
    assert wild.runs == 20 and "20 runs" in str(wild)


def test_processes_that_hang_without_gates_are_counted():
    wild = play(gated_programs.UNTOLD, runs=2, seconds=60.0)
    assert wild.seen == {"hang": 2}


def test_a_fault_without_gates_is_counted_by_its_kind():
    assert play(gated_programs.BEYOND, runs=3, seconds=60.0).seen == {"outside": 3}


# --- the command ---------------------------------------------------------------------------------
TOKEN = "shm1/examples/lost_update.py:program/sc/p1/10000/check/1/0a3f1c86049a/0.1-1"


def test_the_command_makes_it_happen_and_exits_1():
    run = shmstress("replay", TOKEN, "--native", "--repeat", "5")
    assert run.returncode == 1, run.stderr
    assert "it happened in real processes: check 1" in run.stdout
    assert "without gates: " in run.stdout


def test_repeat_needs_native():
    run = shmstress("replay", TOKEN, "--repeat", "5")
    assert (
        run.returncode == 4
        and "repeat: it counts runs in real processes; add --native" in run.stderr
    )

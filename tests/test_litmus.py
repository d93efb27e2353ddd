"""Litmus tests: the explorer's answers, the grading, and real processes that never show the rest.

What a processor may do is tested only if it surely does it: store buffering shows its weak outcome
in a few percent of all samples on two cores, so the test waits for it. All other native tests
assert only what must never be seen.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter

import psutil
import pytest

from shmalloc.memory import Ram
from stress.litmus import cells, runner
from stress.litmus.answers import Answer, answer_of
from stress.litmus.arena import NOT_WRITTEN, Arena, Setting, decode
from stress.litmus.catalogue import CATALOGUE, TESTS
from stress.litmus.grading import Expected, Grade, grade_of, missed, rows_of
from stress.litmus.report import result_lines
from stress.litmus.runner import LitmusResult, LitmusRun, result_of, run_litmus
from stress.litmus.team import Team, TeamError
from stress.run.interrupts import Interrupts
from stress.run.workers import cores
from stress.verdict import Verdict
from support.runs import PATIENCE_S, alive, environment, shmstress, wait_until

SEEN_WITHIN_S = 20.0
BOTH_STALE = (0, 0, 1, 1)
two_cores = pytest.mark.skipif(len(cores()) < 2, reason="needs two cores")
weak_machine = pytest.mark.skipif(
    len(cores()) < 2 or os.uname().machine != "x86_64", reason="needs two cores of x86-64"
)


# --- the explorer's answers ----------------------------------------------------------------------
# name -> grade of what the test is about: Sewell et al. 2010, "x86-TSO"; atomic pairs: the manuals
LITERATURE = {
    "sb": {Grade.WEAK},
    "sb+fence": {Grade.FORBIDDEN},
    "sb+rmw": {Grade.FORBIDDEN},
    "sb+membarrier": {Grade.FORBIDDEN},  # membarrier(2), "simple example"; C++: P1202
    "mp": {Grade.FORBIDDEN},
    "lb": {Grade.FORBIDDEN},
    "corr": {Grade.FORBIDDEN},
    "2+2w": {Grade.FORBIDDEN},
    "r": {Grade.WEAK},
    "s": {Grade.FORBIDDEN},
    "two-word": {Grade.FORBIDDEN},
    "two-word-torn": {Grade.ALLOWED, Grade.FORBIDDEN},
    "rmw": {Grade.FORBIDDEN},
    "iriw": {Grade.FORBIDDEN},
}


@pytest.mark.parametrize("name", CATALOGUE)
def test_the_explorer_answers_as_the_literature_does(name):
    answer = answer_of(name)
    assert {grade_of(outcome, answer) for outcome in CATALOGUE[name].asks} == LITERATURE[name]


@pytest.mark.parametrize("name", CATALOGUE)
def test_nothing_is_weak_but_what_the_test_is_about(name):
    answer = answer_of(name)
    assert answer.tso - answer.sc <= set(CATALOGUE[name].asks)


def test_all_orders_of_independent_reads_but_one_are_allowed():
    assert len(answer_of("iriw").tso) == 15


def test_a_pair_read_in_pieces_is_newer_in_the_half_that_is_read_later():
    torn = CATALOGUE["two-word-torn"]
    allowed = {tuple(torn.values(o).values()) for o in answer_of(torn.name).tso}
    assert allowed == {(low, high) for low in range(3) for high in range(3) if low <= high}


def test_shapes_have_numbers_of_their_own():
    assert sorted(test.shape for test in TESTS) == list(range(len(TESTS)))


# --- grading -------------------------------------------------------------------------------------
SB = CATALOGUE["sb"]
FRESH = frozenset({(0, 1, 1, 1), (1, 0, 1, 1)})
ANSWER = Answer(sc=FRESH, tso=FRESH | {BOTH_STALE})


def graded(counts, pinned=(0, 1)):
    rows = rows_of(SB, counts, ANSWER)
    return LitmusResult(SB, pinned, sum(counts.values()), 1.0, rows)


def row_of(result, outcome):
    return next(row for row in result.rows if row.outcome == outcome)


@pytest.mark.parametrize(
    ("outcome", "grade", "expected"),
    [
        ((0, 1, 1, 1), Grade.ALLOWED, Expected.MAY),
        (BOTH_STALE, Grade.WEAK, Expected.SHOULD),
        ((1, 1, 1, 1), Grade.FORBIDDEN, Expected.NEVER),
        (NOT_WRITTEN, Grade.FORBIDDEN, Expected.NEVER),
    ],
)
def test_an_outcome_is_graded_by_what_the_models_allow(outcome, grade, expected):
    row = row_of(graded({outcome: 1}), outcome)
    assert (row.grade, row.expected) == (grade, expected)


def test_one_forbidden_sample_fails_the_test():
    assert graded({(0, 1, 1, 1): 10**9, (1, 1, 1, 1): 1}).verdict is Verdict.FAILED


def test_a_forbidden_outcome_is_shown_whole():
    text = "\n".join(result_lines(graded({(0, 1, 1, 3): 2})))
    assert "!!! r0=0 r1=1 (results 0x0 0x1, final x=1 y=3) was seen 2 times" in text


def test_a_forbidden_outcome_that_was_asked_for_and_not_seen_is_listed():
    fence = CATALOGUE["sb+fence"]
    rows = rows_of(fence, {(1, 1, 1, 1): 5}, answer_of(fence.name))
    assert [row.samples for row in rows if row.grade is Grade.FORBIDDEN] == [0]


def test_a_weak_outcome_that_was_never_seen_is_a_note_and_no_failure():
    result = graded({(0, 1, 1, 1): 7, (1, 0, 1, 1): 1})
    assert result.verdict is Verdict.PASSED and "no outcome that should be seen" in result.notes[0]


def test_a_weak_outcome_that_was_seen_leaves_nothing_to_note():
    assert graded({BOTH_STALE: 1, (0, 1, 1, 1): 1}).notes == []


def test_a_test_without_weak_outcomes_misses_nothing():
    assert not missed(rows_of(CATALOGUE["mp"], {}, answer_of("mp")))


def test_one_core_is_inconclusive():
    result = graded({BOTH_STALE: 1}, pinned=(3, 3))
    assert result.verdict is Verdict.VACUOUS and "inconclusive" in result.notes[0]


def test_a_forbidden_outcome_on_one_core_still_fails():
    assert graded({(1, 1, 1, 1): 1}, pinned=(3, 3)).verdict is Verdict.FAILED


def test_fewer_cores_than_processes_are_noted():
    result = result_of(
        CATALOGUE["iriw"], (0, 1, 0, 1), 1.0, Counter({(0, 0, 1, 1): 1, (4, 4, 1, 1): 1})
    )
    assert result.verdict is Verdict.PASSED and "need 4 cores" in result.notes[0]


@pytest.mark.parametrize("name", sorted(CATALOGUE))
def test_samples_that_all_ended_alike_tested_nothing(name):
    """Several outcomes of every test are allowed, so a test in which CPUs met shows two."""
    only = min(answer_of(name).sc)
    result = result_of(CATALOGUE[name], (0, 1, 2, 3), 1.0, Counter({only: 1_000_000}))
    assert result.verdict is Verdict.VACUOUS and "the same outcome" in result.notes[0]


def test_a_forbidden_outcome_that_every_sample_shows_fails():
    assert graded({(1, 1, 1, 1): 9}).verdict is Verdict.FAILED


def test_a_test_without_samples_tested_nothing():
    assert graded({}).verdict is Verdict.VACUOUS


# --- the cells -----------------------------------------------------------------------------------
RAM = Ram.of_words(2)


def test_an_outcome_is_packed_and_unpacked_without_loss():
    parts = [(a, b, x, y) for a in range(16) for b in range(16) for x in range(4) for y in range(4)]
    assert [decode(cells.outcome_of(RAM, *p)) for p in parts] == parts


@pytest.mark.parametrize(
    "outcome", [(16, 0, 0, 0), (0, -1, 0, 0), (0, 0, 4, 0), (0, 0, 0, 1 << 40)]
)
def test_a_value_that_was_never_written_is_counted_as_such(outcome):
    assert decode(cells.outcome_of(RAM, *outcome)) == NOT_WRITTEN


@pytest.fixture
def arena_file():
    file = Arena.make_file()
    yield file
    os.close(file)


@pytest.mark.parametrize("test", TESTS, ids=lambda test: test.name)
@pytest.mark.parametrize("setting", [Setting(5, 1, 0, 1, 1), Setting(33, 3, 63, 4, 1)])
def test_one_process_alone_counts_every_cell_and_leaves_zeros(engine, arena_file, test, setting):
    arena = Arena(arena_file)
    arena.begin(test, [1] * test.processes)
    arena.ram[cells.P_PROCESSES] = 1
    arena.set_up(test, setting)
    assert engine.call(cells.play_rounds, arena.ram, 0, 3) == 0
    assert arena.counts().total() == 3 * setting.cells
    assert not arena.ram.array[cells.CELLS :].any()


def test_a_partner_that_never_comes_is_lost(arena_file, monkeypatch):
    monkeypatch.setattr(cells, "PATIENCE", 3)
    arena = Arena(arena_file)
    arena.begin(SB, [1, 1])
    arena.set_up(SB, Setting(4, 1, 0, 1, spins=2))
    assert cells.play_rounds(arena.ram, 0, 1) == cells.LOST


# --- real processes ------------------------------------------------------------------------------
def run_natively(names, seconds):
    run = LitmusRun([CATALOGUE[name] for name in names], seconds, seed=1)
    run_litmus(run, Interrupts(), lambda result: print("\n".join(result_lines(result))))
    assert not run.troubles
    return run


@pytest.mark.parametrize(
    "names", [("sb+fence", "sb+rmw", "mp"), ("two-word", "rmw", "2+2w"), ("iriw",)], ids="-".join
)
def test_forbidden_outcomes_are_never_seen(names):
    run = run_natively(names, 0.5)
    assert [result.test.name for result in run.results] == list(names)
    for result in run.results:
        assert result.samples > 0 and not any(row.violation for row in result.rows)


@weak_machine
def test_store_buffering_shows_its_weak_outcome():
    deadline = time.monotonic() + SEEN_WITHIN_S
    seen = 0
    while not seen and time.monotonic() < deadline:
        (result,) = run_natively(["sb"], 0.2).results
        seen = row_of(result, BOTH_STALE).samples
    assert seen, f"no weak outcome within {SEEN_WITHIN_S:g} s"


@weak_machine
def test_a_processor_that_shows_what_the_model_forbids_fails(monkeypatch):
    """The canary: with sc for a model, every x86-64 is broken."""
    only_sc = Answer(answer_of("sb").sc, answer_of("sb").sc)
    monkeypatch.setattr(runner, "answer_of", lambda name: only_sc)
    deadline = time.monotonic() + SEEN_WITHIN_S
    verdict = Verdict.PASSED
    while verdict is Verdict.PASSED and time.monotonic() < deadline:
        verdict = run_natively(["sb"], 0.2).verdict
    assert verdict is Verdict.FAILED


def test_a_process_that_dies_is_told_with_its_signal(arena_file):
    arena = Arena(arena_file)
    arena.begin(SB, [1, 1])
    arena.set_up(SB, Setting(4, 1, 0, 1, spins=2))
    with Team(arena_file, 2, cores()) as team:
        team.members[1][0].kill()
        team.members[1][0].join()
        with pytest.raises(TeamError, match="process 1 died by SIGKILL"):
            team.play(2, 1)


def test_no_process_outlives_its_team(arena_file):
    with Team(arena_file, 2, cores()) as team:
        pids = [process.pid for process, _ in team.members]
    assert not any(alive(pid) for pid in pids)


# --- the command ---------------------------------------------------------------------------------
def test_the_document_holds_every_outcome(tmp_path):
    file = tmp_path / "litmus.json"
    arguments = ("litmus", "sb", "two-word", "--duration", "0.3", "--seed", "0x5")
    run = shmstress(*arguments, "--json", str(file))
    document = json.loads(file.read_text())
    assert run.returncode == document["exit_code"] == (0 if len(cores()) > 1 else 5)
    assert document["reproduce"]["command"] == " ".join(("shmstress", *arguments))
    for result in document["results"]:
        assert sum(outcome["samples"] for outcome in result["outcomes"]) == result["samples"] > 0


def test_the_document_alone_goes_to_standard_output():
    run = shmstress("litmus", "corr", "--seconds", "0.1", "--json", "-")
    assert [r["test"] for r in json.loads(run.stdout)["results"]] == ["corr"]
    assert "r0=1 r1=0" in run.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("sb+fnce",), "litmus test: 'sb+fnce' is unknown; did you mean 'sb+fence'?"),
        (("--seconds", "0"), "duration: '0'; use a time of more than 0"),
        (("--seconds", "soon"), "duration: 'soon'; use a form like"),
        (("--seed", "-1"), "seed: '-1'"),
        (("--json", "missing/x.json"), "json: missing/x.json cannot be written"),
    ],
)
def test_a_usage_error_exits_4_and_names_the_cure(arguments, told):
    run = shmstress("litmus", *arguments)
    assert run.returncode == 4 and told in run.stderr


@pytest.fixture
def at_work():
    """A run of all tests that has told about the first one, and the processes that it started."""
    command = subprocess.Popen(
        [sys.executable, "-m", "stress", "litmus", "--seconds", "1"],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert command.stdout is not None
    assert command.stdout.readline().startswith("sb: "), command.communicate()
    yield command, psutil.Process(command.pid).children(recursive=True)
    command.kill()
    command.communicate()


def test_an_interrupted_run_tells_what_it_saw_and_exits_2(at_work):
    command, _ = at_work
    command.send_signal(signal.SIGINT)
    output, _ = command.communicate(timeout=PATIENCE_S)
    assert command.returncode == 2
    assert "stopped by SIGINT" in output
    assert re.search(
        rf"^INTERRUPTED seed=\w+ tests=[1-9]\d?/{len(TESTS)} samples=[1-9]", output, re.MULTILINE
    )


def test_the_processes_of_a_killed_run_leave(at_work):
    command, started = at_work
    assert len(started) > 2
    command.kill()
    command.wait()
    wait_until(lambda: not any(alive(p.pid) for p in started), "all processes to leave")


def test_the_list_has_every_test_with_its_story():
    run = shmstress("litmus", "--list")
    assert run.returncode == 0
    assert all(test.name in run.stdout and test.story in run.stdout for test in CATALOGUE.values())

"""What the process of a round does with its command line, and what follows from its death."""

from __future__ import annotations

import shutil

import pytest

from shmalloc.errors import CorruptionError, OutsideFault
from stress.crash.allocator import allocator_case
from stress.programs import PROGRAMS
from stress.records.fingerprint import Ignored
from stress.run.interrupts import ImmediateEnd
from stress.soak import run_round
from stress.soak.child import RoundProcess
from stress.soak.messages import Begun, Going
from stress.soak.perform import perform
from stress.soak.stops import Stops
from stress.verdict import Verdict
from support.runs import ROOT

INTERPRETED = "--engine interpreted"
CRASHES = "from crash_programs import case_of, recover_lock_only as half\nHALF = case_of(half)\n"


def performed(command, ignored=(), told=None):
    return perform(command, Ignored(ignored), (lambda _: None) if told is None else told.append)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with a program that loses an update, and a crash case whose recovery is wrong."""
    shutil.copy(ROOT / "examples" / "lost_update.py", tmp_path)
    (tmp_path / "half.py").write_text(CRASHES)
    shutil.copy(ROOT / "tests" / "crash_programs.py", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


# --- explorations --------------------------------------------------------------------------------
EXPLORE = f"shmstress explore lost_update.py:program --strategy dfs --no-races {INTERPRETED}"
CRASH = f"shmstress crash half.py:HALF --seeds 0 --depth 2 {INTERPRETED}"


def test_a_failing_schedule_is_a_finding_with_its_token_and_its_page(here):
    outcome = performed(EXPLORE)
    (found,) = outcome.found
    assert outcome.verdict is Verdict.FAILED and found.token.startswith("shm1/")
    assert {"text/html"} <= {file.media_type for file in found.attachments}


def test_the_command_of_a_failing_schedule_shows_the_same_finding(here):
    (found,) = performed(EXPLORE).found
    again = performed(found.command)
    assert (again.verdict, again.fingerprints) == (Verdict.FAILED, {found.fingerprint})


def test_a_failing_schedule_that_is_ignored_is_counted_and_passed(here):
    (found,) = performed(EXPLORE).found
    outcome = performed(EXPLORE, ignored=[found.fingerprint])
    assert outcome.verdict is Verdict.PASSED
    assert outcome.fingerprints == {found.fingerprint}


def test_the_command_of_a_death_shows_the_same_finding(here):
    outcome = performed(CRASH)
    assert outcome.verdict is Verdict.FAILED and outcome.operations > 1
    for found in outcome.found:
        again = performed(found.command)
        assert (again.verdict, again.fingerprints) == (Verdict.FAILED, {found.fingerprint})


def test_a_death_that_is_ignored_fails_no_round(here):
    names = performed(CRASH).fingerprints
    outcome = performed(CRASH, ignored=names)
    assert (outcome.verdict, outcome.fingerprints) == (Verdict.PASSED, names)


def test_an_exploration_says_when_it_begins_and_how_far_it_is(here):
    told = []
    performed(EXPLORE, told=told)
    assert isinstance(told[0], Begun) and isinstance(told[1], Going)


def test_a_kernel_that_fails_before_any_schedule_is_a_finding(monkeypatch):
    def broken():
        raise CorruptionError("free_pages spoils the memory")

    broken.__wrapped__ = broken
    allocator_case("buddy-merge-take")  # the sound one is kept, and must not be taken instead
    monkeypatch.setitem(PROGRAMS, "buddy-merge-take", broken)
    for command in ("explore", "crash"):
        outcome = performed(f"shmstress {command} buddy-merge-take")
        (found,) = outcome.found
        assert outcome.verdict is Verdict.FAILED
        assert (found.invariant, found.site) == ("preparation", "buddy-merge-take")
        assert "free_pages spoils the memory" in found.report


def test_a_kernel_that_fails_before_the_first_worker_is_a_finding(monkeypatch):
    def broken(*_, **__):
        raise OutsideFault("outside", "boot", "boot.py", 12, index=9, words=8)

    monkeypatch.setattr(run_round, "Controller", broken)
    monkeypatch.setattr(run_round, "keep_whole_plan", lambda *_: None)
    outcome = performed("shmstress run --workload churn --ram 8MiB")
    (found,) = outcome.found
    assert outcome.verdict is Verdict.FAILED
    assert (found.invariant, found.site) == ("preparation", "boot")
    assert "word 9 is outside the segment of 8 words in boot, boot.py:12" in found.report


# --- wrong lines ---------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "command, said",
    [
        ("make -j4", "it has to begin with shmstress COMMAND"),
        ("shmstress sweep", "command: 'sweep' is unknown"),
        ("shmstress run --workload churm", "did you mean 'churn'?"),
        ("shmstress run --wrokload churn", "did you mean 'workload'?"),
        ("shmstress explore", "0 targets; name one"),
        ("shmstress explore buddy-merge-take --step-limit x", "step-limit: 'x'"),
        ("shmstress explore buddy-merge-take --strategy magic", "strategy: 'magic'"),
        ("shmstress replay shm1/", "token"),
    ],
)
def test_a_line_that_cannot_be_performed_is_an_error_of_one_sentence(command, said):
    outcome = performed(command)
    assert outcome.verdict is Verdict.ERROR and said in outcome.troubles[0]


LONG = f"shmstress explore pcp-drain-alloc-3 --strategy random --duration 1h {INTERPRETED}"


# --- the process ---------------------------------------------------------------------------------
def listen(process, stops=None, receive=lambda _: None):
    return process.listen(receive, lambda: None, Stops() if stops is None else stops)


def test_a_process_that_dies_by_a_signal_of_its_own_is_a_violation():
    with RoundProcess(LONG, 3600) as process:
        process.process.send_signal(11)
        outcome = listen(process)
    (violation,) = outcome.violations
    assert outcome.verdict is Verdict.FAILED
    assert (violation.invariant, violation.found) == (
        "I_PROGRESS", "the process of the round died by SIGSEGV",
    )  # fmt: skip


def test_a_process_that_was_killed_says_nothing_of_the_allocator():
    with RoundProcess(LONG, 3600) as process:
        process.process.kill()
        outcome = listen(process)
    assert (outcome.verdict, outcome.violations) == (Verdict.ERROR, ())
    assert "died by SIGKILL" in outcome.troubles[0]


def test_a_process_that_does_not_end_in_time_is_killed(monkeypatch):
    monkeypatch.setattr("stress.soak.child.COMPILE_LIMIT_S", 0.0)
    with RoundProcess(LONG, 3600) as process:
        outcome = listen(process)
    assert outcome.verdict is Verdict.ERROR and "did not end in time" in outcome.troubles[0]
    assert process.process.returncode == -9


def test_a_second_signal_ends_the_wait_at_once():
    stops = Stops()
    stops.signal_name, stops.at_once = "SIGINT", True
    with RoundProcess(LONG, 3600) as process, pytest.raises(ImmediateEnd):
        listen(process, stops)
    assert process.process.returncode == -9


def test_a_first_signal_ends_an_exploration_in_order():
    stops = Stops()
    with RoundProcess(LONG, 3600) as process:
        begun = lambda message: setattr(stops, "signal_name", "SIGINT")  # noqa: E731
        outcome = listen(process, stops, begun)
    assert (outcome.verdict, process.process.returncode) == (Verdict.INTERRUPTED, 0)

"""The mark ``explore`` and the fixture ``explorer``: what a session of pytest says of them."""

import pytest

from support.sessions import Project, need

TESTS = """
import unittest
import pytest
from shmalloc import kernel
from shmalloc.words import fetch_add
from stress import Program

@kernel
def plain(mem, cpu):
    mem[0] = mem[0] + 1

@kernel
def atomic(mem, cpu):
    fetch_add(mem, 0, 1)

@kernel
def both_counted(mem):
    return 0 if mem[0] == 2 else 1

def counter(increment, name="counter"):
    return Program(name, 2, [increment, increment], check=both_counted, names={0: "count"})

@pytest.mark.explore(races=False)
def test_lost():
    return counter(plain)

@pytest.mark.explore(seconds=60)
@pytest.mark.parametrize("increment", [atomic], ids=["it's [a] b"])
def test_fixed(increment, tmp_path):
    return counter(increment)

@pytest.mark.explore(races=False)
@pytest.mark.parametrize("increment", [plain], ids=["it's [a] b"])
def test_odd_id(increment):
    return counter(increment)

@pytest.mark.explore(races=False)
def test_family():
    return (counter(increment, name) for name, increment in [("good", atomic), ("bad", plain)])

@pytest.mark.explore(races=False)
class TestClass:
    @pytest.mark.explore(memory="tso")
    def test_method(self):
        return {"by name": counter(atomic)}

class TestCase(unittest.TestCase):
    @pytest.mark.explore(races=False)
    def test_of_unittest(self):
        return counter(plain)

def test_asserted(explorer):
    assert explorer(counter(plain), races=False).passed

def test_asserted_itself(explorer):
    assert explorer(counter(plain), races=False)

def test_broken_on_purpose(explorer):
    assert not explorer(counter(plain))

@pytest.mark.xfail(strict=True)
@pytest.mark.explore
def test_known_to_fail():
    return counter(plain)

@pytest.mark.explore(stategy="dpor")
def test_typo():
    return counter(plain)

@pytest.mark.explore(strategy="dpro")
def test_wrong_value():
    return counter(plain)

@pytest.mark.explore("dpor")
def test_positional():
    return counter(plain)

@pytest.mark.explore
def test_nothing_returned():
    counter(plain)

@pytest.mark.explore
async def test_async():
    return counter(plain)

@pytest.mark.explore(step_limit=1, schedules=50)
def test_cut():
    return counter(atomic)

@pytest.mark.explore(schedules=0)
def test_no_budget():
    return counter(atomic)

def test_engine(explorer):
    print("engine:", explorer(counter(atomic)).engine)

def test_skipped_by_the_fixture(explorer):
    explorer(counter(atomic), step_limit=1, schedules=50)
    raise AssertionError("not reached")
"""
RERUN = "pytest_rerunfailures"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return Project(tmp_path_factory.mktemp("explore"), {"test_counter.py": TESTS})


@pytest.fixture(scope="module")
def session(project):
    """All of the tests, once."""
    return project.run("--shm-seed=0x2a")


def test_a_program_that_fails_fails_its_test_in_words(session):
    text = session.cases["test_lost"].text
    assert session.cases["test_lost"].outcome == "failure"
    assert "counter: check 1 (memory model sc)" in text
    assert "Cpu 1's write of count came after cpu 0's read of count." in text
    assert "test_counter.py:10 mem[0] = mem[0] + 1" in text


def test_programs_that_pass_pass(session):
    passed = {name for name, outcome in session.outcomes().items() if outcome == "passed"}
    assert passed == {
        "test_fixed[it's [a] b]", "test_method", "test_broken_on_purpose", "test_engine"
    }  # fmt: skip


def test_all_programs_of_a_family_are_explored(session):
    text = session.cases["test_family"].text
    assert "bad: check 1" in text and "good" not in text


def test_marks_of_class_and_function_add_up(session):
    assert session.cases["test_method"].properties["shm_verdict"] == "passed-exhausted"


@pytest.mark.parametrize("name", ["test_asserted", "test_asserted_itself"])
def test_an_assertion_shows_the_report_and_no_dataclass(session, name):
    text = session.cases[name].text
    assert "<Exploration counter (sc, auto): failed, check 1" in text
    assert "<Program counter: 2 CPUs, 2 words>" in text
    assert "write count <- 1 << order" in text
    assert "threads=(" not in text


def test_a_test_of_a_class_that_runs_again_is_explored_again(project):
    need(RERUN)
    again = project.run("--reruns=1", "-k", "of_unittest", plugins=(RERUN,))
    assert again.outcomes() == {"test_of_unittest": "failure"} and "1 rerun" in again.out
    assert "ran a kept failure first" in again.section


def test_a_failure_that_a_test_expects_is_a_pass_or_an_expected_failure(session):
    assert session.cases["test_broken_on_purpose"].outcome == "passed"
    assert session.cases["test_known_to_fail"].outcome == "skipped"  # as JUnit has xfail


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("test_typo", "@pytest.mark.explore: 'stategy' is unknown; did you mean 'strategy'?"),
        ("test_wrong_value", "@pytest.mark.explore: strategy: 'dpro' is unknown; did you mean"),
        ("test_positional", "@pytest.mark.explore: 'dpor' has no name; write NAME='dpor'"),
        ("test_nothing_returned", "the test returned None; return a Program, or several"),
        ("test_async", "test_async is async; the mark needs a plain function"),
    ],
)
def test_a_mistake_is_told_in_a_line_without_a_traceback(session, name, says):
    assert session.cases[name].outcome == "failure"
    assert says in session.cases[name].text and "Traceback" not in session.cases[name].text


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("test_cut", "VACUOUS: counter: 50 of 50 schedules were cut at the step limit"),
        ("test_no_budget", "VACUOUS: counter: schedules=0: nothing was explored"),
        ("test_skipped_by_the_fixture", "VACUOUS: counter: 50 of 50 schedules were cut"),
    ],
)
def test_a_test_that_tested_nothing_is_skipped_with_the_reason(session, name, reason):
    assert session.cases[name].outcome == "skipped"
    assert reason in session.cases[name].text


def test_the_section_at_the_end_lists_the_session_seed_and_what_tested_nothing(session):
    assert "session seed 0x2a (repeat with --shm-seed 0x2a)" in session.section
    assert "3 tests tested nothing, skipped:" in session.section
    assert "  test_counter.py::test_cut: counter: 50 of 50 schedules" in session.section


def test_junit_has_the_seeds_and_the_token(session):
    properties = session.cases["test_lost"].properties
    assert session.properties == {"shm_seed": "0x2a"}
    assert properties["shm_seed"].startswith("0x")
    assert properties["shm_token"].startswith("shm1/counter/sc/")


@pytest.mark.parametrize("name", ["test_odd_id[it's [a] b]", "test_asserted"])
def test_the_line_that_repeats_a_failure_works_when_it_is_pasted(project, session, name):
    text = session.cases[name].text
    (line,) = {line.strip() for line in text.splitlines() if "--shm-replay" in line}
    again = project.paste(line)
    assert again.returncode == 1
    assert "reproduced: check 1" in again.stdout and "1 failed" in again.stdout
    assert "write count <- 1 << order" in again.stdout


def test_a_token_that_no_test_explores_is_a_usage_error(project):
    token = "shm1/other/sc/p1/100/check/1/0123456789ab/-"
    session = project.run("--shm-replay", token, "-k", "test_lost")
    assert session.code == 4
    assert session.outcomes() == {"test_lost": "skipped"}
    assert "--shm-replay: no test of this session explores the program" in session.section


def test_a_damaged_token_is_told_before_anything_runs(project):
    session = project.run("--shm-replay", "shm1/nonsense")
    assert session.code == 4 and "ERROR: --shm-replay: token: 'shm1/nonsense'" in session.out


def test_strict_and_a_budget_of_nothing_fail_every_test(project):
    session = project.run("--shm-strict", "--shm-budget=0x", "-k", "fixed or fixture")
    assert set(session.outcomes().values()) == {"failure"} and len(session.cases) == 2
    assert "VACUOUS: counter: --shm-budget 0x: nothing was explored (--shm-strict)" in session.out
    assert "2 tests tested nothing, failed by --shm-strict:" in session.section


def test_settings_of_the_file_are_defaults_and_the_command_line_wins(project):
    project.write({"pytest.ini": "[pytest]\nshm_seed = 0x77\nshm_engine = native\n"})
    session = project.run("--shm-engine=interpreted", "-k", "test_engine", "-rP")
    assert "session seed 0x77" in session.section
    assert "engine: interpreted" in session.out
    assert "passed-exhausted under sc: 2 CPUs, 2 words" in session.out  # in the section of the test

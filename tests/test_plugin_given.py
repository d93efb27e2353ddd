"""Tests of Hypothesis that explore what it draws: by the fixture, and by the mark."""

import pytest

from support.sessions import Project

TESTS = """
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from shmalloc import kernel
from stress import Program

@kernel
def add(mem, cpu):
    for _ in range(mem[1]):
        mem[0] = mem[0] + 1

@kernel
def all_counted(mem):
    return 0 if mem[0] == 2 * mem[1] else 1

def counter(times):
    return Program("counter", 2, [add, add], check=all_counted, init=[(1, times)])

quick = settings(
    deadline=None, max_examples=8, database=None, derandomize=True,
    phases=[Phase.generate, Phase.shrink],
)
seeds = set()

@quick
@given(times=st.integers(0, 2))
def test_fixture(explorer, times):
    assert explorer(counter(times), races=False)

@pytest.mark.explore(races=False)
@quick
@given(st.integers(0, 2))
def test_mark(times):
    return counter(times)

@pytest.mark.explore(races=False)
class TestClass:
    @quick
    @given(st.integers(0, 0))
    @pytest.mark.parametrize("n", [1, 2])
    def test_passes(self, n, times):
        return counter(times)

@quick
@given(st.integers(0, 0))
def test_one_seed(explorer, times):
    seeds.add(explorer(counter(times)).seed)
    assert len(seeds) == 1

def test_of_its_own(explorer):
    assert explorer(counter(0)).seed not in seeds
"""
INI = "[pytest]\nshm_engine = interpreted\n"
HYPOTHESIS = "_hypothesis_pytestplugin"


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    files = {"test_drawn.py": TESTS, "pytest.ini": INI}
    return Project(tmp_path_factory.mktemp("given"), files).run(plugins=(HYPOTHESIS,))


@pytest.mark.parametrize("name", ["test_fixture", "test_mark"])
def test_a_drawn_program_that_fails_is_reduced_and_shown_once(session, name):
    assert session.cases[name].outcome == "failure"
    shown = session.out.partition(f"_ {name} _")[2].partition("\n____")[0]
    shown = shown.partition("= shmalloc =")[0]
    assert shown.count("counter: check 1 (memory model sc)") == 1
    assert shown.count("--shm-replay") == 1
    assert "times=1," in shown  # the example


@pytest.mark.parametrize("name", ["test_passes[1]", "test_passes[2]", "test_one_seed"])
def test_examples_of_one_test_share_its_seed_and_pass(session, name):
    assert session.cases[name].outcome == "passed", session.cases[name].text


def test_the_next_test_has_a_seed_of_its_own(session):
    assert session.cases["test_of_its_own"].outcome == "passed"

"""The sweep: every caller survives the failure of each of its allocations; losses are found."""

import re

import pytest

from shmalloc import constants as c
from shmalloc.errors import MisuseError, OutOfMemoryError
from stress.faults.operations import OPERATIONS, Operation
from stress.faults.sweep import sweep, sweep_all, verdict_of
from stress.verdict import Verdict
from support.runs import shmstress


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_caller_survives_the_failure_of_each_of_its_allocations(name):
    result = sweep(OPERATIONS[name])
    assert [row.problems for row in result.rows if row.problems] == []
    assert result.verdict is Verdict.PASSED and result.faults > 0


def answers(name, lasting):
    return [row.answer for row in sweep(OPERATIONS[name]).rows if row.lasting is lasting]


def test_a_slab_falls_back_where_one_page_fails_and_gives_up_where_all_do():
    assert answers("object", lasting=False)[1] == "succeeded"
    assert answers("object", lasting=True)[1] == "OutOfMemoryError"


def test_giving_memory_back_needs_no_memory():
    assert set(answers("arena-free", lasting=True)) == {"succeeded"}
    assert set(answers("arena-free-objects", lasting=True)) == {"succeeded"}


def two_pages(arena):
    """Loses the first page if there is no second."""
    return [arena.alloc_pages(), arena.alloc_pages()]


def answers_strangely(arena):
    try:
        return [arena.alloc_pages()]
    except OutOfMemoryError:
        return c.E_AGAIN


def free_all(arena, _, pfns):
    for pfn in pfns:
        arena.free_pages(pfn)


def swept(act):
    return sweep(Operation("own", "of a test", lambda arena, _: act(arena), free_all))


def problems(result):
    return [problem for row in result.rows for problem in row.problems]


def test_a_page_lost_on_the_way_out_is_found():
    result = swept(two_pages)
    assert result.verdict is Verdict.FAILED
    assert all("lost: 1 x allocated block" in problem for problem in problems(result))
    assert [row.nth for row in result.rows if row.problems] == [2, 2]  # alone, and all behind it


def test_an_answer_that_is_no_refusal_is_found():
    result = swept(answers_strangely)
    assert result.verdict is Verdict.FAILED and "E_AGAIN" in problems(result)[0]


def test_an_operation_without_an_allocation_proves_nothing():
    assert swept(lambda arena: []).verdict is Verdict.VACUOUS


def test_a_sweep_that_does_not_come_to_an_end_is_an_error():
    result = sweep(OPERATIONS["bulk"], most_runs=3)
    assert verdict_of([result]) is Verdict.ERROR


def test_a_wrong_name_is_refused_with_the_nearest():
    with pytest.raises(MisuseError, match="did you mean 'kmalloc'"):
        sweep_all(["kmaloc"])


def test_the_command_prints_a_table_and_its_verdict():
    run = shmstress("sweep", "page", "objects")
    assert run.returncode == 0 and run.stdout.splitlines()[-1] == "PASSED operations=2 faults=8"
    assert re.search(r"page and all later ones +E_NOMEM", run.stdout)


def test_the_command_refuses_a_wrong_name():
    run = shmstress("sweep", "pgae")
    assert run.returncode == 4 and "did you mean 'page'" in run.stderr and run.stdout == ""

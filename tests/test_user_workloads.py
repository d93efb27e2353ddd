"""Workloads of a user's file: found by worker processes, wherever pytest imported the file from."""

import importlib.util
import sys

import pytest

from shmalloc import kernel
from shmalloc.errors import MisuseError
from stress.run.controller import Controller
from stress.run.interrupts import Interrupts
from stress.run.progress import Progress
from stress.spec import RunSpec, Zone
from stress.verdict import Verdict
from stress.workloads import OWN, WORKLOADS, Workload, add

# Kernels of a file that stands on a helper, in a package that no search path has.
HELPER = """
from shmalloc import kernel
from stress.workloads.area import W_DATA, work_at

@kernel
def count(mem, cpu, steps):
    at = work_at(mem, cpu) + W_DATA
    mem[at] = mem[at] + steps
    return steps
"""
FILE = """
from shmalloc import kernel
from .helper import count

@kernel
def step(mem, cpu, steps):
    return count(mem, cpu, steps)

@kernel
def finish(mem, cpu):
    return 0
"""


def run(*names):
    """A run of the named workloads in two processes, started by this process."""
    spec = RunSpec(names, workers=2, zones=(Zone(8 << 20),), duration_s=0.3)

    def abandon(result):
        raise AssertionError("the controller is stuck")

    return Controller(spec, Progress(), Interrupts(), None, abandon).run()


def imported(name, path, package=False):
    """The module of a file under a name that no other process can import."""
    places = [str(path.parent)] if package else None
    spec = importlib.util.spec_from_file_location(name, path, submodule_search_locations=places)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def hidden(tmp_path, monkeypatch):
    """A package in a folder with a space, imported under a name of its own."""
    folder = tmp_path / "two words"
    folder.mkdir()
    for name, text in (("__init__", ""), ("helper", HELPER), ("kernels", FILE)):
        (folder / f"{name}.py").write_text(text)
    for name in ("hidden", "hidden.helper", "hidden.kernels"):
        monkeypatch.setitem(sys.modules, name, None)
    imported("hidden", folder / "__init__.py", package=True)
    imported("hidden.helper", folder / "helper.py")
    return imported("hidden.kernels", folder / "kernels.py")


@pytest.fixture
def table():
    """What a test adds to the table of workloads is gone afterwards."""
    before = dict(WORKLOADS)
    yield
    WORKLOADS.clear()
    WORKLOADS.update(before)


def test_workers_find_a_kernel_that_cannot_be_imported_by_name(hidden, table):
    name = add(Workload("counting", hidden.step, hidden.finish, marks=(), work_words=32))
    result = run(name)
    assert result.verdict is Verdict.PASSED, result.troubles
    assert result.workloads["counting"].ops > 0


def test_runs_of_one_process_may_want_different_kernels(hidden, table):
    name = add(Workload("counting", hidden.step, hidden.finish, marks=(), work_words=32))
    results = [run("bulk"), run(name)]
    assert [r.verdict for r in results] == [Verdict.PASSED] * 2, [r.troubles for r in results]


def test_a_file_that_fails_in_the_workers_is_told_with_its_error(hidden, table, tmp_path):
    name = add(Workload("counting", hidden.step, hidden.finish, marks=(), work_words=32))
    (tmp_path / "two words" / "helper.py").write_text("raise ValueError('not twice')")
    result = run(name)
    assert result.verdict is Verdict.ERROR
    assert "not twice" in result.troubles[0][1]


def test_a_kernel_made_in_a_function_is_refused_before_any_worker_starts(table):
    @kernel
    def step(mem, cpu, steps):
        return steps

    name = add(Workload("local", step, step, marks=(), work_words=32))
    with pytest.raises(MisuseError, match="define it at the top level of a file"):
        run(name)


def test_a_second_workload_of_a_name_gets_a_number(hidden, table):
    first = Workload("churn", hidden.step, hidden.finish, marks=(), work_words=32)
    assert add(first) == "churn-2"
    assert add(Workload("churn", hidden.step, hidden.finish, (), 32)) == "churn-2"
    assert set(OWN) < set(WORKLOADS)


def test_a_result_is_true_if_it_passed_and_shows_itself_in_a_line(stress_run):
    result = stress_run("bulk", workers=2, ram="8MiB", seconds=0.3)
    assert result and result.passed
    assert repr(result).startswith("<RunResult bulk: PASSED, ") and "\n" not in repr(result)

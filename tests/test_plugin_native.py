"""The mark ``stress`` and the fixture ``stress_run``: real processes as a part of a test."""

import pytest

from support.sessions import Project

TESTS = """
import pytest
from shmalloc import constants as c
from shmalloc import kernel
from shmalloc.kernels.reporting import report
from stress.spec import RunSpec, Zone
from stress.workloads import Workload
from stress.workloads.area import W_DATA, give_from, stopping, take_into, work_at
from .kernels import entry_at

SHORT = pytest.mark.stress(workers=2, seconds=0.2, ram="8MiB")

@SHORT
def test_names():
    return {"workload": "bulk,orders", "link-store": "table"}

@SHORT
def test_nothing_returned():
    pass

@pytest.mark.stress
def test_spec():
    return RunSpec(("bulk",), workers=1, zones=(Zone(8 << 20),), duration_s=0.2)

def test_fixture(stress_run, shm_seed):
    result = stress_run("bulk", workers=1, seconds=0.2)
    assert result.passed and result.spec.seed == shm_seed

@pytest.mark.stress(wrokers=2)
def test_typo():
    pass

@pytest.mark.stress(workers=0)
def test_wrong_value():
    pass

@pytest.mark.stress(seconds=0)
def test_no_time():
    pass

@kernel
def step(mem, cpu, steps):
    entry = entry_at(mem, cpu)
    for _ in range(steps):
        if stopping(mem):
            break
        if mem[entry + 1] == 0:
            take_into(mem, cpu, work_at(mem, cpu), entry, 2, 0)
        else:
            give_from(mem, cpu, entry)
    return steps

@kernel
def finish(mem, cpu):
    entry = entry_at(mem, cpu)
    if mem[entry + 1] != 0:
        give_from(mem, cpu, entry)
    return 0

@kernel
def keep(mem, cpu):
    entry = entry_at(mem, cpu)
    if mem[entry + 1] == 0:
        take_into(mem, cpu, work_at(mem, cpu), entry, 2, 0)
    return 0

@SHORT
class TestKernels:
    def test_pair(self):
        return step, finish

    def test_workload(self):
        return Workload("blocks", step, finish, marks=(c.EV_ALLOC,), work_words=32)

@SHORT
def test_missed_mark():
    return {"workload": [Workload("blocks", step, finish, marks=(c.EV_CONTIG,), work_words=32)]}

def test_leak(stress_run):
    assert stress_run((step, keep), workers=2, seconds=0.2).passed

@SHORT
def test_kernel_of_a_function():
    @kernel
    def local(mem, cpu, steps):
        return steps
    return local, finish
"""
KERNELS = """
from shmalloc import kernel
from stress.workloads.area import W_DATA, work_at

@kernel
def entry_at(mem, cpu):
    return work_at(mem, cpu) + W_DATA
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Tests in a package that no search path has: only pytest knows the names of its modules."""
    files = {"__init__.py": "", "kernels.py": KERNELS, "test_native.py": TESTS}
    folder = tmp_path_factory.mktemp("native")
    return Project(folder, {f"two words/{name}": text for name, text in files.items()})


@pytest.fixture(scope="module")
def session(project):
    return project.run("--shm-seed=0x2a", "--import-mode=importlib", "two words")


def test_specs_of_every_form_run(session):
    outcomes = session.outcomes()
    for name in ("names", "nothing_returned", "spec", "fixture"):
        assert outcomes[f"test_{name}"] == "passed", session.cases[f"test_{name}"].text


def test_kernels_of_a_test_file_run_in_worker_processes(session):
    outcomes = session.outcomes()
    assert (outcomes["test_pair"], outcomes["test_workload"]) == ("passed", "passed")
    assert session.cases["test_pair"].properties["shm_verdict"] == "PASSED"


def test_a_failed_run_shows_its_violations_and_the_line_that_repeats_it(session):
    text = session.cases["test_leak"].text
    assert "<RunResult test_leak: FAILED," in text and "RunResult(spec=" not in text
    assert "!!! " in text and "expected" in text
    assert "to run the test again, with the same inputs:" in text
    assert "--shm-seed 0x2a" in text and "shmstress run" not in text  # which has no such workload


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("test_missed_mark", "VACUOUS: never reached: contig"),
        ("test_no_time", "VACUOUS: seconds=0: nothing ran"),
    ],
)
def test_a_run_that_tested_nothing_is_skipped_with_the_reason(session, name, reason):
    assert session.cases[name].outcome == "skipped"
    assert reason in session.cases[name].text
    assert name in session.section


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("test_typo", "@pytest.mark.stress: 'wrokers' is unknown; did you mean 'workers'?"),
        ("test_wrong_value", "@pytest.mark.stress: workers: '0'; use auto, a share"),
        ("test_kernel_of_a_function", "define it at the top level of a file that is imported"),
    ],
)
def test_a_mistake_is_told_in_a_line(session, name, says):
    assert session.cases[name].outcome == "failure"
    assert says in session.cases[name].text and "Traceback" not in session.cases[name].text


def test_kernels_of_a_conftest_file_are_found_too(project):
    flat = TESTS.replace("from .kernels import", "from conftest import")
    project.write({"flat/conftest.py": KERNELS, "flat/test_flat.py": flat})
    session = project.run("--shm-engine=interpreted", "flat", "-k", "test_pair")
    assert session.outcomes() == {"test_pair": "passed"}, session.out


def test_the_interpreted_engine_takes_one_worker(project):
    session = project.run(
        "--import-mode=importlib", "--shm-engine=interpreted", "two words", "-k", "test_pair"
    )
    assert set(session.outcomes().values()) == {"passed"}, session.out

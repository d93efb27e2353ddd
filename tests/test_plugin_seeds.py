"""Seeds depend on the session's seed and the node id: no other plugin changes them."""

import json

import pytest

from support.sessions import XDIST, Project, need

TESTS = """
import json, os
import pytest

def note(request, seed):
    # pytest-xdist appends the group of a test to its node id
    name = request.node.nodeid.partition("@")[0]
    with open(os.environ["SEEDS"], "a") as file:
        file.write(json.dumps([name, seed]) + "\\n")

@pytest.mark.parametrize("n", range(3))
def test_many(request, shm_seed, n):
    note(request, shm_seed)

@pytest.mark.xdist_group("group")
class TestClass:
    def test_grouped(self, request, shm_seed):
        note(request, shm_seed)

def test_fails(request, shm_seed):
    note(request, shm_seed)
    assert False
"""
RANDOMLY, REPEAT = "pytest_randomly", "pytest_repeat"
RERUN, FORKED = "pytest_rerunfailures", "pytest_forked"
PARALLEL = "pytest_run_parallel.plugin"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return Project(tmp_path_factory.mktemp("seeds"), {"test_seeds.py": TESTS})


def seeds(project, *arguments, plugins=(), seed="0x2a"):
    """Node id -> the seeds that the test had, of one session."""
    for plugin in plugins:
        need(plugin)
    file = project.folder / "seeds"
    file.unlink(missing_ok=True)
    session = project.run(f"--shm-seed={seed}", *arguments, plugins=plugins, SEEDS=str(file))
    found = {}
    for line in file.read_text().splitlines():
        node, drawn = json.loads(line)
        found.setdefault(node, []).append(drawn)
    return found, session


@pytest.fixture(scope="module")
def usual(project):
    """The seeds of a session without other plugins: one for each test, all different."""
    found, _ = seeds(project)
    assert len(found) == 5 and len({drawn for (drawn,) in found.values()}) == 5
    return found


def test_another_session_seed_gives_other_seeds(project, usual):
    other, session = seeds(project, "-k", "many", seed="0x2b")
    assert all(usual[node] != other[node] for node in other)
    assert session.properties["shm_seed"] == "0x2b"


@pytest.mark.parametrize("how", ["loadgroup", "loadfile", "worksteal"])
def test_workers_and_their_distribution_change_nothing(project, usual, how):
    found, session = seeds(project, "-n2", f"--dist={how}", plugins=(XDIST,))
    assert found == usual
    assert session.properties["shm_seed"] == "0x2a"  # of the controller


def test_order_changes_nothing(project, usual):
    found, _ = seeds(project, "--randomly-seed=7", plugins=(RANDOMLY,))
    assert found == usual


def test_a_repetition_has_a_node_id_and_a_seed_of_its_own(project):
    found, _ = seeds(project, "--count=2", "-k", "grouped", plugins=(REPEAT,))
    assert len(found) == 2 and len({drawn for (drawn,) in found.values()}) == 2


def test_a_test_that_runs_again_has_the_same_seed(project, usual):
    found, _ = seeds(project, "--reruns=2", "-k", "fails", plugins=(RERUN,))
    (node,) = found
    assert found[node] == 3 * usual[node]


def test_a_test_in_many_threads_has_one_seed(project, usual):
    found, _ = seeds(project, "--parallel-threads=3", "-k", "grouped", plugins=(PARALLEL,))
    (node,) = found
    assert found[node] == 3 * usual[node]


def test_a_test_in_a_fork_has_the_same_seed(project, usual):
    need_forked(project)
    found, session = seeds(project, "--forked", "-k", "grouped", plugins=(FORKED,))
    (node,) = found
    assert found[node] == usual[node]
    assert session.section.startswith("session seed 0x2a")  # the fork's report says it was used


def need_forked(project):
    """Skip where pytest-forked cannot run any test beside this pytest (1.7.5 beside 9.2)."""
    need(FORKED)
    project.write({"test_plain.py": "def test_plain(): pass"})
    if project.run("--forked", "test_plain.py", plugins=(FORKED,)).code:
        pytest.skip("pytest-forked does not work with this version of pytest")

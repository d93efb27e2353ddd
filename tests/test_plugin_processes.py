"""Native tests among other processes: turns, workers that die, Ctrl-C, kernels compiled once."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from stress.pytest_plugin.turn import Turn
from support.runs import PATIENCE_S, wait_until
from support.sessions import XDIST, Project

LONG = """
import pytest
SMALL = dict(workload="bulk", workers=1, ram="8MiB")

@pytest.mark.stress(seconds=600, **SMALL)
def test_long():
    pass

@pytest.mark.stress(seconds=0.2, **SMALL)
def test_short():
    pass

@pytest.mark.parametrize("n", range(3))
def test_other(n):
    pass
"""
EXPLORED = """
import pytest
from shmalloc.words import store
from shmalloc import kernel
from stress import Program

@kernel
def write(mem, cpu):
    store(mem, cpu, 1)

@pytest.mark.explore(strategy="random", schedules=10)
@pytest.mark.parametrize("n", range(4))
def test_program(n):
    return Program("program", 2, [write, write])
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return Project(tmp_path_factory.mktemp("processes"), {"test_runs.py": LONG})


def nothing_left(processes):
    """None of these processes is alive, and none of their segments is there."""
    wait_until(lambda: not any(p.is_running() for p in processes), "the end of all processes")
    pids = {str(process.pid) for process in processes}
    return not [p for p in Path("/dev/shm").glob("shm-*-*-*") if p.name.split("-")[1] in pids]


def test_a_session_waits_for_the_run_of_another_and_death_frees_its_turn(project):
    with project.running("-k", "test_long") as first:
        owner = first.wait_for_a_run()
        with project.running("-k", "test_short", "-s") as second:
            holder = f"process {owner} (test_runs.py::test_long), which has the cores"
            line = wait_for_line(second, "waits for")
            assert line == f"shmalloc: test_runs.py::test_short waits for {holder}"
            first.process.kill()
            assert second.end().outcomes() == {"test_short": "passed"}


def wait_for_line(running, words):
    """The next line of its output with these words."""
    assert running.process.stdout is not None
    for line in running.process.stdout:
        if words in line:
            return line.strip()
    raise AssertionError(f"the session ended without {words!r}")


def test_sessions_that_do_not_take_turns_run_at_once(project):
    with project.running("-k", "test_long") as first:
        first.wait_for_a_run()
        done = project.run("-k", "test_short", "--shm-oversubscribe")
        assert done.outcomes() == {"test_short": "passed"}
        assert first.process.poll() is None


def test_ctrl_c_ends_a_run_in_order_and_leaves_nothing(project):
    with project.running("-k", "test_long") as running:
        running.wait_for_a_run()
        processes = running.processes()
        os.killpg(running.process.pid, signal.SIGINT)
        session = running.end()
    assert session.code == pytest.ExitCode.INTERRUPTED and "KeyboardInterrupt" in session.out
    assert len(processes) > 1 and nothing_left(processes)


def test_a_worker_of_xdist_that_is_killed_leaves_nothing(project):
    with project.running("-n1", "-k", "long or other", plugins=(XDIST,)) as running:
        owner = running.wait_for_a_run()
        processes = running.processes()
        os.kill(owner, signal.SIGKILL)
        session = running.end()
    assert "crashed while running 'test_runs.py::test_long'" in session.out
    assert [session.cases[f"test_other[{n}]"].outcome for n in range(3)] == ["passed"] * 3
    assert nothing_left(processes)


def test_kernels_are_compiled_by_one_worker_with_a_line_that_says_so(tmp_path):
    project = Project(tmp_path, {"test_explored.py": EXPLORED})
    store = tmp_path / "store"
    store.mkdir(mode=0o700)
    session = project.run("-n2", plugins=(XDIST,), SHMALLOC_CACHE_DIR=str(store))
    assert set(session.outcomes().values()) == {"passed"}
    lines = re.findall(r"^shmalloc: \[gw\d\] compiling .*$", session.out, re.MULTILINE)
    assert len(lines) == 1 and "kernels, on their first use only" in lines[0]
    assert len(list(store.rglob("*.image"))) == 2  # the strategies, and the program


SAYS = """
from shmalloc.pytest_plugin.state import state_of

def test_before():
    pass

def test_says(request):
    state_of(request.config).say("a line")
"""


def test_a_line_for_people_has_a_line_of_its_own_among_dots(tmp_path):
    session = Project(tmp_path, {"test_says.py": SAYS}).run("-q")
    assert "\nshmalloc: a line\n" in session.out


# --- the turn itself ------------------------------------------------------------------------------
HOLD = """
import sys
from stress.pytest_plugin.turn import Turn
with Turn("7\\nholder", lambda text: print(text, flush=True)):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def turns(tmp_path, monkeypatch):
    monkeypatch.setenv("SHMALLOC_TURN_DIR", str(tmp_path / "turns"))
    return tmp_path / "turns"


@pytest.fixture
def holder(turns):
    """Another process that has the turn until its standard input ends."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "held\n"
        yield process


def test_who_waits_says_for_whom_once_and_gets_the_turn_afterwards(holder):
    said = []

    def say(text):
        said.append(text)
        holder.stdin.close()

    with Turn("8\nme", say):
        assert holder.wait(PATIENCE_S) == 0
    assert said == ["me waits for process 7 (holder), which has the cores"]


def test_a_file_that_is_cleaned_away_while_another_waits_gives_two_no_turn_at_once(turns, holder):
    """The holder keeps a file that is gone; who comes next locks the one that all others find."""
    (turns / "turn").unlink()
    with Turn("8\nme", pytest.fail):
        waiting = subprocess.Popen([sys.executable, "-c", HOLD], stdout=subprocess.PIPE, text=True)
        try:
            assert waiting.stdout.readline().startswith("holder waits for process 8 (me)")
        finally:
            waiting.kill()
            waiting.communicate()


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork")
def test_a_child_of_the_holder_does_not_keep_the_turn(turns):
    with Turn("1\nparent", pytest.fail):
        child = os.fork()
        if child == 0:
            signal.pause()
    try:
        with Turn("2\nnext", pytest.fail):
            pass
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


@pytest.mark.parametrize("kind", ["others may write", "is not a directory"])
def test_a_folder_that_is_not_ours_alone_is_not_used(turns, kind):
    if kind == "others may write":
        turns.mkdir()
        turns.chmod(0o777)
    else:
        turns.write_text("")
    said = []
    with Turn("1\nme", said.append):
        assert said[0].startswith("native runs do not take turns: ") and kind in said[0]

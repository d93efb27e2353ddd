"""What the documentation shows runs and prints what it says; examples explore to their verdicts."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import shmalloc
import stress
from stress import Program
from support.sessions import Project

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
TEST_FILE = ROOT / "examples" / "test_counter.py"
QUEUE_FILE = ROOT / "examples" / "test_mpmc_queue.py"
TEST_FILES = (TEST_FILE, QUEUE_FILE)
EXAMPLES = sorted(path for path in (ROOT / "examples").glob("*.py") if path not in TEST_FILES)
MAX_LINES = 40
# What each script prints somewhere in its output.
SAYS = {
    "lost_update": "no-lost-update: passed-exhausted",
    "peterson": "tso unfenced failed",
    "seqlock": "passed-exhausted",
    "spsc_queue": "tso passed-exhausted",
    "treiber_stack": "passed-exhausted",
    "shared_array": "[0 2 4 6 8]",
    "pool_map": "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9] written through a view: 40",
    "frames": "right []",
    "robust_lock": "repaired: 1 and 1",
    "data_loader": "means [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]",
    "job_queue": "done: [0, 1, 4, 16, 25, 36, 49]",
    "shared_dict": "{1: [0, 1, 4, 9], 2: [0, 4, 16, 36], 4: [0, 16, 64, 144]} b'began'",
    "misuse": "nothing changed: M_DOUBLE_FREE: a block may be freed only once",
}
PASSED = ("passed-exhausted", None)
# (example, its program, memory) -> (verdict, kind of the failure)
VERDICTS = {
    ("lost_update", "program", "sc"): ("failed", "race"),
    ("lost_update", "fixed", "sc"): PASSED,
    ("lost_update", "fixed", "tso"): PASSED,
    ("treiber_stack", "untagged", "sc"): ("failed", "check"),
    ("treiber_stack", "tagged", "sc"): PASSED,
    ("treiber_stack", "tagged", "tso"): PASSED,
    ("peterson", "unfenced", "sc"): PASSED,
    ("peterson", "unfenced", "tso"): ("failed", "race"),
    ("peterson", "fenced", "sc"): PASSED,
    ("peterson", "fenced", "tso"): PASSED,
    ("spsc_queue", "program", "sc"): PASSED,
    ("spsc_queue", "program", "tso"): PASSED,
    ("seqlock", "careful", "sc"): PASSED,
    ("seqlock", "careful", "tso"): PASSED,
    ("seqlock", "careless", "sc"): ("failed", "check"),
}


def run(script, *arguments):
    """Output of a script that imports the very package that is tested here."""
    place = str(Path(shmalloc.__file__).parent.parent)
    command = [sys.executable, str(script), *arguments]
    environment = {**os.environ, "PYTHONPATH": place}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=300, check=True
    )
    return done.stdout


def programs_of(path):
    """The programs that an example names, by name; loading it runs nothing."""
    spec = importlib.util.spec_from_file_location(f"examples_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # compiled kernels are kept only for modules that have a name
    spec.loader.exec_module(module)
    return {name: value for name, value in vars(module).items() if isinstance(value, Program)}


def test_every_example_is_known_here():
    assert {path.stem for path in EXAMPLES} == set(SAYS)


def test_every_program_of_an_example_has_a_verdict_here():
    named = {(path.stem, name) for path in EXAMPLES for name in programs_of(path)}
    assert named == {key[:2] for key in VERDICTS}


@pytest.mark.parametrize("path", [*EXAMPLES, TEST_FILE], ids=lambda path: path.stem)
def test_an_example_fits_on_a_page(path):
    assert len(path.read_text().splitlines()) <= MAX_LINES


@pytest.mark.parametrize("key", VERDICTS, ids="-".join)
def test_an_example_explores_to_its_verdict(explorer, key):
    example, name, memory = key
    program = programs_of(ROOT / "examples" / f"{example}.py")[name]
    result = explorer(program, memory=memory, seconds=60)
    assert (result.verdict, result.failure and result.failure.kind) == VERDICTS[key]


@pytest.mark.parametrize("name", SAYS)
def test_an_example_prints_what_the_readme_says(name):
    assert SAYS[name] in run(ROOT / "examples" / f"{name}.py")


@pytest.mark.parametrize("method", ["fork", "forkserver"])
@pytest.mark.parametrize("name", ["pool_map", "frames", "shared_dict"])
def test_an_example_of_arrays_runs_under_each_start_method(name, method):
    assert SAYS[name] in run(ROOT / "examples" / f"{name}.py", method)


def test_the_test_file_of_the_examples_passes_where_it_is_copied_to(tmp_path):
    project = Project(tmp_path, {"test_mine.py": TEST_FILE.read_text()})
    session = project.run("--shm-budget=0.3x")
    assert set(session.outcomes().values()) == {"passed"} and len(session.cases) == 2


def test_the_queue_that_is_broken_is_found_by_processes_and_explained(tmp_path):
    project = Project(tmp_path, {"test_queue.py": QUEUE_FILE.read_text()})
    session = project.run("-s")
    assert set(session.outcomes().values()) == {"passed"}, session.out
    assert "a schedule breaks the same invariant, check X_DOUBLE_ALLOC" in session.out


def test_the_page_about_pytest_shows_what_a_failing_test_prints(tmp_path):
    text = TEST_FILE.read_text().replace("fetch_add(mem, 0, 1)", "mem[0] = mem[0] + 1")
    project = Project(tmp_path, {"test_counter.py": text})
    session = project.run("-k", "update", COLUMNS="100")
    page = (ROOT / "docs" / "pytest.md").read_text()
    (shown,) = re.findall(r"```\n(___.*?)```", page, re.DOTALL)
    printed = session.out.replace("python -m pytest", "pytest")
    for given in (
        "-p shmalloc.pytest_plugin ",
        "-p no:cacheprovider ",
    ):  # by this test, not by a user
        printed = printed.replace(given, "")
    lines = [line for line in shown.splitlines() if line != "..." and "found after" not in line]
    assert len(lines) > 10 and [line for line in lines if line not in printed] == []


def test_the_lost_update_of_the_readme_prints_what_the_readme_shows(tmp_path):
    code, shown = re.search(
        r"```python\n([^`]*?lost-update[^`]*?)```\n\n```\n(.*?)```", README, re.DOTALL
    ).groups()
    (tmp_path / "lost_update.py").write_text(code)
    printed = run(tmp_path / "lost_update.py")
    assert [line for line in shown.splitlines() if line not in printed] == []


def test_the_arena_block_of_the_readme_runs(tmp_path):
    block = next(b for b in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "Arena" in b)
    (tmp_path / "block.py").write_text(block)
    printed = run(tmp_path / "block.py").splitlines()
    assert "is allocated to owner" in printed[0] and printed[1] == "[]"


def test_names_that_are_packages_too_can_still_be_called():
    importlib.import_module("shmalloc.kernels.boot")
    importlib.import_module("stress.explorer.explore")
    assert callable(shmalloc.kernel)
    assert callable(stress.explore)

"""In a project that has nothing to do with us the plugin changes nothing; how it is installed."""

import inspect
import tomllib
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from shmalloc.pytest_plugin import marks, options
from stress.explorer.explore import explore
from stress.pytest_plugin.specs import option_names
from support.sessions import PLUGIN, Project

ROOT = Path(__file__).resolve().parent.parent
# Marks, fixtures and options that have our names and mean something else.
FOREIGN = """
import sys
import pytest

@pytest.fixture
def arena():
    return "a place for fights"

@pytest.mark.stress
def test_bare_mark():
    pass

@pytest.mark.stress("hours", level=3)
@pytest.mark.explore(where="cave")
def test_mark_with_arguments_of_its_own(arena):
    assert arena == "a place for fights"

@pytest.mark.explore
class TestCave:
    def test_method(self):
        pass

def test_nothing_of_ours_is_loaded():
    loaded = {name.partition(".")[0] for name in sys.modules}
    assert not loaded & {"stress", "numpy", "llvmlite", "greenlet", "msgspec"}
"""
CONFTEST = """
def pytest_addoption(parser):
    parser.addoption("--seed")
    parser.addoption("--budget")
"""
INI = "[pytest]\nmarkers =\n    stress: takes hours\n    explore: a cave\n"


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
    files = {"test_foreign.py": FOREIGN, "conftest.py": CONFTEST, "pytest.ini": INI}
    project = Project(tmp_path_factory.mktemp("foreign"), files)
    return project, project.run("-Werror", "--strict-markers", "--strict-config", "--seed=x")


def test_tests_run_as_without_the_plugin(foreign):
    _, session = foreign
    assert set(session.outcomes().values()) == {"passed"} and len(session.cases) == 4


def test_nothing_is_said_and_nothing_is_written(foreign):
    project, session = foreign
    words = session.out.replace(str(project.folder), "").lower()
    assert "shm" not in words and "warning" not in words and "seed" not in words
    assert not (project.folder / ".shmalloc").exists()
    assert session.properties == {} and not any(c.properties for c in session.cases.values())


@pytest.mark.parametrize("value", [None, 3, [1], {"level": 3}, {}, object()])
def test_what_a_foreign_test_returns_does_not_speak_to_us(value):
    assert not marks.speaks_by_its_value("stress", value)
    assert not marks.speaks_by_its_value("explore", value)


def test_a_dictionary_of_our_options_does():
    assert marks.speaks_by_its_value("stress", {"workload": "churn", "link-store": "page"})


def test_the_mark_takes_every_argument_of_explore():
    taken = set(inspect.signature(explore).parameters) - {"program", "progress"}
    assert set(marks.OF_EXPLORE) == taken


def test_the_mark_takes_every_option_of_a_run():
    assert set(marks.OF_STRESS) == set(option_names())


def test_every_option_has_our_prefix_and_a_setting_in_the_file(pytester):
    """Asked of pytest itself: what the plugin adds to its parser."""
    before = pytester.runpytest_subprocess("-h", "-p", f"no:{PLUGIN}", "-p", "no:shmalloc")
    after = pytester.runpytest_subprocess("-h", "-p", PLUGIN, "-p", "no:shmalloc")
    added = set(after.outlines) - set(before.outlines)
    named = {line.split()[0].partition("=")[0] for line in added if line.startswith("  ")}
    flags = {name for name in named if name.startswith("--")}
    settings = {name for name in named if name.startswith("shm_")}
    asked = {"--shm-replay", "--shm-fixed"}  # of one session
    assert flags and all(flag.startswith("--shm-") for flag in flags)
    assert {f"shm_{flag[6:]}" for flag in flags - asked} == settings - {"shm_marks"}


def test_pytest_finds_the_plugin_by_its_entry_point():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["pytest11"] == {"shmalloc": PLUGIN}


def test_the_installed_package_has_the_entry_point():
    found = [e.value for e in entry_points(group="pytest11") if e.name == "shmalloc"]
    if not found:
        pytest.skip("run from a checkout, by PYTHONPATH")
    assert set(found) == {PLUGIN}


@pytest.mark.parametrize(
    ("text", "seconds", "schedules"),
    [
        ("", 10.0, 100),
        ("10x", 100.0, 1000),
        ("0.5x", 5.0, 50),
        ("0.001x", 0.01, 1),
        ("2s", 2.0, 100),
        ("1m30s", 90.0, 100),
        ("3", 3.0, 100),
    ],
)
def test_a_budget_scales_or_sets_the_time_and_never_makes_nothing_of_something(
    text, seconds, schedules
):
    budget = options._budget(text)
    assert budget.seconds_of(10.0) == pytest.approx(seconds)
    assert budget.schedules_of(100) == schedules and not budget.is_nothing


@pytest.mark.parametrize("text", ["0", "0s", "0x", "0.0x", "00"])
def test_a_budget_of_nothing_is_known_as_such(text):
    assert options._budget(text).is_nothing


@pytest.mark.parametrize("text", ["x", "-1x", "nanx", "infx", "fast", "-2s", "1e999x", "."])
def test_a_budget_that_cannot_be_read_is_a_usage_error(text):
    with pytest.raises(pytest.UsageError, match="use a factor such as 10x"):
        options._budget(text)


@pytest.mark.parametrize("text", ["many", "-1", "1.5", str(1 << 62)])
def test_a_seed_that_cannot_be_read_is_a_usage_error(text):
    with pytest.raises(pytest.UsageError, match="--shm-seed: "):
        options._seed(text)


@pytest.mark.parametrize("folder", ["tests/stress", "stress"])
def test_a_project_has_a_package_that_is_called_stress(tmp_path, folder):
    """Ours is imported only for a test that uses it."""
    test = "from stress.tools import answer\n\ndef test_answer():\n    assert answer() == 42\n"
    tools = "def answer():\n    return 42\n"
    files = {"__init__.py": "", "tools.py": tools, "test_answer.py": test}
    project = Project(tmp_path, {f"{folder}/{name}": text for name, text in files.items()})
    assert project.run().outcomes() == {"test_answer": "passed"}


SETTINGS = """
def test_settings(request):
    from shmalloc.pytest_plugin.state import state_of
    settings = state_of(request.config).settings
    assert (settings.strict, settings.marks, settings.budget.factor) == (True, ("explore",), 0.5)
"""


@pytest.mark.skipif(pytest.version_tuple < (9,), reason="pytest 8 has no table of its own")
def test_the_settings_of_the_document_are_read(tmp_path):
    text = (ROOT / "docs" / "pytest.md").read_text()
    table = text.partition("```toml\n")[2].partition("```")[0]
    project = Project(tmp_path, {"pyproject.toml": table, "test_settings.py": SETTINGS})
    (tmp_path / "pytest.ini").unlink()
    assert project.run().outcomes() == {"test_settings": "passed"}


HIDDEN = """
import pytest
import stress

@pytest.mark.stress
def test_of_another_project():
    assert stress.answer == 42

@pytest.mark.stress(workers=2)
def test_mark():
    pass

def test_fixture(shm_seed):
    pass
"""


@pytest.fixture(scope="module")
def hiding(tmp_path_factory):
    files = {"stress.py": "answer = 42\n", "test_hidden.py": HIDDEN}
    return Project(tmp_path_factory.mktemp("hiding"), files)


def test_a_module_that_hides_ours_is_named_where_ours_is_needed(hiding):
    session = hiding.run()
    assert session.outcomes() == {
        "test_of_another_project": "passed", "test_mark": "failure", "test_fixture": "error"
    }  # fmt: skip
    for name in ("test_mark", "test_fixture"):
        text = session.cases[name].text
        assert f"{hiding.folder / 'stress.py'} hides the package stress that comes with" in text
        assert "Traceback" not in text and "import_module" not in text


@pytest.mark.parametrize("option", [("--shm-fixed",), ("--shm-replay", "shm1/x/sc/p1/9/-")])
def test_an_option_that_needs_the_hidden_package_is_a_usage_error(hiding, option):
    session = hiding.run(*option)
    assert session.code == pytest.ExitCode.USAGE_ERROR
    assert f"ERROR: {option[0]}: {hiding.folder / 'stress.py'} hides the package" in session.out


IMPORTS_US = """
import shmalloc, stress
import pytest

pytest.register_assert_rewrite("shmalloc", "stress")  # what pytest does for an installed plugin
"""


def test_no_warning_for_a_script_that_imports_us_before_pytest(tmp_path):
    project = Project(tmp_path, {"conftest.py": IMPORTS_US, "test_it.py": "def test_it(): pass"})
    session = project.run("-Werror")
    assert session.outcomes() == {"test_it": "passed"} and "rewrit" not in session.out


ASYNC = """
import asyncio
import pytest

@pytest.mark.stress
async def test_of_another_project():
    await asyncio.sleep(0)
"""
RUNS_ASYNC = """
import asyncio
import inspect
import pytest

@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    if inspect.iscoroutinefunction(pyfuncitem.obj):
        asyncio.run(pyfuncitem.obj())
        return True
"""


def test_an_async_test_with_a_bare_mark_is_another_projects(tmp_path):
    project = Project(tmp_path, {"test_async.py": ASYNC, "conftest.py": RUNS_ASYNC})
    assert project.run().outcomes() == {"test_of_another_project": "passed"}


def test_a_session_without_setupplan_runs(tmp_path):
    project = Project(tmp_path, {"test_seed.py": "def test_seed(shm_seed):\n    pass\n"})
    assert project.run("-p", "no:setupplan").outcomes() == {"test_seed": "passed"}


def test_an_empty_name_of_the_folder_is_refused(tmp_path):
    session = Project(tmp_path, {}).run("--shm-db=")
    assert session.code == pytest.ExitCode.USAGE_ERROR and "--shm-db: ''" in session.out

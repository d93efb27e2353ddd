"""The pytest plugin: programs are explored and workloads run as tests; docs/pytest.md.

::

    @pytest.mark.explore(...)   the test returns a Program, which is explored
    @pytest.mark.stress(...)    the test returns a spec or kernels, which worker processes run
    arena, explorer, stress_run, shm_seed      fixtures

The files::

    options    options and settings       record     what a test did
    state      one process of a session   outcomes   skipped, failed
    marks      which marks are ours       session    hooks around the tests
    returned   what a test returns        summary    hooks around the session
    loading    the way to ``stress``

pytest imports this file in every project of an environment with shmalloc. It imports nothing of
ours but options.py, state.py and loading.py, which import nothing in turn; the rest is imported
when a test that was collected needs it. What explores and runs is stress/pytest_plugin, imported
once a test is surely ours (loading.py says why).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from shmalloc.pytest_plugin import options
from shmalloc.pytest_plugin.loading import of_plugin
from shmalloc.pytest_plugin.state import WORKER_INPUT, State, state_of

if TYPE_CHECKING:
    from shmalloc.arena import Arena
    from shmalloc.pytest_plugin.record import Record

FIXTURES = {"arena": "arena", "explorer": "explore", "stress_run": "stress", "shm_seed": ""}
OWN_CORES = "it runs processes of its own on all cores"


# --- hooks ---------------------------------------------------------------------------------------
def pytest_addoption(parser: pytest.Parser) -> None:
    options.add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    state = state_of(config)  # raises for a wrong value
    for name in state.settings.marks:
        config.addinivalue_line("markers", options.MARKS[name])
    if (state.settings.replay is not None or state.settings.fixed) and not state.worker:
        _ensure_summary(state)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """In the controller of xdist: a worker is about to start."""
    state = state_of(node.config)
    node.workerinput[WORKER_INPUT] = state.worker_input()
    _ensure_summary(state)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Before xdist appends the groups of tests to their node ids."""
    state = state_of(config)
    if not config.option.collectonly or state.settings.fixed:
        used = [_prepared(state, item) for item in items]
        if any(used):
            _ensure_session(state)
    if state.settings.fixed:
        _deselect(state, config, items)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    state_of(item.config).item = item


# --- fixtures ------------------------------------------------------------------------------------
@pytest.fixture
def shm_seed(request: pytest.FixtureRequest) -> int:
    """The seed of this test: it depends on the session's seed and the node id alone."""
    return _record(request).seed


@pytest.fixture(scope="session")
def explorer(request: pytest.FixtureRequest) -> Any:
    """``explorer(program, **options)``: stress.explore with the seed of this test.

    It keeps nothing from one test to the next. Its scope lets Hypothesis use it for many examples.
    """
    state = state_of(request.config)
    _ensure_session(state)
    return of_plugin("exploring").Explorer(state)


@pytest.fixture
def stress_run(request: pytest.FixtureRequest) -> Any:
    """``stress_run(spec, **options)``: a run of worker processes with the seed of this test."""
    return of_plugin("running").StressRun(state_of(request.config), _record(request))


@pytest.fixture
def arena(request: pytest.FixtureRequest) -> Iterator[Arena]:
    """An Arena of this test: audited at its end, when nothing may be allocated any more."""
    from shmalloc.arena import Arena
    from shmalloc.errors import EnvironmentUnfitError
    from shmalloc.pytest_plugin.outcomes import unfit

    record, ours = _record(request), of_plugin("arena")
    settings = state_of(request.config).settings
    given = getattr(request, "param", {})
    failed_before = request.session.testsfailed
    arguments = ours.arguments_of(given, settings.engine, settings.usual_engine)
    try:
        created, reason = Arena.create(**arguments), ""
    except EnvironmentUnfitError as error:
        created, reason = None, str(error)
    if created is None:
        unfit(record, reason)
    with created as made:
        yield made
        found = ours.findings(made, leaks=request.session.testsfailed == failed_before)
    if found:
        pytest.fail("arena: " + "\n".join(found), pytrace=False)


# --- what they stand on --------------------------------------------------------------------------
def _record(request: pytest.FixtureRequest) -> Record:
    from shmalloc.pytest_plugin.record import record_of

    state = state_of(request.config)
    _ensure_session(state)
    return record_of(request.node, state.settings.seed)


def _ensure_session(state: State) -> None:
    manager = state.config.pluginmanager
    if not manager.has_plugin("shmalloc-session"):
        from shmalloc.pytest_plugin import session

        manager.register(session.Part(state), "shmalloc-session")
    if not state.worker:
        _ensure_summary(state)


def _ensure_summary(state: State) -> None:
    manager = state.config.pluginmanager
    if not manager.has_plugin("shmalloc-summary"):
        from shmalloc.pytest_plugin import summary

        manager.register(summary.Part(state), "shmalloc-summary")


def _prepared(state: State, item: pytest.Item) -> bool:
    """Whether a test may use the plugin; then its function gives us what it returns."""
    marked = [name for name in state.settings.marks if item.get_closest_marker(name)]
    named = FIXTURES.keys() & set(getattr(item, "fixturenames", ()))
    if not marked and not named:
        return False
    from shmalloc.pytest_plugin.record import NEEDS, remember_node

    remember_node(item)
    ours = {name for name in named if _is_our_fixture(item, name)}
    needs = {FIXTURES[name] for name in ours}
    if marked and isinstance(item, pytest.Function):
        from shmalloc.pytest_plugin.marks import uses_us
        from shmalloc.pytest_plugin.returned import wrap

        wrap(state, item)
        if uses_us(getattr(item, "module", None)):
            needs |= set(marked)
    item.stash[NEEDS] = frozenset(needs)
    if "stress" in needs and _runs_in_threads(state):
        item.add_marker(pytest.mark.thread_unsafe(reason=OWN_CORES))
    return True


def _is_our_fixture(item: pytest.Item, name: str) -> bool:
    """Whether a fixture of that name is ours; a project may have one of its own."""
    info = getattr(item, "_fixtureinfo", None)
    found: Any = info.name2fixturedefs.get(name, ()) if info is not None else ()
    return bool(found) and getattr(found[-1].func, "__module__", "") == __name__


def _runs_in_threads(state: State) -> bool:
    """Whether pytest-run-parallel is there, which calls a test in several threads."""
    return hasattr(state.config.option, "parallel_threads")


def _deselect(state: State, config: pytest.Config, items: list[pytest.Item]) -> None:
    """``--shm-fixed``: only tests with a kept failure run."""
    from shmalloc.pytest_plugin.record import encodable, node_of

    wanted = set(state.kept_nodes)
    chosen = [item for item in items if encodable(node_of(item)) in wanted]
    others = [item for item in items if encodable(node_of(item)) not in wanted]
    if others:
        config.hook.pytest_deselected(items=others)
        items[:] = chosen

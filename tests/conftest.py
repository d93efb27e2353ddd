"""What every test shares: the two engines, its seed, the order of files, the watch over /dev/shm.

Seeds are those of our own plugin. An installed package brings it by its entry point; from a
checkout (PYTHONPATH) it is loaded here.
"""

from __future__ import annotations

import gc
import os
import random
import secrets
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest

from shmalloc import constants as c
from shmalloc.engine import Engine, forget, get_engine

# A test asserts no time: not even that examples are drawn fast on a machine with other work to do.
hypothesis.settings.register_profile(
    "ours", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("ours")

PLUGIN = "shmalloc.pytest_plugin"
ENV_SESSION = "SHMALLOC_TEST_SESSION"
_ours_at_start = pytest.StashKey[frozenset[str]]()
_left_behind = pytest.StashKey[list[str]]()


pytest_plugins = ["pytester"]  # which our own plugin is tested with

# Files that take long come first. pytest-xdist would begin with those of many tests, and one worker
# would be idle while another is still at a file of few long tests.
LONG = (
    "soak", "tokens", "plugin_native", "check", "plugin_processes", "faults_run",
    "plugin_seeds", "explorer_engines", "progress", "run", "units", "recover",
    "explorer_classes", "model_allocator", "report_live", "explore_names", "metrics_run",
    "compiler_agreement", "broken_kernels", "explorer_programs", "hypothesis_arena",
    "user_workloads", "seam_buddy", "explorer_spins", "litmus", "reference", "export_recorded",
    "explorer_new_strategy", "workloads", "refusals", "surroundings", "linearize_allocator",
    "handover", "compiling", "plugin_arena",
)  # fmt: skip


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    loaded = {getattr(plugin, "__name__", "") for plugin in pluginmanager.get_plugins()}
    if PLUGIN not in loaded:
        pluginmanager.import_plugin(PLUGIN)
    parser.addoption("--seed", dest="shm_seed", help="the same as --shm-seed")


def pytest_configure(config: pytest.Config) -> None:
    os.environ.setdefault(ENV_SESSION, secrets.token_hex(8))
    config.option.loadscopereorder = False
    if _is_controller(config):
        config.stash[_ours_at_start] = frozenset(_our_segments())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    ranks = {f"test_{name}": rank for rank, name in enumerate(LONG)}
    items.sort(key=lambda item: ranks.get(item.path.stem, len(LONG)))


def pytest_collection_finish() -> None:
    """Later garbage collections, here and in forked children, need not look at 16,000 tests."""
    gc.collect()
    gc.freeze()


def _is_controller(config: pytest.Config) -> bool:
    return not hasattr(config, "workerinput")


def _our_segments() -> list[str]:
    """Segments in /dev/shm, save those of a living owner that this session did not start."""
    found = []
    for path in Path("/dev/shm").iterdir():
        try:
            with path.open("rb") as file:
                header = struct.unpack(f"{c.HEADER_WORDS}q", file.read(c.HEADER_WORDS * 8))
        except (OSError, struct.error):
            header = (0,) * c.HEADER_WORDS
        ours = header[c.H_MAGIC] == c.MAGIC or path.name.startswith("shm-")
        if ours and not _of_another_session(header[c.H_OWNER_PID]):
            found.append(path.name)
    return found


def _of_another_session(pid: int) -> bool:
    """Whether ``pid`` lives and does not carry this session's token in its environment."""
    if pid in (0, os.getpid()):
        return False
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False
    return f"{ENV_SESSION}={os.environ[ENV_SESSION]}".encode() not in environment.split(b"\0")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """A segment that outlives the session fails it; the controller looks when workers ended."""
    if _is_controller(session.config):
        left = sorted(set(_our_segments()) - session.config.stash[_ours_at_start])
        session.config.stash[_left_behind] = left
        if left and exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    left = config.stash.get(_left_behind, [])
    if left:
        terminalreporter.section("segments left in /dev/shm", red=True, bold=True)
        terminalreporter.line("the session fails: " + ", ".join(left))


@pytest.fixture(params=["native", "interpreted"])
def engine(request: pytest.FixtureRequest) -> Engine:
    """The same test body runs on compiled and on interpreted kernels."""
    return get_engine(request.param)


@pytest.fixture
def rng(shm_seed: int) -> random.Random:
    """Randomness of one test, by its name from the session's seed."""
    return random.Random(shm_seed)


@pytest.fixture
def patch_kernels(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """``patch_kernels(module, name, kernel)``: what is interpreted from now on calls it."""

    def patch(module: object, name: str, kernel: object) -> None:
        monkeypatch.setattr(module, name, kernel)
        forget()

    yield patch
    monkeypatch.undo()
    forget()

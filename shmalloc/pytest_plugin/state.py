"""``State``: what the plugin knows in one process of one session.

Made when pytest is configured, it is cheap: settings, and nothing that imports the explorer.
"""

from __future__ import annotations

import os
import shutil
import sys
from contextlib import nullcontext
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pytest

from shmalloc.pytest_plugin.loading import of_plugin
from shmalloc.pytest_plugin.options import Settings, settings_of

if TYPE_CHECKING:
    from stress.pytest_plugin.kept import Kept

WORKER_INPUT = "shmalloc"
NARROWEST, USUAL, WIDEST = 80, 120, 140
_state = pytest.StashKey["State"]()


class State:
    """One process of a session: the only one, the controller of xdist, or a worker of it."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        given: dict[str, Any] = getattr(config, "workerinput", {}).get(WORKER_INPUT, {})
        self.worker: str = getattr(config, "workerinput", {}).get("workerid", "")
        self.settings: Settings = settings_of(config, given.get("seed"))
        self.width: int = given.get("width") or _width()
        self.pid = os.getpid()
        self._nodes: list[str] | None = given.get("nodes")
        self.problems: list[str] = []
        self.item: pytest.Item | None = None  # the test that runs: one at a time, in any threads

    def worker_input(self) -> dict[str, Any]:
        """What a worker of xdist has to know from its controller."""
        nodes = self.kept_nodes if self.settings.fixed else None
        return {"seed": self.settings.seed, "width": self.width, "nodes": nodes}

    @cached_property
    def kept(self) -> Kept:
        """The kept failures of this rootdir."""
        kept: Kept = of_plugin("kept").Kept(self.settings.folder, self.problems.append)
        return kept

    @property
    def kept_nodes(self) -> list[str]:
        """The tests with a kept failure at the start of the session: the same in each worker."""
        if self._nodes is None:
            self._nodes = self.kept.nodes()
        return self._nodes

    def say(self, text: str) -> None:
        """Write a line for people while a test runs.

        Of a worker of xdist only standard error leads to the terminal.
        """
        manager = self.config.pluginmanager
        capture: Any = manager.getplugin("capturemanager")
        reporter: Any = None if self.worker else manager.getplugin("terminalreporter")
        with capture.global_and_fixture_disabled() if capture else nullcontext():
            if reporter is not None:
                reporter.ensure_newline()
                if getattr(getattr(reporter, "_tw", None), "width_of_current_line", 0):
                    reporter.write("\n")  # with -q there are dots in this line
                reporter.write_line(f"shmalloc: {text}")
                reporter.flush()
            else:
                where = f"[{self.worker}] " if self.worker else ""
                sys.stderr.write(f"\nshmalloc: {where}{text}\n")
                sys.stderr.flush()


def _width() -> int:
    """Columns for a report: those of the terminal if there is one, within what can be read."""
    return min(max(shutil.get_terminal_size((USUAL, 24)).columns, NARROWEST), WIDEST)


def state_of(config: pytest.Config) -> State:
    """The state of this process."""
    found = config.stash.get(_state, None)
    if found is None:
        found = config.stash[_state] = State(config)
    return found

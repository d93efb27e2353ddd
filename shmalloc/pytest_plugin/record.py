"""What one test has done with us so far: ``Record``, one for each run of a test.

The record is made when the test first uses the plugin, filled by explorations and runs (in any
thread: pytest-run-parallel runs a test in several at once), and settled when the report of its call
is made (session.py). What other processes must know travels as user properties of the report, which
pytest-xdist and pytest-forked carry and JUnit shows; ``NAMES`` has all of them.

A test that runs again (pytest-rerunfailures) has a new record and the same seed: it depends only on
the session's seed and the node id.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, field
from typing import Any

import pytest

SEED = "shm_seed"
TOKEN = "shm_token"  # of a failure
VERDICT = "shm_verdict"
VACUOUS = "shm_vacuous"  # why the test tested nothing
UNFIT = "shm_unfit"  # why this machine cannot run it
KEPT = "shm_kept"  # what became of a kept failure
FIXED = "shm_fixed"  # a kept failure that passes now
REPLAYED = "shm_replayed"  # --shm-replay was for this test
PROBLEM = "shm_problem"
NAMES = (SEED, TOKEN, VERDICT, VACUOUS, UNFIT, KEPT, FIXED, REPLAYED, PROBLEM)

FAILS, PASSES, UNFIT_NOW = "fails again", "passes now", "cannot be run any more"

NEEDS = pytest.StashKey[frozenset[str]]()  # what a test calls: see compiling.py
_node = pytest.StashKey[str]()
_record = pytest.StashKey["Record"]()
MOST_LINES = 200  # of the section of a test
_TEST_SEED_SHIFT = 22  # a seed of 40 bits: what ``explore`` takes


@dataclass(frozen=True)
class Found:
    """A failure of this test: what is kept of it, and its report."""

    program: str
    memory: str
    token: str
    headline: str
    report: str


@dataclass
class Record:
    """One run of one test. ``failures`` and ``kept`` are by token; ``kept`` has what was run."""

    item: pytest.Item
    node: str
    seed: int
    failures: dict[str, Found] = field(default_factory=dict)
    kept: dict[str, str] = field(default_factory=dict)  # what became of each: FAILS, PASSES, ...
    lines: list[str] = field(default_factory=list)  # one for each result
    reports: list[str] = field(default_factory=list)  # of failed results, in full
    shown: bool = False  # the error of the test has the reports in it
    lock: Any = field(default_factory=threading.RLock)

    def tell(self, name: str, value: str) -> None:
        """Add a property to the report; the same one counts once."""
        with self.lock:
            if (name, value) not in self.item.user_properties:
                self.item.user_properties.append((name, value))

    def note(self, line: str) -> None:
        """Add a line to the section of the test."""
        with self.lock:
            if line not in self.lines and len(self.lines) <= MOST_LINES:
                full = len(self.lines) == MOST_LINES
                self.lines.append("more results are left out" if full else line)

    def fail(self, found: Found) -> None:
        """Note a failure in the place of an earlier one of the same program: when Hypothesis
        reduces what failed, it fails many times, and the last is the smallest."""
        with self.lock:
            for earlier in list(self.failures.values()):
                if (earlier.program, earlier.memory) == (found.program, found.memory):
                    del self.failures[earlier.token]
                    self.reports.remove(earlier.report)
                    self.item.user_properties.remove((TOKEN, earlier.token))
            self.failures[found.token] = found
            self.reports.append(found.report)
            self.item.user_properties.append((TOKEN, found.token))


def remember_node(item: pytest.Item) -> None:
    """Remember the node id before xdist appends the group of the test to it."""
    item.stash[_node] = _whole_id(item)


def node_of(item: pytest.Item) -> str:
    """The node id that seeds and kept failures go by: the same with any number of workers."""
    return item.stash.get(_node, None) or _whole_id(item)


def _whole_id(item: pytest.Item) -> str:
    """pytest leaves the folder of a file outside of the rootdir out of its node id."""
    if item.path.is_relative_to(item.config.rootpath):
        return item.nodeid
    return f"{os.path.relpath(item.path, item.config.rootpath)}::{item.nodeid.partition('::')[2]}"


def forget(item: pytest.Item) -> None:
    """A run of the test begins: nothing is left of the run before."""
    if _record in item.stash:
        del item.stash[_record]
    item.user_properties[:] = [one for one in item.user_properties if one[0] not in NAMES]


def known_record(item: pytest.Item) -> Record | None:
    """The record of a test that has used the plugin."""
    return item.stash.get(_record, None)


def record_of(item: pytest.Item, session_seed: int) -> Record:
    """The record of a test, made if there is none yet."""
    with _making:
        found = known_record(item)
        if found is None:
            found = item.stash[_record] = Record(item, node_of(item), seed_of(session_seed, item))
            found.tell(SEED, f"{found.seed:#x}")
    return found


def seed_of(session_seed: int, item: pytest.Item) -> int:
    """The seed of a test: it depends on the session's seed and the node id alone."""
    from shmalloc.pytest_plugin.loading import of_stress

    seed: int = of_stress("seeds").derive(session_seed, encodable(node_of(item)))
    return seed >> _TEST_SEED_SHIFT


def encodable(node: str) -> str:
    """A node id as JSON takes it: the name of a file may hold bytes that are no text."""
    return node.encode("utf-8", "backslashreplace").decode()


_making = threading.Lock()

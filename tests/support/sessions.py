"""Sessions of pytest under test: a project in a folder of its own, and what a session says of it.

``Project.run`` is a ``pytester.runpytest_subprocess`` whose result many tests may share: pytester
itself is made anew for each test. A session loads our plugin and those that the caller names, no
others, whatever is installed; it takes its kernels from the store of this session, and has a turn
at native runs of its own.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from xml.etree import ElementTree

import psutil
import pytest

import stress
from support.runs import PATIENCE_S, hear_ctrl_c, wait_until

PLUGIN = "shmalloc.pytest_plugin"
XDIST = "xdist.plugin"
ROOT = Path(stress.__file__).parent.parent


@dataclass(frozen=True)
class Case:
    """One test of a session, as its JUnit file has it."""

    outcome: str  # passed, failure, error or skipped
    text: str
    properties: dict[str, str]


@dataclass(frozen=True)
class Session:
    """What a session ended with."""

    code: int
    out: str
    junit: Path

    @cached_property
    def _suite(self) -> ElementTree.Element:
        found = ElementTree.parse(self.junit).getroot().find("testsuite")
        assert found is not None
        return found

    @cached_property
    def cases(self) -> dict[str, Case]:
        """The tests by name, without file and class."""
        return {str(case.get("name")): _case(case) for case in self._suite.iter("testcase")}

    @property
    def properties(self) -> dict[str, str]:
        """Those of the suite."""
        return _properties(self._suite)

    @property
    def section(self) -> str:
        """The section of ours at the end; empty if there is none."""
        found = self.out.rpartition("= shmalloc =")[2]
        return found.partition("\n=")[0].partition("\n")[2] if found != self.out else ""

    def outcomes(self) -> dict[str, str]:
        return {name: case.outcome for name, case in self.cases.items()}


def _case(case: ElementTree.Element) -> Case:
    for outcome in ("error", "failure", "skipped"):
        found = case.find(outcome)
        if found is not None:
            return Case(outcome, f"{found.get('message')}\n{found.text}", _properties(case))
    return Case("passed", "", _properties(case))


def _properties(element: ElementTree.Element) -> dict[str, str]:
    found = element.findall("properties/property")
    return {str(one.get("name")): str(one.get("value")) for one in found}


class Project:
    """A folder with tests. ``write`` adds files; ``run`` starts pytest in it."""

    def __init__(self, folder: Path, files: dict[str, str]) -> None:
        self.folder = folder
        self.number = 0
        self.write({"pytest.ini": "[pytest]\n", **files})

    def write(self, files: dict[str, str]) -> None:
        """Texts by the paths of their files."""
        for name, text in files.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def run(self, *arguments: str, plugins: tuple[str, ...] = (), **variables: str) -> Session:
        """One session, run to its end."""
        command, junit = self._command(arguments, plugins)
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment(**variables), check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=PATIENCE_S,
        )  # fmt: skip
        print(done.stdout)
        return Session(done.returncode, done.stdout, junit)

    def paste(self, line: str, folder: str = ".") -> subprocess.CompletedProcess[str]:
        """Run a line that pytest printed in a shell of ``folder``."""
        python = f"{shlex.quote(sys.executable)} -m pytest -p no:cacheprovider"
        done = subprocess.run(
            line.replace("python -m pytest", python), shell=True, cwd=self.folder / folder,
            env=self.environment(), check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, timeout=PATIENCE_S,
        )  # fmt: skip
        print(done.stdout)
        return done

    @contextmanager
    def running(
        self, *arguments: str, plugins: tuple[str, ...] = (), **variables: str
    ) -> Iterator[Running]:
        """A session in the background; what is left of it is killed in the end."""
        command, junit = self._command(arguments, plugins)
        process = subprocess.Popen(
            command, cwd=self.folder, env=self.environment(**variables), start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, preexec_fn=hear_ctrl_c,
        )  # fmt: skip
        running = Running(process, junit)
        try:
            yield running
        finally:
            running.kill()

    def environment(self, **variables: str) -> dict[str, str]:
        """Nothing of the session around it, but for the store of kernels."""
        kept = {n: v for n, v in os.environ.items() if not n.startswith(("PYTEST_", "COLUMNS"))}
        return {
            **kept, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(ROOT),
            "SHMALLOC_TURN_DIR": str(self.folder / "turns"), **variables,
        }  # fmt: skip

    def _command(self, arguments: tuple[str, ...], plugins: tuple[str, ...]) -> tuple[list, Path]:
        self.number += 1
        junit = self.folder / f"junit-{self.number}.xml"
        named = [word for plugin in (PLUGIN, *plugins) for word in ("-p", plugin)]
        options = ["-p", "no:cacheprovider", f"--junit-xml={junit}", *arguments]
        return [sys.executable, "-m", "pytest", *named, *options], junit


@dataclass
class Running:
    """A session that has not ended yet."""

    process: subprocess.Popen[str]
    junit: Path

    def processes(self) -> list[psutil.Process]:
        """All processes of the session that are alive."""
        try:
            parent = psutil.Process(self.process.pid)
            found = [parent, *parent.children(recursive=True)]
            return [p for p in found if p.status() != psutil.STATUS_ZOMBIE]
        except psutil.NoSuchProcess:
            return []

    def segment_owners(self) -> list[int]:
        """The pids of its processes that own a segment."""
        pids = {process.pid for process in self.processes()}
        owners = {int(path.name.split("-")[1]) for path in Path("/dev/shm").glob("shm-*-*-*")}
        return sorted(pids & owners)

    def wait_for_a_run(self) -> int:
        """Wait until a native run is under way; the pid of its controller."""
        wait_until(lambda: bool(self.segment_owners()), "a segment of the session")
        return self.segment_owners()[0]

    def end(self) -> Session:
        output, _ = self.process.communicate(timeout=PATIENCE_S)
        print(output)
        return Session(self.process.returncode, output, self.junit)

    def kill(self) -> None:
        for process in self.processes():
            process.send_signal(signal.SIGKILL)
        self.process.communicate()


def need(plugin: str) -> None:
    """Skip a test of another plugin that is not installed."""
    if find_spec(plugin.partition(".")[0]) is None:
        pytest.skip(f"{plugin} is not installed")

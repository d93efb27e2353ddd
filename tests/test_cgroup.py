"""What control groups leave: made-up trees of both versions, of groups in groups."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from shmalloc import cgroup
from shmalloc.errors import EnvironmentUnfitError
from stress import surroundings
from stress.run.worker import Task
from stress.run.workers import Workers

UNLIMITED = (1 << 63) - 4096  # as version 1 writes it


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(cgroup, "_ROOT", tmp_path / "cgroup")
    monkeypatch.setattr(cgroup, "_OURS", tmp_path / "self")
    return tmp_path / "cgroup"


def belong(root: Path, *lines: str) -> None:
    (root.parent / "self").write_text("".join(f"{line}\n" for line in lines))


def group(folder: Path, version: int, limit: object, used: int, given_up: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    files = ("max", "current") if version == 2 else ("limit_in_bytes", "usage_in_bytes")
    for name, value in zip(files, (limit, used), strict=True):
        (folder / f"memory.{name}").write_text(f"{value}\n")
    row = "inactive_file" if version == 2 else "total_inactive_file"
    (folder / "memory.stat").write_text(f"anon 1\nfile 7\n{row} {given_up}\n")


def test_a_group_of_version_2_limits(root: Path) -> None:
    belong(root, "0::/job")
    group(root / "job", 2, 5000, 2000)
    assert cgroup.memory_left() == 3000


def test_the_tightest_group_above_limits(root: Path) -> None:
    belong(root, "0::/a/b/c")
    group(root / "a", 2, 9000, 8500)
    group(root / "a/b", 2, 5000, 2000)
    group(root / "a/b/c", 2, "max", 1000)
    assert cgroup.memory_left() == 500


def test_a_group_of_version_1_limits(root: Path) -> None:
    belong(root, "5:cpu,cpuacct:/x", "4:memory:/docker/4711", "0::/")
    group(root / "memory", 1, UNLIMITED, 90_000)
    group(root / "memory/docker", 1, UNLIMITED, 8000)
    group(root / "memory/docker/4711", 1, 6000, 2000)
    assert cgroup.memory_left() == 4000


def test_a_path_of_the_host_leaves_the_root_of_the_mount(root: Path) -> None:
    belong(root, "4:memory:/docker/4711", "0::/../..")
    group(root / "memory", 1, 6000, 2000)
    assert cgroup.memory_left() == 4000


def test_what_the_system_gives_up_on_demand_is_not_used(root: Path) -> None:
    belong(root, "0::/")
    group(root, 2, 5000, 4900, given_up=3000)
    assert cgroup.memory_left() == 3100


def test_a_group_beyond_its_limit_leaves_nothing(root: Path) -> None:
    belong(root, "0::/")
    group(root, 2, 5000, 6000)
    assert cgroup.memory_left() == 0


def test_without_groups_there_is_no_limit(root: Path) -> None:
    assert cgroup.memory_left() is None and cgroup.tasks_left() is None


@pytest.mark.parametrize(("line", "folder"), [("0::/job", "job"), ("8:pids:/job", "pids/job")])
def test_too_many_processes_for_a_group_are_told(root: Path, line: str, folder: str) -> None:
    belong(root, line)
    (root / folder).mkdir(parents=True)
    (root / folder / "pids.max").write_text("10\n")
    (root / folder / "pids.current").write_text("6\n")
    assert cgroup.tasks_left() == 4
    surroundings.require_processes(4, "4 workers")
    with pytest.raises(EnvironmentUnfitError, match=r"need 5 .* room for 4; raise its limit"):
        surroundings.require_processes(5, "5 workers")


def test_a_worker_that_cannot_be_forked_is_unfit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other processes may use up the limit after it was looked at; the forkserver dies of that."""

    def died(process: object) -> None:
        raise EOFError("unexpected EOF")

    monkeypatch.setattr(multiprocessing.get_context("forkserver").Process, "start", died)
    task = Task(cpu=0, core=None, segment="none", engine="native", log=None)
    monkeypatch.setattr(cgroup, "tasks_left", lambda: 0)
    with pytest.raises(EnvironmentUnfitError, match="room for 0; raise its limit"):
        Workers().start([task])
    monkeypatch.setattr(cgroup, "tasks_left", lambda: 1000)
    with pytest.raises(EOFError):
        Workers().start([task])

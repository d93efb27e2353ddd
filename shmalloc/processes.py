"""Liveness: a pid *and* a start time name a process, because pids are reused.

The start time is field 22 of ``/proc/<pid>/stat``: clock ticks since boot, set by the kernel when
the process is forked and never changed. A stopped process is alive. A zombie is dead: it never runs
again and only waits to be reaped.
"""

from __future__ import annotations

import os
from pathlib import Path

_STATE, _START = 0, 19  # fields 3 and 22 of stat, counted from behind the ")" of the name
_DEAD_STATES = frozenset("ZXx")


def _stat_fields(pid: int) -> list[str] | None:
    """What follows the command name in ``/proc/<pid>/stat``; None if there is no such process.

    The name may itself contain spaces and brackets: only the last ")" ends it. Read through its
    first thread, which has the same start: emulators (qemu-user) show a process a different stat of
    itself in ``/proc/<pid>``.
    """
    try:
        text = Path(f"/proc/{pid}/task/{pid}/stat").read_bytes().decode("utf-8", "replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text.rpartition(")")[2].split()


def start_ticks(pid: int) -> int | None:
    """When ``pid`` was started, in clock ticks since boot; None if there is no such process."""
    fields = _stat_fields(pid)
    return None if fields is None else int(fields[_START])


def own_identity() -> tuple[int, int]:
    """(pid, start ticks) of this process."""
    pid = os.getpid()
    ticks = start_ticks(pid)
    if ticks is None:
        raise OSError("/proc is not mounted: mount it, so that reused pids can be recognized")
    return pid, ticks


def owner_alive(pid: int, start: int) -> bool:
    """Whether the very process that was ``pid`` at ``start`` can still run (stopped counts)."""
    fields = _stat_fields(pid) if pid > 0 else None
    if fields is None:
        return False
    return int(fields[_START]) == start and fields[_STATE] not in _DEAD_STATES


def pid_namespace() -> int:
    """Number of this process's pid namespace: our pids mean nothing in another."""
    return Path("/proc/self/ns/pid").stat().st_ino

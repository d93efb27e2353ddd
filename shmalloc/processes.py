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
_STATES = {"R": "running", "S": "sleeping", "D": "in the system", "T": "stopped", "t": "traced"}


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


def state_of(pid: int, start: int) -> str:
    """What the process that was ``pid`` at ``start`` does: ``running``, ``stopped``, ``dead``."""
    fields = _stat_fields(pid) if pid > 0 else None
    if fields is None or int(fields[_START]) != start or fields[_STATE] in _DEAD_STATES:
        return "dead"
    return _STATES.get(fields[_STATE], f"state {fields[_STATE]}")


def command_of(pid: int) -> str:
    """The command line of a process, "" if it has none that we may read; no control characters."""
    try:
        raw = Path(f"/proc/{pid}/cmdline").read_bytes() or Path(f"/proc/{pid}/comm").read_bytes()
    except (OSError, ProcessLookupError):
        return ""
    words = raw.decode("utf-8", "replace").replace("\0", " ").split()
    return printable(" ".join(words))


def printable(text: str) -> str:
    """``text`` without what could steer a terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def pid_namespace() -> int:
    """Number of this process's pid namespace: our pids mean nothing in another."""
    return Path("/proc/self/ns/pid").stat().st_ino

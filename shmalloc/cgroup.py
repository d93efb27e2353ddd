"""What the control groups of this process leave it: bytes of memory, and tasks.

A container, a systemd unit or a batch system limits a group of processes, and every group above it
may have a tighter limit; a process that exceeds one is killed, or cannot fork.
``/proc/self/cgroup`` names our group in each hierarchy::

    0::/user.slice/job.scope            version 2: memory.max, memory.current, pids.max ...
    4:memory:/docker/4711               version 1: memory.limit_in_bytes, memory.usage_in_bytes ...

In a container the named path may be that of the host, of which only the group itself is mounted, as
the root: what does not exist is passed over. Files that the system only keeps to read them faster
count as used, and are given up on demand, so they are subtracted.

It owns nothing, and asks anew each time.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_ROOT = Path("/sys/fs/cgroup")
_OURS = Path("/proc/self/cgroup")


class _Files(NamedTuple):
    """Names of the limit and of what is used."""

    limit: str
    used: str
    given_up: str = ""  # the row of memory.stat


_MEMORY = {
    2: _Files("memory.max", "memory.current", "inactive_file"),
    1: _Files("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}
_TASKS = _Files("pids.max", "pids.current")  # of both versions


def memory_left() -> int | None:
    """Bytes that our groups let us still use; None if there is no limit."""
    found = (_left(folder, _MEMORY[version]) for version, folder in _groups("memory"))
    return min((left for left in found if left is not None), default=None)


def tasks_left() -> int | None:
    """Processes and threads that our groups let us still start; None if there is no limit."""
    found = (_left(folder, _TASKS) for _, folder in _groups("pids"))
    return min((left for left in found if left is not None), default=None)


def _groups(controller: str) -> Iterator[tuple[int, Path]]:
    """The folders of our group and of all above it, with the version of their hierarchy."""
    for line in _lines(_OURS):
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0":
            version, places = 2, (_ROOT, _ROOT / "unified")
        elif controller in controllers.split(","):
            version, places = 1, (_ROOT / controllers, _ROOT / controller)
        else:
            continue
        inner = Path(*(part for part in path.split("/") if part not in ("", "..")))
        for place in dict.fromkeys(places):
            yield from ((version, place / above) for above in (inner, *inner.parents))


def _left(folder: Path, files: _Files) -> int | None:
    try:
        limit = int((folder / files.limit).read_text())
        used = int((folder / files.used).read_text())
    except (OSError, ValueError):  # no such group or controller here; "max"
        return None
    rows = (line.split() for line in _lines(folder / "memory.stat") if files.given_up)
    kept = sum(int(row[1]) for row in rows if row[0] == files.given_up)
    return max(0, limit - max(0, used - kept))


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:  # a system without control groups, or /proc is hidden
        return []

"""What the processes of a run use of the machine: memory, descriptors, threads, processor time.

``ProcessUse`` is one process at one moment, as psutil sees it; ``Usage`` looks at all processes of
a run, at most once a second, because each look reads some files of /proc for each process.

Private memory is the memory that the system could not share or drop: anonymous pages in RAM
(``rss - shared``). The segment is shared memory, so that it never counts, however much of it a
worker has touched; nor do the pages of files that are mapped.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

LOOK_EVERY_S = 1.0


@dataclass(frozen=True)
class ProcessUse:
    """One process at one moment. ``role``: ``controller``, ``worker 3``, ``spare``, ``forkserver``.

    ``rss_bytes`` counts all its pages in RAM, those of the segment too; ``shared_bytes`` those of
    files and of the segment; ``private_bytes`` the others. ``pss_bytes`` is None where the system
    does not say it cheaply. ``cpu_s``: seconds of processor time since its start.
    """

    pid: int
    role: str
    rss_bytes: int
    private_bytes: int
    shared_bytes: int
    fds: int
    threads: int
    cpu_s: float
    pss_bytes: int | None = None


class Usage:
    """The processes of a run. ``roles`` says which there are: pairs of pid and role."""

    def __init__(
        self,
        roles: Callable[[], Iterable[tuple[int, str]]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._roles = roles
        self._clock = clock
        self._due_s = float("-inf")
        self._last: tuple[ProcessUse, ...] = ()

    def now(self) -> tuple[ProcessUse, ...]:
        """All processes that live, as they were a second ago at most."""
        now_s = self._clock()
        if now_s >= self._due_s:
            self._due_s = now_s + LOOK_EVERY_S
            found = (use_of(pid, role) for pid, role in self._roles())
            self._last = tuple(use for use in found if use is not None)
        return self._last


def use_of(pid: int, role: str) -> ProcessUse | None:
    """What one process uses now; None if it is gone."""
    import psutil  # which takes as long as starting a worker

    try:
        process = psutil.Process(pid)
        with process.oneshot():
            memory, times = process.memory_info(), process.cpu_times()
            return ProcessUse(
                pid=pid,
                role=role,
                rss_bytes=memory.rss,
                private_bytes=max(0, memory.rss - memory.shared),
                shared_bytes=memory.shared,
                fds=process.num_fds(),
                threads=process.num_threads(),
                cpu_s=times.user + times.system,
            )
    except (psutil.NoSuchProcess, psutil.AccessDenied):  # ended; a zombie has no files to count
        return None

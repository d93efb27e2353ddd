"""``Picture``: what a segment holds at a moment, as data; ``Observer`` makes one at a time.

The views of it (panels.py, document.py) only arrange what stands here. A picture is made from one
copy of the segment's counters (stretch.py), the page descriptors (memory_map.py), and what the
system says of the processes (processes.py). The segment is in use meanwhile: numbers of one picture
may be some microseconds apart, those of a walk older, and those of a broken segment anything.

``Rates`` compares two pictures.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

from shmalloc import constants as c
from shmalloc.errors import Violation
from shmalloc.history import History
from shmalloc.layout import Geometry
from shmalloc.observed import ObservedSegment
from shmalloc.processes import pid_namespace
from shmalloc.reports import Reports
from shmalloc.statistics import Statistics, statistics_of
from stress.top.lists import CpuUse, cpu_use
from stress.top.locks import HeldLock, Locks, with_times
from stress.top.memory_map import SHARE, MapTaker, MemoryMap
from stress.top.processes import Process, Sleepers, process_of
from stress.top.slabs import CacheUse, Sheaves, cache_uses
from stress.top.stretch import Stretch

MOST_VIOLATIONS = 32  # that a picture tells; all are counted


@dataclass(frozen=True)
class Picture:
    """A segment at a moment.

    ``time_s``, ``made_s``: unix time; ``clock_s``: of a clock that never jumps.
    ``waiters``: slots that sleep for memory. ``reported``: violations since the segment was made;
    ``violations``: the first of them. ``removed``: the name is gone; ``same_build``: its kernels
    are those of this observer; ``stopping``: its users were told to leave their loops.
    """

    name: str
    geometry: Geometry
    bytes: int
    touched_bytes: int
    made_s: int
    time_s: float
    clock_s: float
    owner: Process
    same_build: bool
    removed: bool
    stopping: bool
    statistics: Statistics
    cpus: tuple[CpuUse, ...]
    caches: tuple[CacheUse, ...]
    locks: tuple[HeldLock, ...]
    waiters: tuple[int, ...]
    map: MemoryMap
    reported: int
    violations: tuple[Violation, ...]

    @property
    def age_s(self) -> float | None:
        """How old the segment is; None if it does not say when it was made."""
        return max(0.0, self.time_s - self.made_s) if self.made_s > 0 else None


@dataclass(frozen=True)
class Rates:
    """Counts of each second between two pictures, by event and by CPU slot; None without a time."""

    events: Mapping[str, float]
    cpus: tuple[float, ...]
    seconds: float


def rates(now: Picture, before: Picture | None) -> Rates | None:
    """The rates from ``before`` to ``now``; a counter that fell counts as unchanged."""
    if before is None or now.clock_s <= before.clock_s:
        return None
    seconds = now.clock_s - before.clock_s
    old = before.statistics.events
    return Rates(
        {name: max(0, n - old[name]) / seconds for name, n in now.statistics.events.items()},
        tuple(
            max(0, new.operations - last.operations) / seconds
            for new, last in zip(now.cpus, before.cpus, strict=True)
        ),
        seconds,
    )


class Observer:
    """Looks at segment ``name`` again and again. Close it, or use it in a ``with`` block.

    ``walks``: the share of the time that walks over all page descriptors may take.
    Raises ``SegmentError`` for what is no segment, and in ``look`` for one that was truncated.
    """

    def __init__(self, name: str, walks: float = SHARE) -> None:
        self._seen = ObservedSegment(name)
        self._locks = Locks(self._seen.layout)
        self._maps = MapTaker(self._seen, walks)
        self._sleepers = Sleepers(self._seen.inode)
        self._reports = Reports(self._seen, self._seen.layout)
        self._violations: tuple[Violation, ...] = ()
        self._before: Picture | None = None

    def look(self) -> Picture:
        """The segment as it is now. Locks that are still held say for how long."""
        seen = self._seen
        stretch = Stretch(seen)
        ours = stretch[c.H_OWNER_NAMESPACE] == pid_namespace()
        processes = _processes(stretch, ours)
        sheaves = Sheaves(seen, stretch)
        cpus = tuple(
            cpu_use(stretch, cpu, processes.get(cpu), sheaves.of_cpu(cpu))
            for cpu in range(seen.geometry.cpus)
        )
        memory_map = self._maps.take(sheaves.by_cache)
        picture = Picture(
            name=seen.name,
            geometry=seen.geometry,
            bytes=seen.layout.bytes,
            touched_bytes=seen.touched_bytes,
            made_s=stretch[c.H_MADE_S],
            time_s=time.time(),
            clock_s=time.monotonic(),
            owner=process_of(stretch[c.H_OWNER_PID], stretch[c.H_OWNER_START], ours),
            same_build=seen.same_build,
            removed=seen.removed,
            stopping=stretch[c.H_STOP] != 0,
            statistics=statistics_of(stretch, seen.layout),
            cpus=cpus,
            caches=cache_uses(stretch, memory_map.slabs, memory_map.in_sheaves),
            locks=self._locks.held(stretch, processes),
            waiters=_waiters(stretch),
            map=memory_map,
            reported=stretch[c.H_REPORT_COUNT],
            violations=self._told(stretch[c.H_REPORT_COUNT]),
        )
        self._before = self._with_waits(self._since(picture), stretch)
        return self._before

    def _told(self, reported: int) -> tuple[Violation, ...]:
        """The first violations in words, read anew only when there are more."""
        if min(reported, MOST_VIOLATIONS) > len(self._violations):
            self._violations = tuple(self._reports.violations()[:MOST_VIOLATIONS])
        return self._violations

    def _since(self, picture: Picture) -> Picture:
        before = self._before
        if before is None:
            return picture
        pairs = zip(picture.cpus, before.cpus, strict=True)
        idle = {new.slot.claim: new.events == old.events for new, old in pairs}
        seconds = picture.clock_s - before.clock_s
        return replace(picture, locks=with_times(picture.locks, before.locks, seconds, idle))

    def _with_waits(self, picture: Picture, stretch: Stretch) -> Picture:
        """Who sleeps on which word, who holds what, and what each slot did last."""
        asked = picture.waiters or any(lock.slept_for for lock in picture.locks)
        processes = [cpu.process for cpu in picture.cpus if cpu.process is not None]
        sleepers = self._sleepers.by_word(processes) if asked else {}
        locks = tuple(
            lock if sleepers is None else replace(lock, waiting=sleepers.get(lock.word, ()))
            for lock in picture.locks
        )
        names = {pid: lock.name for lock in locks for pid in lock.waiting or ()}
        holds = {lock.cpu: (*_held_by(locks, lock.cpu),) for lock in locks if lock.current}
        history = History(self._seen, self._seen.layout)
        cpus = tuple(
            replace(
                cpu,
                last=history.last(cpu.slot.claim),
                holds=holds.get(cpu.slot.claim, ()),
                waits_for=_waits_for(cpu, picture.waiters, names),
            )
            for cpu in picture.cpus
        )
        return replace(picture, locks=locks, cpus=cpus)

    def close(self) -> None:
        self._seen.close()

    def __enter__(self) -> Observer:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _processes(stretch: Stretch, ours: bool) -> dict[int, Process]:
    """The process of each CPU slot that has one."""
    found = {}
    for cpu in range(stretch.layout.geometry.cpus):
        at = stretch.layout.cpu(cpu)
        if stretch[at + c.C_EPOCH] & 1:
            found[cpu] = process_of(stretch[at + c.C_PID], stretch[at + c.C_START], ours)
    return found


def _held_by(locks: tuple[HeldLock, ...], cpu: int) -> list[str]:
    return [lock.name for lock in locks if lock.cpu == cpu and lock.current]


def _waits_for(cpu: CpuUse, waiters: tuple[int, ...], names: Mapping[int, str]) -> str:
    if cpu.slot.claim in waiters:
        return "memory"
    return names.get(cpu.process.pid, "") if cpu.process else ""


def _waiters(stretch: Stretch) -> tuple[int, ...]:
    """Who sits in a seat for memory, by number of the claim."""
    first = stretch.layout.at["seats"]
    taken = (stretch[first + seat] & c.LOCK_HOLDER_MASK for seat in range(c.SEATS))
    return tuple(sorted(holder - 1 for holder in taken if holder))

"""What the panels show: a picture, its changes in each second, the order of rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from stress.top.lists import CpuUse
from stress.top.locks import HeldLock
from stress.top.reading import Picture, Rates
from stress.top.slabs import CacheUse

SORTS = ("number", "fill", "rate")
SURE_S = 0.2  # a lock that is held for longer is not one that will be free in a moment


@dataclass(frozen=True)
class View:
    """``rates``: None before the second picture. ``sort``: one of ``SORTS``."""

    now: Picture
    rates: Rates | None = None
    sort: str = "number"

    @property
    def cpu_order(self) -> str:
        return {"fill": "what is on their lists", "rate": "operations a second"}.get(
            self.sort, "number"
        )

    @property
    def cache_order(self) -> str:
        return "number" if self.sort == "number" else "memory"

    @property
    def counter_order(self) -> str:
        return {"fill": "count", "rate": "rate"}.get(self.sort, "kind")

    @property
    def cpus(self) -> list[CpuUse]:
        """The CPU slots in their order."""
        cpus = list(self.now.cpus)
        if self.sort == "fill":
            cpus.sort(key=lambda cpu: -(cpu.pages + cpu.objects))
        if self.sort == "rate":
            cpus.sort(key=lambda cpu: -(self.rate_of(cpu) or 0))
        return cpus

    @property
    def caches(self) -> list[CacheUse]:
        """The caches in their order."""
        caches = list(self.now.caches)
        if self.sort != "number":
            caches.sort(key=lambda cache: -cache.count.pages)
        return caches

    @property
    def locks(self) -> list[HeldLock]:
        """The locks that are held, those that look wrong first."""
        return sorted(self.now.locks, key=lambda lock: (not is_bad(lock), -lock.held_s, lock.word))

    @property
    def counters(self) -> list[tuple[str, int, float | None]]:
        """Events that have happened: name, count, rate."""
        rates: Mapping[str, float] = {} if self.rates is None else self.rates.events
        found = [(name, n, rates.get(name)) for name, n in self.now.statistics.events.items() if n]
        if self.sort == "fill":
            found.sort(key=lambda counter: -counter[1])
        if self.sort == "rate":
            found.sort(key=lambda counter: -(counter[2] or 0))
        return found

    def rate_of(self, cpu: CpuUse) -> float | None:
        """Blocks and objects that a slot allocates and frees in a second."""
        return None if self.rates is None else self.rates.cpus[cpu.slot.claim]


def is_bad(lock: HeldLock) -> bool:
    """Whether the holder of a lock is dead or stopped, or has kept it for long."""
    return lock.process is None or lock.process.odd or lock.held_s > SURE_S

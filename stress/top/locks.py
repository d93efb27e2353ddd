"""The locks of a segment that are held, and who holds them.

Every lock is one word that names the CPU slot of its holder and the life of that slot
(kernels/lock.py). The holder's process is known if that life is the slot's present one; an earlier
life has ended, and its process is dead or has left the slot. A per-CPU lock that its claim holds by
a bias (kernels/cpu_lock.py) is named in the record of the claim instead.

Locks are held for well under a microsecond, so most that a picture shows are over when it is read.
One that the holder really keeps is recognized by two pictures: same lock, same life, and in between
the holder counted no event (``held_s``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from shmalloc import constants as c
from shmalloc import constants_slab as cs
from shmalloc.layout import Layout, cache_stride, first_node_part, pcp_stride
from shmalloc.word_names import WordNames
from stress.top.processes import Process
from stress.top.stretch import Stretch


@dataclass(frozen=True)
class HeldLock:
    """A lock at a moment.

    ``process``: None if the holder is an earlier life of the slot. ``waiting``: pids of processes
    that sleep until it is free, None if the system does not tell. ``slept_for``: a process slept
    for it since it was taken, and may still. ``held_s``: for how long at least the holder has kept
    it and done nothing else.
    """

    word: int
    name: str
    cpu: int
    epoch: int
    current: bool
    process: Process | None
    slept_for: bool
    waiting: tuple[int, ...] | None = None
    held_s: float = 0.0


class Locks:
    """Where the locks of one layout are, and what they are called."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._names = WordNames(layout)

    @cached_property
    def words(self) -> np.ndarray:
        """The word index of every lock."""
        layout, geometry = self._layout, self._layout.geometry
        zones, cpus = np.arange(len(geometry.zones)), np.arange(geometry.cpus)
        lists = np.arange(geometry.cpus * len(geometry.zones))
        starts = layout.at["caches"] + np.arange(geometry.caches) * cache_stride(geometry)
        nodes = first_node_part(geometry) + np.arange(geometry.nodes) * cs.KN_STRIDE
        parts = (
            np.array([c.H_CACHES_LOCK, c.H_RECOVERY]),
            layout.at["zones"] + zones * c.Z_STRIDE + c.Z_LOCK,
            layout.at["pcp"] + lists * pcp_stride(geometry) + c.P_LOCK,
            np.add.outer(starts, nodes + cs.KN_LOCK).ravel(),
            np.add.outer(starts, nodes + cs.KN_BARN_LOCK).ravel(),
            np.add.outer(starts, cs.K_CPUS + cpus * cs.KC_STRIDE + cs.KC_LOCK).ravel(),
        )
        return np.concatenate(parts)

    def held(self, stretch: Stretch, processes: Mapping[int, Process]) -> tuple[HeldLock, ...]:
        """The locks that have a holder. ``processes``: by CPU slot, those that own one."""
        found = stretch.array[self.words]
        taken = self.words[(found & c.LOCK_HOLDER_MASK) != 0]
        by_word = [self._lock(stretch, int(word), stretch[int(word)], processes) for word in taken]
        return (*by_word, *self._by_bias(stretch, processes))

    def _by_bias(self, stretch: Stretch, processes: Mapping[int, Process]) -> Iterator[HeldLock]:
        """Those that claims hold by a bias."""
        first = self._layout.at["cpus"]
        records = stretch.array[first : first + self._layout.geometry.claims * c.C_STRIDE]
        for claim in np.flatnonzero(records[c.C_HOLDS :: c.C_STRIDE]).tolist():
            at = self._layout.cpu(claim)
            word, life = stretch[at + c.C_HOLDS], stretch[at + c.C_EPOCH] << c.LIFE_EPOCH_SHIFT
            if not word & c.HOLDS_TRIES:
                yield self._lock(stretch, word, life | (claim + 1), processes)

    def _lock(
        self, stretch: Stretch, word: int, value: int, processes: Mapping[int, Process]
    ) -> HeldLock:
        cpu, epoch = (value & c.LOCK_HOLDER_MASK) - 1, value >> c.LIFE_EPOCH_SHIFT
        known = cpu < self._layout.geometry.claims
        current = known and stretch[self._layout.cpu(cpu) + c.C_EPOCH] == epoch
        return HeldLock(
            word=word,
            name=self.name(word),
            cpu=cpu,
            epoch=epoch,
            current=current,
            process=processes.get(cpu) if current else None,
            slept_for=bool(value & c.LOCK_CONTENDED),
        )

    def name(self, word: int) -> str:
        """``zone 0``, ``page lists of cpu 1 zone 0``, ``recovery``."""
        name = self._names.name(word)
        return name.removeprefix("header ").removesuffix("lock").removesuffix("-").rstrip()


def with_times(
    now: tuple[HeldLock, ...],
    before: tuple[HeldLock, ...],
    seconds: float,
    idle: Mapping[int, bool],
) -> tuple[HeldLock, ...]:
    """``now`` with the time for which each lock was kept.

    ``idle``: whether each CPU slot counted no event in the ``seconds`` since ``before``.
    """
    kept = {(lock.word, lock.cpu, lock.epoch): lock.held_s for lock in before}
    return tuple(
        replace(lock, held_s=kept[key] + seconds)
        if (key := (lock.word, lock.cpu, lock.epoch)) in kept and idle.get(lock.cpu, True)
        else lock
        for lock in now
    )

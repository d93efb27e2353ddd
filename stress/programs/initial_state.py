"""``InitialState``: a booted segment of a few pages, prepared in plain Python, made a Program.

The geometry is the smallest that still has the race: one zone, 64-byte pages, per-CPU lists of one
page, no spinning before a sleep. Preparation runs the same kernels, interpreted, before the first
virtual CPU starts, so it costs the explorer nothing.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from shmalloc import constants as c
from shmalloc import constants_slab as cs
from shmalloc.dialect import Kernel
from shmalloc.errors import CorruptionError
from shmalloc.image import write_image
from shmalloc.kernels.audit import audit
from shmalloc.kernels.boot import boot
from shmalloc.kernels.cache_set import cache_create, cache_shrink
from shmalloc.kernels.cpu_lock import open_word
from shmalloc.kernels.kmalloc import class_of
from shmalloc.kernels.objects import cache_at, cpu_part, node_part
from shmalloc.kernels.poison import poison_page
from shmalloc.kernels.slots import settle_on
from shmalloc.layout import Geometry, Layout, ZoneSpec
from shmalloc.memory import Ram
from stress.machine.program import Observed, Program
from stress.programs import checks, held
from stress.programs.naming import SegmentNaming, code_name
from stress.programs.written import blank_at

FIRST_EPOCH = 3  # of slot 0 if there are spare slots; any number but 0 would do
SHEAF_PAGE_BYTES = 256  # in states with sheaves (slab.py)

_spare_cpus: ContextVar[int] = ContextVar("spare_cpus", default=0)
_reshaped: ContextVar[tuple[tuple[int, Mapping[str, Any]], ...]] = ContextVar(
    "reshaped", default=()
)


@contextmanager
def spare_cpus(count: int) -> Iterator[None]:
    """States that are booted meanwhile have ``count`` CPU slots more than their program asks for.

    Every slot then has a different epoch, so that the labels of two slots differ.
    """
    token = _spare_cpus.set(count)
    try:
        yield
    finally:
        _spare_cpus.reset(token)


@contextmanager
def reshaped(more_cpus: int = 0, **changes: Any) -> Iterator[None]:
    """States that are booted meanwhile have these fields of the geometry, whatever their program
    asks for, and ``more_cpus`` CPUs besides those of its threads. A function makes a field's new
    value of the old one. Of two that are nested, the outer one is applied last.
    """
    token = _reshaped.set(((more_cpus, changes), *_reshaped.get()))
    try:
        yield
    finally:
        _reshaped.reset(token)


def catalogue(part: str, *builders: Callable[[str], Program]) -> dict[str, Callable[[], Program]]:
    """Builders by name, each run at most once: ``merge_take`` of "buddy" is "buddy-merge-take"."""
    named = {f"{part}-{build.__name__.replace('_', '-')}": build for build in builders}
    return {name: functools.cache(functools.partial(build, name)) for name, build in named.items()}


@dataclass(frozen=True, eq=False)
class InitialState:
    """A segment that is being prepared: change it with the methods, then call ``program``."""

    layout: Layout
    ram: Ram
    scale: int = 1  # factor between its page size and the requested one (``booted``)

    @classmethod
    def booted(cls, pages: int, max_order: int = 0, cpus: int = 2, **changes: Any) -> InitialState:
        """All pages free, all CPUs online. ``changes``: other fields of the geometry."""
        smallest: dict[str, Any] = {
            "page_bytes": 64,
            "pageblock_order": max_order,
            "pcp_batch": 1,
            "pcp_high": 1,
            "spins": 0,
            "caches": 0,
            "structures": 0,
            "scratch_words": 64,
            "work_words": held.WORK_WORDS,
            "owner_map": True,
            "zones": (ZoneSpec(pages),),
        }
        spare = _spare_cpus.get()
        chosen = {**smallest, **changes, "max_order": max_order}
        more = sum(cpus_added for cpus_added, _ in _reshaped.get())
        for _, reshapes in _reshaped.get():
            for field, value in reshapes.items():
                chosen[field] = value(chosen[field]) if callable(value) else value
        cpus += spare + more
        max_order = max(max_order, chosen.pop("max_order"))
        scale = 1
        if chosen["page_bytes"] == SHEAF_PAGE_BYTES:  # the sheaves of more CPUs must fit in a page
            scale = (2 if spare else 1) * (2 if more else 1)
        chosen["page_bytes"] *= scale
        geometry = Geometry(cpus=cpus, max_order=max_order, **chosen)
        layout = Layout.of(geometry)
        ram = Ram.of_words(layout.words)
        write_image(ram, layout)
        boot(ram)
        for cpu in range(cpus):
            ram[layout.cpu(cpu) + c.C_STATE] = c.CPU_ONLINE
            if spare:
                ram[layout.cpu(cpu) + c.C_EPOCH] = FIRST_EPOCH + cpu
            settle_on(ram, cpu, cpu)
            for zone in range(len(geometry.zones) if geometry.biased_locks else 0):
                ram[layout.pcp(cpu, zone) + c.P_LOCK] = open_word(ram, cpu)
        return cls(layout, ram, scale)

    def blank(self) -> InitialState:
        """Let no CPU write to its memory (written.py). Before all others."""
        self.ram[blank_at(self.ram)] = 1
        return self

    def take(self, cpu: int, slot: int = 0, order: int = 0) -> InitialState:
        """Let ``cpu`` begin with a block, straight from the zone."""
        self._require(held.zone_take(self.ram, cpu, slot, order) >= 0, "no block of that order")
        return self

    def put(self, cpu: int, slot: int = 0) -> InitialState:
        """Free a block that ``cpu`` began with, straight to the zone."""
        self._require(held.zone_put(self.ram, cpu, slot) == 0, "the block was refused")
        return self

    def forget(self, cpu: int, slot: int = 0) -> InitialState:
        """Forget the block of a slot: the threads dispose of it."""
        held.let_go(self.ram, cpu, slot)
        return self

    def keep(self, cpu: int, pages: int = 1) -> InitialState:
        """Let the per-CPU list of ``cpu`` begin with ``pages`` pages (its high mark allowing)."""
        for slot in range(pages):
            self.take(cpu, slot)
        for slot in range(pages):
            self._require(held.page_put(self.ram, cpu, slot) == 0, "the list took no page")
        return self

    def mark_held(self, cpu: int, slot: int = 0) -> InitialState:
        """Mark the page of a slot to leave service when it is freed."""
        pfn = held.block_pfn(self.ram[held.slot_at(self.ram, cpu, slot)])
        self._require(poison_page(self.ram, cpu, pfn) == 0, "the page was not marked")
        return self

    def settle(self, claim: int, cpu: int) -> InitialState:
        """Let a claim work on CPU ``cpu``, whose lists and sheaves it uses from now on."""
        settle_on(self.ram, claim, cpu)
        return self

    def with_cache(self, object_bytes: int, flags: int = cs.CF_NO_SHEAVES) -> InitialState:
        """Make the only cache; larger pages than requested get larger objects, as many a page."""
        if self.scale > 1:
            object_bytes = self.scale * object_bytes + 16
        made = cache_create(self.ram, 0, object_bytes, 0, flags, 0)
        self._require(made == held.ONLY_CACHE, f"the cache was refused: {made}")
        for cpu in range(self.layout.geometry.cpus if self.layout.geometry.biased_locks else 0):
            part = cpu_part(self.ram, cache_at(self.ram, made), cpu)
            self.ram[part + cs.KC_LOCK] = open_word(self.ram, cpu)
        return self

    def take_object(self, cpu: int, slot: int = 0) -> InitialState:
        """Let ``cpu`` begin with an object."""
        self._require(self.may_take_object(cpu, slot), "no object")
        return self

    def may_take_object(self, cpu: int, slot: int = 0) -> bool:
        """Let ``cpu`` begin with an object, if there is one."""
        return bool(held.object_take(self.ram, cpu, slot) >= 0)

    def put_object(self, cpu: int, slot: int = 0) -> InitialState:
        """Free an object that ``cpu`` began with."""
        self._require(held.object_put(self.ram, cpu, slot) == 0, "the object was refused")
        return self

    def give_away(self, cpu: int, slot: int = 0) -> InitialState:
        """Forget an object that ``cpu`` began with: the threads dispose of it."""
        held.let_go(self.ram, cpu, held.FIRST_OBJECT + slot)
        return self

    def as_kmalloc(self, size_bytes: int) -> InitialState:
        """Make the only cache the kmalloc class for that size."""
        self.ram[cs.H_KMALLOC + class_of(size_bytes)] = held.ONLY_CACHE + 1
        return self

    @property
    def absent(self) -> int:
        """The last CPU slot, on which no process runs if there is a spare one."""
        return self.layout.geometry.cpus - 1

    def shrink(self, cpu: int) -> InitialState:
        """Give empty slabs back: their pages go to the per-CPU list of ``cpu``, ready for more."""
        self._require(cache_shrink(self.ram, cpu, held.ONLY_CACHE) > 0, "no slab was empty")
        return self

    def share_object(self, cpu: int, slot: int = 0) -> InitialState:
        """Let several CPUs free an object of ``cpu``, which no longer holds it."""
        shared = held.slot_at(self.ram, 0, held.SHARED)
        self.ram[shared] = held.let_go(self.ram, cpu, held.FIRST_OBJECT + slot)
        return self

    def _require(self, done: bool, problem: str) -> None:
        """Preparation runs kernels one after the other: a failure is a bug of the kernel."""
        if done:
            return
        if self.ram[c.H_REPORT_COUNT] == 0:
            audit(self.ram, 0)  # it reports what is wrong in the segment
        found = SegmentNaming(self.layout).findings(self.ram)
        reported = "".join(f"; {finding.name}: {finding.text}" for finding in found)
        raise CorruptionError(
            f"the initial state of a program cannot be prepared: {problem}{reported}; a kernel that"
            " runs alone does this, so call it by itself"
        )

    def program(
        self,
        name: str,
        threads: Sequence[Kernel],
        story: str,
        check: Kernel = checks.pages_are_sound,
        invariant: Kernel | None = None,
    ) -> Program:
        """The prepared state as a program; outcomes are what the threads returned."""
        observe: list[Observed] = [("r", cpu) for cpu in range(len(threads))]
        naming = SegmentNaming(self.layout)
        return Program(
            name=name, words=self.layout.words, threads=tuple(threads), check=check,
            init=self.ram.array.copy(), invariant=invariant, observe=observe, story=story,
            locks=self._sleeping_locks(), word_name=naming.word_name,
            value_name=naming.value_name, pair_name=naming.pair_name, code_name=code_name,
            findings=naming.findings, world=naming.world, check_writes=True,
        )  # fmt: skip

    def _sleeping_locks(self) -> tuple[int, ...]:
        found = [c.H_CACHES_LOCK, self.layout.zone(held.ONLY_ZONE) + c.Z_LOCK]
        if self.layout.geometry.caches:
            node = node_part(self.ram, cache_at(self.ram, held.ONLY_CACHE), 0)
            found += [int(node + cs.KN_LOCK), int(node + cs.KN_BARN_LOCK)]
        return tuple(found)

"""``Arena``: the whole of shmalloc for one process: pages, objects and arrays in one segment.

::

    with Arena.create(size="256MiB") as arena:
        pfn = arena.alloc_pages(order=3)
        table = arena.zeros((1000, 1000))       # a numpy array, sent by a ticket
        address = arena.kmalloc(100)

    with Arena.attach(name) as arena:           # in another process

An arena is a segment plus a claim in it, the identity of this process. The creating process owns
the segment: when its ``with`` block (or the process) ends, the name is gone and the memory goes
with its last user. ``close`` in another process does not free what that process allocated; it
belongs to the segment.

A process that receives an array without an arena attaches to the segment until it ends.
Threads of a process may share an arena. A forked child goes on with the arenas of its parent, on a
claim of its own (forking.py).
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import threading
import time
import weakref
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing import util
from types import TracebackType
from typing import Any

import numpy as np

from shmalloc import constants as c
from shmalloc import cpus as slots
from shmalloc import forking, limits, main_guard, recovery
from shmalloc.arena_geometry import geometry_of
from shmalloc.arena_proc import ProcOperations
from shmalloc.array_header import Order, planned
from shmalloc.arrays import SharedArray, unpack_handle
from shmalloc.checked import check_seconds, checked_bool
from shmalloc.engine import get_engine, when_waiting_long
from shmalloc.errors import MisuseError, NotReadyError, Violation
from shmalloc.kernels.array_recovery import recover_arrays
from shmalloc.kernels.audit import audit
from shmalloc.kernels.audit_owners import audit_owners
from shmalloc.kernels.audit_quiet import audit_quiet
from shmalloc.kernels.slab_audit import audit_slabs
from shmalloc.layout import Geometry, ZoneSpec
from shmalloc.memory import Ram
from shmalloc.recovery import Recovered
from shmalloc.reports import violation_count, violations
from shmalloc.segment import Segment, find_name
from shmalloc.sizes import format_bytes
from shmalloc.statistics import Statistics, statistics
from shmalloc.structures.handles import Structure
from shmalloc.structures.handles import unpack_handle as unpack_structure
from shmalloc.structures.operations import StructureOperations
from shmalloc.structures.waiting import deadline_of
from shmalloc.transit import TransitOperations, segment_of

ATTACH_POLL_S = 0.01
AFTER_QUEUES = -100  # multiprocessing's own finalizers send what is in queues, at -5

_open_arenas: dict[tuple[int, bool], Arena] = {}  # by segment, and whether they only read
_ending: weakref.WeakSet[Arena] = weakref.WeakSet()  # closed ones that still have arrays
_attaching = threading.RLock()


class Arena(TransitOperations, StructureOperations, ProcOperations):
    """Pages, objects, arrays and structures in one segment. Made by ``create`` or ``attach``."""

    def __init__(
        self,
        segment: Segment,
        cpu: int | None = None,
        engine: str = "native",
        readonly: bool = False,
    ) -> None:
        super().__init__(segment, cpu, engine, readonly)
        _open_arenas.setdefault((segment.id, readonly), self)

    @classmethod
    def create(
        cls,
        name: str | None = None,
        size: int | str | None = None,
        cpus: int | None = None,
        zones: int | Sequence[ZoneSpec] | None = None,
        link_store: str = "page",
        engine: str = "native",
        prealloc: bool = False,
        **geometry: Any,
    ) -> Arena:
        """Make a segment with ``size`` bytes of pages (default 1 GiB) and take a claim in it.

        ``zones``: a number of equal zones, one per node, or their ``ZoneSpec`` (then without
        ``size``). ``cpus``: how many per-CPU lists there are, default 4 per core. ``**geometry``:
        fields of ``Geometry``.
        """
        prealloc = checked_bool("prealloc", prealloc)
        get_engine(engine)
        main_guard.warn_of_own_arena(name)
        shape = geometry_of(size, cpus, zones, link_store=link_store, **geometry)
        with limits.told("arena"):
            return cls._of(Segment.create(shape, name, prealloc=prealloc, engine=engine), engine)

    @classmethod
    def attach(
        cls,
        name: str,
        cpu: int | None = None,
        engine: str = "native",
        readonly: bool = False,
        timeout: float | None = 0,
    ) -> Arena:
        """Use the arena of that name on CPU ``cpu``, or the best one.

        ``readonly``: open arrays and look, but allocate, free and change nothing: whatever is seen
        of the memory is a mapping that the system protects from writes (docs/arrays.md).
        ``timeout``: seconds to wait until its owner has made it, None: for ever.
        Raises ``NotReadyError`` if there is none, ``SegmentError`` for one that we cannot use.
        """
        readonly = checked_bool("readonly", readonly)
        get_engine(engine)
        deadline = deadline_of(timeout)
        while True:
            try:
                with limits.told(f"name: {name!r}"):
                    return cls._of(Segment.attach(name), engine, cpu, readonly)
            except NotReadyError:
                if deadline is not None and time.monotonic() >= deadline:
                    raise
            time.sleep(ATTACH_POLL_S)

    @classmethod
    def _of(
        cls, segment: Segment, engine: str, cpu: int | None = None, readonly: bool = False
    ) -> Arena:
        for arena in list(_ending):
            arena.collect()  # their claims may be free now
        try:
            return cls(segment, cpu, engine, readonly)
        except BaseException:
            segment.__exit__(None, None, None)
            raise

    @property
    def geometry(self) -> Geometry:
        return self.segment.geometry

    @property
    def owner(self) -> bool:
        """Whether this process made the segment, and removes it."""
        return self.segment.owner

    def close(self) -> None:
        """Refuse new requests; the owner removes the segment's name. Repeatable.

        The claim is given back and the memory unmapped when the last array of this process is
        gone, which may be now: arrays and views stay readable. Threads that wait for a structure
        get a ``MisuseError``. Waits for those that are in another call; raises ``MisuseError``, and
        stays open, if one of them does not come back.
        """
        with self._lock:
            if self.segment.closed:
                return
            self._closing = True
            try:
                self.segment.ram.wait_until_idle()
            except BaseException:
                self._closing = False
                raise
            if self._is_ours():
                self._free_buffer()
                self._references.drain(self)
            if self._references.live and self._is_ours():
                self.segment.refuse()
            else:
                self.segment.stop()
        if _open_arenas.get(key := (self.segment.id, self.readonly)) is self:
            del _open_arenas[key]
        try:
            if self.segment.owner:
                self.segment.unlink()
        finally:
            if self._references.live and self._is_ours():
                _ending.add(self)
                self.collect()
            else:
                self._end()

    def _is_ours(self) -> bool:
        """Whether we may call kernels: no fault ended this life of the claim, and no fork without
        Python's hooks began this process. Others recover or keep the claim then."""
        return self._pid == os.getpid() and not self.segment.ram.ended

    def _end(self) -> None:
        if self.segment.released:
            return
        ours = self._is_ours()
        self.segment.stop()
        super()._end()
        try:
            when_waiting_long(self.segment.ram, None)
            forking.forget(self)
            if ours:
                self.engine.call(
                    recover_arrays, Ram(self.segment.ram.array), self.claim, self.claim
                )
                slots.release(self.segment, self.claim, self.engine.name)
        finally:
            self.segment.close()

    def unlink(self) -> None:
        """Remove the name now: no process can attach any more; current users are not affected."""
        self.check_writable("unlink")
        self.segment.unlink()

    def statistics(self) -> Statistics:
        """Counters of zones, lists and events at this moment."""
        self.check_open()
        return statistics(self.segment)

    def validate(self) -> list[Violation]:
        """Walk and recount everything; the violations found (empty: all invariants hold).

        Exact only while no other process works on the arena; meant for tests and for stops.
        """
        self.check_open()
        changed = self.segment.changed_words()
        if changed:  # kernels would follow them
            return changed
        before = violation_count(self.segment)
        for look, *more in ((audit,), (audit_slabs,), (audit_quiet,), (audit_owners, 0)):
            self.run(look, *more, reads=True)
        return violations(self.segment, before)

    def violations(self) -> list[Violation]:
        """All reports since the segment was created, misuses included."""
        self.check_open()
        return violations(self.segment)

    @property
    def life(self) -> int:
        """Our identity for processes that adopt what we pass on: the claim and which life of it.

        No other process has, had or will have this number while the segment lives.
        """
        self.check_open()
        epoch = self.segment.ram.load(self.segment.layout.cpu(self.claim) + c.C_EPOCH)
        return epoch << c.LIFE_EPOCH_SHIFT | self.claim + 1

    def recover(self, transit_older_than: float | None = None) -> list[Recovered]:
        """The processes that died since the last call of any process (see docs/recovery.md).

        Who attaches, waits or needs memory recovers the dead: repairs their locks, lists and
        unfinished operations while others run, and gives back what they held of arrays. This does
        it for those that are left, and tells of all. They still own their pages and objects:
        ``reap`` frees these.

        Arrays that the dead sent and no process loaded are given back after ``ticket_grace_s``.
        ``transit_older_than``: so are all that are in transit for that many seconds, also those of
        living senders; who loads them later is told that they are gone (see ``leaks``). Raises
        ``MisuseError`` unless these are seconds.

        A process that has stopped with a lock that a recovery needs is waited for a second; the
        dead that are left then are named by a later call, and a ``RuntimeWarning`` says so.
        """
        self.check_open()
        self.check_writable("recover")
        check_seconds("transit_older_than", transit_older_than)
        now = recovery.recover(self.segment, self.claim, self.engine.name)
        known = {(dead.claim, dead.epoch) for dead in now}
        told = recovery.untold(self.segment)
        self.collect()
        self._reap_orphans()
        self._recover_structures()
        if transit_older_than is not None:
            self._reap_older(transit_older_than)
        return now + [dead for dead in told if (dead.claim, dead.epoch) not in known]

    def _recover_for_memory(self) -> None:
        super()._recover_for_memory()
        self._recover_structures()

    def reap(self, recovered: Recovered) -> int:
        """Free every block and object that a recovered process owned, and had not handed over
        (``adopt_pages``, ``Cache.adopt``). Returns how many. Shared arrays stay."""
        self.check_open()
        self.check_writable("reap")
        if not isinstance(recovered, Recovered):
            raise MisuseError(f"recovered: {recovered!r}; use what recover() returned")
        return recovery.reap(self.segment, self.claim, recovered, self.engine.name)

    def slots(self) -> list[slots.Slot]:
        """The claims, the processes that have them, and the CPUs that they are on."""
        self.check_open()
        return slots.slots(self.segment)

    def __reduce__(self) -> tuple[Any, tuple[int, str, bool]]:
        """A pickle names the segment: the process that reads it uses its arena, or attaches."""
        self.check_open()
        return arena_of, (self.segment.id, self.engine.name, self.readonly)

    def __enter__(self) -> Arena:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        size = format_bytes(self.geometry.pages * self.geometry.page_bytes)
        state = "closed" if self.closed else f"claim {self.claim}" + ", read-only" * self.readonly
        return f"<Arena {self.name} {size} {state}>"


def arena_of(segment_id: int, engine: str = "native", readonly: bool | None = None) -> Arena:
    """This process's arena of a segment, attached now if there is none yet.

    ``readonly``: whether it only reads; None: whichever there is, one that writes if both are.
    Raises ``SegmentError`` if the segment is gone, also if another one has its name by now.
    """
    with _attaching:
        for kind in (False, True) if readonly is None else (readonly,):
            if (segment_id, kind) in _open_arenas:
                return _open_arenas[segment_id, kind]
        return Arena.attach(find_name(segment_id), engine=engine, readonly=bool(readonly))


def open_array(handle: bytes, readonly: bool = False) -> SharedArray:
    """Open a handle in this process, attaching to its segment if that is not attached yet.

    ``readonly``: as an array that this process cannot write to.
    Raises ``MisuseError`` if the array was freed, ``SegmentError`` if its segment is gone.
    """
    segment_id, _, _ = unpack_handle(handle)
    return arena_of(segment_id).open_array(handle, readonly)


def load_ticket(
    ticket: bytes,
    dtype: Any,
    shape: tuple[int, ...],
    strides: tuple[int, ...] | None,
    order: Order,
    writeable: bool,
) -> SharedArray:
    """What the pickle of a sent array calls in the process that reads it (transit.py).

    Raises ``MisuseError`` if the array is gone, ``SegmentError`` if its segment is.
    """
    arena = arena_of(segment_of(ticket))
    plan = planned(np.dtype(dtype), tuple(shape), order)
    return arena._load(ticket, plan, strides, readonly=not writeable)


TransitOperations.load_ticket = staticmethod(load_ticket)


def open_structure(handle: bytes) -> Any:
    """Open the handle of a structure, attaching to its segment if that is not attached yet.

    Raises ``MisuseError`` if it was destroyed, ``SegmentError`` if its segment is gone.
    """
    segment_id, _, _ = unpack_structure(handle)
    return arena_of(segment_id).open_structure(handle)


Structure.open_handle = staticmethod(open_structure)


def _close_open_arenas() -> None:
    for arena in list(_open_arenas.values()):
        arena._exiting = True
        with suppress(MisuseError):  # a daemon thread stays in a call: it dies with the process
            arena.close()


def _close_in_child(_: object = None) -> None:
    """The processes of ``multiprocessing`` end by ``os._exit``, after finalizers of its own."""
    util.Finalize(None, _close_open_arenas, exitpriority=AFTER_QUEUES)


def _renew_lock() -> None:
    """In a forked child, where the thread that may hold it is gone."""
    global _attaching
    _attaching = threading.RLock()


os.register_at_fork(after_in_child=_renew_lock)
atexit.register(_close_open_arenas)
util.register_after_fork(_close_open_arenas, _close_in_child)
if multiprocessing.parent_process() is not None:
    _close_in_child()

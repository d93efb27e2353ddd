"""The reclaimer of a process: a thread that brings memory back before it is used up.

An allocation that finds a zone below its low watermark wakes it (kernels/reclaim.py); it drains
lists, shrinks caches, and calls this process's shrinkers, until every zone is above its high
watermark or nothing more is to be had. Then it sleeps on a word of the segment. Each process may
have one: a wake-up reaches all of them, for only they can call their shrinkers. Without one,
allocations go on as ever, down to the minimum, and drain for themselves.

A shrinker is what the kernel calls by this name (include/linux/shrinker.h): memory that its owner
can do without, such as a cache of computed values. It has two methods, called in the reclaimer's
thread::

    count_objects() -> int            how many objects could be freed now; 0: none
    scan_objects(count: int) -> int   free up to so many; how many were freed

A process that is forked has no reclaimer until it starts its own, for no thread is forked. No other
process waits for one that is stopped or killed: a word that it armed is disarmed by the next
wake-up, and what it has locked is left out by drains, or recovered.
"""

from __future__ import annotations

import threading
from typing import Protocol

from shmalloc.errors import MisuseError
from shmalloc.kernels.reclaim import disarm_reclaim
from shmalloc.kernels.reclaimer import all_balanced, arm_reclaim, reclaim_pass, reclaim_rest
from shmalloc.without_waiting import TryOperations

SHRINK_BATCH = 128  # objects that a shrinker is asked for at once (Linux: SHRINK_BATCH)


class Shrinker(Protocol):
    """What can free memory when asked."""

    def count_objects(self) -> int:
        """How many objects could be freed now."""

    def scan_objects(self, count: int) -> int:
        """Free up to ``count`` objects; how many were freed."""


class Reclaimer:
    """The thread; a context manager. ``passes`` and ``given`` count what it did."""

    def __init__(self, arena: ReclaimOperations) -> None:
        self._arena = arena
        self._stopping = False
        self._error: BaseException | None = None
        self.passes = 0  # rounds that began with a zone that was not balanced
        self.given = 0  # pages, slabs and objects of shrinkers that it brought back
        self._thread = threading.Thread(
            target=self._run, name=f"reclaimer of {arena.name}", daemon=True
        )

    @property
    def running(self) -> bool:
        """Whether the thread runs; never in a child of a fork."""
        return self._thread.is_alive()

    def start(self) -> Reclaimer:
        """Start the thread, once. Raises ``MisuseError`` if it was started before."""
        if self._thread.ident is not None:
            raise MisuseError("reclaimer: it was started before; make another: arena.reclaimer()")
        self._thread.start()
        return self

    def stop(self) -> None:
        """End the thread. Raises what a shrinker has raised, which ends it as well."""
        self._stopping = True
        if self.running and not self._arena.closed:
            self._arena.run(disarm_reclaim, alone=False)
        if self._thread.ident is not None:
            self._thread.join()
        if self._error is not None:
            raise self._error

    def __repr__(self) -> str:
        state = "running" if self.running else "not running"
        work = f"{self.passes} passes, {self.given} given"
        return f"<Reclaimer of {self._arena.name}: {state}, {work}>"

    def __enter__(self) -> Reclaimer:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _run(self) -> None:
        try:
            while not self._stopping:
                self._round()
        except MisuseError as error:  # the arena was closed
            if not (self._arena.closed or self._arena._closing):
                self._error = error
        except BaseException as error:
            self._error = error

    def _round(self) -> None:
        """A pass, and a rest unless more can be had. The word is armed first (kernels/)."""
        arena = self._arena
        ticket = arena.engine.call(arm_reclaim, arena.segment.ram)
        given = 0
        if not self._balanced():
            self.passes += 1
            given = arena.run(reclaim_pass)
            if not self._balanced():
                given += arena._shrink()
        self.given += given
        if given > 0 and not self._balanced():
            return
        while not self._stopping and not arena.run(reclaim_rest, ticket, alone=False):
            arena.check_stays()

    def _balanced(self) -> bool:
        self._arena.check_stays()
        return bool(self._arena.engine.call(all_balanced, self._arena.segment.ram))


class ReclaimOperations(TryOperations):
    """Memory that is brought back in the background."""

    def _bind(self) -> None:
        super()._bind()
        self._shrinkers: list[Shrinker] = []

    def reclaimer(self) -> Reclaimer:
        """A thread that brings memory back when a zone falls below its low watermark::

            with arena.reclaimer():
                ...

        Raises ``MisuseError`` in a read-only arena, or on the interpreted engine.
        """
        self.check_open()
        self.check_writable("reclaimer")
        if not self.engine.compiles:
            raise MisuseError("reclaimer: interpreted kernels do not sleep; use the native engine")
        return Reclaimer(self)

    def register_shrinker(self, shrinker: Shrinker) -> None:
        """Have a shrinker called when memory is short, in the thread of ``reclaimer()``."""
        for method in ("count_objects", "scan_objects"):
            if not callable(getattr(shrinker, method, None)):
                raise MisuseError(f"shrinker: {shrinker!r} has no method {method}")
        self._shrinkers.append(shrinker)

    def unregister_shrinker(self, shrinker: Shrinker) -> None:
        """Call it no more. Raises ``MisuseError`` if it is not registered."""
        if shrinker not in self._shrinkers:
            raise MisuseError(f"shrinker: {shrinker!r} is not registered")
        self._shrinkers.remove(shrinker)

    def _shrink(self) -> int:
        """Ask each shrinker for a batch; how many objects they freed."""
        freed = 0
        for shrinker in tuple(self._shrinkers):
            count = min(shrinker.count_objects(), SHRINK_BATCH)
            if count > 0:
                freed += shrinker.scan_objects(count)
        return freed

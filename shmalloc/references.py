"""The references that a process holds: which arrays live, which were dropped, what is due.

An array that is dropped is noticed by a weak reference whose callback is ``deque.append``: no line
of Python runs in a finalizer, where an exception from a signal handler would be lost, and the
reference with it. The reference itself is given back later:

    drain    at the next call of the arena: what the deque names
    sweep    when the claim holds another number of references than are registered: an exception
             came between the answer of a kernel and its registration
    tick     50 ms after it, if no call comes: a quiet thread, begun with the first array

Each step may be cut off between any two lines and is repeated. References are registered by their
number, which is never used twice, so that what a signal handler makes in between cannot be taken
for what it interrupted. All of it runs under the arena's lock, but not nested in a call that holds
it (a signal handler): such a call makes arrays and gives none back.

Data it owns: ``live``, the reference of each living array by number; ``dropped``, those whose array
is gone. ``arena`` is their arena.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from shmalloc.array_words import held_of, held_records

if TYPE_CHECKING:
    from shmalloc.array_making import MakingOperations
    from shmalloc.arrays import ArrayOperations

TICK_S = 0.05


class Ref(weakref.ref[Any]):
    """One reference: the record ``slot`` of our claim's table, and its sequence ``number``.

    ``data``: word of the segment where the array's pages begin.
    """

    __slots__ = ("arena", "data", "number", "slot")

    arena: ArrayOperations
    data: int
    number: int
    slot: int


class References:
    """What this process holds in one arena."""

    def __init__(self, arena: MakingOperations) -> None:
        self.live: dict[int, Ref] = {}
        self.dropped: deque[Ref] = deque()
        self.gone = self.dropped.append
        self.ended = False  # after the arena's end: nothing is given back any more
        self._arena = weakref.ref(arena)
        self.ticking = False
        self._ticker: tuple[threading.Thread, threading.Lock] | None = None

    def is_due(self, arena: MakingOperations) -> bool:
        return bool(self.dropped) or held_of(arena.segment, arena.claim) != len(self.live)

    def drain(self, arena: MakingOperations) -> None:
        """Give back what was dropped, and what no array names. Under the arena's lock."""
        self.give_back(arena)
        if held_of(arena.segment, arena.claim) != len(self.live):
            self.sweep(arena)

    def give_back(self, arena: MakingOperations, but: int = 0) -> None:
        """Give back what was dropped, but for the last ``but``."""
        dropped, live = self.dropped, self.live
        drop, claim = arena._do_drop_array, arena.claim
        ended = bool(arena.segment.ram.ended)
        while len(dropped) > but:
            ref = dropped[0]
            try:
                number = ref.number
            except AttributeError:  # its making was cut off
                number = -1
            if number in live:
                if not ended:
                    drop(claim, ref.slot, number)
                del live[number]
            dropped.popleft()
        arena.finish_rescue()

    def sweep(self, arena: MakingOperations) -> None:
        """Give back the references that the table has and the registry has not."""
        for slot, number in held_records(arena.segment, arena.claim):
            if number not in self.live:
                arena._drop(slot, number)

    def renumber(self, arena: MakingOperations, first: int, moved: bool) -> None:
        """In a forked child: its references have numbers, and some have slots, of its own claim.

        That of the parent's slot s has number ``first`` + s.
        """
        slots = {}
        if moved:
            slots = {number: slot for slot, number in held_records(arena.segment, arena.claim)}
        live = {}
        for ref in self.live.values():
            ref.number = number = first + ref.slot
            ref.slot = slots.get(number, ref.slot)
            live[number] = ref
        self.live = live

    def tick(self) -> None:
        """Begin the thread that gives back what a quiet process dropped, if it does not run.

        Where no thread can begin (the interpreter is ending, or the limit of the user is reached),
        the next call gives it back.
        """
        if self.ticking:
            return
        self.ticking = True
        try:
            stop = threading.Lock()
            stop.acquire()
            thread = threading.Thread(
                target=_tick, args=(weakref.ref(self), stop), name="shmalloc-tick", daemon=True
            )
            self._ticker = thread, stop
            thread.start()
        except RuntimeError:
            self.ticking = False
        except BaseException:  # of a signal handler
            self.stop_ticking()
            raise

    def stop_ticking(self) -> None:
        """End that thread: when the arena ends, and before a fork, since Python warns of forks of
        processes with threads.

        The next array begins it again, behind a fork in parent and child. A signal handler that
        forks may come back to here in the middle, so nothing here is a lock that a thread waits for
        twice.
        """
        ticker, self._ticker = self._ticker, None
        if ticker is None or ticker[0] is threading.current_thread():
            self._ticker = ticker
            return
        thread, stop = ticker
        with suppress(RuntimeError):  # the handler did it
            stop.release()
        with suppress(RuntimeError):  # it has not begun
            thread.join(TICK_S)
        self.ticking = False


def _tick(of: weakref.ref[References], stop: threading.Lock) -> None:
    """Until the arena has ended. It never waits for the lock: who holds it drains."""
    while not stop.acquire(timeout=TICK_S):
        references = of()
        arena = None if references is None else references._arena()
        if references is None or arena is None or references.ended:
            return
        if arena._lock.acquire(blocking=False):
            try:
                if not references.ended and references.is_due(arena):
                    arena._drain_arrays()
            finally:
                arena._lock.release()
        del references, arena

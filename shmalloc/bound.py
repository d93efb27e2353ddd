"""``Bound``: one process's hold on a segment: which claim it acts as, on which engine.

The faces (pages, objects, arrays) use its services: ``run`` a kernel, ``settle`` what is due after
a call, turn a negative answer into an exception, check arguments before a kernel sees them. Kernels
take any int64; the allocator may refuse what the faces let through, but never crashes on it.

A kernel is called in one of two ways:

    ``self._do_NAME(self.claim, ...)``  what a program does all the time: a builtin that each face
                                        makes once (``_bind``). It keeps the interpreter's lock, for
                                        the call is short (unless free pages are filled), and a
                                        kernel that comes to wait gives it back itself
    ``self.run(kernel, ...)`` everything else: other threads run meanwhile

A read-only one (``readonly``) refuses every kernel of the faces that does not say ``reads=True``:
such a kernel changes at most what belongs to this process itself, its references and its claim.
These are written through a mapping of our own, and the data is seen through a second one, which the
system protects from writes.

Code that calls a builtin directly first checks that the segment is open, and calls ``settle`` after
a negative answer and when ``_rescuer.found`` is set.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, NoReturn, SupportsIndex

from shmalloc import constants as c
from shmalloc import cpus, forking, recovery
from shmalloc.call_sites import CallSites
from shmalloc.checked import MOST_PLACE, checked_int, checked_place, shown
from shmalloc.engine import Engine, get_engine, when_waiting_long
from shmalloc.errors import CorruptionError, MisuseError, OutOfMemoryError, ShmallocError
from shmalloc.memory import Ram
from shmalloc.no_memory import why_none
from shmalloc.recovery import Rescuer
from shmalloc.reports import reports_of
from shmalloc.segment import Segment

OWNER_LIMIT = 1 << 62
FORK_WAIT_S = 10.0
FORKED_DEAD = 8  # so many dead claims make a fork recover them

Builtin = Callable[..., Any]  # takes ints; gives an int, or a tuple of them


class ThisProcess:
    """Its pid, without the system call. After a fork without Python's hooks: its parent's."""

    __slots__ = ("pid",)

    def __init__(self) -> None:
        self.renew()
        os.register_at_fork(after_in_child=self.renew)

    def renew(self) -> None:
        self.pid = os.getpid()


THIS_PROCESS = ThisProcess()


def _refusing(name: str, asked: str) -> Builtin:
    """What stands in a read-only arena for a request that changes the memory."""

    def refuse(*_: int) -> NoReturn:
        raise MisuseError(
            f"{asked}: this process reads {name!r} only; attach without readonly=True to allocate,"
            " free or change anything"
        )

    return refuse


def _call(method: Callable[[], None] | None) -> None:
    if method is not None:
        method()


def _forgotten(segment: Segment) -> None:
    """An arena is gone that was not closed: for other processes it is dead, and they recover it."""
    when_waiting_long(segment.ram, None)
    segment.drop_claims()


class Bound:
    """A segment, our claim in it, and the engine that runs kernels over it.

    ``claim``: its number, which every kernel takes (kernels/slots.py).
    """

    def __init__(
        self,
        segment: Segment,
        cpu: int | None = None,
        engine: str = "native",
        readonly: bool = False,
    ) -> None:
        self.segment = segment
        self.readonly = readonly
        self.engine: Engine = get_engine(engine)
        self._lock = threading.RLock()
        self._closing = self._exiting = False  # what threads that wait are told
        self._embryo: int | None = None  # the claim of the child of a fork that is under way
        self._locked_for_fork = False
        samples = segment.geometry.page_owner > 0
        self._sites = CallSites(segment, self.engine) if samples else None
        self._looks_at = 0  # the number of claims at which a fork looks whether their owners live
        self._run_as(cpus.claim(segment, cpu, engine))
        end = weakref.WeakMethod(self._end_at_fault)
        segment.ram.on_fault = lambda: _call(end())
        weakref.finalize(self, _forgotten, segment).atexit = False
        self._bind()
        forking.follow(self)
        recovery.recover(segment, self.claim, engine)  # so that no claim of the dead is lost

    def _run_as(self, claim: int) -> None:
        """Call kernels in the name of this claim from now on."""
        self.claim = claim
        self._pid = os.getpid()
        if self._sites is not None:
            self._sites.introduce(claim)
        self._rescuer = Rescuer(self.segment, claim, self.engine.name)
        when_waiting_long(self.segment.ram, self._rescuer)

    def _bind(self) -> None:
        """Make the builtins. Each face makes its own and calls the next one's."""

    def builtin(
        self, kernel: Callable[..., Any], alone: bool = True, reads: bool = False
    ) -> Builtin:
        """``kernel`` over our segment: a callable that takes the claim and its other ints.

        What the claim is doing is written down in the segment, for those who recover it. So of all
        threads only one is in a kernel; the others wait. ``alone=False``: not for this kernel, as
        it writes nothing of the kind, and may wait for what another thread does. ``reads``: a
        read-only arena may call it.
        """
        if self.readonly and not reads:
            return _refusing(self.name, "arena")
        geometry = self.segment.geometry
        init = geometry.init_on_alloc or geometry.init_on_free
        fills = geometry.poison or geometry.zero or init  # a block may have megabytes
        call = self.engine.builtin(kernel, self.segment.ram, releases=fills, alone=alone)
        return call if self._sites is None else self._sites.watching(kernel, call, alone)

    @property
    def name(self) -> str:
        """Name of the segment: what another process attaches to."""
        return self.segment.name

    @property
    def cpu(self) -> int:
        """The number of our claim, by the name that it had when a claim was a CPU."""
        return self.claim

    @property
    def closed(self) -> bool:
        return self.segment.closed

    def run(
        self,
        kernel: Callable[..., Any],
        *arguments: int,
        alone: bool = True,
        reads: bool = False,
    ) -> int:
        """``kernel(mem, cpu, *arguments)`` on our slot. Raises ``MisuseError`` once closed.

        ``alone=False``: beside another thread's call, for a kernel that waits for what that does.
        ``reads``: a read-only arena may call it.
        """
        self.check_open()
        if not reads:
            self.check_writable("arena")
        run = self.engine.call_alone if alone else self.engine.call
        result = run(kernel, self.segment.ram, self.claim, *arguments)
        if self._sites is not None:
            self._sites.look(self.claim)
        self.finish_rescue()
        return result

    def settle(self, result: int, asked: str, order: int = 0) -> int:
        """Do what is due after a builtin's call for the request ``asked``; ``result``."""
        self.finish_rescue()
        if result < 0:
            raise self.refused(result, asked, order)
        return result

    def finish_rescue(self) -> None:
        """Finish the recovery that a call began when it waited for a lock of a dead process."""
        if self._rescuer.found:
            self._finish_rescue()

    def _finish_rescue(self) -> None:
        self._rescuer.found = False
        recovery.recover(self.segment, self.claim, self.engine.name)

    def recovers_dead(self) -> bool:
        """Recover the dead, as memory is wanted that may be on their lists; whether there were any.

        What they owned stays allocated: ``reap`` frees it.
        """
        return bool(recovery.recover(self.segment, self.claim, self.engine.name))

    def _end_at_fault(self) -> None:
        """A kernel of ours ended in the middle: other processes recover what it has locked.

        So this life of the claim ends as if the process had been killed there, and we may not
        continue in it. Not while other threads are in kernels in the same life, nor for a parent
        that owns the claim: then the locks stay.
        """
        ram = self.segment.ram
        ram.on_fault = None  # once is enough
        ram.end("an earlier call ended in a fault; close this arena and attach again")
        seen = cpus.slot(self.segment, self.claim)
        if self._pid == os.getpid() and not ram.running:
            layout = self.segment.layout
            recovery.mark(Ram(ram.array), layout, self.claim, seen, self.engine.name)

    # --- forks: see forking.py ------------------------------------------------------------------

    def before_fork(self) -> None:
        """Make the claim of the child that is about to be forked, if that is possible."""
        self._embryo = None
        self._locked_for_fork = self._lock.acquire(timeout=FORK_WAIT_S)
        segment = self.segment
        if not self._locked_for_fork or segment.stopped or segment.ram.ended:
            return
        self._recover_children()
        with suppress(OSError):  # out of descriptors: the child is told
            self._embryo = cpus.claim_free(segment, self.engine.name)
        if self._embryo is not None:
            segment.give_claim_to_child(self._embryo)
            self._copy_for_child(self._embryo)

    def _recover_children(self) -> None:
        """Recover the dead if there are many: looked at when that many more claims are taken."""
        taken = cpus.taken(self.segment)
        more = max(FORKED_DEAD, taken // 8)
        if taken >= self._looks_at:
            if len(recovery.dead_slots(self.segment)) >= FORKED_DEAD:
                recovery.recover(self.segment, self.claim, self.engine.name)
            self._looks_at = cpus.taken(self.segment) + more
        self._looks_at = min(self._looks_at, taken + more)

    def after_fork_in_parent(self) -> None:
        """Leave the embryo to the child."""
        if self._embryo is not None:
            self.segment.leave_claim(self._embryo)
        if self._locked_for_fork:
            self._lock.release()

    def after_fork_in_child(self, told: bool) -> None:
        """Run as the embryo; without one, refuse every call."""
        if not told:
            self._embryo = None
        self._lock = threading.RLock()
        if self.segment.released:
            return
        self.segment.keep_claim(self._embryo)
        if self._embryo is None:
            self.segment.ram.end(
                "no claim was free for this process when it was forked, or no descriptor, or"
                " another fork was under way; attach to the segment"
            )
            return
        self.segment.ram.renew()
        if self._sites is not None:
            self._sites.renew()
        self._run_as(self._embryo)
        cpus.rename(self.segment, self.claim)
        self._become_child()

    def _copy_for_child(self, embryo: int) -> None:
        """Before a fork: give the claim ``embryo`` what the child inherits."""

    def _become_child(self) -> None:
        """After a fork, in the child: forget what is the parent's."""

    def check_open(self) -> None:
        if self.segment.closed:
            raise self.is_closed()

    def check_writable(self, asked: str) -> None:
        """Raise ``MisuseError`` for a request that changes the memory, if we may only read it."""
        if self.readonly:
            _refusing(self.name, asked)()

    def view(self, word: int, size: int) -> memoryview:
        """``size`` bytes from ``word`` on, writable unless the arena is read-only."""
        return self.segment.view(word, size, self.readonly)

    def check_stays(self) -> None:
        """Raise in a thread that waits if the arena is closed, or about to be.

        A daemon thread ends without a word when its process does.
        """
        if self._closing:
            if self._exiting and threading.current_thread().daemon:
                raise SystemExit
            raise self.is_closed()
        self.check_open()

    def is_closed(self) -> MisuseError:
        """The exception for any request to a closed segment."""
        return MisuseError(f"arena: {self.segment.name!r} is closed; attach to it again")

    def refused(self, result: int, asked: str, order: int = 0) -> ShmallocError:
        """The exception for a negative answer; ``asked`` names the request, for blocks of ``order``
        or something smaller."""
        if result == c.E_NOMEM:
            return OutOfMemoryError(f"{asked}: {why_none(self.segment, order)}")
        if result == c.E_STATE:
            violation = reports_of(self.segment).last_of(self.claim)
            reason = str(violation or "the page or object is in no such state")
            return CorruptionError(f"{asked}: refused, nothing changed: {reason}", violation)
        reasons = {
            c.E_BUSY: "a page of it is in use, or it is already isolated; free it first",
            c.E_INVAL: "not possible in this geometry; see describe() and the arena's geometry",
            c.E_AGAIN: "other CPUs won every race; try again",
            c.E_STOPPED: "the segment is shutting down",
        }
        return MisuseError(f"{asked}: {reasons.get(result, f'answered {result}')}")

    def check_int(self, argument: str, value: SupportsIndex, first: int, last: int) -> int:
        """``value`` as an int in ``first..last``, else ``MisuseError`` with the range.

        Accepts anything that Python accepts as an index, numpy's ints among them, but no bool: that
        is a mistake more often than a number.
        """
        return checked_int(argument, value, first, last)

    def check_ints(self, argument: str, values: Iterable[SupportsIndex]) -> list[int]:
        """A list of pfns or addresses, each as ``checked_place`` takes it."""
        if not isinstance(values, Iterable) or isinstance(values, str | bytes):
            raise MisuseError(f"{argument}: {shown(values)}; use a list of them")
        return [
            value
            if type(value) is int and -MOST_PLACE <= value <= MOST_PLACE
            else checked_place(argument, value)
            for value in values
        ]

    def check_pfn(self, pfn: SupportsIndex, argument: str = "pfn") -> int:
        return self.check_int(argument, pfn, 0, self.segment.geometry.pages - 1)

"""``Bound``: one process's hold on a segment: which CPU slot it runs as, on which engine.

The faces (pages, objects, arrays) are built on its three services: ``run`` a kernel, turn its
negative answer into an exception, and check arguments before a kernel sees them. Kernels take any
int64; what the faces let through can only be refused by the allocator's state, never crash it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from types import FunctionType
from typing import Any, cast

from shmalloc import constants as c
from shmalloc import cpus, recovery
from shmalloc.engine import Engine, get_engine, when_waiting_long
from shmalloc.errors import CorruptionError, MisuseError, OutOfMemoryError, ShmallocError
from shmalloc.recovery import Rescuer
from shmalloc.reports import last_violation
from shmalloc.segment import Segment

OWNER_LIMIT = 1 << 62


class Bound:
    """A segment, the CPU slot claimed in it, and the engine that runs kernels over it."""

    def __init__(self, segment: Segment, cpu: int | None = None, engine: str = "native") -> None:
        self.segment = segment
        self.engine: Engine = get_engine(engine)
        self.cpu = cpus.claim(segment, cpu, engine)
        self._rescuer = Rescuer(segment, self.cpu, engine)
        when_waiting_long(segment.ram, self._rescuer)
        self._pid = os.getpid()
        self._lock = threading.RLock()

    @property
    def name(self) -> str:
        """Name of the segment: what another process attaches to."""
        return self.segment.name

    @property
    def closed(self) -> bool:
        return self.segment.closed

    def run(self, kernel: Callable[..., Any], *arguments: int) -> int:
        """``kernel(mem, cpu, *arguments)`` on our slot. Raises ``MisuseError`` once closed."""
        self.check_open()
        run = self.engine.call
        result = run(cast(FunctionType, kernel), self.segment.ram, self.cpu, *arguments)
        if self._rescuer.found:  # it waited for a lock of a dead process
            self._rescuer.found = False
            recovery.recover(self.segment, self.cpu, self.engine.name)
        return result

    def check_open(self) -> None:
        if self.segment.closed:
            raise MisuseError(f"arena: {self.segment.name!r} is closed; attach to it again")

    def refused(self, result: int, asked: str) -> ShmallocError:
        """The exception for a negative answer; ``asked`` says what was asked for."""
        if result == c.E_NOMEM:
            cure = "free something, wait with wait_s, or create a larger arena"
            return OutOfMemoryError(f"{asked}: no free memory of that kind; {cure}")
        if result == c.E_STATE:
            violation = last_violation(self.segment, self.cpu)
            reason = violation.invariant if violation else "the page or object is in no such state"
            found = f" ({violation})" if violation else ""
            return CorruptionError(f"{asked}: refused: {reason}; nothing changed{found}", violation)
        reasons = {
            c.E_BUSY: "a page of it is in use, or it is already isolated; free it first",
            c.E_INVAL: "not possible in this geometry; see describe() and the arena's geometry",
            c.E_AGAIN: "others were faster again and again; try once more",
            c.E_STOPPED: "the segment is shutting down",
        }
        return MisuseError(f"{asked}: {reasons.get(result, f'answered {result}')}")

    def check_int(self, argument: str, value: int, first: int, last: int) -> int:
        """``value`` if it is an int in ``first..last``, else ``MisuseError`` with the range."""
        if isinstance(value, bool) or not isinstance(value, int) or not first <= value <= last:
            raise MisuseError(f"{argument}: {value!r}; use an int from {first} to {last}")
        return value

    def check_pfn(self, pfn: int, argument: str = "pfn") -> int:
        return self.check_int(argument, pfn, 0, self.segment.geometry.pages - 1)

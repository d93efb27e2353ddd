"""``Operation``: one call with its return; and ``Recorder``, which stamps calls made in Python.

A history is a sequence of operations, in any order. Stamps come from one clock that all clients
share. An operation took effect at some moment of the *closed* interval [call, returned]: two
operations are ordered only if the stamp of one return is smaller than that of the other call. Equal
stamps order nothing. Why closed: with a coarse clock, a call just after a return may get the same
stamp as the return, and so may a call just before it. Treating the two as concurrent forgets an
order, so a wrong history may pass; guessing an order would condemn right histories. A counter that
advances with every stamp has no equal ones.

Rule for stamps: take that of the call before the operation has any effect, and that of the return
after its last effect.
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any


class _Any:
    """Equals everything: the result of an operation without a result yet."""

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False

    def __hash__(self) -> int:
        return 0

    def __repr__(self) -> str:
        return "?"


ANY: Any = _Any()


@dataclass(frozen=True, slots=True)
class Operation:
    """What a client called, what it got, and the stamps of both.

    ``returned`` None: pending. The client died, or the history ended, so the operation may have
    taken effect at any moment after its call, or never. Its ``result`` is ``ANY``, which equals
    everything, so a model that compares results with ``==`` needs no change for it. ``key``: the
    object that it was called on, of several independent ones (``by_key``, ``keyed``).
    """

    client: Hashable
    name: str
    argument: Any
    result: Any
    call: float
    returned: float | None
    key: Hashable = None

    def __post_init__(self) -> None:
        if self.returned is None:
            object.__setattr__(self, "result", ANY)

    @property
    def pending(self) -> bool:
        return self.returned is None

    def __str__(self) -> str:
        where = "" if self.key is None else f"[{self.key}] "
        argument = "" if self.argument is None else str(self.argument)
        outcome = "pending" if self.pending else repr(self.result)
        return f"{where}{self.name}({argument}) -> {outcome}"


@dataclass
class Ticket:
    """An operation in progress: set ``result`` before the block ends."""

    result: Any = None


@dataclass
class Recorder:
    """Stamps operations of threads of one process::

        with recorder.operation(client, "put", 3) as ticket:
            ticket.result = queue.put(3)

    An operation that raises stays pending: its effect is unknown. Threads share one
    recorder; its counter is advanced by one bytecode of C, and appending to a list is atomic.
    """

    _clock: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    _returned: list[Operation] = field(default_factory=list)
    _under_way: dict[int, Operation] = field(default_factory=dict)

    @contextmanager
    def operation(
        self, client: Hashable, name: str, argument: Any = None, key: Hashable = None
    ) -> Iterator[Ticket]:
        """Record one operation around the code that performs it."""
        ticket = Ticket()
        call = next(self._clock)
        self._under_way[call] = Operation(client, name, argument, ANY, call, None, key)
        yield ticket
        returned = next(self._clock)
        done = Operation(client, name, argument, ticket.result, call, returned, key)
        # Both for a moment rather than neither: history() sorts it out.
        self._returned.append(done)
        del self._under_way[call]

    def history(self) -> list[Operation]:
        """The operations so far; those that have not returned are pending."""
        pending = dict(self._under_way)
        known = {operation.call: operation for operation in list(self._returned)}
        return sorted((pending | known).values(), key=lambda operation: operation.call)

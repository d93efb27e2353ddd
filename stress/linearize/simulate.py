"""Simulated histories: clients overlap at random on an object that is atomic by construction.

For tests of models and for benchmarks: every history of ``simulate`` is linearizable, because each
operation takes effect in one piece between its call and its return. ``hand_out_twice`` breaks a
history of the allocator by changing a single address.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from shmalloc.errors import MisuseError
from stress.linearize.history import ANY, Operation


class Intent(NamedTuple):
    """What a client is about to do; ``perform`` does it at once and returns the result."""

    name: str
    argument: Any
    perform: Callable[[], Any]
    key: Any = None


@dataclass
class _Client:
    name: int
    intent: Intent | None = None
    call: int = 0
    performed: bool = False
    result: Any = None


def simulate(
    begin: Callable[[int], Intent],
    clients: int,
    operations: int,
    rng: random.Random,
    death: float = 0.0,
) -> list[Operation]:
    """A history of ``operations`` operations, the last ones of which may be pending.

    ``begin(client)``: the next action of that client. ``death``: chance that it dies at a step of
    its operation, before or after the effect; another client takes its place.
    """
    names = itertools.count()
    crew = [_Client(next(names)) for _ in range(clients)]
    history: list[Operation] = []
    begun = clock = 0
    while len(history) < operations:
        place = rng.randrange(clients)
        client = crew[place]
        if client.intent is None:
            if begun < operations:
                begun, clock = begun + 1, clock + 1
                client.intent, client.call, client.performed = begin(client.name), clock, False
        elif rng.random() < death:
            history.append(_operation(client, None))
            crew[place] = _Client(next(names))
        elif not client.performed:
            client.performed, client.result = True, client.intent.perform()
        else:
            clock += 1
            history.append(_operation(client, clock))
            client.intent = None
    return history


def _operation(client: _Client, returned: int | None) -> Operation:
    assert client.intent is not None
    name, argument, _, key = client.intent
    result = ANY if returned is None else client.result
    return Operation(client.name, name, argument, result, client.call, returned, key)


@dataclass
class Pages:
    """An atomic page allocator that places blocks at random, and clients that use it.

    ``hold``: about how many blocks each client keeps. Other clients free the blocks of the dead;
    the simulation tells them which these are.
    """

    pages: int
    max_order: int
    rng: random.Random
    hold: int = 8
    live: dict[int, int] = field(default_factory=dict)
    held: dict[int, list[tuple[int, int]]] = field(default_factory=dict)

    def begin(self, client: int) -> Intent:
        mine = self.held.setdefault(client, [])
        if mine and self.rng.random() < len(mine) / (2 * self.hold):
            block = mine.pop(self.rng.randrange(len(mine)))
            return Intent("free", block, lambda: self._free(block))
        order = self.rng.randrange(self.max_order + 1)
        return Intent("alloc", order, lambda: self._alloc(order, mine))

    def reap(self, client: int) -> None:
        """Let another client free what ``client`` holds."""
        blocks = self.held.pop(client, [])
        self.held.setdefault(self.rng.choice(list(self.held)), []).extend(blocks)

    def _alloc(self, order: int, mine: list[tuple[int, int]]) -> int | None:
        for _ in range(64):
            pfn = self.rng.randrange(self.pages >> order) << order
            if not any(overlap((pfn, order), block) for block in self.live.items()):
                self.live[pfn] = order
                mine.append((pfn, order))
                return pfn
        return None

    def _free(self, block: tuple[int, int]) -> bool:
        return self.live.pop(block[0], None) == block[1]


def overlap(one: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether two extents (pfn, order) share a page."""
    larger = max(one[1], other[1])
    return one[0] >> larger == other[0] >> larger


def hand_out_twice(history: Sequence[Operation], rng: random.Random) -> list[Operation]:
    """``history`` with one alloc changed to return a block that another client holds meanwhile.

    The free of the original block is changed as well, so that each client's view is plausible.
    Raises ``MisuseError`` if no block is held while another of its order is allocated.
    """
    victim, twice = _double(history, rng)
    given = (victim.result, victim.argument)
    changed = []
    for one in history:
        if one is victim:
            one = replace(one, result=twice)
        elif one.name == "free" and one.argument == given and one.client == victim.client:
            if one.call > victim.call:
                one = replace(one, argument=(twice, given[1]))
        changed.append(one)
    return changed


def _double(history: Sequence[Operation], rng: random.Random) -> tuple[Operation, int]:
    """An alloc, and the pfn that another client holds while it runs."""
    allocs = [one for one in history if one.name == "alloc" and _succeeded(one)]
    for victim in rng.sample(allocs, len(allocs)):
        holders = [one for one in allocs if _holds_throughout(one, victim, history)]
        if holders:
            return victim, rng.choice(holders).result
    raise MisuseError(
        f"history: {len(history)} operations hold no block for long; use a longer one"
    )


def _succeeded(operation: Operation) -> bool:
    return not operation.pending and operation.result is not None


def _holds_throughout(one: Operation, victim: Operation, history: Sequence[Operation]) -> bool:
    """Whether alloc ``one``, of the same order, holds its block all through ``victim``.

    A free that overlaps ``one`` may be of that very block: a free does not name its allocation.
    """
    assert victim.returned is not None
    assert one.returned is not None
    if one.argument != victim.argument or one.returned >= victim.call:
        return False
    block = (one.result, one.argument)
    return not any(
        other.name == "free"
        and other.argument == block
        and other.call <= victim.returned
        and (other.returned is None or other.returned >= one.call)
        for other in history
    )

"""The model of a page allocator: its state is the set of live extents; it may choose any address.

Operations: ``alloc(order) -> pfn``, or None for a failure; ``free((pfn, order)) -> True``, or False
for a refused free. The rules:

- alloc -> pfn: aligned to its order, inside the memory, and no page of it is live
- alloc -> None: legal anywhere (``failures="allowed"``: spurious, counted by the check) or never.
  An allocator with per-CPU lists does not promise to fail only if nothing is free
- free -> True: exactly this extent is live. free -> False: it is not
- a pending free takes effect or not. A pending alloc: below

Why parts are sound. An extent of order <= max_order is aligned, so it lies in one block of
2**max_order pages, and the rules for it depend on the live extents of that block alone: the
allocator is a product of objects, one for each block, and linearizability is local to each (Herlihy
and Wing 1990). A failure concerns no block. If failures are "allowed", it changes nothing and is
legal in any state, hence at any moment of its interval, and is left out. If they are "never", it is
illegal whatever the other operations did, and is a part by itself. A contract between the two would
concern all blocks at once and could not be split.

A pending alloc of unknown pfn could be in any block. No guess is necessary. A client that died in
it never passed its pfn on, so only a free (of a reaper, say) can show that it took place. If it is
moved to the moment just before that free, the order of all others stays legal, because fewer
extents are live in between. So its effect here is a *credit*: one free of that order may name an
extent that no client received. Credits do not factor, but a block that has an order without them
needs none. So blocks are checked without the pending allocs; only those that fail, and that free a
block of such an order, are checked again, together and with all pending allocs (``rejoin``).

The live extents of a block are bits of one integer, numbered as a heap: 1 is the whole block, the
halves of node n are 2n and 2n + 1. An extent overlaps its ancestors and its subtree.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cache

from shmalloc.errors import MisuseError
from stress.linearize.history import Operation
from stress.linearize.model import Model, Parts
from stress.linearize.models import unknown

Live = tuple[tuple[int, int], ...]  # (block, bits of its live extents), blocks ascending
State = tuple[tuple[int, ...], Live]  # credits by order
FAILURES = ("allowed", "never")
FAILED = "failed allocs"


@cache
def overlapping(node: int, order: int) -> int:
    """Bits of all extents that share a page with the extent ``node``, itself included."""
    bits = 0
    ancestor = node >> 1
    while ancestor:
        bits |= 1 << ancestor
        ancestor >>= 1
    for depth in range(order + 1):
        bits |= ((1 << (1 << depth)) - 1) << (node << depth)
    return bits


def allocator(pages: int, max_order: int, failures: str = "allowed") -> Model:
    """The model of an allocator over pfns 0 to ``pages`` - 1."""
    if pages < 1 or max_order < 0:
        raise MisuseError(f"pages, max_order: {pages}, {max_order}; use pages >= 1, order >= 0")
    if failures not in FAILURES:
        raise MisuseError(f"failures: {failures!r}; use {' or '.join(FAILURES)}")
    rules = _Rules(pages, max_order, failures == "allowed")
    nothing: State = ((0,) * (max_order + 1), ())
    return Model(
        nothing,
        rules.step,
        rules.partition,
        describe,
        rules.describe_state,
        rules.rejoin,
        observes,
        by_client=False,
        name="allocator",
    )


def observes(operation: Operation) -> bool:
    """Failed allocs and refused frees."""
    if operation.name == "alloc":
        return not operation.pending and operation.result is None
    return not operation.result


@dataclass(frozen=True)
class _Rules:
    pages: int
    max_order: int
    may_fail: bool

    def step(self, state: State, operation: Operation) -> State | None:
        if operation.name == "alloc":
            if operation.pending:
                return self._credit(state, operation.argument)
            if operation.result is None:
                return state if self.may_fail else None
            return self._take(state, operation.result, operation.argument)
        if operation.name == "free":
            pfn, order = operation.argument
            if operation.result:
                return self._free(state, pfn, order)
            return state if not self._is_live(state, pfn, order) else None
        raise unknown(operation, "alloc, free")

    def _credit(self, state: State, order: int) -> State:
        credits, live = state
        if not 0 <= order <= self.max_order:
            return state
        return _changed(credits, order, 1), live

    def _take(self, state: State, pfn: int, order: int) -> State | None:
        if not self._is_extent(pfn, order):
            return None
        credits, live = state
        node = self._node(pfn, order)
        bits = _bits(live, pfn >> self.max_order)
        if bits & overlapping(node, order):
            return None
        return credits, _with(live, pfn >> self.max_order, bits | 1 << node)

    def _free(self, state: State, pfn: int, order: int) -> State | None:
        if not self._is_extent(pfn, order):
            return None
        credits, live = state
        node = self._node(pfn, order)
        bits = _bits(live, pfn >> self.max_order)
        if bits >> node & 1:
            return credits, _with(live, pfn >> self.max_order, bits ^ 1 << node)
        if credits[order] and not bits & overlapping(node, order):
            return _changed(credits, order, -1), live
        return None

    def _is_live(self, state: State, pfn: int, order: int) -> bool:
        if not self._is_extent(pfn, order):
            return False
        bits = _bits(state[1], pfn >> self.max_order)
        return bool(bits >> self._node(pfn, order) & 1)

    def _is_extent(self, pfn: int, order: int) -> bool:
        if not 0 <= order <= self.max_order or pfn & ((1 << order) - 1):
            return False
        return 0 <= pfn <= self.pages - (1 << order)

    def _node(self, pfn: int, order: int) -> int:
        inside = pfn & ((1 << self.max_order) - 1)
        return (1 << self.max_order | inside) >> order

    def partition(self, history: Sequence[Operation]) -> Parts:
        parts: dict[Hashable, list[Operation]] = {}
        for operation in history:
            label = self._part_of(operation)
            if label is not None:
                parts.setdefault(label, []).append(operation)
        return parts

    def _part_of(self, operation: Operation) -> str | None:
        if operation.name == "free":
            pfn = operation.argument[0]
        elif operation.name != "alloc":
            raise unknown(operation, "alloc, free")
        elif operation.pending:
            return None
        elif operation.result is None:
            return None if self.may_fail else FAILED
        else:
            pfn = operation.result
        first = pfn >> self.max_order << self.max_order
        return f"pfns {first} to {first + (1 << self.max_order) - 1}"

    def rejoin(
        self, history: Sequence[Operation], failed: Sequence[Hashable]
    ) -> list[Operation] | None:
        """The failed blocks with the pending allocs; None if one of the blocks cannot use any."""
        lost = [one for one in history if one.name == "alloc" and one.pending]
        orders = {operation.argument for operation in lost}
        parts = self.partition(history)
        for label in failed:
            frees = (one for one in parts[label] if one.name == "free" and one.result)
            if not any(operation.argument[1] in orders for operation in frees):
                return None
        return lost + [operation for label in failed for operation in parts[label]]

    def describe_state(self, state: State) -> str:
        """The live extents, and what pending allocs may hold."""
        credits, live = state
        extents = []
        for block, bits in live:
            for node in (n for n in range(bits.bit_length()) if bits >> n & 1):
                order = self.max_order + 1 - node.bit_length()
                pfn = (block << self.max_order) + (node << order) - (1 << self.max_order)
                extents.append((pfn, order))
        text = ", ".join(f"{pfn} (order {order})" for pfn, order in sorted(extents))
        owed = ", ".join(f"{n} of order {order}" for order, n in enumerate(credits) if n)
        suffix = f"; pending allocs that happened: {owed}" if owed else ""
        return f"live: {text or 'nothing'}{suffix}"


def _bits(live: Live, block: int) -> int:
    for at, bits in live:
        if at == block:
            return bits
    return 0


def _with(live: Live, block: int, bits: int) -> Live:
    """``live`` with other extents in ``block``; a block without extents has no entry."""
    if len(live) == 1 and live[0][0] == block:
        return ((block, bits),) if bits else ()
    others = [pair for pair in live if pair[0] != block]
    if bits:
        others.append((block, bits))
    return tuple(sorted(others))


def _changed(credits: tuple[int, ...], order: int, by: int) -> tuple[int, ...]:
    return (*credits[:order], credits[order] + by, *credits[order + 1 :])


def describe(operation: Operation) -> str:
    if operation.name == "alloc":
        asked = f"alloc order {operation.argument}"
        if operation.pending:
            return f"{asked} pending"
        return f"{asked} -> {'failed' if operation.result is None else operation.result}"
    pfn, order = operation.argument
    outcome = " pending" if operation.pending else "" if operation.result else " refused"
    return f"free {pfn} order {order}{outcome}"

"""Models of the usual objects. Each docstring has the names and results of the operations.

Each is a function that makes the model, so that the caller can choose the first state; ``keyed`` of
model.py makes many objects of one.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import Any

from shmalloc.errors import MisuseError
from stress.linearize.history import Operation
from stress.linearize.model import Model, Parts

EMPTY = "empty"  # what a dequeue or a pop returns if it finds nothing


def unknown(operation: Operation, known: str) -> MisuseError:
    return MisuseError(f"operation: {operation.name!r} is none of this model; use {known}")


def register(initial: Any = 0) -> Model:
    """``read() -> value``, ``write(value)``, ``cas((old, new)) -> bool``, ``add(n) -> before``.

    None is no value.
    """

    def step(value: Any, operation: Operation) -> Any:
        name, argument, result = operation.name, operation.argument, operation.result
        if name == "read":
            return value if result == value else None
        if name == "write":
            return argument
        if name == "cas":
            old, new = argument
            if result != (value == old):
                return None
            return new if value == old else value
        if name == "add":
            return value + argument if result == value else None
        raise unknown(operation, "read, write, cas, add")

    return Model(initial, step, observes=_reads, by_client=False, name="register")


def queue(items: Iterable[Any] = ()) -> Model:
    """First in, first out: ``enqueue(item)``, ``dequeue() -> item`` or ``EMPTY``."""

    def step(state: tuple[Any, ...], operation: Operation) -> tuple[Any, ...] | None:
        if operation.name == "enqueue":
            return (*state, operation.argument)
        if operation.name == "dequeue":
            if not state:
                return state if operation.result == EMPTY else None
            return state[1:] if operation.result == state[0] else None
        raise unknown(operation, "enqueue, dequeue")

    return Model(tuple(items), step, observes=_finds_nothing, by_client=False, name="queue")


def stack(items: Iterable[Any] = ()) -> Model:
    """Last in, first out: ``push(item)``, ``pop() -> item`` or ``EMPTY``."""

    def step(state: tuple[Any, ...], operation: Operation) -> tuple[Any, ...] | None:
        if operation.name == "push":
            return (*state, operation.argument)
        if operation.name == "pop":
            if not state:
                return state if operation.result == EMPTY else None
            return state[:-1] if operation.result == state[-1] else None
        raise unknown(operation, "push, pop")

    return Model(tuple(items), step, observes=_finds_nothing, by_client=False, name="stack")


def hash_set(items: Iterable[Hashable] = ()) -> Model:
    """``add(x) -> was new``, ``remove(x) -> was there``, ``contains(x) -> bool``.

    Every operation concerns only the element that it names, so each element is a part.
    """

    def step(state: frozenset[Any], operation: Operation) -> frozenset[Any] | None:
        element = operation.argument
        there = element in state
        if operation.name == "add":
            return state | {element} if operation.result == (not there) else None
        if operation.name == "remove":
            return state - {element} if operation.result == there else None
        if operation.name == "contains":
            return state if operation.result == there else None
        raise unknown(operation, "add, remove, contains")

    def by_element(history: Sequence[Operation]) -> Parts:
        parts: dict[Hashable, list[Operation]] = {}
        for operation in history:
            parts.setdefault(operation.argument, []).append(operation)
        return parts

    return Model(
        frozenset(items), step, by_element, observes=_changes_nothing, by_client=False, name="set"
    )


def lock() -> Model:
    """``acquire()``, ``try_acquire() -> bool``, ``release()``; the state is the holder.

    A try may fail only while a client holds the lock. Only the holder may release.
    """

    def step(holder: tuple[Hashable, ...], operation: Operation) -> tuple[Hashable, ...] | None:
        client = (operation.client,)
        if operation.name == "acquire":
            return None if holder else client
        if operation.name == "try_acquire":
            if operation.result == (not holder):
                return holder or client
            return None
        if operation.name == "release":
            return () if holder == client else None
        raise unknown(operation, "acquire, try_acquire, release")

    def describe(holder: tuple[Hashable, ...]) -> str:
        return f"held by {holder[0]}" if holder else "free"

    return Model((), step, describe_state=describe, observes=_fails, name="lock")


# Operations that leave every state unchanged. A pending one never counts: its result is open.
def _reads(operation: Operation) -> bool:
    if operation.name == "cas":
        return not operation.result
    return operation.name == "read"


def _finds_nothing(operation: Operation) -> bool:
    return not operation.pending and operation.result == EMPTY


def _changes_nothing(operation: Operation) -> bool:
    return operation.name == "contains" or not operation.result


def _fails(operation: Operation) -> bool:
    return operation.name == "try_acquire" and not operation.result

"""What a plan compiles: every instance that its entries reach, before any of it is written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from types import FunctionType

from shmalloc.compiler.check import walk_calls
from shmalloc.compiler.instances import Instance
from shmalloc.compiler.kinds import Kind
from shmalloc.dialect import is_kernel


def reached(entries: Iterable[Instance]) -> list[Instance]:
    """``entries`` and all instances that they call, each once, in a stable order.

    What the meaning of a word calls (hooks) is not in it: each module has that for itself.
    Raises ``DialectError`` for the first kernel that is not in the dialect.
    """
    found: dict[Instance, None] = {}
    todo = list(entries)
    while todo:
        current = todo.pop()
        if current not in found:
            found[current] = None
            todo += _called(current)
    return list(found)


def _called(instance: Instance) -> Iterator[Instance]:
    for call in walk_calls(instance.form.tree):
        callee: object = call.callee  # type: ignore[attr-defined]
        if isinstance(callee, FunctionType) and is_kernel(callee):
            first = call.args[0].type if call.args else None  # type: ignore[attr-defined]
            if isinstance(first, Kind):
                yield Instance(callee, first, True)
            else:
                yield Instance(callee, instance.kind, False)

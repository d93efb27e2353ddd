"""The words of a hooked memory: each access of ``Ram``, with something before it and after it.

Every word that touches memory, orders it or waits becomes::

    before(mem, op, i, a)      op: an OP_* of ops.py; a: the first operand, 0 if there is none
    ... the access, as ``bare`` spells it ...
    after(mem, op, i, value)   value as in an event (ops.py)

``hooked_methods`` makes functions of these, for interpreted memories; ``hooked_meanings`` makes
emitters, for the kind of a compiled one. There ``before`` and ``after`` are kernels over that kind;
mark them ``@inlined``, since their code is at every access. An access that faults has no after.

``fixed``, ``mark``, ``now``, ``notice`` and ``light_fence`` are not hooked: they are never a
scheduling point.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from shmalloc.compiler.code import Code
from shmalloc.compiler.kinds import Emitter, Kind, Meaning, Registers
from shmalloc.dialect import Kernel
from shmalloc.engine import ops

Method = Callable[..., Any]

PAIRS = {"cas": ops.OP_CAS, "cas2": ops.OP_CAS2, "load2": ops.OP_LOAD2}
HOOKED = ops.READS | ops.WRITES | ops.UPDATES | ops.BARRIERS | ops.SLEEPS | ops.ORDERINGS | PAIRS


# --- compiled ------------------------------------------------------------------------------------
def hooked_meanings(
    kind: Kind, before: Kernel, after: Kernel, bare: Mapping[str, Emitter]
) -> dict[str, Meaning]:
    """Meanings of a hooked kind: each word of ``bare``, wrapped in ``before`` and ``after``."""
    made: dict[str, Meaning] = dict(bare)
    for name, op in HOOKED.items():
        made[name] = _hooked(kind, name, op, before, after, bare[name])
    return made


def _hooked(
    kind: Kind, name: str, op: int, before: Kernel, after: Kernel, access: Emitter
) -> Emitter:
    def emit(code: Code, memory: Registers, arguments: list[str]) -> Any:
        at, *operands = arguments or ["0"]
        first = operands[0] if operands else "0"
        _call(code, kind, before, memory, [str(op), at, first])
        found = access(code, memory, arguments)
        value = first if name in ops.WRITES else _first(found)
        _call(code, kind, after, memory, [str(op), at, value])
        return found

    return emit


def _first(found: Any) -> str:
    """The value of an access: its only one, the first of a pair, 0 if it gave none."""
    if found is None:
        return "0"
    first: str = found[0] if isinstance(found, list) else found
    return first


def _call(code: Code, kind: Kind, hook: Kernel, memory: Registers, numbers: list[str]) -> None:
    code.module.call(code, code.module.instance(hook, kind, True), memory, numbers)


# --- interpreted ---------------------------------------------------------------------------------
def hooked_methods(before: Method, after: Method, bare: Mapping[str, Method]) -> dict[str, Method]:
    """Every word of ``HOOKED`` as ``bare`` spells it, wrapped into ``before`` and ``after``."""
    table: dict[str, Method] = {}
    for names, wrap in (
        (ops.READS, _read),
        (ops.WRITES, _write),
        (ops.UPDATES, _update),
        (ops.BARRIERS, _barrier),
        (ops.SLEEPS, _sleep),
        (ops.ORDERINGS, _ordering),
    ):
        for name, op in names.items():
            table[name] = wrap(op, bare[name], before, after)
    table["cas"] = _cas(bare["cas"], before, after)
    table["cas2"] = _cas2(bare["cas2"], before, after)
    table["load2"] = _load2(bare["load2"], before, after)
    return table


def _read(op: int, access: Method, before: Method, after: Method) -> Method:
    def read(mem: Any, i: int) -> Any:
        before(mem, op, i, 0)
        value = access(mem, i)
        after(mem, op, i, value)
        return value

    return read


def _write(op: int, access: Method, before: Method, after: Method) -> Method:
    def write(mem: Any, i: int, value: int) -> None:
        before(mem, op, i, value)
        access(mem, i, value)
        after(mem, op, i, value)

    return write


def _update(op: int, access: Method, before: Method, after: Method) -> Method:
    def update(mem: Any, i: int, value: int) -> Any:
        before(mem, op, i, value)
        found = access(mem, i, value)
        after(mem, op, i, found)
        return found

    return update


def _sleep(op: int, access: Method, before: Method, after: Method) -> Method:
    def sleep(mem: Any, i: int, value: int) -> None:
        before(mem, op, i, value)
        access(mem, i, value)
        after(mem, op, i, 0)

    return sleep


def _barrier(op: int, access: Method, before: Method, after: Method) -> Method:
    def barrier(mem: Any, i: int) -> None:
        before(mem, op, i, 0)
        access(mem, i)
        after(mem, op, i, 0)

    return barrier


def _ordering(op: int, access: Method, before: Method, after: Method) -> Method:
    def order(mem: Any) -> None:
        before(mem, op, 0, 0)
        access(mem)
        after(mem, op, 0, 0)

    return order


def _cas(access: Method, before: Method, after: Method) -> Method:
    def cas(mem: Any, i: int, old: int, new: int) -> Any:
        before(mem, ops.OP_CAS, i, old)
        swapped = access(mem, i, old, new)
        after(mem, ops.OP_CAS, i, int(swapped))
        return swapped

    return cas


def _cas2(access: Method, before: Method, after: Method) -> Method:
    def cas2(mem: Any, i: int, old0: int, old1: int, new0: int, new1: int) -> Any:
        before(mem, ops.OP_CAS2, i, old0)
        swapped = access(mem, i, old0, old1, new0, new1)
        after(mem, ops.OP_CAS2, i, int(swapped))
        return swapped

    return cas2


def _load2(access: Method, before: Method, after: Method) -> Method:
    def load2(mem: Any, i: int) -> Any:
        before(mem, ops.OP_LOAD2, i, 0)
        pair = access(mem, i)
        after(mem, ops.OP_LOAD2, i, pair[0])
        return pair

    return load2

"""The words of a hooked memory: each access of ``Ram``, with something before it and after it.

``hooked(before, after, bare)`` returns the table of implementations (lowering.py) in which every
word that touches memory, orders it or waits calls::

    before(mem, op, i, a)      op: an OP_* of ops.py; a: the first operand, 0 where there is none
    ... the access, as ``bare`` spells it ...
    after(mem, op, i, value)   value as in an event (ops.py)

Both are functions that numba can compile. ``fixed``, ``mark`` and ``now`` are not hooked: they are
never a scheduling point. A memory that needs another meaning for one word (a store buffer, a
clock) passes its own ``bare`` table or replaces entries of the result.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba.extending import register_jitable

from shmalloc.engine import ops
from shmalloc.engine.lowering import BARE

Lowering = Callable[..., Any]
Table = dict[str, Lowering]

READS = {
    "getitem": ops.OP_READ, "load": ops.OP_LOAD, "load_relaxed": ops.OP_LOAD_RELAXED,
}  # fmt: skip
WRITES = {
    "setitem": ops.OP_WRITE, "store": ops.OP_STORE, "store_relaxed": ops.OP_STORE_RELAXED,
}  # fmt: skip
UPDATES = {
    "exchange": ops.OP_EXCHANGE, "fetch_add": ops.OP_FETCH_ADD, "fetch_or": ops.OP_FETCH_OR,
    "fetch_and": ops.OP_FETCH_AND,
}  # fmt: skip
SLEEPS = {"wait": ops.OP_WAIT, "wake": ops.OP_WAKE}
ORDERINGS = {"fence": ops.OP_FENCE, "relax": ops.OP_RELAX, "give_way": ops.OP_RELAX}
UNHOOKED = ("fixed", "mark", "now", "notice")


def hooked(before: Lowering, after: Lowering, bare: Table = BARE) -> Table:
    """Every word of ``bare`` wrapped into ``before`` and ``after``."""
    register_jitable(before)
    register_jitable(after)
    table = {name: bare[name] for name in UNHOOKED}
    for names, wrap in (
        (READS, _read), (WRITES, _write), (UPDATES, _update), (SLEEPS, _sleep),
        (ORDERINGS, _ordering),
    ):  # fmt: skip
        for name, op in names.items():
            table[name] = wrap(op, register_jitable(bare[name]), before, after)
    table["cas"] = _cas(register_jitable(bare["cas"]), before, after)
    table["cas2"] = _cas2(register_jitable(bare["cas2"]), before, after)
    table["load2"] = _load2(register_jitable(bare["load2"]), before, after)
    return table


def _read(op: int, access: Lowering, before: Lowering, after: Lowering) -> Lowering:
    def read(mem, i):
        before(mem, op, i, 0)
        value = access(mem, i)
        after(mem, op, i, value)
        return value

    return read


def _write(op: int, access: Lowering, before: Lowering, after: Lowering) -> Lowering:
    def write(mem, i, value):
        before(mem, op, i, value)
        access(mem, i, value)
        after(mem, op, i, value)

    return write


def _update(op: int, access: Lowering, before: Lowering, after: Lowering) -> Lowering:
    def update(mem, i, value):
        before(mem, op, i, value)
        found = access(mem, i, value)
        after(mem, op, i, found)
        return found

    return update


def _sleep(op: int, access: Lowering, before: Lowering, after: Lowering) -> Lowering:
    def sleep(mem, i, value):
        before(mem, op, i, value)
        access(mem, i, value)
        after(mem, op, i, 0)

    return sleep


def _ordering(op: int, access: Lowering, before: Lowering, after: Lowering) -> Lowering:
    def order(mem):
        before(mem, op, 0, 0)
        access(mem)
        after(mem, op, 0, 0)

    return order


def _cas(access: Lowering, before: Lowering, after: Lowering) -> Lowering:
    def cas(mem, i, old, new):
        before(mem, ops.OP_CAS, i, old)
        swapped = access(mem, i, old, new)
        after(mem, ops.OP_CAS, i, int(swapped))
        return swapped

    return cas


def _cas2(access: Lowering, before: Lowering, after: Lowering) -> Lowering:
    def cas2(mem, i, old0, old1, new0, new1):
        before(mem, ops.OP_CAS2, i, old0)
        swapped = access(mem, i, old0, old1, new0, new1)
        after(mem, ops.OP_CAS2, i, int(swapped))
        return swapped

    return cas2


def _load2(access: Lowering, before: Lowering, after: Lowering) -> Lowering:
    def load2(mem, i):
        before(mem, ops.OP_LOAD2, i, 0)
        pair = access(mem, i)
        after(mem, ops.OP_LOAD2, i, pair[0])
        return pair

    return load2

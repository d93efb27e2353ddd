"""The seam, compiled: what each word means for each memory type.

One overload for every word asks the *type* of ``mem`` for its implementation. ``Ram`` maps words
to bare instructions. A hooked memory (the model, jitter) wraps each of them: ``before`` runs
ahead of the access and ``after`` sees its value; ``hooked`` builds all of them from these two.
"""

from __future__ import annotations

import operator
import platform
from collections.abc import Callable

from numba import types
from numba.extending import NativeValue, overload, register_jitable, typeof_impl, unbox
from numba.core import cgutils

from shmalloc import words
from shmalloc.engine import atomics, notice
from shmalloc.engine.atomics import (
    MemoryType, raw_address, raw_cas, raw_cas2, raw_cycles, raw_exchange, raw_fence, raw_fetch_add,
    raw_fetch_and, raw_fetch_or, raw_fixed, raw_load, raw_load2, raw_load_relaxed, raw_mark,
    raw_pause, raw_read, raw_side, raw_store, raw_store_relaxed, raw_tick, raw_write,
    register_memory_model,
)  # fmt: skip
from shmalloc.engine.notice import NOTICE_EVERY
from shmalloc.memory import Ram

FUTEX = 98 if platform.machine() == "aarch64" else 202
FUTEX_WAIT, FUTEX_WAKE = 0, 1
SIDE_TIMESPEC_BYTES = 32
LOW_HALF = 0xFFFFFFFF

_int64s = [types.int64] * 7
_syscall = types.ExternalFunction("syscall", types.int64(*_int64s))
_notice = types.ExternalFunction(notice.SYMBOL, types.void(types.int64, types.int64))
_sched_yield = types.ExternalFunction("sched_yield", types.int32())


@register_jitable
def futex_wait(mem, i, old):
    timeout = raw_side(mem) + SIDE_TIMESPEC_BYTES
    failed = _syscall(FUTEX, raw_address(mem, i), FUTEX_WAIT, old & LOW_HALF, timeout, 0, 0)
    if failed != 0 and raw_load_relaxed(mem, i) == old:  # the time is over
        _notice(raw_side(mem), i)


@register_jitable
def futex_wake(mem, i, count):
    _syscall(FUTEX, raw_address(mem, i), FUTEX_WAKE, count, 0, 0, 0)


@register_jitable
def notice_sometimes(mem, i):
    if raw_tick(mem) % NOTICE_EVERY == 0:
        _notice(raw_side(mem), i)


@register_jitable
def yield_processor(mem):
    _sched_yield()


# fmt: off
BARE: dict[str, Callable] = {
    "getitem": lambda mem, i: raw_read(mem, i),
    "setitem": lambda mem, i, value: raw_write(mem, i, value),
    "load": lambda mem, i: raw_load(mem, i),
    "load_relaxed": lambda mem, i: raw_load_relaxed(mem, i),
    "store": lambda mem, i, value: raw_store(mem, i, value),
    "store_relaxed": lambda mem, i, value: raw_store_relaxed(mem, i, value),
    "cas": lambda mem, i, old, new: raw_cas(mem, i, old, new),
    "exchange": lambda mem, i, value: raw_exchange(mem, i, value),
    "fetch_add": lambda mem, i, delta: raw_fetch_add(mem, i, delta),
    "fetch_or": lambda mem, i, bits: raw_fetch_or(mem, i, bits),
    "fetch_and": lambda mem, i, bits: raw_fetch_and(mem, i, bits),
    "cas2": lambda mem, i, old0, old1, new0, new1: raw_cas2(mem, i, old0, old1, new0, new1),
    "load2": lambda mem, i: raw_load2(mem, i),
    "fence": lambda mem: raw_fence(mem),
    "relax": lambda mem: raw_pause(mem),
    "give_way": lambda mem: yield_processor(mem),
    "wait": lambda mem, i, old: futex_wait(mem, i, old),
    "wake": lambda mem, i, count: futex_wake(mem, i, count),
    "notice": lambda mem, i: notice_sometimes(mem, i),
    "fixed": lambda mem, i: raw_fixed(mem, i),
    "mark": lambda mem, i: raw_mark(mem, i),
    "now": lambda mem: raw_cycles(mem),
}
# fmt: on


class RamType(MemoryType):
    """The segment itself: every word is the CPU's own instruction."""

    implementations = BARE

    def __init__(self) -> None:
        super().__init__(name="Ram")


RAM = RamType()


def bind_memory_class(python_class: type, numba_type: MemoryType, **attributes: str) -> None:
    """Let compiled code take a ``python_class`` object: struct field -> the attribute it holds."""

    @typeof_impl.register(python_class)
    def typeof_memory(value, context):
        return numba_type

    @unbox(type(numba_type))
    def unbox_memory(fe_type, value, c):
        struct = cgutils.create_struct_proxy(fe_type)(c.context, c.builder)
        for name in fe_type.fields:
            attribute = c.pyapi.object_getattr_string(value, attributes[name])
            setattr(struct, name, c.unbox(types.intp, attribute).value)
            c.pyapi.decref(attribute)
        return NativeValue(struct._getvalue())


def _overload(target: Callable, name: str, arguments: int) -> None:
    """Route ``target`` to the implementation that the memory's type names."""

    def choose(mem):
        return mem.implementations[name] if isinstance(mem, MemoryType) else None

    by_count = {
        1: lambda mem: choose(mem),
        2: lambda mem, i: choose(mem),
        3: lambda mem, i, value: choose(mem),
        4: lambda mem, i, old, new: choose(mem),
        6: lambda mem, i, old0, old1, new0, new1: choose(mem),
    }
    overload(target, strict=False)(by_count[arguments])


def _install() -> None:
    for word in words.WORDS:
        _overload(word, word.__name__, word.__code__.co_argcount)
    _overload(operator.getitem, "getitem", 2)
    _overload(operator.setitem, "setitem", 3)
    register_memory_model(RamType)
    bind_memory_class(Ram, RAM, base="base", words="words", side="side")


_install()
__all__ = ["BARE", "RAM", "MemoryType", "RamType", "atomics", "bind_memory_class"]

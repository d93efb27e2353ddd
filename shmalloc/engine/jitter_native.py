"""``JitterRam``, compiled: its numba type, the primitives of jitter_state.py, and the engine.

The memory of kernels is a struct with one field more than that of ``Ram``, the address of the
state, which functions see as a ``Control`` memory. What is rare is a unit over it; counting
accesses and writes, and recording simple accesses, is inlined in kernels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

from shmalloc.engine import jitter_state
from shmalloc.engine.atomics import (
    I64, MemoryType, field, raw_cycles, raw_pause, register_memory_model,
)  # fmt: skip
from shmalloc.engine.fibers import peek
from shmalloc.engine.hooks import hooked
from shmalloc.engine.jitter import JitterRam, noting
from shmalloc.engine.jitter_state import PRIMITIVES, RING, UNITS, after, before, put
from shmalloc.engine.lowering import BARE, bind_memory_class
from shmalloc.engine.model_memory import CONTROL, ControlType, control_at, raw_base
from shmalloc.engine.native import Native, make_callable, unit_address

SIGKILL = 9
NAP_BYTES_AT = (jitter_state.TIMESPEC) << 3

_getpid = types.ExternalFunction("getpid", types.int32())
_kill = types.ExternalFunction("kill", types.int32(types.int32, types.int32))
_sched_yield = types.ExternalFunction("sched_yield", types.int32())
_nanosleep = types.ExternalFunction("nanosleep", types.int32(types.int64, types.int64))


@intrinsic
def state_address(typingctx, mem):
    def codegen(context, builder, signature, args):
        return field(context, builder, signature.args[0], args[0], "jitter")

    return types.int64(mem), codegen


@intrinsic
def place_number(typingctx, mem):
    """The number of this instruction among its copies: the assembler fills it in, after inlining.

    Has side effects, says the flag: else two of them would be made one.
    """

    def codegen(context, builder, signature, args):
        x86 = "x86" in builder.module.triple or "i386" in builder.module.triple
        assembly = "movl $$${:uid}, ${0:k}" if x86 else "mov $0, #${:uid}"
        return builder.asm(ir.FunctionType(I64, []), assembly, "=r", [], True)

    return types.int64(mem), codegen


# --- primitives ----------------------------------------------------------------------------------
def _state_of(mem):
    return control_at(state_address(mem))


def _place(mem):
    return place_number(mem)


def _peeked(mem, i):
    return peek(raw_base(mem) + (i << 3))


def _die(jitter):
    _kill(_getpid(), SIGKILL)  # to ourselves: it does not return to this code


def _spin(jitter, count):
    for _ in range(count):
        raw_pause(jitter)


def _yield_core(jitter):
    _sched_yield()


def _nap(jitter, ns):
    jitter[jitter_state.TIMESPEC] = 0
    jitter[jitter_state.TIMESPEC + 1] = ns
    _nanosleep(raw_base(jitter) + NAP_BYTES_AT, 0)


def _clock(jitter):
    return raw_cycles(jitter)


def _ring_of(jitter):
    return control_at(jitter[RING])


# --- the memory ----------------------------------------------------------------------------------
class JitterType(MemoryType):
    """The segment with hooks, as compiled kernels see it."""

    fields = ("base", "words", "side", "jitter")
    implementations: ClassVar[dict[str, Callable[..., Any]]] = hooked(before, after, noting(BARE))

    def __init__(self) -> None:
        super().__init__(name="Jitter")


make_callable(put, CONTROL)
JITTER = JitterType()


class JitterEngine(Native):
    """Kernels compiled over ``JitterRam``."""

    name = "jitter"

    def __init__(self) -> None:
        super().__init__(JITTER)
        for function in UNITS:  # what the code of every kernel names
            unit_address(function, CONTROL)


def _implement(primitive: Callable[..., Any], implementation: Callable[..., Any], over: type
               ) -> None:  # fmt: skip
    """Compiled over memories of the type ``over``, ``primitive`` means ``implementation``."""
    choose = {
        1: lambda mem: implementation if isinstance(mem, over) else None,
        2: lambda mem, k: implementation if isinstance(mem, over) else None,
        3: lambda mem, k, value: implementation if isinstance(mem, over) else None,
    }
    overload(primitive, strict=False)(choose[primitive.__code__.co_argcount])


def _install() -> None:
    register_memory_model(JitterType)
    bind_memory_class(JitterRam, JITTER, base="base", words="words", side="side", jitter="jitter")
    _implement(jitter_state.state_of, _state_of, JitterType)
    _implement(jitter_state.place, _place, JitterType)
    _implement(jitter_state.peeked, _peeked, JitterType)
    implementations = (_die, _spin, _yield_core, _nap, _clock, _ring_of)
    for primitive, implementation in zip(PRIMITIVES, implementations, strict=True):
        _implement(primitive, implementation, ControlType)


_install()

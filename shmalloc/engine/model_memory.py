"""The numba types of the native model: what a word means to threads, checks and the scheduler.

``NativeModel`` is the memory of threads: each word posts its access in the control block
(schedule.py), switches to the scheduler and performs the access when it is switched back to. Only
one fiber runs at a time, so accesses need no atomic instruction; the scheduler checked the bounds.
``Tracked`` is the memory of the check kernel: bare and unscheduled, but what it changes is
remembered and put back. ``Control`` is the scheduler's block.

A loop that makes no step (nothing but ``fixed``, ``mark``, ``now`` or arithmetic) cannot be
stopped: the dialect asks for bounded loops or ``relax``.

A memory model with store buffers replaces entries of PLAIN and drains them from the scheduler.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, register_jitable

from shmalloc.engine import ops
from shmalloc.engine import schedule as s
from shmalloc.engine.atomics import I64, MemoryType, field, raw_mark, register_memory_model
from shmalloc.engine.fibers import fiber_swap, peek, poke, swap_function
from shmalloc.engine.hooks import hooked
from shmalloc.engine.lowering import bind_memory_class

for _function in s.FUNCTIONS:
    register_jitable(_function)
remember = s.remember

# --- accesses of a memory that only one fiber touches at a time ----------------------------------


@intrinsic
def raw_base(typingctx, mem):
    """Address of word 0."""

    def codegen(context, builder, signature, args):
        return field(context, builder, signature.args[0], args[0], "base")

    return types.int64(mem), codegen


@intrinsic
def raw_words(typingctx, mem):
    def codegen(context, builder, signature, args):
        return field(context, builder, signature.args[0], args[0], "words")

    return types.int64(mem), codegen


@register_jitable
def get(mem, i):
    return peek(raw_base(mem) + (i << 3))


@register_jitable
def put(mem, i, value):
    poke(raw_base(mem) + (i << 3), value)


def plain_cas(mem, i, old, new):
    if get(mem, i) != old:
        return False
    put(mem, i, new)
    return True


def plain_cas2(mem, i, old0, old1, new0, new1):
    if get(mem, i) != old0 or get(mem, i + 1) != old1:
        return False
    put(mem, i, new0)
    put(mem, i + 1, new1)
    return True


def plain_load2(mem, i):
    return get(mem, i), get(mem, i + 1)


def plain_exchange(mem, i, value):
    found = get(mem, i)
    put(mem, i, value)
    return found


def plain_fetch_add(mem, i, delta):
    found = get(mem, i)
    put(mem, i, found + delta)
    return found


def plain_fetch_or(mem, i, bits):
    found = get(mem, i)
    put(mem, i, found | bits)
    return found


def plain_fetch_and(mem, i, bits):
    found = get(mem, i)
    put(mem, i, found & bits)
    return found


def nothing(mem):
    """The scheduler did all there is to do."""


def nothing_at(mem, i, value):
    """The scheduler put the fiber to sleep, or woke others."""


# --- the control block ---------------------------------------------------------------------------


class ControlType(MemoryType):
    """The scheduler's block. Its indices are the scheduler's own: unchecked."""

    fields = ("base",)
    implementations: ClassVar[dict[str, Callable[..., Any]]] = {
        "getitem": get,
        "setitem": put,
    }

    def __init__(self) -> None:
        super().__init__(name="Control")


CONTROL = ControlType()


def _at_control(
    codegen_base: Callable[..., Any], *argument: types.Type
) -> tuple[Any, Callable[..., Any]]:
    """An intrinsic body that makes a ``Control`` from the address that ``codegen_base`` yields."""

    def codegen(context, builder, signature, args):
        struct = cgutils.create_struct_proxy(CONTROL)(context, builder)
        struct.base = codegen_base(context, builder, signature, args)
        return struct._getvalue()

    return CONTROL(*argument), codegen


@intrinsic
def control_at(typingctx, address):
    """The block at a raw address."""
    return _at_control(lambda context, builder, signature, args: args[0], types.int64)


@intrinsic
def control_of(typingctx, mem):
    """The block that a model memory belongs to."""

    def base(context, builder, signature, args):
        return field(context, builder, signature.args[0], args[0], "ctl")

    return _at_control(base, mem)


# --- the memory of threads -----------------------------------------------------------------------


@intrinsic
def post(typingctx, ctl, op, i, a):
    """Post an access in the block and switch to the scheduler.

    One function that is never inlined: kernels have hundreds of accesses (inlined: 5 % slower).
    """

    def codegen(context, builder, signature, args):
        block = field(context, builder, signature.args[0], args[0], "base")
        builder.call(_post_function(builder.module), [block, *args[1:]])
        return context.get_dummy_value()

    return types.void(ctl, types.int64, types.int64, types.int64), codegen


def _post_function(module: ir.Module) -> ir.Function:
    if "model_post" in module.globals:
        return module.globals["model_post"]
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [I64] * 4), "model_post")
    function.linkage = "internal"
    function.attributes.add("noinline")
    builder = ir.IRBuilder(function.append_basic_block())
    block = builder.inttoptr(function.args[0], I64.as_pointer())
    cpu = builder.load(builder.gep(block, [I64(s.CURRENT)]))
    for array, value in zip((s.OP, s.AT, s.ARG), function.args[1:], strict=True):
        builder.store(value, builder.gep(block, [builder.add(cpu, I64(array))]))
    slot = builder.gep(block, [builder.add(cpu, I64(s.SP))])
    builder.call(swap_function(module), [slot, builder.load(builder.gep(block, [I64(s.HUB_SP)]))])
    builder.ret_void()
    return function


def before(mem, op, i, a):
    """Post the access and let the scheduler choose; back here, it is this CPU's step."""
    post(control_of(mem), op, i, a)


def after(mem, op, i, value):
    ctl = control_of(mem)
    ctl[s.VALUE + ctl[s.CURRENT]] = value


@register_jitable
def park(ctl, cpu):
    """Switch from the fiber of ``cpu`` to the scheduler."""
    fiber_swap(raw_base(ctl) + ((s.SP + cpu) << 3), ctl[s.HUB_SP])


@register_jitable
def require_inside(mem, op, i):
    """An access that is no step, outside of memory: post it, so that the scheduler sees it."""
    if i < 0 or i >= raw_words(mem):
        before(mem, op, i, 0)


def model_fixed(mem, i):
    require_inside(mem, ops.OP_FIXED, i)
    return get(mem, i)


def model_mark(mem, i):
    require_inside(mem, ops.OP_MARK, i)
    count = get(mem, i)
    remember(control_of(mem), i, count)
    put(mem, i, count + 1)


def model_now(mem):
    return control_of(mem)[s.STEPS]


PLAIN: dict[str, Callable[..., Any]] = {
    "getitem": get, "setitem": put, "load": get, "load_relaxed": get, "store": put,
    "store_relaxed": put, "cas": plain_cas, "cas2": plain_cas2, "load2": plain_load2,
    "exchange": plain_exchange, "fetch_add": plain_fetch_add, "fetch_or": plain_fetch_or,
    "fetch_and": plain_fetch_and, "fence": nothing, "relax": nothing, "give_way": nothing,
    "wait": nothing_at, "wake": nothing_at, "fixed": model_fixed, "mark": model_mark,
    "now": model_now,
}  # fmt: skip


class NativeModelType(MemoryType):
    """The memory of threads: every word is a step."""

    fields = ("base", "words", "side", "ctl")
    implementations: ClassVar[dict[str, Callable[..., Any]]] = hooked(before, after, PLAIN)

    def __init__(self) -> None:
        super().__init__(name="NativeModel")


NATIVE_MODEL = NativeModelType()

# --- the memory of the check kernel --------------------------------------------------------------


def track(mem, op, i, a):
    """Remember what a write is about to change. The bare access checks its own bounds."""
    if ops.FIRST_WRITE <= op <= ops.LAST_WRITE and 0 <= i < raw_words(mem):
        remember(control_of(mem), i, get(mem, i))
        if op == ops.OP_CAS2 and i & 1 == 0:
            remember(control_of(mem), i + 1, get(mem, i + 1))


def untracked(mem, op, i, value):
    """Nobody watches the check kernel's accesses."""


def tracked_mark(mem, i):
    track(mem, ops.OP_WRITE, i, 0)
    raw_mark(mem, i)


class TrackedType(MemoryType):
    """The memory of the check kernel: bare, but its writes are remembered."""

    fields = ("base", "words", "side", "ctl")
    implementations: ClassVar[dict[str, Callable[..., Any]]] = hooked(track, untracked) | {
        "mark": tracked_mark,
        "now": model_now,
        "relax": nothing,
        "give_way": nothing,
        "wait": nothing_at,
        "wake": nothing_at,
    }

    def __init__(self) -> None:
        super().__init__(name="Tracked")


TRACKED = TrackedType()


def _install() -> None:
    for memory_type in (ControlType, NativeModelType, TrackedType):
        register_memory_model(memory_type)
    for model_type in (NATIVE_MODEL, TRACKED):  # numba wants to know, though Python passes none
        bind_memory_class(
            type(f"{model_type.name}Value", (), {}), model_type,
            base="base", words="words", side="side", ctl="ctl",
        )  # fmt: skip


_install()

"""The numba types of the native model: what a word means to threads, checks and the scheduler.

``NativeModel`` is the memory of threads: each word posts its access in the control block
(block.py), switches to the scheduler, which performs it, and returns the value that it left.
``Tracked`` is the memory of check and invariant kernels: bare and unscheduled, but what they
change is remembered and put back. ``Control`` is the scheduler's block.

A loop that makes no step (nothing but ``fixed``, ``mark``, ``now`` or arithmetic) cannot be
stopped: the dialect asks for bounded loops or ``relax``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, register_jitable

from shmalloc.engine import block as s
from shmalloc.engine import ops
from shmalloc.engine.atomics import I64, MemoryType, field, raw_mark, register_memory_model
from shmalloc.engine.effects import remember
from shmalloc.engine.fibers import fiber_swap, peek, poke, swap_function
from shmalloc.engine.hooks import ORDERINGS, READS, SLEEPS, UPDATES, WRITES, hooked
from shmalloc.engine.lowering import bind_memory_class

register_jitable(remember)

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


def nothing(mem):
    """The check kernel runs alone: nothing to order, nobody to wait for."""


def nothing_at(mem, i, value):
    """Nobody sleeps while the check kernel runs, and nobody would wake it."""


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
    """Post an access, let the scheduler choose, and return the value it left: this CPU's step.

    One function that is never inlined: kernels have hundreds of accesses (inlined: 5 % slower).
    """

    def codegen(context, builder, signature, args):
        block = field(context, builder, signature.args[0], args[0], "base")
        return builder.call(_post_function(builder.module), [block, *args[1:]])

    return types.int64(ctl, types.int64, types.int64, types.int64), codegen


def _post_function(module: ir.Module) -> ir.Function:
    if "model_post" in module.globals:
        return module.globals["model_post"]
    function = ir.Function(module, ir.FunctionType(I64, [I64] * 4), "model_post")
    function.linkage = "internal"
    function.attributes.add("noinline")
    builder = ir.IRBuilder(function.append_basic_block())
    block = builder.inttoptr(function.args[0], I64.as_pointer())
    cpu = builder.load(builder.gep(block, [I64(s.CURRENT)]))
    of_cpu = lambda array: builder.gep(block, [builder.add(cpu, I64(array))])  # noqa: E731
    for array, value in zip((s.OP, s.AT, s.ARG), function.args[1:], strict=True):
        builder.store(value, of_cpu(array))
    hub = builder.load(builder.gep(block, [I64(s.HUB_SP)]))
    builder.call(swap_function(module), [of_cpu(s.SP), hub])
    builder.ret(builder.load(of_cpu(s.VALUE)))
    return function


@register_jitable
def park(ctl, cpu):
    """Switch from the fiber of ``cpu`` to the scheduler."""
    fiber_swap(raw_base(ctl) + ((s.SP + cpu) << 3), ctl[s.HUB_SP])


@register_jitable
def more(mem, array, value):
    """A further operand of the access that is posted next."""
    ctl = control_of(mem)
    ctl[array + ctl[s.CURRENT]] = value


def model_cas(mem, i, old, new):
    more(mem, s.ARG1, new)
    return post(control_of(mem), ops.OP_CAS, i, old) != 0


def model_cas2(mem, i, old0, old1, new0, new1):
    more(mem, s.ARG1, old1)
    more(mem, s.ARG2, new0)
    more(mem, s.ARG3, new1)
    return post(control_of(mem), ops.OP_CAS2, i, old0) != 0


def model_load2(mem, i):
    low = post(control_of(mem), ops.OP_LOAD2, i, 0)
    ctl = control_of(mem)
    return low, ctl[s.VALUE1 + ctl[s.CURRENT]]


@register_jitable
def require_inside(mem, op, i):
    """An access that is no step, outside of memory: post it, so that the scheduler sees it."""
    if i < 0 or i >= raw_words(mem):
        post(control_of(mem), op, i, 0)


def model_fixed(mem, i):
    require_inside(mem, ops.OP_FIXED, i)
    return get(mem, i)


def model_mark(mem, i):
    require_inside(mem, ops.OP_MARK, i)
    count = get(mem, i)
    remember(control_of(mem), i, count)
    put(mem, i, count + 1)


def nothing_noticed(mem, i):
    """Who died is for a supervisor to say (stress/crash)."""


def model_now(mem):
    return control_of(mem)[s.STEPS]


def _read(op: int) -> Callable[..., Any]:
    def read(mem, i):
        return post(control_of(mem), op, i, 0)

    return read


def _write(op: int) -> Callable[..., Any]:
    def write(mem, i, value):
        post(control_of(mem), op, i, value)

    return write


def _update(op: int) -> Callable[..., Any]:
    def update(mem, i, value):
        return post(control_of(mem), op, i, value)

    return update


def _ordering(op: int) -> Callable[..., Any]:
    def order(mem):
        post(control_of(mem), op, 0, 0)

    return order


POSTED: dict[str, Callable[..., Any]] = {
    **{word: _read(op) for word, op in READS.items()},
    **{word: _write(op) for word, op in (WRITES | SLEEPS).items()},
    **{word: _update(op) for word, op in UPDATES.items()},
    **{word: _ordering(op) for word, op in ORDERINGS.items()},
    "cas": model_cas, "cas2": model_cas2, "load2": model_load2, "fixed": model_fixed,
    "mark": model_mark, "now": model_now, "notice": nothing_noticed,
}  # fmt: skip


class NativeModelType(MemoryType):
    """The memory of threads: every word is a step."""

    fields = ("base", "words", "side", "ctl")
    implementations: ClassVar[dict[str, Callable[..., Any]]] = POSTED

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
        "notice": nothing_noticed,
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

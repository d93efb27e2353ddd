"""``NativeModel``: every virtual CPU a fiber, the scheduler compiled.

A kernel compiled for this memory posts each access in the control block, switches to the scheduler
(schedule.py) and performs the access when it is switched back to. Only one fiber runs at a time,
so accesses need no atomic instruction. The scheduler is compiled once; kernels are called through
their addresses, so a new program compiles nothing but its own kernels.

Data: a ``World`` owns the words, the control block and one stack for each CPU (fibers.py). Given-up
fibers are dropped: their stacks are written anew at the next ``launch``.

Three numba types: ``NativeModel`` for threads; ``Tracked`` for the check kernel, which is not
scheduled but whose writes are undone as well; ``Control`` for the scheduler's block.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import FunctionType
from typing import Any

import numba
import numpy as np
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, overload, register_jitable

from shmalloc.engine import cache, fibers, lowering, ops
from shmalloc.engine import schedule as s
from shmalloc.engine.atomics import I64, MemoryType, field, register_memory_model
from shmalloc.engine.doctor import require_native
from shmalloc.engine.fibers import fiber_swap, fiber_trampoline, peek, poke
from shmalloc.engine.hooks import hooked
from shmalloc.engine.native import compile_function, compile_kernel, kept_under
from shmalloc.engine.program import (
    ModelProgram, ModelResult, block_words, fill_block, run_world,
)  # fmt: skip
from shmalloc.errors import EngineError
from shmalloc.memory import Ram

remember = register_jitable(s.remember)
for _function in s.FUNCTIONS:
    register_jitable(_function)

FRAME_BYTES = fibers.FRAME_WORDS * 8
FRAME_ARGUMENT_BYTES = fibers.FRAME_ARGUMENT * 8
FRAME_ENTRY_BYTES = fibers.FRAME_ENTRY * 8
FRAME_POINTER_BYTES = fibers.FRAME_POINTER * 8
FRAME_RETURN_BYTES = fibers.FRAME_RETURN * 8

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


# --- the control block -----------------------------------------------------------------------------


class ControlType(MemoryType):
    """The scheduler's block. Its indices are the scheduler's own: unchecked."""

    fields = ("base",)
    implementations = {
        "getitem": lambda mem, i: get(mem, i),
        "setitem": lambda mem, i, value: put(mem, i, value),
    }

    def __init__(self) -> None:
        super().__init__(name="Control")


CONTROL = ControlType()


def _at_control(codegen_base: Callable, *argument: types.Type) -> Callable:
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


# --- the memory of threads -------------------------------------------------------------------------


def before(mem, op, i, a):
    """Post the access and let the scheduler choose; back here, it is this CPU's step."""
    ctl = control_of(mem)
    cpu = ctl[s.CURRENT]
    ctl[s.OP + cpu] = op
    ctl[s.AT + cpu] = i
    ctl[s.ARG + cpu] = a
    park(ctl, cpu)


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


PLAIN: dict[str, Callable] = {
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
    implementations = hooked(before, after, PLAIN)

    def __init__(self) -> None:
        super().__init__(name="NativeModel")


NATIVE_MODEL = NativeModelType()

# --- the memory of the check kernel ------------------------------------------------------------------


def track(mem, op, i, a):
    """Remember what a write is about to change. The bare access checks its own bounds."""
    if ops.FIRST_WRITE <= op and op <= ops.LAST_WRITE and 0 <= i and i < raw_words(mem):
        remember(control_of(mem), i, get(mem, i))
        if op == ops.OP_CAS2 and i & 1 == 0:
            remember(control_of(mem), i + 1, get(mem, i + 1))


def untracked(mem, op, i, value):
    """Nobody watches the check kernel's accesses."""


def tracked_mark(mem, i):
    track(mem, ops.OP_WRITE, i, 0)
    lowering.raw_mark(mem, i)


class TrackedType(MemoryType):
    """The memory of the check kernel: bare, but its writes are remembered."""

    fields = ("base", "words", "side", "ctl")
    implementations = hooked(track, untracked) | {
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

# --- calling a kernel through its address ------------------------------------------------------------


def _invoke(context, builder, address, memory_type, memory, *integers):
    """Call the machine code of a kernel, as numba lays it out; its value, 0 for a kernel without.

    The result is returned through a pointer: a zeroed word takes an int, a bool or nothing alike.
    """
    argument_types = [memory_type] + [types.int64] * len(integers)
    kind = context.call_conv.get_function_type(types.int64, argument_types)
    function = builder.inttoptr(address, kind.as_pointer())
    result = cgutils.alloca_once_value(builder, I64(0))
    problem = cgutils.alloca_once(builder, kind.args[1].pointee)
    arguments = context.call_conv._get_arg_packer(argument_types).as_arguments(
        builder, [memory, *integers]
    )
    builder.store(I64(0), result)
    builder.call(function, [result, problem, *arguments])
    return builder.load(result)


def _memory_of(context, builder, memory_type, ctl):
    """A memory value from the addresses that the control block holds."""
    base = field(context, builder, CONTROL, ctl, "base")
    words = builder.inttoptr(base, I64.as_pointer())
    struct = cgutils.create_struct_proxy(memory_type)(context, builder)
    for name, index in (("base", s.BASE), ("words", s.WORDS), ("side", s.SIDE)):
        setattr(struct, name, builder.load(builder.gep(words, [I64(index)])))
    struct.ctl = base
    return struct._getvalue()


@intrinsic
def invoke_thread(typingctx, ctl, address, cpu):
    def codegen(context, builder, signature, args):
        memory = _memory_of(context, builder, NATIVE_MODEL, args[0])
        return _invoke(context, builder, args[1], NATIVE_MODEL, memory, args[2])

    return types.int64(ctl, types.int64, types.int64), codegen


@intrinsic
def invoke_check(typingctx, ctl, address):
    def codegen(context, builder, signature, args):
        memory = _memory_of(context, builder, TRACKED, args[0])
        return _invoke(context, builder, args[1], TRACKED, memory)

    return types.int64(ctl, types.int64), codegen


# --- the scheduler's primitives, compiled --------------------------------------------------------------
STACK_BYTES = fibers.STACK_WORDS * 8
STACK_STAGGER_WORDS = 24  # else the tops of all stacks fall into one set of the cache


def fiber_main(block_address):
    """Where every fiber starts: run the kernel of the CPU, then never run again."""
    ctl = control_at(block_address)
    cpu = ctl[s.CURRENT]
    ctl[s.RETURN + cpu] = invoke_thread(ctl, ctl[s.ENTRY + cpu], cpu)
    ctl[s.OP + cpu] = ops.OP_FINISH
    ctl[s.STATE + cpu] = s.FINISHED
    park(ctl, cpu)


def _launch(ctl, cpu):
    """Write the first frame: the first switch to it pops registers and enters the trampoline."""
    top = fibers_top(cpu) + ctl[s.STACKS]
    frame = top - FRAME_BYTES
    poke(frame + FRAME_ARGUMENT_BYTES, raw_base(ctl))
    poke(frame + FRAME_ENTRY_BYTES, ctl[s.FIBER_MAIN])
    poke(frame + FRAME_POINTER_BYTES, 0)
    poke(frame + FRAME_RETURN_BYTES, fiber_trampoline())
    ctl[s.SP + cpu] = frame


@register_jitable
def fibers_top(cpu):
    """Offset in bytes of the top of the stack of ``cpu`` in the area of all stacks."""
    return (cpu + 1) * STACK_BYTES - cpu * STACK_STAGGER_WORDS * 8


def _resume(ctl, cpu):
    fiber_swap(raw_base(ctl) + (s.HUB_SP << 3), ctl[s.SP + cpu])


def _run_check(ctl):
    if ctl[s.CHECK_ENTRY] == 0:
        return 0
    code = invoke_check(ctl, ctl[s.CHECK_ENTRY])
    if peek(ctl[s.SIDE]) != 0:
        poke(ctl[s.SIDE], 0)
        ctl[s.OUTCOME] = s.MEMORY
    return code


def _read_word(ctl, i):
    return peek(ctl[s.BASE] + (i << 3))


def _write_word(ctl, i, value):
    poke(ctl[s.BASE] + (i << 3), value)


def _implement(primitive: Callable, implementation: Callable) -> None:
    """Compiled, ``primitive`` means ``implementation``."""
    choose = {
        1: lambda ctl: implementation if isinstance(ctl, ControlType) else None,
        2: lambda ctl, cpu: implementation if isinstance(ctl, ControlType) else None,
        3: lambda ctl, i, value: implementation if isinstance(ctl, ControlType) else None,
    }
    overload(primitive, strict=False)(choose[primitive.__code__.co_argcount])


# --- worlds ----------------------------------------------------------------------------------------------


class NativeControl:
    """A control block that compiled code takes: an array of words and its address."""

    def __init__(self, words: int) -> None:
        self.array = np.zeros(words, dtype=np.int64)
        self.base = int(self.array.ctypes.data)


class NativeModel:
    """A program laid out for the native model engine: see ``run``.

    Raises ``EnvironmentUnfitError`` on a machine without fibers, ``EngineError`` for a kernel that
    does not compile.
    """

    name = "native"

    def __init__(
        self,
        program: ModelProgram,
        step_limit: int = 10_000,
        idle_limit: int = 200,
        log: bool = False,
    ) -> None:
        require_native()
        self.program = program
        self.ram = Ram.of_words(program.words)
        program.initialize(self.ram)
        self.control = NativeControl(block_words(program, step_limit))
        self.block = self.control.array
        fill_block(self.block, program, step_limit, idle_limit, log)
        self._place()

    def _place(self) -> None:
        """Addresses: memory, kernels, stacks."""
        block, cpus = self.block, len(self.program.threads)
        block[s.BASE], block[s.SIDE] = self.ram.base, self.ram.side
        block[s.FIBER_MAIN] = _fiber_main().address
        for cpu, thread in enumerate(self.program.threads):
            block[s.ENTRY + cpu] = kernel_address(thread, NATIVE_MODEL)
        if self.program.check is not None:
            block[s.CHECK_ENTRY] = kernel_address(self.program.check, TRACKED)
        # one stack more than CPUs: what runs over the lowest one destroys nothing else
        self._stacks = np.zeros((cpus + 1) * fibers.STACK_WORDS + 2, dtype=np.int64)
        first = int(self._stacks.ctypes.data) + STACK_BYTES
        block[s.STACKS] = -(-first // 16) * 16
        self.guards = []
        for cpu in range(cpus):
            bottom = (int(block[s.STACKS]) - int(self._stacks.ctypes.data)) // 8
            bottom += cpu * fibers.STACK_WORDS
            self.guards.append(self._stacks[bottom : bottom + fibers.GUARD_WORDS])
            self.guards[-1][:] = fibers.GUARD
            limit = int(block[s.STACKS]) + cpu * STACK_BYTES + fibers.RESERVE_WORDS * 8
            block[s.LIMIT + cpu] = limit

    def explore(self, seed: int, count: int) -> int:
        """Run ``count`` schedules; how many passed before a failure."""
        passed = _explore()(self.control, seed, count)
        for cpu, guard in enumerate(self.guards):
            if not (guard == fibers.GUARD).all():
                raise EngineError(
                    f"cpu {cpu}: its stack ran over between two accesses and destroyed other data;"
                    " results of this process cannot be trusted. Cure: shallower calls"
                )
        return passed

    def run(self, seed: int = 1, schedules: int = 1, seconds: float | None = None) -> ModelResult:
        """Random-walk ``schedules`` schedules, each from its own seed: ``seed``, ``seed`` + 1, ..."""
        return run_world(self, seed, schedules, seconds)


def kernel_address(function: FunctionType, memory_type: MemoryType) -> int:
    """Address of the machine code of ``function`` over ``memory_type``."""
    compiled = _compiled(function, memory_type)
    result = compiled.overloads[compiled.signatures[0]]
    return int(result.library.get_pointer_to_function(result.fndesc.llvm_func_name))


@functools.cache
def _compiled(function: FunctionType, memory_type: MemoryType) -> Any:
    """Kept for the life of the process: addresses into its code are in use."""
    return compile_kernel(function, memory_type)


@functools.cache
def _fiber_main() -> Any:
    digest = cache.digest_of(fiber_main, f"{cache.toolchain_salt()}|fiber_main")
    with kept_under(digest):
        return numba.cfunc(types.void(types.int64), cache=True)(fiber_main)


@functools.cache
def _explore() -> Callable[..., int]:
    return compile_function(s.explore, CONTROL)


def _install() -> None:
    for memory_type in (ControlType, NativeModelType, TrackedType):
        register_memory_model(memory_type)
    lowering.bind_memory_class(NativeControl, CONTROL, base="base")
    for model_type in (NATIVE_MODEL, TRACKED):
        lowering.bind_memory_class(
            type(f"{model_type.name}Value", (), {}), model_type,
            base="base", words="words", side="side", ctl="ctl",
        )  # fmt: skip
    implementations = (_launch, _resume, _run_check, _read_word, _write_word)
    for primitive, implementation in zip(s.PRIMITIVES, implementations, strict=True):
        _implement(primitive, implementation)


_install()

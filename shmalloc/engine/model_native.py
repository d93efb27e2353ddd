"""``NativeModel``: a program whose virtual CPUs are fibers, under the compiled scheduler.

The scheduler (schedule.py) is compiled once; kernels are called through their addresses, so a new
program compiles nothing but its own kernels. Here are the scheduler's primitives for fibers, and
the worlds: the words of a program, its control block and one stack for each CPU (fibers.py).
Given-up fibers are dropped: their stacks are written anew at the next ``launch``.
"""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any

import numba
import numpy as np
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, overload, register_jitable

from shmalloc.engine import block as s
from shmalloc.engine import cache, effects, fibers, lowering, ops, schedule
from shmalloc.engine.areas import Settings
from shmalloc.engine.atomics import I64, MemoryType, field
from shmalloc.engine.doctor import require_native
from shmalloc.engine.fibers import fiber_swap, fiber_trampoline, peek, poke
from shmalloc.engine.model_memory import (
    CONTROL, NATIVE_MODEL, TRACKED, ControlType, control_at, park, raw_base,
)  # fmt: skip
from shmalloc.engine.native import (
    compile_function, compile_kernel, compiled_once, kept_under,
)  # fmt: skip
from shmalloc.engine.program import (
    ModelProgram, ModelResult, plan_of, run_world,
)  # fmt: skip
from shmalloc.errors import EngineError
from shmalloc.memory import Ram

STACK_BYTES = fibers.STACK_WORDS * 8
STACK_STAGGER_WORDS = 24  # else the tops of all stacks fall into one set of the cache
FRAME_BYTES = fibers.FRAME_WORDS * 8
FRAME_ARGUMENT_BYTES = fibers.FRAME_ARGUMENT * 8
FRAME_ENTRY_BYTES = fibers.FRAME_ENTRY * 8
FRAME_POINTER_BYTES = fibers.FRAME_POINTER * 8
FRAME_RETURN_BYTES = fibers.FRAME_RETURN * 8

# --- calling a kernel through its address --------------------------------------------------------


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


# --- the scheduler's primitives, compiled --------------------------------------------------------


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


def _run_kernel(ctl, entry):
    code = invoke_check(ctl, ctl[entry])
    if peek(ctl[s.SIDE]) != 0:
        poke(ctl[s.SIDE], 0)
        ctl[s.OUTCOME] = s.MEMORY
    return code


def _read_word(ctl, i):
    return peek(ctl[s.BASE] + (i << 3))


def _write_word(ctl, i, value):
    poke(ctl[s.BASE] + (i << 3), value)


def _implement(primitive: Callable[..., Any], implementation: Callable[..., Any]) -> None:
    """Compiled, ``primitive`` means ``implementation``."""
    choose = {
        1: lambda ctl: implementation if isinstance(ctl, ControlType) else None,
        2: lambda ctl, cpu: implementation if isinstance(ctl, ControlType) else None,
        3: lambda ctl, i, value: implementation if isinstance(ctl, ControlType) else None,
    }
    overload(primitive, strict=False)(choose[primitive.__code__.co_argcount])


# --- worlds --------------------------------------------------------------------------------------


class NativeControl:
    """A control block that compiled code takes: an array of words and its address."""

    def __init__(self, words: np.ndarray) -> None:
        self.array = words
        self.base = int(self.array.ctypes.data)


class NativeModel:
    """A program laid out for the native model engine: see ``run``.

    Raises ``EnvironmentUnfitError`` on a machine without fibers, ``EngineError`` for a kernel that
    does not compile.
    """

    name = "native"

    def __init__(self, program: ModelProgram, **settings: Any) -> None:
        require_native()
        self.program = program
        self.settings = Settings(**settings)
        self.ram = Ram.of_words(program.words)
        program.initialize(self.ram)
        self.control = NativeControl(plan_of(program, self.settings).as_array())
        self.block = self.control.array
        self._place()

    def _place(self) -> None:
        """Addresses of memory and kernels."""
        block = self.block
        block[s.BASE], block[s.SIDE] = self.ram.base, self.ram.side
        block[s.FIBER_MAIN] = _fiber_main().address
        for cpu, thread in enumerate(self.program.threads):
            block[s.ENTRY + cpu] = kernel_address(thread, NATIVE_MODEL)
        for entry, kernel in self.program.watchers():
            block[entry] = kernel_address(kernel, TRACKED)
        self._place_stacks(len(self.program.threads))

    def _place_stacks(self, cpus: int) -> None:
        """One stack more than CPUs: what runs over the lowest one destroys nothing else."""
        self._stacks = np.zeros((cpus + 1) * fibers.STACK_WORDS + 2, dtype=np.int64)
        origin = int(self._stacks.ctypes.data)
        stacks = -(-(origin + STACK_BYTES) // 16) * 16
        self.block[s.STACKS] = stacks
        self.guards = []
        for cpu in range(cpus):
            bottom = stacks + cpu * STACK_BYTES
            word = (bottom - origin) // 8
            self.guards.append(self._stacks[word : word + fibers.GUARD_WORDS])
            self.guards[cpu][:] = fibers.GUARD
            self.block[s.LIMIT + cpu] = bottom + fibers.RESERVE_WORDS * 8

    def warm(self, driver: FunctionType) -> None:
        """Compile ``driver`` (or load it) now."""
        _driver(driver)

    def call(self, driver: FunctionType, *arguments: int) -> int:
        """Run a scheduler function over the block: compiled, without the interpreter's lock."""
        value: int = _driver(driver)(self.control, *arguments)
        for cpu, guard in enumerate(self.guards):
            if not (guard == fibers.GUARD).all():
                raise EngineError(
                    f"cpu {cpu}: its stack ran over between two accesses and destroyed other data;"
                    " results of this process cannot be trusted. Cure: shallower calls"
                )
        return value

    def run(self, seed: int = 1, schedules: int = 1, seconds: float | None = None) -> ModelResult:
        """Random-walk ``schedules`` schedules with the seeds ``seed``, ``seed`` + 1, and so on."""
        return run_world(self, schedule.explore, seed, schedules, seconds)


def kernel_address(function: FunctionType, memory_type: MemoryType) -> int:
    """Address of the machine code of ``function`` over ``memory_type``."""
    compiled = _compiled(function, memory_type)
    result = compiled.overloads[compiled.signatures[0]]
    return int(result.library.get_pointer_to_function(result.fndesc.llvm_func_name))


@compiled_once
def _compiled(function: FunctionType, memory_type: MemoryType) -> Any:
    """Kept for the life of the process: addresses into its code are in use."""
    return compile_kernel(function, memory_type)


@compiled_once
def _fiber_main() -> Any:
    digest = cache.digest_of(fiber_main, f"{cache.toolchain_salt()}|fiber_main")
    with kept_under(digest):
        return numba.cfunc(types.void(types.int64), cache=True)(fiber_main)


@compiled_once
def _driver(function: FunctionType) -> Callable[..., int]:
    return compile_function(function, CONTROL)


def _install() -> None:
    lowering.bind_memory_class(NativeControl, CONTROL, base="base")
    implementations = (_launch, _resume, _run_kernel, _read_word, _write_word)
    for primitive, implementation in zip(effects.PRIMITIVES, implementations, strict=True):
        _implement(primitive, implementation)


_install()

"""Fibers: a second stack for compiled code, and the switch to it, in fifteen instructions.

Two naked functions, emitted as inline assembly: ``fiber_swap(slot, sp)`` saves the callee-saved
registers on the running stack, stores its stack pointer in ``*slot`` and continues on ``sp``;
``fiber_trampoline`` is where a fresh stack begins: it calls ``entry(argument)``, which never
returns. x86-64 (System V) and aarch64 (AAPCS64); status and control words of the floating point
unit are left alone, kernels have only integers.

A fiber's stack, from high to low addresses::

    top (16-byte aligned)
    first frame            what the first switch pops: argument, entry, trampoline
    ... usable ...
    limit                  a saved stack pointer below it is an overflow, seen at each switch
    ... reserve ...        room for what runs between two switches
    GUARD_WORDS            hold GUARD; a change means that memory below may be destroyed

This file knows no scheduler. It does not unwind: a fiber that is given up is overwritten.
"""

from __future__ import annotations

import platform

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

llvm.initialize_native_asmparser()  # LLVM aborts the process on inline assembly without it

I64 = ir.IntType(64)
STACK_WORDS = 8192
RESERVE_WORDS = 2048
GUARD_WORDS = 8
GUARD = 0x5AFE57AC0DDBA11

_X86_SWAP = """
pushq %rbp
pushq %rbx
pushq %r12
pushq %r13
pushq %r14
pushq %r15
movq %rsp, (%rdi)
movq %rsi, %rsp
popq %r15
popq %r14
popq %r13
popq %r12
popq %rbx
popq %rbp
retq
"""
_X86_TRAMPOLINE = """
movq %r12, %rdi
callq *%r13
ud2
"""
_ARM_SWAP = """
sub sp, sp, #160
stp x19, x20, [sp, #0]
stp x21, x22, [sp, #16]
stp x23, x24, [sp, #32]
stp x25, x26, [sp, #48]
stp x27, x28, [sp, #64]
stp x29, x30, [sp, #80]
stp d8, d9, [sp, #96]
stp d10, d11, [sp, #112]
stp d12, d13, [sp, #128]
stp d14, d15, [sp, #144]
mov x9, sp
str x9, [x0]
mov sp, x1
ldp x19, x20, [sp, #0]
ldp x21, x22, [sp, #16]
ldp x23, x24, [sp, #32]
ldp x25, x26, [sp, #48]
ldp x27, x28, [sp, #64]
ldp x29, x30, [sp, #80]
ldp d8, d9, [sp, #96]
ldp d10, d11, [sp, #112]
ldp d12, d13, [sp, #128]
ldp d14, d15, [sp, #144]
add sp, sp, #160
ret
"""
_ARM_TRAMPOLINE = """
mov x0, x19
blr x20
brk #1
"""

# Where the words of the first frame lie, counted from the saved stack pointer: popped by the swap.
if platform.machine() == "aarch64":
    SWAP, TRAMPOLINE = _ARM_SWAP, _ARM_TRAMPOLINE
    FRAME_WORDS, FRAME_ARGUMENT, FRAME_ENTRY, FRAME_POINTER, FRAME_RETURN = 20, 0, 1, 10, 11
else:
    SWAP, TRAMPOLINE = _X86_SWAP, _X86_TRAMPOLINE
    FRAME_WORDS, FRAME_ARGUMENT, FRAME_ENTRY, FRAME_POINTER, FRAME_RETURN = 7, 3, 2, 5, 6


def _naked(module: ir.Module, name: str, assembly: str, arguments: list[ir.Type]) -> ir.Function:
    """The function of that name in ``module``, without prologue: nothing but ``assembly``."""
    if name in module.globals:
        return module.globals[name]
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), arguments), name)
    function.linkage = "internal"
    function.attributes.add("naked")
    function.attributes.add("noinline")
    builder = ir.IRBuilder(function.append_basic_block())
    # "memory": the other stack may read and write anything
    builder.asm(ir.FunctionType(ir.VoidType(), []), assembly, "~{memory}", [], True)
    builder.unreachable()
    return function


def swap_function(module: ir.Module) -> ir.Function:
    """``fiber_swap(slot, sp)`` in ``module``."""
    return _naked(module, "fiber_swap", SWAP, [I64.as_pointer(), I64])


@intrinsic
def fiber_swap(typingctx, slot_address, stack_pointer):
    """Save this stack pointer at ``slot_address`` and continue on ``stack_pointer``."""

    def codegen(context, builder, signature, args):
        swap = swap_function(builder.module)
        builder.call(swap, [builder.inttoptr(args[0], I64.as_pointer()), args[1]])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


@intrinsic
def fiber_trampoline(typingctx):
    """Address of the code that a fresh stack starts in."""

    def codegen(context, builder, signature, args):
        function = _naked(builder.module, "fiber_trampoline", TRAMPOLINE, [])
        return builder.ptrtoint(function, I64)

    return types.int64(), codegen


@intrinsic
def peek(typingctx, address):
    """The word at a raw address."""

    def codegen(context, builder, signature, args):
        return builder.load(builder.inttoptr(args[0], I64.as_pointer()))

    return types.int64(types.int64), codegen


@intrinsic
def poke(typingctx, address, value):
    """Write the word at a raw address."""

    def codegen(context, builder, signature, args):
        builder.store(args[1], builder.inttoptr(args[0], I64.as_pointer()))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen

"""Fibers: a second stack for compiled code, and the switch to it, in fifteen instructions.

Two functions in assembly alone: ``fiber.swap(slot, sp)`` saves the callee-saved
registers on the running stack, stores its stack pointer in ``*slot`` and continues on ``sp``;
``fiber.trampoline`` is where a fresh stack begins: it calls ``entry(argument)``, which never
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

from typing import NamedTuple

from shmalloc.compiler.runtime import naked

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


class Frame(NamedTuple):
    """Where the words of the first frame lie, from the saved stack pointer on."""

    words: int
    argument: int
    entry: int
    pointer: int
    back: int


FRAMES = {
    "x86_64": Frame(words=7, argument=3, entry=2, pointer=5, back=6),
    "aarch64": Frame(words=20, argument=0, entry=1, pointer=10, back=11),
}
_SWAPS = {"x86_64": _X86_SWAP, "aarch64": _ARM_SWAP}
_TRAMPOLINES = {"x86_64": _X86_TRAMPOLINE, "aarch64": _ARM_TRAMPOLINE}


def swap_text(target: str) -> str:
    """IR of ``@fiber.swap(slot, sp)``."""
    return naked(target, "void @fiber.swap(ptr %slot, i64 %sp)", _SWAPS[target])


def trampoline_text(target: str) -> str:
    """IR of ``@fiber.trampoline``."""
    return naked(target, "void @fiber.trampoline()", _TRAMPOLINES[target])

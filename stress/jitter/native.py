"""``JitterRam``, compiled: its kind of memory, the primitives of state.py, and the engine.

The memory of kernels has one field more than that of ``Ram``: the address of the state, which the
hooks see as a memory of its own, ``STATE``. What is rare there is a function of its own; counting
accesses and writes, and recording simple accesses, is inlined at every access of a kernel.

Nothing of this is in code that was compiled over ``Ram``.
"""

from __future__ import annotations

from typing import Any

from shmalloc.compiler import runtime, words
from shmalloc.compiler.code import Code
from shmalloc.compiler.kinds import Emitter, Kind, Registers
from shmalloc.compiler.runtime import imported, naked
from shmalloc.engine.control import scheduler
from shmalloc.engine.hooks import hooked_meanings
from shmalloc.engine.native import Native
from shmalloc.words import relax
from stress.jitter import state as jitter_state

SIGKILL = 9


# --- the state, and a ring: words without a check ------------------------------------------------
def no_fault(code: Code, memory: Registers, what: int, index: str) -> None:
    """The hooks divide by nothing that could be zero; if they did, this process is no use."""
    code.do("call void @llvm.trap()")
    code.end("unreachable")


def word_at(code: Code, memory: Registers, index: int | str) -> str:
    return code.word(memory["base"], str(index))


def get_word(code: Code, memory: Registers, arguments: list[str]) -> str:
    return code.load(word_at(code, memory, arguments[0]))


def set_word(code: Code, memory: Registers, arguments: list[str]) -> None:
    code.store(arguments[1], word_at(code, memory, arguments[0]))


def called(code: Code, name: str, arguments: str = "") -> str:
    """Call a function of the C library that returns an int."""
    return code.op(f"call i32 {code.op(imported(name))}({arguments})")


def _die(code: Code, memory: Registers, arguments: list[str]) -> None:
    """To ourselves: it does not return to this code."""
    called(code, "kill", f"i32 {called(code, 'getpid')}, i32 {SIGKILL}")


def _yield_core(code: Code, memory: Registers, arguments: list[str]) -> None:
    called(code, "sched_yield")


def nap(code: Code, memory: Registers, arguments: list[str]) -> None:
    time = word_at(code, memory, jitter_state.TIMESPEC)
    code.store("0", time)
    code.store(arguments[0], word_at(code, memory, jitter_state.TIMESPEC + 1))
    called(code, "nanosleep", f"ptr {time}, ptr null")


def _ring_of(code: Code, memory: Registers, arguments: list[str]) -> list[str]:
    return [code.op(f"load ptr, ptr {word_at(code, memory, jitter_state.RING)}, align 8")]


@scheduler
def pauses(jitter: Any, count: int) -> None:
    for _ in range(count):
        relax(jitter)


FILES = (__file__, jitter_state.__file__)
STATE = Kind("jitter_state", ("base",), {
    "getitem": get_word, "setitem": set_word, "relax": words.pause, "die": _die, "spin": pauses,
    "yield_core": _yield_core, "nap": nap, "clock": words.clock, "ring_of": _ring_of,
}, no_fault, files=FILES)  # fmt: skip
STATE.memories["ring_of"] = STATE


# --- the memory of kernels -----------------------------------------------------------------------
# The number of this instruction among its copies: the assembler fills it in, after inlining.
NUMBER = "movl $$${:uid}, ${0:k}"
_HERE = """
mov x0, x30
ret
"""


def _place(code: Code, memory: Registers, arguments: list[str]) -> str:
    """Has side effects, as LLVM is told: else two of them would be made one."""
    if code.target == "x86_64":
        return code.op(f'call i64 asm sideeffect "{NUMBER}", "=r"()')
    return _return_place(code)


def _return_place(code: Code) -> str:
    """For aarch64, without its assembler: how far behind ``jitter.here`` the access lies."""
    code.module.need("jitter.here", lambda: naked("aarch64", "i64 @jitter.here()", _HERE))
    here = code.call("@jitter.here", [])
    distance = code.op(f"sub i64 {here}, ptrtoint (ptr @jitter.here to i64)")
    return code.op(f"ashr i64 {distance}, 2")


def _state_of(code: Code, memory: Registers, arguments: list[str]) -> list[str]:
    return [memory["jitter"]]


def _peeked(code: Code, memory: Registers, arguments: list[str]) -> str:
    return code.load(word_at(code, memory, arguments[0]))


def _noting(name: str, operands: slice, at: int) -> Emitter:
    """Note those of the operands of a word that ``before`` is not told, and then do it."""
    bare = words.BARE[name]

    def emit(code: Code, memory: Registers, arguments: list[str]) -> Any:
        for k, value in enumerate(arguments[operands], at):
            code.store(value, code.word(memory["jitter"], str(k)))
        return bare(code, memory, arguments)

    return emit


def _load2(code: Code, memory: Registers, arguments: list[str]) -> list[str]:
    low, high = words.BARE["load2"](code, memory, arguments)
    code.store(high, code.word(memory["jitter"], str(jitter_state.OPERANDS)))
    return [low, high]


def _jitter() -> Kind:
    """The segment with hooks, as compiled kernels see it."""
    fields = ("base", "words", "call", "jitter")
    kind = Kind("jitter", fields, {}, runtime.fault, {"state_of": STATE}, FILES)
    swaps = {
        name: _noting(name, slice(2, None), jitter_state.OPERANDS + 1) for name in ("cas", "cas2")
    }
    bare = words.BARE | swaps | {"load2": _load2}
    kind.meanings.update(hooked_meanings(kind, jitter_state.before, jitter_state.after, bare))
    kind.meanings.update({"state_of": _state_of, "place": _place, "peeked": _peeked})
    return kind


JITTER = _jitter()


class JitterEngine(Native):
    """Kernels compiled over ``JitterRam``."""

    name = "jitter"

    def __init__(self) -> None:
        super().__init__(JITTER)

"""The memories of check and invariant kernels of the native model: bare and unscheduled.

``WATCHED`` can only be read: a word that writes is a fault. ``TRACKED`` is that of a check that may
write: what it changes is remembered, and put back before the next schedule (primitives.py). A fault
ends the kernel and is the outcome of the schedule (``model.check`` in native_control.py).
"""

from __future__ import annotations

from collections.abc import Callable

from shmalloc.compiler import runtime, words
from shmalloc.compiler.code import RARELY, Code
from shmalloc.compiler.kinds import Emitter, Kind, Registers
from shmalloc.engine import ops
from stress.machine import block as cb
from stress.machine.native_control import WROTE, of_cpu
from stress.machine.native_memory import FILES, nothing, now_of, remembered
from stress.machine.program import Program


def _tracked(emit: Callable[[Code, str, list[str]], object], pair: bool = False) -> Emitter:
    """A word that writes: what it is about to change is remembered first."""

    def write(code: Code, memory: Registers, arguments: list[str]) -> object:
        index = arguments[0]
        address = words.checked_address(code, memory, runtime.fault, index, pair)
        remembered(code, memory, index, code.load(address))
        if pair:
            following = code.op(f"add i64 {index}, 1")
            remembered(code, memory, following, code.load(code.word(address, "1")))
        return emit(code, address, arguments[1:])

    return write


def _refused(pair: bool = False) -> Emitter:
    """A word that writes, of a memory that is only looked at: it ends the schedule."""

    def refuse(code: Code, memory: Registers, arguments: list[str]) -> object:
        words.checked_address(code, memory, runtime.fault, arguments[0], pair)
        runtime.fault(code, memory, WROTE, arguments[0])
        code.label(code.fresh("never"))
        return "0"

    return refuse


def _returned(code: Code, memory: Registers, arguments: list[str]) -> str:
    """What a CPU returned; there is no such CPU: the fault of an access outside."""
    cpus = code.load(code.word(memory["ctl"], str(cb.CPUS)))
    outside = code.op(f"icmp uge i64 {arguments[0]}, {cpus}")
    bad, good = code.fresh("bad"), code.fresh("good")
    code.branch(outside, bad, good, RARELY)
    code.label(bad)
    runtime.fault(code, memory, runtime.OUTSIDE, arguments[0])
    code.label(good)
    return code.load(of_cpu(code, memory["ctl"], cb.RETURN, arguments[0]))


_FIELDS = ("base", "words", "ctl", "call")
_READING: dict[str, Emitter] = {
    **{name: words.BARE[name] for name in (*ops.READS, "load2", "fixed", "fence")},
    "now": now_of,
    "returned": _returned,
    "expect": words.BARE["expect"],
    **dict.fromkeys(
        ("light_fence", "heavy_fence", "relax", "give_way", "wait", "wake", "notice"), nothing
    ),
}
_WRITES = (*ops.WRITES, *ops.UPDATES, "cas", "mark")

WATCHED = Kind(
    "watched",
    _FIELDS,
    {**_READING, **dict.fromkeys(_WRITES, _refused()), "cas2": _refused(pair=True)},
    runtime.fault,
    files=(*FILES, __file__),
)
TRACKED = Kind(
    "tracked",
    _FIELDS,
    {
        **_READING,
        "setitem": _tracked(words.write),
        "store": _tracked(words.store("release")),
        "store_relaxed": _tracked(words.store("monotonic")),
        "cas": _tracked(words.cas),
        "cas2": _tracked(words.cas2, pair=True),
        "exchange": _tracked(words.update("xchg")),
        "fetch_add": _tracked(words.update("add")),
        "fetch_or": _tracked(words.update("or")),
        "fetch_and": _tracked(words.update("and")),
        "mark": _tracked(words.mark),
    },
    runtime.fault,
    files=(*FILES, __file__),
)


def memory_of(program: Program, slot: int) -> Kind:
    """The kind of memory that the watcher in that slot of the block sees."""
    return TRACKED if slot == cb.CHECK_ENTRY and program.check_writes else WATCHED

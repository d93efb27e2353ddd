"""The words of ``Ram``, as instructions: every access is the processor's own.

A word is at ``base + 8 * index``. The index is checked before every access: an index outside the
segment, or an odd one for a pair, is a fault (runtime.py), so neither Python nor the segment is
harmed. The check is one compare and a branch that is never taken.

    load            acquire load     mov          ldapr, ldar
    store           release store    mov          stlr
    .._relaxed      monotonic        mov          ldr, str
    cas, cas2       cmpxchg          lock cmpxchg(16b)   casal, caspal
    load2           16-byte load     vmovaps, or lock cmpxchg16b    ldp + dmb ishld, or caspa
    exchange ..     atomicrmw        xchg, lock xadd ..  swpal, ldaddal ..
    fence           seq_cst          mfence, lock or     dmb ish
    light_fence     seq_cst, of this thread alone: no instruction
    heavy_fence     membarrier(2), a call of the system

``load2`` is an access that writes if the processor has no 16-byte load (x86 without AVX, aarch64
before LSE2): it then takes the line exclusively, and faults on a read-only mapping.
"""

from __future__ import annotations

from collections.abc import Callable

from shmalloc.compiler import runtime
from shmalloc.compiler.code import CONSTANT, RARELY, Code
from shmalloc.compiler.kinds import Emitter, Kind, Registers
from shmalloc.compiler.runtime import ODD_PAIR, OUTSIDE

CLOCK_MASK = (1 << 62) - 1
Checked = Callable[[Code, str, list[str]], object]  # code, address, operands behind the index
Fault = Callable[[Code, Registers, int, str], None]


def checked_address(
    code: Code, memory: Registers, fault: Fault, index: str, pair: bool = False
) -> str:
    """Address of word ``index``, once it is known to be inside (and even, for a pair)."""
    _require(code, memory, fault, OUTSIDE, index, f"icmp uge i64 {index}, {memory['words']}")
    if pair:
        _require(code, memory, fault, ODD_PAIR, index, f"trunc i64 {index} to i1")
    return code.word(memory["base"], index)


def _require(
    code: Code, memory: Registers, fault: Fault, what: int, index: str, broken: str
) -> None:
    bad, good = code.fresh("bad"), code.fresh("good")
    code.branch(code.op(broken), bad, good, RARELY)
    code.label(bad)
    fault(code, memory, what, index)
    code.label(good)


def access(emit: Checked, pair: bool = False, fault: Fault = runtime.fault) -> Emitter:
    """The emitter of a word that touches memory, from that of its bare instruction."""

    def checked(code: Code, memory: Registers, arguments: list[str]) -> object:
        address = checked_address(code, memory, fault, arguments[0], pair)
        return emit(code, address, arguments[1:])

    return checked


# --- reads and writes ----------------------------------------------------------------------------
def read(code: Code, address: str, operands: list[str]) -> str:
    return code.load(address)


def fixed(code: Code, address: str, operands: list[str]) -> str:
    """A load that LLVM may keep in a register: the word never changes while a kernel runs."""
    return code.load(address, CONSTANT)


def load(order: str) -> Checked:
    return lambda code, address, operands: code.op(
        f"load atomic i64, ptr {address} {order}, align 8"
    )


def write(code: Code, address: str, operands: list[str]) -> None:
    code.store(operands[0], address)


def store(order: str) -> Checked:
    return lambda code, address, operands: code.do(
        f"store atomic i64 {operands[0]}, ptr {address} {order}, align 8"
    )


def mark(code: Code, address: str, operands: list[str]) -> None:
    """Deliberately no atomic add: 0.5 ns instead of 3, and a lost count is harmless."""
    count = code.op(f"load atomic i64, ptr {address} monotonic, align 8")
    more = code.op(f"add i64 {count}, 1")
    code.do(f"store atomic i64 {more}, ptr {address} monotonic, align 8")


# --- updates -------------------------------------------------------------------------------------
def update(operation: str) -> Checked:
    return lambda code, address, operands: code.op(
        f"atomicrmw {operation} ptr {address}, i64 {operands[0]} acq_rel, align 8"
    )


def cas(code: Code, address: str, operands: list[str]) -> str:
    old, new = operands
    found = code.op(f"cmpxchg ptr {address}, i64 {old}, i64 {new} acq_rel acquire, align 8")
    return code.wide(code.op(f"extractvalue {{i64, i1}} {found}, 1"))


def _joined(code: Code, low: str, high: str) -> str:
    wide = code.op(f"zext i64 {high} to i128")
    shifted = code.op(f"shl i128 {wide}, 64")
    narrow = code.op(f"zext i64 {low} to i128")
    return code.op(f"or i128 {narrow}, {shifted}")


def cas2(code: Code, address: str, operands: list[str]) -> str:
    old, new = _joined(code, *operands[:2]), _joined(code, *operands[2:])
    found = code.op(f"cmpxchg ptr {address}, i128 {old}, i128 {new} acq_rel acquire, align 16")
    return code.wide(code.op(f"extractvalue {{i128, i1}} {found}, 1"))


def load2(code: Code, address: str, operands: list[str]) -> list[str]:
    both = code.op(f"load atomic i128, ptr {address} acquire, align 16")
    high = code.op(f"lshr i128 {both}, 64")
    return [code.op(f"trunc i128 {both} to i64"), code.op(f"trunc i128 {high} to i64")]


# --- what names no word --------------------------------------------------------------------------
def fence(code: Code, memory: Registers, arguments: list[str]) -> None:
    code.do("fence seq_cst")


def light_fence(code: Code, memory: Registers, arguments: list[str]) -> None:
    code.do('fence syncscope("singlethread") seq_cst')


def heavy_fence(code: Code, memory: Registers, arguments: list[str]) -> None:
    """The call of the system. If it is refused, nothing that follows may rely on it: a fault."""
    checked_address(code, memory, runtime.fault, arguments[0])
    refused = code.op(f"icmp ne i64 {code.call('@rt.heavy_fence', [], 'i64')}, 0")
    bad, good = code.fresh("bad"), code.fresh("good")
    code.branch(refused, bad, good, RARELY)
    code.label(bad)
    runtime.fault(code, memory, runtime.NO_BARRIER, arguments[0])
    code.label(good)


def pause(code: Code, memory: Registers, arguments: list[str]) -> None:
    code.do(f"call void {PAUSE[code.target]}")


def expectation(fault: Fault) -> Emitter:
    """``expect``: a compare, and a branch that is taken once, if at all."""

    def emit(code: Code, memory: Registers, arguments: list[str]) -> None:
        condition, number = arguments
        met = code.truth(condition)
        bad, good = code.fresh("bad"), code.fresh("good")
        code.branch(code.op(f"xor i1 {met}, true"), bad, good, RARELY)
        code.label(bad)
        fault(code, memory, runtime.EXPECTATION, number)
        code.label(good)

    return emit


PAUSE = {"x86_64": "@llvm.x86.sse2.pause()", "aarch64": "@llvm.aarch64.hint(i32 1)"}


def clock(code: Code, memory: Registers, arguments: list[str]) -> str:
    """x86-64: time stamp counter; aarch64: CNTVCT_EL0, 20 to 80 times slower."""
    cycles = code.op("call i64 @llvm.readcyclecounter()")
    return code.op(f"and i64 {cycles}, {CLOCK_MASK}")


# --- what waits: runtime functions ---------------------------------------------------------------
def give_way(code: Code, memory: Registers, arguments: list[str]) -> None:
    code.call("@rt.give_way", [f"ptr {memory['call']}"], "void")


def _asleep(name: str) -> Emitter:
    def emit(code: Code, memory: Registers, arguments: list[str]) -> None:
        address = checked_address(code, memory, runtime.fault, arguments[0])
        frame = f"ptr {memory['call']}"
        code.call(f"@rt.{name}", [frame, f"ptr {address}", *arguments], "void")

    return emit


BARE: dict[str, Emitter] = {
    "getitem": access(read), "setitem": access(write), "fixed": access(fixed),
    "load": access(load("acquire")), "load_relaxed": access(load("monotonic")),
    "store": access(store("release")), "store_relaxed": access(store("monotonic")),
    "cas": access(cas), "cas2": access(cas2, pair=True), "load2": access(load2, pair=True),
    "exchange": access(update("xchg")), "fetch_add": access(update("add")),
    "fetch_or": access(update("or")), "fetch_and": access(update("and")),
    "mark": access(mark), "fence": fence, "light_fence": light_fence,
    "heavy_fence": heavy_fence, "relax": pause, "give_way": give_way,
    "wait": _asleep("wait"), "wake": _asleep("wake"), "notice": _asleep("notice"), "now": clock,
    "expect": expectation(runtime.fault),
}  # fmt: skip

RAM = Kind("ram", ("base", "words", "call"), dict(BARE), runtime.fault)

"""The memory of threads of the native model.

Each word posts its access in the control block (block.py), switches to the scheduler, which
performs it, and returns the value that it left there. native_control.py has the scheduler's own
block, native_checks.py the memory of check and invariant kernels.

A fault of a thread (a division by zero) ends the schedule; its fiber is never continued.

A loop that makes no step (nothing but ``fixed``, ``mark``, ``now`` or arithmetic) cannot be
stopped: the dialect asks for bounded loops or ``relax``.
"""

from __future__ import annotations

from shmalloc.compiler import words
from shmalloc.compiler.code import RARELY, Code
from shmalloc.compiler.kinds import Emitter, Kind, Registers
from shmalloc.compiler.runtime import CHOICE, EXPECTATION
from shmalloc.engine import ops
from stress.machine import block as cb
from stress.machine import native_control
from stress.machine.native_control import CONTROL, fiber_text, of_cpu, parked, slot
from stress.machine.primitives import remember

FILES = (*native_control.FILES, __file__)


def _posted(code: Code, memory: Registers, op: int, index: str, *operands: str) -> str:
    """Post an access, let the scheduler choose, and return the value it left: this CPU's step."""
    fiber_text(code)
    code.module.need("model.post", _post_text)
    many = len(operands) > 1
    given = [*operands, "0", "0", "0", "0"][: 4 if many else 1]
    if many:
        code.module.need("model.post4", _post4_text)
    name = "@model.post4" if many else "@model.post"
    return code.call(name, [f"ptr {memory['ctl']}", str(op), index, *given])


def _post_text() -> str:
    """One function that is never inlined: kernels have hundreds of accesses (inlined: 5 % slower).

    It stands in no line of a kernel, so its caller is what a debugger shows.
    """
    head = "define internal i64 @model.post(ptr %ctl, i64 %what, i64 %i, i64 %a)"
    return f"""{head} noinline nounwind {{
  %cpu.at = getelementptr i64, ptr %ctl, i64 {cb.CURRENT}
  %cpu = load i64, ptr %cpu.at, align 8
{slot("op", cb.OP)}  store i64 %what, ptr %op, align 8
{slot("at", cb.AT)}  store i64 %i, ptr %at, align 8
{slot("arg", cb.ARG)}  store i64 %a, ptr %arg, align 8
{slot("sp", cb.SP)}  %hub.at = getelementptr i64, ptr %ctl, i64 {cb.HUB_SP}
  %hub = load i64, ptr %hub.at, align 8
  call void @fiber.swap(ptr %sp, i64 %hub)
{slot("value", cb.VALUE)}  %found = load i64, ptr %value, align 8
  ret i64 %found
}}
"""


def _post4_text() -> str:
    """``model.post`` with four operands."""
    given = ", ".join(f"i64 %{name}" for name in ("what", "i", "a", "b", "c", "d"))
    stores = "".join(
        f"{slot(name, array)}  store i64 %{value}, ptr %{name}, align 8\n"
        for name, array, value in (
            ("arg1", cb.ARG1, "b"),
            ("arg2", cb.ARG2, "c"),
            ("arg3", cb.ARG3, "d"),
        )
    )
    return f"""define internal i64 @model.post4(ptr %ctl, {given}) noinline nounwind {{
  %cpu.at = getelementptr i64, ptr %ctl, i64 {cb.CURRENT}
  %cpu = load i64, ptr %cpu.at, align 8
{stores}  %found = call i64 @model.post(ptr %ctl, i64 %what, i64 %i, i64 %a)
  ret i64 %found
}}
"""


def _thread_fault(code: Code, memory: Registers, what: int, index: str) -> None:
    fiber_text(code)
    code.module.need("model.fault", _fault_text)
    outcome, said = cb.ARITHMETIC, str(what)
    if what == EXPECTATION:
        outcome, said = cb.EXPECTATION, index
    code.do(f"call void @model.fault(ptr {memory['ctl']}, i64 {outcome}, i64 {said})")
    code.end("unreachable")


def _fault_text() -> str:
    """The schedule ends here: CODE says what the fault is, or what ``expect`` said."""
    head = "define internal void @model.fault(ptr %ctl, i64 %how, i64 %what) cold noreturn"
    return f"""{head} noinline nounwind {{
  %cpu.at = getelementptr i64, ptr %ctl, i64 {cb.CURRENT}
  %cpu = load i64, ptr %cpu.at, align 8
  %outcome = getelementptr i64, ptr %ctl, i64 {cb.OUTCOME}
  store i64 %how, ptr %outcome, align 8
  %code = getelementptr i64, ptr %ctl, i64 {cb.CODE}
  store i64 %what, ptr %code, align 8
  %whose = getelementptr i64, ptr %ctl, i64 {cb.FAULT_CPU}
  store i64 %cpu, ptr %whose, align 8
{parked()}}}
"""


def _choose(code: Code, memory: Registers, arguments: list[str]) -> str:
    below = code.op(f"sub i64 {arguments[0]}, 1")
    bad, good = code.fresh("bad"), code.fresh("good")
    code.branch(code.op(f"icmp uge i64 {below}, {cb.MAX_VALUES}"), bad, good, RARELY)
    code.label(bad)
    _thread_fault(code, memory, CHOICE, "0")
    code.label(good)
    return _posted(code, memory, ops.OP_CHOOSE, "0", arguments[0])


def _cas(code: Code, memory: Registers, arguments: list[str]) -> str:
    return _posted(code, memory, ops.OP_CAS, *arguments)


def _cas2(code: Code, memory: Registers, arguments: list[str]) -> str:
    return _posted(code, memory, ops.OP_CAS2, *arguments)


def _load2(code: Code, memory: Registers, arguments: list[str]) -> list[str]:
    low = _posted(code, memory, ops.OP_LOAD2, arguments[0], "0")
    cpu = code.load(code.word(memory["ctl"], str(cb.CURRENT)))
    return [low, code.load(of_cpu(code, memory["ctl"], cb.VALUE1, cpu))]


def _required(code: Code, memory: Registers, op: int, index: str) -> str:
    """Address of a word that is accessed without a step. Outside of memory it is posted: the
    scheduler ends the schedule there."""
    outside = code.op(f"icmp uge i64 {index}, {memory['words']}")
    bad, good = code.fresh("bad"), code.fresh("good")
    code.branch(outside, bad, good, RARELY)
    code.label(bad)
    _posted(code, memory, op, index, "0")
    code.end("unreachable")
    code.label(good)
    return code.word(memory["base"], index)


def _fixed(code: Code, memory: Registers, arguments: list[str]) -> str:
    return code.load(_required(code, memory, ops.OP_FIXED, arguments[0]))


def remembered(code: Code, memory: Registers, index: str, old: str) -> None:
    """Word ``index`` held ``old`` and is about to change."""
    call = code.module.instance(remember, CONTROL, True)
    code.module.call(code, call, {"base": memory["ctl"]}, [index, old])


def _mark(code: Code, memory: Registers, arguments: list[str]) -> None:
    address = _required(code, memory, ops.OP_MARK, arguments[0])
    count = code.load(address)
    remembered(code, memory, arguments[0], count)
    code.store(code.op(f"add i64 {count}, 1"), address)


def nothing(code: Code, memory: Registers, arguments: list[str]) -> None:
    """``notice`` of a thread: only a supervisor announces a death (stress/crash). Or its
    ``light_fence``: the model keeps the order of each CPU's program."""


def now_of(code: Code, memory: Registers, arguments: list[str]) -> str:
    return code.load(code.word(memory["ctl"], str(cb.STEPS)))


def _read(op: int) -> Emitter:
    return lambda code, memory, arguments: _posted(code, memory, op, arguments[0], "0")


def _write(op: int) -> Emitter:
    def write(code: Code, memory: Registers, arguments: list[str]) -> None:
        _posted(code, memory, op, *arguments)

    return write


def _update(op: int) -> Emitter:
    return lambda code, memory, arguments: _posted(code, memory, op, *arguments)


def _barrier(op: int) -> Emitter:
    def barrier(code: Code, memory: Registers, arguments: list[str]) -> None:
        _posted(code, memory, op, arguments[0], "0")

    return barrier


def _ordering(op: int) -> Emitter:
    def order(code: Code, memory: Registers, arguments: list[str]) -> None:
        _posted(code, memory, op, "0", "0")

    return order


MODEL = Kind(
    "model",
    ("base", "words", "ctl"),
    {
        **{word: _read(op) for word, op in ops.READS.items()},
        **{word: _write(op) for word, op in (ops.WRITES | ops.SLEEPS).items()},
        **{word: _update(op) for word, op in ops.UPDATES.items()},
        **{word: _barrier(op) for word, op in ops.BARRIERS.items()},
        **{word: _ordering(op) for word, op in ops.ORDERINGS.items()},
        "choose": _choose,
        "cas": _cas,
        "cas2": _cas2,
        "load2": _load2,
        "fixed": _fixed,
        "mark": _mark,
        "now": now_of,
        "notice": nothing,
        "light_fence": nothing,
        "expect": words.expectation(_thread_fault),
    },
    _thread_fault,
    files=FILES,
)

"""The scheduler's own block as a kind of memory of the native model, and its primitives.

``CONTROL`` is unchecked. ``launch`` prepares the fiber of a CPU, ``resume`` switches to it,
``run_kernel`` calls a check or an invariant (primitives.py); a fault of it is the outcome.
"""

from __future__ import annotations

from shmalloc.compiler.code import Code
from shmalloc.compiler.kinds import Kind, Registers
from shmalloc.compiler.runtime import CODE, EXPECTATION, FAULT, FRAME_WORDS, INDEX, ODD_PAIR, PLACE
from shmalloc.engine import ops
from stress.machine import block as cb
from stress.machine import fibers

WROTE = 16  # behind the faults of runtime.py: a memory that is only looked at was written
STACK_BYTES = fibers.STACK_WORDS * 8
FILES = (__file__, cb.__file__, fibers.__file__)
STACK_STAGGER_BYTES = 24 * 8  # else the tops of all stacks fall into one set of the cache


def _no_fault(code: Code, memory: Registers, what: int, index: str) -> None:
    """The scheduler does nothing without meaning; if it did, this process could not be trusted."""
    code.do("call void @llvm.trap()")
    code.end("unreachable")


def _get(code: Code, memory: Registers, arguments: list[str]) -> str:
    return code.load(code.word(memory["base"], arguments[0]))


def _set(code: Code, memory: Registers, arguments: list[str]) -> None:
    code.store(arguments[1], code.word(memory["base"], arguments[0]))


def fiber_text(code: Code) -> None:
    code.module.need("fiber.swap", lambda: fibers.swap_text(code.target))


def of_cpu(code: Code, block: str, array: int, cpu: str) -> str:
    """Address of the word of ``cpu`` in one of the block's arrays."""
    return code.word(block, code.op(f"add i64 {cpu}, {array}"))


def _pointer(code: Code, block: str, slot: int) -> str:
    return code.op(f"load ptr, ptr {code.word(block, str(slot))}, align 8")


def _read_word(code: Code, memory: Registers, arguments: list[str]) -> str:
    return code.load(code.word(_pointer(code, memory["base"], cb.BASE), arguments[0]))


def _write_word(code: Code, memory: Registers, arguments: list[str]) -> None:
    code.store(arguments[1], code.word(_pointer(code, memory["base"], cb.BASE), arguments[0]))


def _added(code: Code, memory: Registers, arguments: list[str]) -> str:
    return code.op(f"add i64 {arguments[0]}, {arguments[1]}")


def _resume(code: Code, memory: Registers, arguments: list[str]) -> None:
    fiber_text(code)
    block = memory["base"]
    stack = code.load(of_cpu(code, block, cb.SP, arguments[0]))
    code.call("@fiber.swap", [f"ptr {code.word(block, str(cb.HUB_SP))}", stack], "void")


def _launch(code: Code, memory: Registers, arguments: list[str]) -> None:
    """Write the first frame: the first switch to it pops registers and enters the trampoline."""
    fiber_text(code)
    code.module.need("fiber.trampoline", lambda: fibers.trampoline_text(code.target))
    code.module.need("model.main", _main_text)
    block, cpu, frame = memory["base"], arguments[0], fibers.FRAMES[code.target]
    stacks = code.load(code.word(block, str(cb.STACKS)))
    below = code.op(f"mul i64 {code.op(f'add i64 {cpu}, 1')}, {STACK_BYTES}")
    stagger = code.op(f"mul i64 {cpu}, {STACK_STAGGER_BYTES}")
    top = code.op(f"sub i64 {code.op(f'add i64 {stacks}, {below}')}, {stagger}")
    start = code.op(f"sub i64 {top}, {frame.words * 8}")
    at = code.op(f"inttoptr i64 {start} to ptr")
    values = (
        (frame.argument, f"ptr {block}"),
        (frame.entry, "ptr @model.main"),
        (frame.pointer, "i64 0"),
        (frame.back, "ptr @fiber.trampoline"),
    )
    for offset, value in values:
        code.do(f"store {value}, ptr {code.word(at, str(offset))}, align 8")
    code.store(start, of_cpu(code, block, cb.SP, cpu))


def _main_text() -> str:
    """Where every fiber starts: run the kernel of the CPU, then never run again."""
    return f"""define internal void @model.main(ptr %ctl) noinline nounwind {{
  %cpu.at = getelementptr i64, ptr %ctl, i64 {cb.CURRENT}
  %cpu = load i64, ptr %cpu.at, align 8
  %base.at = getelementptr i64, ptr %ctl, i64 {cb.BASE}
  %base = load ptr, ptr %base.at, align 8
  %words.at = getelementptr i64, ptr %ctl, i64 {cb.WORDS}
  %words = load i64, ptr %words.at, align 8
{slot("entry", cb.ENTRY)}  %kernel = load ptr, ptr %entry, align 8
{_called()}{slot("return", cb.RETURN)}  store i64 %result, ptr %return, align 8
{slot("op", cb.OP)}  store i64 {ops.OP_FINISH}, ptr %op, align 8
{slot("state", cb.STATE)}  store i64 {cb.FINISHED}, ptr %state, align 8
{parked()}}}
"""


def _called() -> str:
    """IR that calls ``%kernel`` with as many arguments as the program gives to ``%cpu``."""
    row = 1 + cb.MAX_ARGUMENTS
    text = f"""  %rows.at = getelementptr i64, ptr %ctl, i64 {cb.ARGUMENTS_AT}
  %rows = load i64, ptr %rows.at, align 8
  %before = mul i64 %cpu, {row}
  %first = add i64 %rows, %before
  %row = getelementptr i64, ptr %ctl, i64 %first
  %count = load i64, ptr %row, align 8
  switch i64 %count, label %with.0 [{" ".join(f"i64 {k}, label %with.{k}" for k in range(1, row))}]
"""
    given = "ptr %base, i64 %words, ptr %ctl, i64 %cpu"
    for count in range(row):
        text += f"with.{count}:\n"
        for k in range(count):
            text += f"  %a.{count}.{k}.at = getelementptr i64, ptr %row, i64 {k + 1}\n"
            text += f"  %a.{count}.{k} = load i64, ptr %a.{count}.{k}.at, align 8\n"
        more = "".join(f", i64 %a.{count}.{k}" for k in range(count))
        text += f"  %r.{count} = call i64 %kernel({given}{more})\n  br label %called\n"
    found = ", ".join(f"[ %r.{count}, %with.{count} ]" for count in range(row))
    return f"{text}called:\n  %result = phi i64 {found}\n"


def slot(name: str, array: int) -> str:
    """IR of the address of the word of ``%cpu`` in an array of ``%ctl``."""
    return (
        f"  %{name}.k = add i64 %cpu, {array}\n"
        f"  %{name} = getelementptr i64, ptr %ctl, i64 %{name}.k\n"
    )


def parked() -> str:
    """IR that switches from the fiber of ``%cpu`` to the scheduler, for good."""
    return (
        f"{slot('sp', cb.SP)}  %hub.at = getelementptr i64, ptr %ctl, i64 {cb.HUB_SP}\n"
        "  %hub = load i64, ptr %hub.at, align 8\n"
        "  call void @fiber.swap(ptr %sp, i64 %hub)\n  unreachable\n"
    )


def _private_state(code: Code, memory: Registers, arguments: list[str]) -> str:
    code.module.need("model.private", _private_text)
    return code.call("@model.private", [f"ptr {memory['base']}", arguments[0]])


def _private_text() -> str:
    """A hash of what is on the stack of a stopped fiber, its registers included."""
    return f"""define internal i64 @model.private(ptr %ctl, i64 %cpu) noinline nounwind {{
{slot("sp", cb.SP)}  %first = load i64, ptr %sp, align 8
  %stacks.at = getelementptr i64, ptr %ctl, i64 {cb.STACKS}
  %stacks = load i64, ptr %stacks.at, align 8
  %number = add i64 %cpu, 1
  %below = mul i64 %number, {STACK_BYTES}
  %stagger = mul i64 %cpu, {STACK_STAGGER_BYTES}
  %end = add i64 %stacks, %below
  %top = sub i64 %end, %stagger
  br label %word
word:
  %at = phi i64 [ %first, %0 ], [ %next, %word ]
  %hash = phi i64 [ 0, %0 ], [ %mixed, %word ]
  %place = inttoptr i64 %at to ptr
  %value = load i64, ptr %place, align 8
  %joined = xor i64 %hash, %value
  %product = mul i64 %joined, {cb.HASH_FACTOR}
  %high = lshr i64 %product, 29
  %mixed = xor i64 %product, %high
  %next = add i64 %at, 8
  %more = icmp ult i64 %next, %top
  br i1 %more, label %word, label %done
done:
  %told = and i64 %mixed, {cb.MASK62}
  ret i64 %told
}}
"""


def _run_kernel(code: Code, memory: Registers, arguments: list[str]) -> str:
    code.module.need("model.check", _check_text)
    entry = code.op(f"load ptr, ptr {code.word(memory['base'], arguments[0])}, align 8")
    return code.call("@model.check", [f"ptr {memory['base']}", f"ptr {entry}"])


def _check_text() -> str:
    """Run a check or invariant kernel in a frame of its own; a fault of it is the outcome."""
    return f"""define internal i64 @model.check.thunk(ptr %call) noinline nounwind {{
  %ctl.at = getelementptr i64, ptr %call, i64 {PLACE}
  %ctl = load ptr, ptr %ctl.at, align 8
  %code.at = getelementptr i64, ptr %call, i64 {CODE}
  %code = load ptr, ptr %code.at, align 8
  %base.at = getelementptr i64, ptr %ctl, i64 {cb.BASE}
  %base = load ptr, ptr %base.at, align 8
  %words.at = getelementptr i64, ptr %ctl, i64 {cb.WORDS}
  %words = load i64, ptr %words.at, align 8
  %r = call i64 %code(ptr %base, i64 %words, ptr %ctl, ptr %call)
  ret i64 %r
}}
define internal i64 @model.check(ptr %ctl, ptr %entry) noinline nounwind {{
  %call = alloca [{FRAME_WORDS} x i64], align 16
  %ctl.at = getelementptr i64, ptr %call, i64 {PLACE}
  store ptr %ctl, ptr %ctl.at, align 8
  %code.at = getelementptr i64, ptr %call, i64 {CODE}
  store ptr %entry, ptr %code.at, align 8
  %fault.at = getelementptr i64, ptr %call, i64 {FAULT}
  store i64 0, ptr %fault.at, align 8
  %r = call i64 @rt.enter(ptr @model.check.thunk, ptr %call)
  %what = load i64, ptr %fault.at, align 8
  %bad = icmp ne i64 %what, 0
  br i1 %bad, label %faulty, label %done, !prof !0
faulty:
  %access = icmp ule i64 %what, {ODD_PAIR}
  %expected = icmp eq i64 %what, {EXPECTATION}
  %wrote = icmp eq i64 %what, {WROTE}
  %other = select i1 %expected, i64 {cb.EXPECTATION}, i64 {cb.ARITHMETIC}
  %without = select i1 %wrote, i64 {cb.WROTE}, i64 %other
  %outcome = select i1 %access, i64 {cb.MEMORY}, i64 %without
  %outcome.at = getelementptr i64, ptr %ctl, i64 {cb.OUTCOME}
  store i64 %outcome, ptr %outcome.at, align 8
  %said.at = getelementptr i64, ptr %call, i64 {INDEX}
  %said = load i64, ptr %said.at, align 8
  %says = or i1 %expected, %wrote
  %number = select i1 %says, i64 %said, i64 %what
  %told = select i1 %access, i64 0, i64 %number
  %told.at = getelementptr i64, ptr %ctl, i64 {cb.CODE}
  store i64 %told, ptr %told.at, align 8
  ret i64 %told
done:
  ret i64 %r
}}
"""


CONTROL = Kind(
    "control",
    ("base",),
    {
        "getitem": _get,
        "setitem": _set,
        "launch": _launch,
        "resume": _resume,
        "run_kernel": _run_kernel,
        "read_word": _read_word,
        "write_word": _write_word,
        "added": _added,
        "private_state": _private_state,
    },
    _no_fault,
    files=FILES,
)

"""Programs of aarch64 that hold values in every register which a function must keep.

``fiber_program`` switches between two stacks, ``fault_program`` leaves calls by a fault after other
code overwrote those registers; both check their values afterwards. They return 0, or 1.
"""

from __future__ import annotations

from collections.abc import Callable
from unittest import mock

from shmalloc.compiler import runtime
from shmalloc.compiler.runtime import CODE
from stress.machine import fibers
from support.emulated import START, SYSTEM, of_words

ROUNDS = 10_000
INTS, REALS = 11, 9
STACK_WORDS = 1024
_MASK = (1 << 64) - 1


def fiber_program(forgets: str = "") -> str:
    """``forgets``: a pair of registers that the switch neither saves nor restores."""
    frame = fibers.FRAMES["aarch64"]
    top = STACK_WORDS - frame.words
    first = "".join(
        f"  %f{at} = getelementptr i64, ptr @stack, i64 {top + at}\n  store {value}, ptr %f{at}\n"
        for at, value in (
            (frame.argument, "i64 7"),
            (frame.entry, "ptr @entry"),
            (frame.pointer, "i64 0"),
            (frame.back, "ptr @fiber.trampoline"),
        )
    )
    there = "  %sp = load i64, ptr @fiber.sp\n  call void @fiber.swap(ptr @main.sp, i64 %sp)\n"
    return (
        f"@stack = internal global [{STACK_WORDS} x i64] zeroinitializer, align 16\n"
        "@main.sp = internal global i64 0\n@fiber.sp = internal global i64 0\n"
        "@count = internal global i64 0\n@mix = internal global i64 0\n"
        "@total = internal global double 0.0\n"
        + _without(forgets, lambda: fibers.swap_text("aarch64"))
        + fibers.trampoline_text("aarch64")
        + _entry()
        + holding("round.trips", there)
        + "define internal i64 @main() noinline nounwind {\n"
        + first
        + f"  %at = getelementptr i64, ptr @stack, i64 {top}\n  store ptr %at, ptr @fiber.sp\n"
        "  %a = call i64 @round.trips()\n"
        + _unequal("%count", "@count", 7 * ROUNDS)
        + _unequal("%mix", "@mix", _mixed())
        + "  %t = load double, ptr @total\n"
        f"  %t.bad = fcmp une double %t, {_real(_added())}\n"
        "  %t.n = zext i1 %t.bad to i64\n  %b = or i64 %a, %count.n\n  %c = or i64 %b, %mix.n\n"
        "  %d = or i64 %c, %t.n\n  ret i64 %d\n}\n" + SYSTEM + START
    )


def fault_program(forgets: str = "") -> str:
    """``forgets``: a pair of registers that ``rt.enter`` and ``rt.back`` do not restore."""
    spoil = [0xD2800000 | 0xBAD << 5 | x for x in range(19, 30)]  # mov x19, #0xbad ...
    spoil += [0x2F00E400 | d for d in range(8, 16)]  # movi d8, #0 ...
    spoil += [0xF9400009 | CODE << 10, 0xD63F0120]  # ldr x9, [x0, #8 * CODE]; blr x9
    call = "  %r = call i64 @rt.enter(ptr @spoil, ptr @frame)\n"
    return (
        "@frame = internal global [32 x i64] zeroinitializer, align 16\n"
        + runtime.declarations("aarch64")
        + _without(forgets, lambda: runtime.definitions("aarch64"))
        + of_words("i64 @spoil(ptr)", spoil)
        + holding("faults", call)
        + "define internal i64 @main() noinline nounwind {\n"
        f"  %code = getelementptr i64, ptr @frame, i64 {CODE}\n"
        "  store ptr @rt.back, ptr %code\n  %a = call i64 @faults()\n  ret i64 %a\n}\n"
        '!0 = !{!"branch_weights", i32 1, i32 100000}\n!1 = !{}\n' + SYSTEM + START
    )


def _without(pair: str, text: Callable[[], str]) -> str:
    """``text()`` while the lines about ``pair`` are left out of our assembly."""
    if not pair:
        return text()
    whole = runtime.naked

    def forgetful(target: str, head: str, assembly: str, linkage: str = "internal") -> str:
        kept = [line for line in assembly.splitlines() if f"p {pair}," not in line]
        return whole(target, head, "\n".join(kept), linkage)

    with (
        mock.patch.object(runtime, "naked", forgetful),
        mock.patch.object(fibers, "naked", forgetful),
    ):
        return text()


def holding(name: str, call: str) -> str:
    """IR of a function that keeps ints and reals in registers across ``call``, ROUNDS times."""
    text = f"define internal i64 @{name}() noinline nounwind {{\nentry:\n  br label %loop\nloop:\n"
    text += "  %k = phi i64 [ 0, %entry ], [ %k.new, %loop ]\n"
    text += _values() + call + "  %k.new = add i64 %k, 1\n" + _next_values()
    text += f"  %more = icmp ult i64 %k.new, {ROUNDS}\n"
    return text + "  br i1 %more, label %loop, label %done\ndone:\n" + _checked() + "}\n"


def _values() -> str:
    """Ints that LLVM cannot make of each other, and reals, at the beginning of a round."""
    ints = (f"  %x{k} = phi i64 [ {k}, %entry ], [ %x{k}.new, %loop ]\n" for k in range(INTS))
    reals = (f"  %d{k} = phi double [ 0.0, %entry ], [ %d{k}.new, %loop ]\n" for k in range(REALS))
    return "".join((*ints, *reals))


def _next_values() -> str:
    ints = (
        f"  %x{k}.mul = mul i64 %x{k}, {3 + k}\n  %x{k}.new = add i64 %x{k}.mul, 1\n"
        for k in range(INTS)
    )
    reals = (f"  %d{k}.new = fadd double %d{k}, {_real(k + 0.5)}\n" for k in range(REALS))
    return "".join((*ints, *reals))


def _ints_after(rounds: int) -> list[int]:
    values = list(range(INTS))
    for _ in range(rounds):
        values = [(value * (3 + k) + 1) & _MASK for k, value in enumerate(values)]
    return values


def _checked() -> str:
    text, all_of = "", "0"
    for k, value in enumerate(_ints_after(ROUNDS)):
        text += f"  %x{k}.bad = icmp ne i64 %x{k}.new, {value}\n"
    for k in range(REALS):
        text += f"  %d{k}.bad = fcmp une double %d{k}.new, {_real(ROUNDS * (k + 0.5))}\n"
    for value in (*(f"x{k}" for k in range(INTS)), *(f"d{k}" for k in range(REALS))):
        text += f"  %{value}.n = zext i1 %{value}.bad to i64\n"
        text += f"  %{value}.or = or i64 {all_of}, %{value}.n\n"
        all_of = f"%{value}.or"
    return text + f"  ret i64 {all_of}\n"


def _entry() -> str:
    """The fiber: counts its argument, mixes its ints, adds its reals, switches back, for ever."""
    text = "define internal void @entry(i64 %step) noinline nounwind {\nentry:\n  br label %loop\n"
    text += "loop:\n" + _values()
    text += "  %c = load i64, ptr @count\n  %c1 = add i64 %c, %step\n  store i64 %c1, ptr @count\n"
    text += "  %sp = load i64, ptr @main.sp\n  call void @fiber.swap(ptr @fiber.sp, i64 %sp)\n"
    text += "  %m = load i64, ptr @mix\n"
    mix, total = "%m", "0.0"
    for k in range(INTS):
        text += f"  %m{k} = xor i64 {mix}, %x{k}\n"
        mix = f"%m{k}"
    for k in range(REALS):
        text += f"  %t{k} = fadd double {total}, %d{k}\n"
        total = f"%t{k}"
    text += f"  store i64 {mix}, ptr @mix\n  store double {total}, ptr @total\n"
    return text + _next_values() + "  br label %loop\n}\n"


def _mixed() -> int:
    """What ``_entry`` leaves in @mix: it continues after its switch ROUNDS - 1 times."""
    mix, values = 0, list(range(INTS))
    for _ in range(ROUNDS - 1):
        for k, value in enumerate(values):
            mix ^= value
            values[k] = (value * (3 + k) + 1) & _MASK
    return mix


def _added() -> float:
    """What ``_entry`` leaves in @total."""
    return sum((ROUNDS - 2) * (k + 0.5) for k in range(REALS))


def _unequal(name: str, place: str, value: int) -> str:
    return (
        f"  {name}.v = load i64, ptr {place}\n  {name}.bad = icmp ne i64 {name}.v, {value}\n"
        f"  {name}.n = zext i1 {name}.bad to i64\n"
    )


def _real(value: float) -> str:
    return f"{value:e}"

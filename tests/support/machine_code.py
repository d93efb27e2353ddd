"""Reading machine code: the instructions of one kernel, on whatever machine this runs.

A kernel is compiled for a named processor and its assembly text cut down to what claims are made
of. ``touched`` gives what touches shared memory or orders it, in the order of the text, with
registers, numbers and places normalized: ``movq M, r`` is a load, ``movq r, M`` a store, ``lock
cmpxchg16b M`` and ``caspal r, r, r, r, M`` are two-word swaps. What lies on the stack (a prologue,
the seventh argument) is left out. The two full fences of x86-64 are one: ``fence``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from types import FunctionType
from typing import NamedTuple

from shmalloc.compiler import build, codegen
from shmalloc.compiler.codegen import BASELINE, Target
from shmalloc.compiler.instances import Instance, symbol_of
from shmalloc.compiler.kinds import Kind
from shmalloc.compiler.words import RAM

_ARM_TRIPLE = "aarch64-unknown-linux-gnu"
X86_V2 = BASELINE
X86_V3 = Target(BASELINE.triple, "x86-64-v3", "+cx16")
LSE = Target(_ARM_TRIPLE, "generic", "+lse")
LSE2 = Target(_ARM_TRIPLE, "generic", "+lse,+lse2")
N1 = Target(_ARM_TRIPLE, "neoverse-n1", "")
V1 = Target(_ARM_TRIPLE, "neoverse-v1", "")
X86, ARM = {"v2": X86_V2, "v3": X86_V3}, {"lse": LSE, "lse2": LSE2, "n1": N1, "v1": V1}

FAULT = "rt.fault"
_LABEL = re.compile(r"(\.LBB\w+):")
_CALL = re.compile(r"(?:callq?|bl|blr|jmp|b)\s+\"?([*%\w.:$]+)\"?")
BRANCH = re.compile(r"(?:j(?!mp)[a-z]+|b\.[a-z]+|tbn?z\s+\w+, #\d+,|cbn?z\s+\w+,)\s+(\.LBB\w+)$")
_ALWAYS = re.compile(r"(?:jmp|b)\s+(\.LBB\w+)$")
_RETURN = re.compile(r"retq?$")
_SPECIAL = re.compile(
    r"(?:lock|mfence|lfence|sfence|dmb|dsb|isb|syscall|svc|pause|yield|rdtscp?|mrs)\b"
)


class Line(NamedTuple):
    """A label, or an instruction."""

    label: str
    code: str


def assembly(functions: Iterable[FunctionType], target: Target, kind: Kind = RAM) -> str:
    """All that is compiled for some kernels, as text.

    Without our own assembly for x86-64 on another machine: LLVM has no assembler for it there.
    """
    text = build.module_text([Instance(function, kind, True) for function in functions], target)
    if target.architecture not in ("aarch64", codegen.host().architecture):
        text = re.sub('asm sideeffect "[^"]+"', 'asm sideeffect ""', text)
    return codegen.assembly_code(text, target)


def code_of(text: str, symbol: str) -> list[Line]:
    """Labels and instructions of a function in assembly text."""
    quoted = re.escape(symbol)
    found = re.search(rf'^"?{quoted}"?:.*?^\.Lfunc_end', text, re.MULTILINE | re.DOTALL)
    assert found, f"no function {symbol}"
    lines = []
    for line in found[0].splitlines()[1:-1]:
        bare = re.sub(r"\s+", " ", re.sub(r"(?://|# |#$).*", "", line)).strip()
        label = _LABEL.match(bare)
        if label:
            lines.append(Line(label[1], ""))
        elif bare and not bare.startswith("."):
            lines.append(Line("", bare))
    return lines


def kernel_code(function: FunctionType, target: Target, kind: Kind = RAM) -> list[Line]:
    """Labels and instructions of a kernel over ``kind``, compiled alone."""
    return code_of(assembly([function], target, kind), symbol_of(function, kind))


# --- what it touches -----------------------------------------------------------------------------
def touched(lines: Iterable[Line]) -> list[str]:
    """What touches shared memory, orders it, reads a clock; and every call but that of a fault."""
    found = []
    for _, code in lines:
        if _SPECIAL.match(code) or _is_access(code):
            found.append(_normal(code))
        called = _callee(code)
        if called not in ("", FAULT):
            found.append(f"call {called}")
    return found


def _is_access(code: str) -> bool:
    place = re.search(r"\((%\w+)|\[(\w+)|\w+\(%rip\)", code)
    return bool(place) and not code.startswith("lea") and "sp" not in (place[1] or place[2] or "")


def _callee(code: str) -> str:
    found = _CALL.match(code)
    return found[1] if found and not found[1].startswith(".LBB") else ""


def _normal(code: str) -> str:
    if re.fullmatch(r"mfence|lock orl \$0, -?\w*\(%rsp\)", code):
        return "fence"  # LLVM 20 and 22
    code = re.sub(r"-?\w*\([^)]*\)|\[[^\]]*\]!?", "M", code)
    return re.sub(r"%\w+|\b[xw]\d+\b|\b[xw]zr\b", "r", code)


# --- its paths -----------------------------------------------------------------------------------
def guards(lines: Sequence[Line]) -> list[int]:
    """Where the branches are that lead to a fault, as indices of ``lines``."""
    found = []
    for k, (_, code) in enumerate(lines):
        branch = BRANCH.match(code)
        if branch and leads_to_fault(lines, branch[1]):
            found.append(k)
    return found


def first_access(lines: Sequence[Line]) -> int:
    """Index of the first access or call of the good path."""
    return next(k for k, line in enumerate(lines) if touched([line]))


def leads_to_fault(lines: Sequence[Line], label: str) -> bool:
    """Whether all that happens from ``label`` on is a fault: no access, no return."""
    at = _index(lines, label)
    for _ in range(len(lines)):
        at += 1
        if at == len(lines):
            return False
        code = lines[at].code
        jump = _ALWAYS.match(code)
        if jump:
            at = _index(lines, jump[1])
        elif code and _callee(code) == FAULT:
            return True
        elif _RETURN.match(code) or BRANCH.match(code) or touched([lines[at]]):
            return False
    return False


def _index(lines: Sequence[Line], label: str) -> int:
    return next(k for k, line in enumerate(lines) if line.label == label)


def is_outlined(lines: Sequence[Line]) -> bool:
    """Whether the paths to a fault lie behind all others, and nothing lies behind them."""
    last = max(k for k, line in enumerate(lines) if _RETURN.match(line.code))
    targets = [_index(lines, BRANCH.match(lines[k].code)[1]) for k in guards(lines)]  # type: ignore[index]
    return all(at > last for at in targets) and _callee(lines[-1].code) == FAULT

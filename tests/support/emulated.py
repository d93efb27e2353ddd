"""Kernels as a program of aarch64 that needs nothing but an emulator (qemu-user).

Only our own compiler and linker make it, since the C library and Python only give a kernel its
words, its arguments and three system calls. The program makes each of a list of ``Call``s in turn,
through the same thunks and ``rt.enter`` as the wrappers do, and writes the outcome to its standard
output: frames, as runtime.py draws them, and words.
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from shmalloc.compiler import codegen, runtime
from shmalloc.compiler.build import shape_of
from shmalloc.compiler.codegen import Target
from shmalloc.compiler.instances import Instance, symbol_of
from shmalloc.compiler.link import link
from shmalloc.compiler.module import Known, Module
from shmalloc.compiler.runtime import (
    ARGUMENTS,
    CODE,
    FAULT,
    FAULTS,
    FRAME_WORDS,
    INDEX,
    PLACE,
    PLACE_SIZE,
    RESULTS,
    SITE,
    TIMESPEC,
)
from shmalloc.compiler.wrappers import wrappers
from shmalloc.dialect import caller_index
from support import arm_code, random_expressions

ENV_QEMU = "SHMALLOC_QEMU_AARCH64"
WORDS = random_expressions.WORDS
_ENTRY_AT = 24  # of an ELF header: where a program begins
_MOST = 16  # ints of a call
_ROW = WORDS + _MOST  # words, arguments
_OUTCOME = FRAME_WORDS + 1 + WORDS  # the frame, what was returned, words
TIMEOUT_S = 300
_SVC, _RET = 0xD4000001, 0xD65F03C0


def emulator() -> str | None:
    """qemu for aarch64: the one that the environment names, or one that is installed."""
    named = os.environ.get(ENV_QEMU)
    found = (shutil.which(name) for name in ("qemu-aarch64", "qemu-aarch64-static"))
    return named or next(filter(None, found), None)


class Call(NamedTuple):
    """Kernel number ``entry`` of a program over these words, with these arguments."""

    entry: int
    words: Sequence[int]
    arguments: Sequence[int]


def of_words(head: str, words: Sequence[int]) -> str:
    """IR of a function that is these machine words."""
    values = ", ".join(f"i32 {word}" for word in words)
    return (
        f"define internal {head} naked noinline nounwind prologue [{len(words)} x i32] [{values}]"
        f" {{\n  {runtime.assembly('')}\n  unreachable\n}}\n"
    )


def _moved(to: int, source: int) -> int:
    return 0xAA0003E0 | source << 16 | to


SYSTEM = (
    # As syscall(2): its number comes first.
    of_words(
        "i64 @syscall(i64, i64, i64, i64, i64, i64, i64)",
        [_moved(8, 0), *(_moved(k, k + 1) for k in range(6)), _SVC, _RET],
    )
    + of_words("i32 @sched_yield()", [0xD2800F88, _SVC, _RET])  # mov x8, #124
    + of_words("void @exit(i64)", [0xD2800BA8, _SVC])  # mov x8, #93
    + "define internal void @notice(ptr %place, i64 %word) { ret void }\n"
)
START = """define void @_start() noinline nounwind {
  %code = call i64 @main()
  call void @exit(i64 %code)
  unreachable
}
"""


def _at(name: str, base: str, index: int | str) -> str:
    return f"  %{name} = getelementptr i64, ptr {base}, i64 {index}\n"


def _copied(source: str, to: str, count: int, tag: str) -> str:
    text = ""
    for k in range(count):
        text += _at(f"{tag}.s{k}", source, k) + _at(f"{tag}.t{k}", to, k)
        text += f"  %{tag}.v{k} = load i64, ptr %{tag}.s{k}\n"
        text += f"  store i64 %{tag}.v{k}, ptr %{tag}.t{k}\n"
    return text


def _step() -> str:
    """One call: words and frame are laid out, and copied out afterwards."""
    return (
        "define internal void @step(ptr %kernel, ptr %thunk, i64 %k) noinline nounwind {\n"
        f"  %row = getelementptr [{_ROW} x i64], ptr @rows, i64 %k\n"
        f"  %out = getelementptr [{_OUTCOME} x i64], ptr @out, i64 %k\n"
        + _copied("%row", "@ram", WORDS, "w")
        + _at("given", "%row", WORDS)
        + _at("args", "@frame", ARGUMENTS)
        + _copied("%given", "%args", _MOST, "a")
        + _at("fault", "@frame", FAULT)
        + "  store i64 0, ptr %fault\n"
        + _at("place", "@frame", PLACE)
        + "  store ptr @place, ptr %place\n"
        + _at("code", "@frame", CODE)
        + "  store ptr %kernel, ptr %code\n"
        + "  %r = call i64 @rt.enter(ptr %thunk, ptr @frame)\n"
        + _at("value", "%out", FRAME_WORDS)
        + "  store i64 %r, ptr %value\n"
        + _copied("@frame", "%out", FRAME_WORDS, "f")
        + _at("left", "%out", FRAME_WORDS + 1)
        + _copied("@ram", "%left", WORDS, "l")
        + "  ret void\n}\n"
    )


def _imports() -> str:
    return "".join(
        _at(f"i.{name}", "@imports", runtime.IMPORTS.index(name))
        + f"  store ptr @{name}, ptr %i.{name}\n"
        for name in ("syscall", "sched_yield", "notice")
    )


def _array(values: Sequence[int]) -> str:
    return f"[{len(values)} x i64] [{', '.join(f'i64 {value}' for value in values)}]"


def _data(calls: Sequence[Call]) -> str:
    rows = []
    for call in calls:
        given = [*call.arguments, *[0] * (_MOST - len(call.arguments))]
        rows.append(_array([*call.words, *given]))
    return (
        f"@rows = internal constant [{len(rows)} x [{_ROW} x i64]] [{', '.join(rows)}]\n"
        f"@out = internal global [{len(rows)} x [{_OUTCOME} x i64]] zeroinitializer\n"
        f"@ram = internal global [{WORDS} x i64] zeroinitializer, align 16\n"
        f"@frame = internal global [{FRAME_WORDS} x i64] zeroinitializer, align 16\n"
        f"@place = internal global [{PLACE_SIZE} x i64] zeroinitializer, align 16\n"
    )


def _main(entries: Sequence[Instance], calls: Sequence[Call]) -> str:
    size = 8 * _OUTCOME * len(calls)
    text = (
        "define internal i64 @main() noinline nounwind {\n"
        + _imports()
        + "  store ptr @ram, ptr @place\n"
        + _at("words", "@place", runtime.PLACE_WORDS)
        + f"  store i64 {WORDS}, ptr %words\n"
        + _at("time", "@place", TIMESPEC + 1)
        + "  store i64 1000000, ptr %time\n"
    )
    for k, call in enumerate(calls):
        entry = entries[call.entry]
        names = f'ptr @"{symbol_of(*entry)}", ptr @"thunk.{shape_of(entry).name}"'
        text += f"  call void @step({names}, i64 {k})\n"
    return (
        text + "  %out = ptrtoint ptr @out to i64\n"
        f"  %n = call i64 @syscall(i64 64, i64 1, i64 %out, i64 {size}, i64 0, i64 0, i64 0)\n"
        f"  %short = icmp ne i64 %n, {size}\n  %code = zext i1 %short to i64\n  ret i64 %code\n}}\n"
    )


def linked(text: str, target: Target) -> bytes:
    """IR with a ``_start`` as a program."""
    image = bytearray(link([codegen.object_code(text, target)], "emulated"))
    struct.pack_into("<Q", image, _ENTRY_AT, arm_code.addresses(bytes(image))["_start"])
    return bytes(image)


class Program:
    """Kernels and calls of them, compiled for ``target``."""

    def __init__(self, entries: Sequence[Instance], calls: Sequence[Call], target: Target) -> None:
        module = Module(entries, target.architecture)
        shapes = dict.fromkeys(shape_of(entry) for entry in entries)
        text = module.text() + wrappers(shapes) + SYSTEM + START
        self.entries, self.calls = entries, calls
        self.table: dict[int, Known] = module.table
        self.image = linked(text + _data(calls) + _step() + _main(entries, calls), target)

    def outcomes(self, folder: Path, cpu: str) -> list[tuple[Any, list[int]]]:
        """What each call ended with on an emulated ``cpu``, as agreement.py has it, and words."""
        done = run(self.image, folder, cpu)
        assert done.returncode == 0, done
        values = struct.unpack(f"<{len(done.stdout) // 8}q", done.stdout)
        rows = [values[k : k + _OUTCOME] for k in range(0, len(values), _OUTCOME)]
        return [
            (self._outcome(call, row), list(row[FRAME_WORDS + 1 :]))
            for call, row in zip(self.calls, rows, strict=True)
        ]

    def _outcome(self, call: Call, row: Sequence[int]) -> Any:
        entry = self.entries[call.entry]
        if row[FAULT]:
            kind, known = FAULTS[row[FAULT]], self.table[row[SITE] >> 16]
            line = known.first_line + (row[SITE] & 0xFFFF)
            names = entry.function.__code__.co_varnames[1 : entry.function.__code__.co_argcount]
            caller = caller_index(names)
            cpu = None if caller is None else call.arguments[caller]
            index = row[INDEX] if kind in ("outside", "odd pair") else None
            return ("fault", kind, known.kernel, line, cpu, index)
        first, result = row[FRAME_WORDS], entry.form.result
        if isinstance(result, int):
            return ("result", (first, *row[RESULTS : RESULTS + result - 1]))
        return ("result", {"none": None, "bool": bool(first)}.get(result, first))


def run(image: bytes, folder: Path, cpu: str) -> subprocess.CompletedProcess[bytes]:
    path = folder / "program"
    path.write_bytes(image)
    path.chmod(0o755)
    command = [str(emulator()), "-cpu", cpu, str(path)]
    return subprocess.run(command, capture_output=True, timeout=TIMEOUT_S, check=False)

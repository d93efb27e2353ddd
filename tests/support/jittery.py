"""Kernels for tests of ``JitterRam``: one uses every word; run as a script, its machine code.

``python jittery.py`` compiles it for ``Ram``, then loads the jitter and compiles it for that, then
compiles it for ``Ram`` again, and prints both of the first kind: what the seam costs programs that
do not use it.
"""

from __future__ import annotations

import re
import sys
from types import FunctionType

import stress.jitter  # noqa: F401  the engine
from shmalloc.compiler import build, codegen
from shmalloc.compiler.codegen import Target
from shmalloc.compiler.kinds import Kind
from shmalloc.compiler.module import Instance
from shmalloc.compiler.words import RAM
from shmalloc.dialect import hot, kernel
from shmalloc.words import (
    cas,
    cas2,
    exchange,
    fence,
    fetch_add,
    fetch_and,
    fetch_or,
    fixed,
    give_way,
    heavy_fence,
    load,
    load2,
    load_relaxed,
    mark,
    relax,
    store,
    store_relaxed,
    wait,
    wake,
)

SEPARATOR = "=" * 8


@kernel
def every_word(mem, rounds):
    """Eleven writes per round. In the first round each but one writes 1 to a word of its own."""
    for _ in range(rounds):
        mem[0] = 1
        store(mem, 1, 1)
        store_relaxed(mem, 2, 1)
        cas(mem, 3, 0, 1)
        exchange(mem, 4, 1)
        fetch_add(mem, 5, 1)
        fetch_or(mem, 6, 1)
        fetch_and(mem, 7, 1)
        cas2(mem, 8, 0, 0, 1, 1)
        cas(mem, 0, 0, 5)  # lost: an attempt is a write, too
        mem[10] = 1
        low, high = load2(mem, 8)
        mark(mem, 20 + mem[0] + load(mem, 1) - load_relaxed(mem, 2) + low - high)
        fence(mem)
        heavy_fence(mem, 12)
        relax(mem)
        give_way(mem)
        wake(mem, 12, 1)
        wait(mem, 12, 1)
    return fixed(mem, 10)


@hot
def read_at(mem, i):
    """One access; a site of its own wherever it is inlined."""
    return load(mem, i)


@kernel
def read_thrice(mem, i):
    return read_at(mem, i) + read_at(mem, i) + read_at(mem, i)


def machine_code(function: FunctionType, kind: Kind, target: Target | None = None) -> str:
    """The instructions of ``function`` over ``kind``, compiled anew, and of the runtime."""
    target = target or codegen.host()
    text = build.module_text([Instance(function, kind, True)], target)
    return codegen.assembly_code(text, target)


def sites_of(function: FunctionType, target: Target | None = None) -> list[int]:
    """The numbers of the sites in the machine code of ``function`` over a ``JitterRam``.

    On x86-64 the number is in an instruction, on aarch64 it is the place of a call.
    """
    from stress.jitter.native import JITTER

    target = target or codegen.host()
    text = machine_code(function, JITTER, target)
    if target.architecture == "aarch64":
        return [found.start() for found in re.finditer(r"\n\s+bl\s+jitter\.here\n", text)]
    blobs = re.findall(r"#APP\n(.*?)#NO_APP", text, re.DOTALL)
    sites = (re.search(r"movl\s+\$(\d+), %", blob) for blob in blobs)
    return [int(site[1]) for site in sites if site]


def main() -> None:
    before = machine_code(every_word, RAM)
    assert "cmpxchg" in before or "cas" in before
    assert not [name for name in sys.modules if name.startswith("stress.jitter.ram")]
    from shmalloc.engine import get_engine

    get_engine("jitter").bind(every_word)
    print(before, machine_code(every_word, RAM), sep=f"\n{SEPARATOR}\n")


if __name__ == "__main__":
    main()

"""A kernel that uses every word, for tests of ``JitterRam``; run as a script, its machine code.

``python jittery.py`` compiles it for ``Ram``, then loads the jitter and compiles it for that, then
compiles it for ``Ram`` again, and prints both of the first kind: what the seam costs who does not
use it.
"""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path

from shmalloc.dialect import kernel
from shmalloc.words import (
    cas, cas2, exchange, fence, fetch_add, fetch_and, fetch_or, fixed, give_way, load, load2,
    load_relaxed, mark, relax, store, store_relaxed, wait, wake,
)  # fmt: skip

SEPARATOR = "=" * 8


@kernel
def every_word(mem, rounds):
    """Eleven writes a round. The first round of each writes 1 to a word of its own, but one."""
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
        relax(mem)
        give_way(mem)
        wake(mem, 12, 1)
        wait(mem, 12, 1)
    return fixed(mem, 10)


def machine_code(folder: str) -> str:
    """Instructions of ``every_word`` over ``Ram``, compiled anew; without names, which count."""
    from shmalloc.engine import cache, lowering, native

    usual = cache.cache_root
    cache.cache_root = lambda: Path(folder)
    compiled = native.compile_kernel(every_word, lowering.RAM)
    cache.cache_root = usual
    text = compiled.inspect_asm(compiled.signatures[0])
    assert "cmpxchg" in text or "cas" in text
    names = re.compile(r"_ZN?\w+|\.L\w+|\.const\.\S+|\.numba\.\S+")
    lines = (names.sub("NAME", line) for line in text.splitlines())
    return "\n".join(line for line in lines if ".size" not in line)  # of a name


def main() -> None:
    with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
        before = machine_code(first)
        assert not [name for name in sys.modules if name.startswith("shmalloc.engine.jitter")]
        from shmalloc.engine import get_engine

        get_engine("jitter").bind(every_word)
        print(before, machine_code(second), sep=f"\n{SEPARATOR}\n")


if __name__ == "__main__":
    main()

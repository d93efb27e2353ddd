"""What the structures of an arena cost, from Python and from compiled code.

``python benchmarks/structures.py``: the best round of each, in nanoseconds an operation. The table
of docs/structures.md is its output.
"""

from __future__ import annotations

import multiprocessing
import threading
import timeit
from collections.abc import Callable

from shmalloc import Arena, kernel
from shmalloc.structures.kernels.entries import ST_BODY
from shmalloc.structures.kernels.robust import robust_lock, robust_unlock
from shmalloc.words import cas, fetch_add, load

ROUNDS = 15
CALLS = 10_000
LOOPS = 100_000


@kernel
def add_often(mem, cpu, word, count):
    for _ in range(count):
        fetch_add(mem, word, 1)
    return 0


@kernel
def cas_often(mem, cpu, word, count):
    for _ in range(count):
        old = load(mem, word)
        cas(mem, word, old, old + 1)
    return 0


@kernel
def lock_often(mem, cpu, word, count):
    for _ in range(count):
        robust_lock(mem, cpu, word, 0, 0)
        robust_unlock(mem, cpu, word, 0)
    return 0


def from_python(call: Callable[[], object]) -> float:
    """Nanoseconds of a call, the empty loop taken off."""
    empty = min(timeit.repeat(lambda: None, number=CALLS, repeat=ROUNDS))
    return (min(timeit.repeat(call, number=CALLS, repeat=ROUNDS)) - empty) / CALLS * 1e9


def compiled(arena: Arena, loop: Callable[..., int], word: int) -> float:
    arena.run(loop, word, 1)
    call = min(timeit.repeat(lambda: arena.run(loop, word, LOOPS), number=1, repeat=ROUNDS))
    return call / LOOPS * 1e9


def with_(lock: object) -> Callable[[], None]:
    def use() -> None:
        with lock:  # type: ignore[attr-defined]
            pass

    return use


def main() -> None:
    with Arena.create(size="16MiB") as arena:
        value, pair, lock = arena.atomic(), arena.atomic_pair(), arena.lock()
        rows = [
            ("`atomic.load()`", from_python(value.load), None),
            ("`atomic.add(1)`", from_python(value.add), compiled(arena, add_often, value.word)),
            (
                "`atomic.compare_exchange`",
                from_python(lambda: value.compare_exchange(0, 1)),
                compiled(arena, cas_often, value.word),
            ),
            ("`atomic_pair.load()`", from_python(pair.load), None),
            (
                "`with lock`",
                from_python(with_(lock)),
                compiled(arena, lock_often, lock._at + ST_BODY),
            ),
            ("`with multiprocessing.Lock`", from_python(with_(multiprocessing.Lock())), None),
            ("`with threading.Lock`", from_python(with_(threading.Lock())), None),
        ]
        for name, python, native in rows:
            print(f"| {name} | {python:.0f} ns | {'' if native is None else f'{native:.0f} ns'} |")


if __name__ == "__main__":
    main()

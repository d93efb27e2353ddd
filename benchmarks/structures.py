"""What the structures of an arena cost, from Python and from compiled code.

``python benchmarks/structures.py``: the best round of each, in nanoseconds an operation, queues of
two kinds, and dicts of three in the same run. The tables of docs/structures.md are its output.
"""

from __future__ import annotations

import multiprocessing
import threading
import time
import timeit
from collections.abc import Callable
from typing import Any

from shmalloc import Arena, kernel, open_structure
from shmalloc.structures.kernels.entries import ST_BODY
from shmalloc.structures.kernels.robust import robust_lock, robust_unlock
from shmalloc.words import cas, fetch_add, load

ROUNDS = 15
CALLS = 10_000
LOOPS = 100_000
MESSAGES = 500
LOTS = 100
QUEUED = 256
KEYS = 1_000
SHORT = 200  # calls of a microsecond or more: a round shorter than a time slice
MANY = 200


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


def from_python(call: Callable[[], object], calls: int = CALLS, rounds: int = ROUNDS) -> float:
    """Nanoseconds of a call, the empty loop taken off."""
    empty = min(timeit.repeat(lambda: None, number=calls, repeat=rounds))
    return (min(timeit.repeat(call, number=calls, repeat=rounds)) - empty) / calls * 1e9


def compiled(arena: Arena, loop: Callable[..., int], word: int) -> float:
    arena.run(loop, word, 1)
    call = min(timeit.repeat(lambda: arena.run(loop, word, LOOPS), number=1, repeat=ROUNDS))
    return call / LOOPS * 1e9


def with_(lock: object) -> Callable[[], None]:
    def use() -> None:
        with lock:  # type: ignore[attr-defined]
            pass

    return use


def consume(get: Callable[[], object], told: Any) -> None:
    """A child: takes MESSAGES at a time, and says so after each lot."""
    while True:
        for _ in range(MESSAGES):
            get()
        told.send(1)


def consume_ours(handle: bytes, told: Any) -> None:
    consume(open_structure(handle).get, told)


def consume_theirs(queue: Any, told: Any) -> None:
    consume(queue.get, told)


def per_message(target: Callable[..., None], argument: Any, put: Callable[[bytes], None]) -> str:
    """Microseconds a message of 1 kB from this process to another: best lot, median lot."""
    mine, theirs = multiprocessing.Pipe(duplex=False)
    child = multiprocessing.get_context("fork").Process(
        target=target, args=(argument, theirs), daemon=True
    )
    child.start()
    lots = []
    for _ in range(LOTS):
        start = time.perf_counter()
        for _ in range(MESSAGES):
            put(b"x" * 1_000)
        mine.recv()
        lots.append((time.perf_counter() - start) / MESSAGES * 1e6)
    child.kill()
    child.join()
    lots.sort()
    return f"{lots[0]:.1f} us | {lots[LOTS // 2]:.1f} us"


def queues(arena: Arena) -> None:
    print("\n| messages of 1 kB to another process | best of 100 lots | median |\n|---|---|---|")
    ours = arena.queue(QUEUED, item_bytes=1_024)
    theirs = multiprocessing.get_context("fork").Queue(QUEUED)
    print(f"| `arena.queue` | {per_message(consume_ours, ours.handle, ours.put)} |")
    print(f"| `multiprocessing.Queue` | {per_message(consume_theirs, theirs, theirs.put)} |")


def dicts(arena: Arena) -> None:
    print("\n| keys and values of 10 and 100 bytes | read | write |\n|---|---|---|")
    with multiprocessing.get_context("fork").Manager() as manager:
        kinds: dict[str, tuple[Any, int]] = {
            "`arena.dict`": (arena.dict(KEYS), SHORT),
            "`multiprocessing.Manager().dict()`": (manager.dict(), SHORT // 10),
            "a dict of one process": ({}, CALLS),
        }
        for name, (table, calls) in kinds.items():
            for number in range(KEYS):
                table[f"key {number:06}"] = b"x" * 100
            read = from_python(lambda table=table: table["key 000007"], calls, MANY)
            write = from_python(
                lambda table=table: table.__setitem__("key 000007", b"y" * 100), calls, MANY
            )
            print(f"| {name} | {read / 1e3:.2f} us | {write / 1e3:.2f} us |")


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
        queues(arena)
        dicts(arena)


if __name__ == "__main__":
    main()

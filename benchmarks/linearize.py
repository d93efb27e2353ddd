"""The checker's figures: ``python benchmarks/linearize.py``.

100 histories of 1,000 operations for each row, half of them broken by as little as one result.
The goal of the project, 40 s, is for the allocator.

``python benchmarks/linearize.py LOG...`` reads histories of a key-value store as porcupine (Go) has
them in its test_data/kv: on two cores like ours that checker takes 1.44 s for c50-ok and 0.43 s for
c50-bad.
"""

from __future__ import annotations

import random
import re
import sys
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from stress.linearize import Model, Operation, check, models
from stress.linearize.allocator import allocator
from stress.linearize.model import by_key
from stress.linearize.simulate import Intent, Pages, hand_out_twice, simulate

HISTORIES = 100
OPERATIONS = 1_000
GOAL_S = 40.0
PAGES, MAX_ORDER = 4_096, 10
FEW_PAGES, FEW_ORDER = 256, 3
VISITED = 50_000  # a check that needs more answers "unknown"
DEATH = 0.004  # about ten deaths in a history
Make = Callable[[int, random.Random], list[Operation]]


def pages(clients: int, rng: random.Random) -> list[Operation]:
    return simulate(Pages(PAGES, MAX_ORDER, rng).begin, clients, OPERATIONS, rng)


def few_pages(clients: int, rng: random.Random) -> list[Operation]:
    return simulate(Pages(FEW_PAGES, FEW_ORDER, rng).begin, clients, OPERATIONS, rng)


def pages_of_the_dead(clients: int, rng: random.Random) -> list[Operation]:
    """Clients die; others free what they held, including blocks of pending allocs."""
    world = Pages(FEW_PAGES, FEW_ORDER, rng)
    living: set[int] = set()

    def begin(client: int) -> Intent:
        if client not in living and len(living) >= clients:
            gone = min(living)
            living.remove(gone)
            world.held.setdefault(client, [])
            world.reap(gone)
        living.add(client)
        return world.begin(client)

    return simulate(begin, clients, OPERATIONS, rng, death=DEATH)


def register(clients: int, rng: random.Random) -> list[Operation]:
    cell = [0]

    def write(value: int) -> None:
        cell[0] = value

    def begin(client: int) -> Intent:
        value = rng.randrange(100)
        if rng.random() < 0.5:
            return Intent("read", None, lambda: cell[0])
        return Intent("write", value, lambda: write(value))

    return simulate(begin, clients, OPERATIONS, rng)


def queue(clients: int, rng: random.Random) -> list[Operation]:
    """Short histories: the order of overlapping enqueues stays open until a CPU dequeues."""
    items: deque[int] = deque()
    numbers = iter(range(OPERATIONS + clients))

    def begin(client: int) -> Intent:
        if rng.random() < 0.6:
            return Intent("dequeue", None, lambda: items.popleft() if items else models.EMPTY)
        number = next(numbers)
        return Intent("enqueue", number, lambda: items.append(number))

    return simulate(begin, clients, OPERATIONS, rng)


def swap_results(history: list[Operation], rng: random.Random) -> list[Operation]:
    """Exchange two results that are some hundred operations apart: stale by far."""
    told = [i for i, one in enumerate(history) if isinstance(one.result, int)]
    place = rng.randrange(len(told) // 2)
    one, other = told[place], told[place + len(told) // 4]
    broken = list(history)
    broken[one] = replace(history[one], result=history[other].result)
    broken[other] = replace(history[other], result=history[one].result)
    return broken


def measure(
    model: Model, make: Make, spoil: Callable[..., list[Operation]], partition: bool = True
) -> tuple[float, Counter[str], int]:
    """Seconds for all histories, verdicts, configurations."""
    verdicts: Counter[str] = Counter()
    seconds, visited = 0.0, 0
    for number in range(HISTORIES):
        rng = random.Random(number)
        history = make(4 + number % 5, rng)
        if number % 2:
            history = spoil(history, rng)
        start = time.perf_counter()
        found = check(history, model, visited=VISITED, partition=partition)
        seconds += time.perf_counter() - start
        verdicts[found.verdict] += 1
        visited += found.visited
    return seconds, verdicts, visited


# --- logs of a key-value store ---
EVENT = re.compile(
    r'{:process (\d+), :type :(\w+), :f :(\w+), :key "(.*?)", :value (?:nil|"(.*)")}'
)


def store_step(value: str, operation: Operation) -> str | None:
    if operation.name == "get":
        return value if operation.result == value else None
    return operation.argument if operation.name == "put" else value + operation.argument


# of one key: the keys are parts
STORE = Model(
    "", store_step, by_key, observes=lambda one: one.name == "get", by_client=False, name="store"
)


def read_log(path: Path) -> list[Operation]:
    """The operations of a log, whose lines are calls and returns in the order of time."""
    under_way: dict[str, tuple[str, str | None, int, str]] = {}
    found = []
    for at, line in enumerate(path.read_text().splitlines()):
        matched = EVENT.fullmatch(line)
        if matched is None:
            raise SystemExit(f"{path}:{at + 1}: not an event of a key-value store: {line}")
        client, kind, name, key, value = matched.groups()
        if kind == "invoke":
            under_way[client] = name, value, at, key
            continue
        name, argument, call, key = under_way.pop(client)
        found.append(Operation(client, name, argument, value, call, at, key))
    for client, (name, argument, call, key) in under_way.items():
        found.append(Operation(client, name, argument, None, call, None, key))
    return found


def main() -> None:
    for path in map(Path, sys.argv[1:]):
        print(f"{path.name}: {check(read_log(path), STORE, visited=None)}")
    if not sys.argv[1:]:
        print_table()


def print_table() -> None:
    table = Table(
        "histories",
        "goal s",
        "seconds",
        "goal / seconds",
        "yes / no / unknown",
        "configurations",
        title=f"{HISTORIES} histories of {OPERATIONS:,} operations, 4 to 8 clients",
    )
    large, small = allocator(PAGES, MAX_ORDER), allocator(FEW_PAGES, FEW_ORDER)
    rows = [
        ("allocator, 4,096 pages", measure(large, pages, hand_out_twice)),
        ("allocator, 256 pages", measure(small, few_pages, hand_out_twice)),
        ("allocator, 256 pages, not split", measure(small, few_pages, hand_out_twice, False)),
        ("allocator, 256 pages, clients die", measure(small, pages_of_the_dead, hand_out_twice)),
        ("register", measure(models.register(), register, swap_results)),
        ("queue", measure(models.queue(), queue, swap_results)),
    ]
    for name, (seconds, verdicts, visited) in rows:
        counts = " / ".join(
            str(verdicts[verdict]) for verdict in ("linearizable", "not-linearizable", "unknown")
        )
        goal = f"{GOAL_S:.0f}" if name.startswith("allocator") else ""
        table.add_row(
            name, goal, f"{seconds:.2f}", f"{GOAL_S / seconds:.0f} x", counts, f"{visited:,}"
        )
    Console(width=110).print(table)


if __name__ == "__main__":
    main()

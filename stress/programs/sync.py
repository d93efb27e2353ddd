"""Programs over stress.sync: what each of its primitives promises, and that no CPU sleeps for ever.

Every program is explored to its last class; a lost wake-up is a deadlock. ``expect`` says in the
critical section what must hold there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from shmalloc.dialect import kernel
from shmalloc.units import Cpu, Memory
from shmalloc.words import expect, load
from stress import sync
from stress.machine.program import Program

LOCK, CONDITION, INSIDE, VALUE, TAKEN = 0, 1, 2, 3, 4
THREAD, RESULT, WORDS = 5, 7, 10  # the words of CPU 1, behind them those of CPU 2
NAMES = {
    LOCK: "lock",
    CONDITION: "condition",
    INSIDE: "inside",
    VALUE: "value",
    TAKEN: "taken",
    THREAD + 1: "thread 1",
    THREAD + 2: "thread 2",
}
ALONE = 1  # codes
COUNTED = 2
LEFT = 3


@kernel
def alone(mem: Memory) -> None:
    """Plain accesses: a second CPU would be a race, and be seen."""
    expect(mem, mem[INSIDE] == 0, ALONE)
    mem[INSIDE] = 1
    mem[VALUE] = mem[VALUE] + 1
    mem[INSIDE] = 0


@kernel
def under_mutex(mem: Memory, cpu: Cpu) -> None:
    sync.mutex_lock(mem, LOCK, cpu)
    alone(mem)
    sync.mutex_unlock(mem, LOCK, cpu)


@kernel
def if_free(mem: Memory, cpu: Cpu) -> int:
    if not sync.mutex_trylock(mem, LOCK, cpu):
        return 0
    alone(mem)
    sync.mutex_unlock(mem, LOCK, cpu)
    return 1


@kernel
def consume(mem: Memory, cpu: Cpu) -> None:
    sync.mutex_lock(mem, LOCK, cpu)
    while mem[VALUE] == 0:
        sync.condition_wait(mem, CONDITION, LOCK, cpu)
    mem[VALUE] = mem[VALUE] - 1
    mem[TAKEN] = mem[TAKEN] + 1
    sync.mutex_unlock(mem, LOCK, cpu)


@kernel
def produce(mem: Memory, cpu: Cpu) -> None:
    sync.mutex_lock(mem, LOCK, cpu)
    mem[VALUE] = mem[VALUE] + 1
    sync.mutex_unlock(mem, LOCK, cpu)
    sync.condition_signal(mem, CONDITION)


@kernel
def produce_two(mem: Memory, cpu: Cpu) -> None:
    sync.mutex_lock(mem, LOCK, cpu)
    mem[VALUE] = mem[VALUE] + 2
    sync.condition_broadcast(mem, CONDITION)
    sync.mutex_unlock(mem, LOCK, cpu)


@kernel
def under_semaphore(mem: Memory, cpu: Cpu) -> None:
    sync.semaphore_wait(mem, LOCK)
    alone(mem)
    sync.semaphore_post(mem, LOCK)


@kernel
def read_twice(mem: Memory, cpu: Cpu) -> None:
    sync.read_lock(mem, LOCK)
    first = mem[VALUE]
    expect(mem, mem[TAKEN] == first, ALONE)
    sync.read_unlock(mem, LOCK)


@kernel
def write_both(mem: Memory, cpu: Cpu) -> None:
    sync.write_lock(mem, LOCK, cpu)
    mem[VALUE] = mem[VALUE] + 1
    mem[TAKEN] = mem[TAKEN] + 1
    sync.write_unlock(mem, LOCK, cpu)


@kernel
def meet_twice(mem: Memory, cpu: Cpu) -> int:
    """What each CPU wrote before the barrier, the other sees behind it."""
    mem[VALUE + cpu] = 1
    last = int(sync.barrier_wait(mem, LOCK, 2))
    expect(mem, mem[VALUE + 1 - cpu] == 1, ALONE)
    last += int(sync.barrier_wait(mem, LOCK, 2))
    mem[VALUE + cpu] = 2
    return last


@kernel
def make_once(mem: Memory, cpu: Cpu) -> int:
    made = sync.once_begin(mem, LOCK)
    if made:
        alone(mem)
        sync.once_end(mem, LOCK)
    expect(mem, mem[VALUE] == 1, COUNTED)
    return int(made)


@kernel
def two_counted(mem: Memory) -> int:
    return left_free(mem, 2, 0)


@kernel
def three_counted(mem: Memory) -> int:
    return left_free(mem, 3, 0)


@kernel
def all_consumed(mem: Memory) -> int:
    return LEFT if mem[LOCK] != 0 or mem[VALUE] != 0 or mem[TAKEN] == 0 else 0


@kernel
def all_counted(mem: Memory) -> int:
    return LEFT if mem[LOCK] != 0 or mem[VALUE] != 1 or mem[TAKEN] != 1 else 0


@kernel
def semaphore_back(mem: Memory) -> int:
    return left_free(mem, 2, 1)


@kernel
def written(mem: Memory) -> int:
    return COUNTED if mem[VALUE] != mem[TAKEN] or mem[LOCK] != 0 else 0


@kernel
def met(mem: Memory) -> int:
    return COUNTED if mem[VALUE] + mem[VALUE + 1] != 4 or load(mem, LOCK) != 2 * sync.ROUND else 0


@kernel
def made(mem: Memory) -> int:
    return left_free(mem, 1, sync.DONE)


@kernel
def left_free(mem: Memory, count: int, lock: int) -> int:
    if mem[LOCK] != lock:
        return LEFT
    return COUNTED if mem[VALUE] != count else 0


@kernel
def start_and_join(mem: Memory, cpu: Cpu) -> None:
    """CPUs 1 and 2 get a plain word by their start, and give one back by their end."""
    mem[VALUE] = 5
    sync.thread_start(mem, THREAD + 1)
    sync.thread_start(mem, THREAD + 2)
    sync.thread_join(mem, THREAD + 1)
    sync.thread_join(mem, THREAD + 2)
    expect(mem, mem[RESULT + 1] + mem[RESULT + 2] == 10, COUNTED)


@kernel
def started(mem: Memory, cpu: Cpu) -> None:
    sync.thread_begin(mem, THREAD + cpu)
    mem[RESULT + cpu] = mem[VALUE]
    sync.thread_end(mem, THREAD + cpu)


@kernel
def joined(mem: Memory) -> int:
    both_ended = mem[THREAD + 1] == sync.ENDED and mem[THREAD + 2] == sync.ENDED
    return 0 if both_ended and mem[RESULT + 1] == mem[RESULT + 2] else LEFT


Row = tuple[Sequence[Any], Callable[..., Any], str]
ROWS: dict[str, Row] = {
    "sync-mutex": (
        [under_mutex] * 2, two_counted,
        "the exchange of mutex_unlock against the cas that sets WAITED before the sleep: a wake"
        " that comes between them must find a word that has changed",
    ),
    "sync-mutex-3": (
        [under_mutex] * 3, three_counted,
        "a sleeper that was woken takes the lock with WAITED set, because a third CPU may still"
        " sleep and its own first cas would have hidden that",
    ),
    "sync-condition": (
        [produce, consume], all_consumed,
        "the signal between the release of the mutex and the sleep of condition_wait: the word has"
        " changed since it was read under the mutex",
    ),
    "sync-broadcast": (
        [produce_two, consume], all_counted,
        "a broadcast under the mutex: the CPU that wakes finds the mutex taken and sleeps again,"
        " for it this time",
    ),
    "sync-broadcast-3": (
        [produce_two, consume, consume], all_consumed,
        "a broadcast under the mutex to two sleepers, of which the second finds the mutex taken by"
        " the first and sleeps again, for it this time",
    ),
    "sync-semaphore": (
        [under_semaphore] * 2, semaphore_back,
        "a post between the load of 0 and the sleep of semaphore_wait; a count that is taken by"
        " another CPU between the post and the wake",
    ),
    "sync-rwlock-3": (
        [read_twice, read_twice, write_both], written,
        "a writer that sleeps for two readers: the first that leaves changes the word that it"
        " compared, the last one wakes it",
    ),
    "sync-barrier": (
        [meet_twice] * 2, met,
        "a CPU that leaves the barrier and arrives again before the other one has woken: rounds are"
        " counted, so that it is not taken for one of the first round",
    ),
    "sync-threads-3": (
        [start_and_join, started, started], joined,
        "a thread that ends before its starter looks for it, and one that is joined while it sleeps"
        " before its start; plain words are handed over by the start and by the join",
    ),
    "sync-once-3": (
        [make_once] * 3, made,
        "two CPUs that sleep while a third makes the value, and one that comes when it is made and"
        " must see it without a lock",
    ),
}  # fmt: skip
# their words name no CPU
UNOWNED = ("sync-semaphore", "sync-barrier", "sync-threads-3", "sync-once-3")


@cache
def _built(name: str) -> Program:
    threads, check, story = ROWS[name]
    init = [(LOCK, 1)] if name == "sync-semaphore" else None
    locks = () if name in UNOWNED else [LOCK]
    return Program(name, WORDS, threads, init, check=check, locks=locks, names=NAMES, story=story)


def _builder(name: str) -> Callable[[], Program]:
    return lambda: _built(name)


PROGRAMS: dict[str, Callable[[], Program]] = {name: _builder(name) for name in ROWS}

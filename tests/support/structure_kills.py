"""Real SIGKILLs in the middle of structures: ``tox -e structure-kills`` kills 5,000 processes.

Three workers use one structure as fast as they can. One of them is killed as soon as it has made a
number of operations that is drawn, a new one takes its place, and what docs/structures.md promises
is looked at: by the workers all the time, and by the parent after each kill and at the end. Nothing
is timed: a worker is killed at a count, and what waits has a watchdog that says for what.

A scenario is a class with ``make(arena)``, the structures that it is made of in each process,
``work(number)``, one operation of a worker, ``look()``, what the parent requires after each kill,
and ``finish()``, what it requires when all workers are gone, and a few words about the run.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import sys
import time
from contextlib import suppress
from multiprocessing.process import BaseProcess
from queue import Empty, Full
from typing import Any

from shmalloc import (
    Acquired,
    Arena,
    Atomic,
    AtomicPair,
    Dict,
    Frame,
    Lock,
    MisuseError,
    Pool,
    Queue,
    open_structure,
)
from shmalloc import constants as c

WORKERS = 3
MOST_OPERATIONS = 60  # of a worker before it is killed
PATIENCE_S = 60.0
NAP_S = 0.02
UNRECOVERED = 4  # dead slots that are left to the waiters before the parent recovers


class Broken(AssertionError):
    """A promise was not kept."""


def require(condition: bool, text: str) -> None:
    if not condition:
        raise Broken(text)


class Locks:
    """Two values are equal whenever the lock is free and consistent."""

    @staticmethod
    def make(arena: Arena) -> tuple[Any, ...]:
        return arena.lock(), arena.atomic(), arena.atomic()

    def __init__(self, lock: Lock, left: Atomic, right: Atomic) -> None:
        self.lock, self.left, self.right = lock, left, right

    def mend(self) -> None:
        self.right.store(self.left.load())

    def work(self, number: int) -> None:
        if self.lock.acquire(timeout=PATIENCE_S) is Acquired.OWNER_DIED:
            self.mend()
            self.lock.make_consistent()
        require(self.left.load() == self.right.load(), "the values differ, without a word")
        self.left.add(1)
        self.right.add(1)
        self.lock.release()

    def look(self) -> None:
        state = self.lock.acquire(timeout=PATIENCE_S)
        require(state is not Acquired.TIMED_OUT, "the lock of a dead process was not taken over")
        if state is Acquired.OWNER_DIED:
            self.mend()
            self.lock.make_consistent()
        require(self.left.load() == self.right.load(), "the values differ")
        self.lock.release()

    def finish(self, deaths: int) -> str:
        return f"{self.left.load():,} changes"


class Queues:
    """Each worker puts numbers and gets what comes; two tables outlive it.

    A message is a number, in a text that depends on it, so that a damaged one is seen. The first
    table has a byte for each message whose put has returned, the second counts how often one came.
    """

    PLACES = 6
    ORDER = 10

    @staticmethod
    def make(arena: Arena) -> tuple[Any, ...]:
        tables = [arena.alloc_pages(Queues.ORDER) for _ in range(2)]
        for pfn in tables:
            block = arena.page(pfn, Queues.ORDER)
            block[:] = bytes(block.nbytes)
        first, second = map(arena.segment.layout.frame, tables)
        queue = arena.queue(Queues.PLACES, item_bytes=600)
        return queue, arena.atomic(), arena.atomic_pair(first, second)

    def __init__(self, queue: Queue, serial: Atomic, tables: AtomicPair) -> None:
        self.queue, self.serial = queue, serial
        self.size = queue._arena.segment.geometry.page_bytes << self.ORDER
        self.was_put, self.came = (
            queue._arena.segment.view(word, self.size) for word in tables.load()
        )

    def work(self, number: int) -> None:
        mine = self.serial.add(1)
        require(mine < self.size, "more messages than the tables have room for")
        # A death leaves one message too many or too few: so all may find it full, or empty.
        with suppress(Full):
            self.queue.put(mine.to_bytes(4, "little") + self.text(mine), timeout=NAP_S)
            self.was_put[mine] = 1
        with suppress(Empty):
            self.take(NAP_S)

    @staticmethod
    def text(number: int) -> bytes:
        return bytes([number & 0xFF]) * (number * 37 % 500)

    def take(self, timeout: float) -> None:
        data = self.queue.get(timeout=timeout)
        one = int.from_bytes(data[:4], "little")
        require(data[4:] == self.text(one), f"message {one} is damaged")
        require(self.came[one] == 0, f"message {one} came twice")
        self.came[one] = 1

    def look(self) -> None:
        require(self.queue.qsize() <= self.PLACES, "more messages than places")

    def finish(self, deaths: int) -> str:
        """No worker is left: what is in the queue is got here, and then every place is free."""
        with suppress(Empty):
            while True:
                self.take(timeout=0.2)
        for _ in range(self.PLACES):
            self.queue.put(b"", timeout=PATIENCE_S)
        made = self.serial.load()
        both = zip(bytes(self.was_put[:made]), bytes(self.came[:made]), strict=True)
        lost = sum(put > came for put, came in both)
        require(lost <= deaths, f"{lost} messages lost by {deaths} deaths")
        return f"{made:,} messages, {lost} lost with a consumer that had its copy"


class Pools:
    """A holder fills its frame and finds it so; half of the frames are passed on by a queue.

    A frame in transit belongs to its sender: if that dies, its receiver gets it, or is refused
    because the pool needed it first. Nothing else may happen to it.
    """

    FRAMES = 4
    WORDS = 200

    @staticmethod
    def make(arena: Arena) -> tuple[Any, ...]:
        pool = arena.pool(Pools.FRAMES, Pools.WORDS, "i8")
        counters = [arena.atomic(1), arena.atomic(), arena.atomic()]
        return pool, arena.queue(8, item_bytes=1_000), *counters

    def __init__(
        self, pool: Pool, queue: Queue, serial: Atomic, came: Atomic, refused: Atomic
    ) -> None:
        self.pool, self.queue, self.serial = pool, queue, serial
        self.came, self.refused = came, refused

    def work(self, number: int) -> None:
        with suppress(TimeoutError):
            frame = self.pool.take(NAP_S)
            mine = self.serial.add(1)
            frame.array[:] = mine
            require(bool((frame.array == mine).all()), "two processes hold one frame")
            if mine % 2:
                frame.give()
            else:
                self.pass_on(frame)
        with suppress(Empty):
            self.receive()

    def pass_on(self, frame: Frame) -> None:
        try:
            self.queue.put(frame, timeout=0)
        except Full:
            frame.give()

    def receive(self) -> None:
        try:
            frame = self.queue.get(timeout=0)
        except MisuseError:
            self.refused.add(1)
            return
        require(bool((frame.array == frame.array[0]).all()), "a frame changed on its way")
        frame.give()
        self.came.add(1)

    def look(self) -> None:
        self.pool.take(PATIENCE_S).give()

    def finish(self, deaths: int) -> str:
        with suppress(Empty):
            while True:
                self.receive()
        for frame in [self.pool.take(PATIENCE_S) for _ in range(self.FRAMES)]:
            frame.give()
        passed = f"{self.came.load():,} passed on, {self.refused.load()} refused"
        return f"{self.serial.load():,} frames, {passed}"


class Dicts:
    """Each process has a key of its own, whose number it raises; a few keys belong to all.

    A table outlives the processes: it has for each of them the number whose write has returned.
    What the dict says is that one, or the next, if its process died there. The keys of all have
    texts and arrays that depend on a number, so that a torn or a foreign one is seen.
    """

    CAPACITY = 4_000
    ORDER = 3
    ALL = ("a", "b", "c", "d")
    SHAPE = 40

    @staticmethod
    def make(arena: Arena) -> tuple[Any, ...]:
        pfn = arena.alloc_pages(Dicts.ORDER)
        block = arena.page(pfn, Dicts.ORDER)
        block[:] = bytes(block.nbytes)
        table = arena.dict(Dicts.CAPACITY, item_bytes=140)
        return table, arena.atomic(1), arena.atomic(arena.segment.layout.frame(pfn))

    def __init__(self, table: Dict, serial: Atomic, done: Atomic) -> None:
        self.table, self.serial = table, serial
        self.arena: Any = table._arena
        size = self.arena.segment.geometry.page_bytes << self.ORDER
        self.done = self.arena.segment.view(done.load(), size).cast("q")
        self.random = random.Random(os.getpid())

    @staticmethod
    def text(number: int) -> bytes:
        return number.to_bytes(8, "little") + bytes([number & 0xFF]) * (number * 37 % 120)

    def work(self, number: int) -> None:
        following = self.done[number] + 1
        self.table[number] = self.text(following)
        self.done[number] = following
        key, mine = self.random.choice(self.ALL), self.serial.add(1)
        action = mine % 8
        if action < 3:
            self.table[key] = self.text(mine)
        elif action == 3:
            self.table[key] = self.arena.full(self.SHAPE, mine)
        elif action == 4:
            self.whole(self.table.pop(key, b""))
        else:
            self.whole(self.table.get(key, b""))

    def whole(self, value: Any) -> None:
        if isinstance(value, bytes):
            number = int.from_bytes(value[:8], "little")
            require(value in (b"", self.text(number)), "a text is torn")
        else:
            numbers = value.tolist()
            require(numbers == [numbers[0]] * self.SHAPE, "an array changed under its reader")

    def look(self) -> None:
        for number in self.random.sample(range(1, len(self.done)), 20):
            self.own_key_is_right(number)
        require(sum(key in self.ALL for key in self.table) <= len(self.ALL), "a key came twice")

    def own_key_is_right(self, number: int) -> None:
        before = self.done[number]
        found = self.table.get(number)
        if found is None:
            require(before == 0, f"the key of process {number} is gone")
        else:
            self.whole(found)
            now = int.from_bytes(found[:8], "little")
            require(before <= now <= self.done[number] + 1, f"{number} has {now}, not {before}")

    def finish(self, deaths: int) -> str:
        """No worker is left: each key once, every entry free or in use, and no array left over."""
        for number in range(1, len(self.done)):
            self.own_key_is_right(number)
        writes, keys = sum(self.done), list(self.table)
        require(len(keys) == len(set(keys)) == len(self.table), "a key came twice")
        self.table.clear()
        self.arena.recover()
        at, pages = self.arena.segment.layout.at["arrays"], self.arena.geometry.pages
        counts = self.arena.segment.ram.array[at : at + pages * c.AR_STRIDE : c.AR_STRIDE]
        require(not (counts & c.AR_REFS_MASK).any(), "an array has a reference of the dead")
        for number in range(self.CAPACITY):
            self.table[number] = b""
        return f"{writes:,} writes of {len(keys):,} keys, {self.serial.load():,} others"


SCENARIOS: dict[str, Any] = {"lock": Locks, "queue": Queues, "pool": Pools, "dict": Dicts}


def worker(name: str, handles: list[bytes], made_by: bytes, number: int) -> None:
    """A child: operations until its parent is gone; it says how many. Killed from outside."""
    parent = os.getppid()
    try:
        scenario = SCENARIOS[name](*map(open_structure, handles))
        made = open_structure(made_by)
        while os.getppid() == parent:
            scenario.work(number)
            made.add(1)
    except BaseException as error:
        print(f"worker {number}: {type(error).__name__}: {error}", file=sys.stderr)
        os._exit(1)


class Crew:
    """The workers of one scenario, and who kills them."""

    def __init__(self, arena: Arena, name: str, seed: int) -> None:
        self.arena, self.name = arena, name
        self.random = random.Random(seed)
        made = SCENARIOS[name].make(arena)
        self.handles = [structure.handle for structure in made]
        self.scenario = SCENARIOS[name](*made)
        self.context = multiprocessing.get_context("fork")  # its children attach anew
        self.made = [arena.atomic() for _ in range(WORKERS)]
        self.started = 0
        self.workers = [self.start(place) for place in range(WORKERS)]

    def start(self, place: int) -> BaseProcess:
        self.started += 1
        given = (self.name, self.handles, self.made[place].handle, self.started)
        process = self.context.Process(target=worker, args=given, daemon=True)
        process.start()
        return process

    def wait_for(self, place: int, count: int) -> None:
        """Until the worker has made ``count`` operations more."""
        goal = self.made[place].load() + count
        end = time.monotonic() + PATIENCE_S
        while self.made[place].load() < goal:
            for process in self.workers:
                require(process.exitcode is None, f"a worker ended with {process.exitcode}")
            if time.monotonic() > end:
                raise Broken(f"{self.name}: worker {place} made no operation in {PATIENCE_S:g} s")
            time.sleep(0.0002)

    def kill_one(self) -> None:
        place = self.random.randrange(WORKERS)
        self.wait_for(place, self.random.randint(1, MOST_OPERATIONS))
        self.workers[place].kill()
        self.workers[place].join()
        self.scenario.look()
        dead = sum(slot.dead for slot in self.arena.slots())
        if dead > UNRECOVERED or self.random.random() < 0.5:
            self.arena.recover()
        self.workers[place] = self.start(place)

    def end(self) -> str:
        for process in self.workers:
            process.kill()
            process.join()
        self.arena.recover()
        self.scenario.look()
        return str(self.scenario.finish(self.started))


def kill(name: str, kills: int, seed: int) -> str:
    """``kills`` SIGKILLs over one structure; a line about it. Raises ``Broken``."""
    with Arena.create(size="32MiB", cpus=32) as arena:
        crew = Crew(arena, name, seed)
        try:
            for _ in range(kills):
                crew.kill_one()
            told = crew.end()
        finally:
            for process in crew.workers:
                process.kill()
                process.join()
        found = arena.validate()
        require(found == [], f"{name}: {found[:1]}")
    return f"{name}: {kills:,} kills, {crew.started:,} processes, {told}: nothing broken"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=5_000, help="over all structures")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("names", nargs="*", default=list(SCENARIOS))
    chosen = parser.parse_args()
    each = -(-chosen.kills // len(chosen.names))
    for name in chosen.names:
        start = time.monotonic()
        print(f"{kill(name, each, chosen.seed)} ({time.monotonic() - start:.0f} s)", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Arrays while their processes are killed: ``tox -e array-storm -- --minutes 5``.

Workers make arrays, send them through one pipe, load what comes, look at what they keep, take views
and fork; some bytes are thrown away. One worker is killed as soon as it has made a number of steps
that is drawn, and a new one takes its place; half of the forked children kill themselves. Every
array is filled with its own number, and what is freed is filled anew by others, so a reference that
was lost or counted twice shows as another number. In the end no reference, ticket or page is left.

Prints one line; raises ``Broken`` if anything was wrong.
"""

from __future__ import annotations

import argparse
import fcntl
import mmap
import os
import pickle
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing.reduction import ForkingPickler
from typing import Any

import numpy as np

from shmalloc import Arena, MisuseError
from shmalloc import constants as c
from shmalloc.kernels.array_recovery import give_table_back

WORKERS = 3
MOST_STEPS = 400  # of a worker before it is killed
MESSAGE_BYTES = 512  # a write of so much to a pipe is one piece
PIPE_BYTES = 1 << 20
MOST_KEPT = 30
PATIENCE_S = 60.0
COUNTS = ("steps", "sent", "thrown away", "loaded", "gone", "forks", "wrong")
STEPS, SENT, THROWN, LOADED, GONE, FORKS, WRONG = range(len(COUNTS))


class Broken(AssertionError):
    """A promise of docs/arrays.md was not kept."""


def awaited(what: str, holds: Callable[[], bool], every_s: float = 0.0002) -> None:
    end = time.monotonic() + PATIENCE_S
    while not holds():
        if time.monotonic() > end:
            raise Broken(f"{what}: not within {PATIENCE_S:g} s")
        time.sleep(every_s)


def is_filled(array: Any, number: int) -> bool:
    return bool((np.asarray(array) == number).all())


class Pipe:
    """Messages of one size; a full pipe refuses."""

    def __init__(self) -> None:
        self.out, self.into = os.pipe()
        fcntl.fcntl(self.into, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        os.set_blocking(self.out, False)
        os.set_blocking(self.into, False)

    def put(self, number: int, sent: bytes) -> bool:
        message = number.to_bytes(8, "little") + len(sent).to_bytes(2, "little") + sent
        assert len(message) <= MESSAGE_BYTES, f"a ticket has {len(sent)} bytes"
        try:
            return os.write(self.into, message.ljust(MESSAGE_BYTES, b"\0")) == MESSAGE_BYTES
        except BlockingIOError:
            return False

    def get(self) -> tuple[int, bytes] | None:
        try:
            message = os.read(self.out, MESSAGE_BYTES)
        except BlockingIOError:
            return None
        length = int.from_bytes(message[8:10], "little")
        return int.from_bytes(message[:8], "little"), message[10 : 10 + length]

    def close(self) -> None:
        os.close(self.out)
        os.close(self.into)


class Worker:
    """What a worker does, step by step, until it is killed."""

    def __init__(self, arena: Arena, pipe: Pipe, counts: Any, seed: int) -> None:
        self.arena, self.pipe, self.counts = arena, pipe, counts
        self.random = random.Random(seed)
        self.kept: list[tuple[int, Any]] = []  # (number, an array or a view that is full of it)

    def run(self) -> None:
        steps = (self.make, self.send, self.load, self.view, self.throw_away, self.fork)
        weights = (300, 300, 350, 40, 2, 2)
        while True:
            self.random.choices(steps, weights)[0]()
            if len(self.kept) > MOST_KEPT:
                self.look()
                del self.kept[: MOST_KEPT // 2]
            self.counts[STEPS] += 1

    def look(self) -> None:
        for number, array in self.kept:
            if not is_filled(array, number):
                self.counts[WRONG] += 1
                print(f"array {number} shows {np.asarray(array).ravel()[:4]}", file=sys.stderr)

    def make(self) -> None:
        number = self.random.randrange(1 << 30)
        length = self.random.choice((4, 64, 64, 700, 3000))
        self.kept.append((number, self.arena.full(length, number, dtype=int)))

    def view(self) -> None:
        """Only a view of it stays."""
        if self.kept:
            place = self.random.randrange(len(self.kept))
            number, array = self.kept[place]
            self.kept[place] = number, array[::2]

    def _sent(self) -> tuple[int, Any, bytes] | None:
        if not self.kept:
            return None
        number, array = self.kept.pop(self.random.randrange(len(self.kept)))
        if self.random.random() < 0.5:
            return number, array, b"o" + self.arena.send(array)
        return number, array, b"p" + bytes(ForkingPickler.dumps(array))

    def send(self) -> None:
        """The array is dropped at once, or kept."""
        made = self._sent()
        if made is None:
            return
        number, array, sent = made
        if self.pipe.put(number, sent):
            self.counts[SENT] += 1
        else:
            self.take(number, sent)
        if self.random.random() < 0.5:
            self.kept.append((number, array))

    def throw_away(self) -> None:
        """A ticket that no process loads."""
        self.counts[THROWN] += self._sent() is not None

    def load(self) -> None:
        message = self.pipe.get()
        if message is not None:
            self.take(*message)

    def take(self, number: int, sent: bytes) -> None:
        try:
            array = opened(self.arena, sent)
        except MisuseError:
            self.counts[GONE] += 1
            return
        self.counts[LOADED] += 1
        if not is_filled(array, number):
            self.counts[WRONG] += 1
            print(f"array {number} came as {np.asarray(array).ravel()[:4]}", file=sys.stderr)
        if self.random.random() < 0.3:
            self.kept.append((number, array))

    def fork(self) -> None:
        """The child has what we have, and uses the arena, too."""
        self.counts[FORKS] += 1
        pid = os.fork()
        if pid == 0:
            self.make()
            self.look()  # counts into our row, as we wait
            if self.random.random() < 0.5:
                os.kill(os.getpid(), signal.SIGKILL)
            os._exit(0)
        os.waitpid(pid, 0)


def opened(arena: Arena, sent: bytes) -> Any:
    """What one message carries."""
    return pickle.loads(sent[1:]) if sent[:1] == b"p" else arena.open(sent[1:])


class Crew:
    """The workers, and who kills them."""

    def __init__(self, arena: Arena, seed: int) -> None:
        self.arena, self.random, self.seed = arena, random.Random(seed), seed
        self.pipe = Pipe()
        rows = mmap.mmap(-1, WORKERS * len(COUNTS) * 8)
        self.counts = np.frombuffer(rows, np.int64).reshape(WORKERS, len(COUNTS))
        self.kills = self.recovered = 0
        self.workers = [self.start(place) for place in range(WORKERS)]

    def start(self, place: int) -> int:
        self.seed += 1
        pid = os.fork()
        if pid == 0:
            try:
                Worker(self.arena, self.pipe, self.counts[place], self.seed).run()
            except BaseException as error:
                print(f"worker: {type(error).__name__}: {error}", file=sys.stderr)
            os._exit(1)
        return pid

    def kill_one(self) -> None:
        place = self.random.randrange(WORKERS)
        goal = self.counts[place, STEPS] + self.random.randrange(MOST_STEPS)
        awaited(f"worker {place} makes steps", lambda: bool(self.counts[place, STEPS] >= goal))
        os.kill(self.workers[place], signal.SIGKILL)
        _, status = os.waitpid(self.workers[place], 0)
        if not os.WIFSIGNALED(status):
            raise Broken(f"a worker ended by itself with status {status}")
        self.kills += 1
        if (
            self.random.random() < 0.7
        ):  # else a worker that waits or forks, or the next call does it
            self.recovered += len(self.arena.recover())
        if self.counts[:, WRONG].any():
            raise Broken(f"{self.counts[:, WRONG].sum()} arrays show what others wrote")
        self.workers[place] = self.start(place)

    def end(self) -> None:
        """Kill them all, and recover."""
        for pid in self.workers:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            self.kills += 1
        alive = lambda: [slot.pid for slot in self.arena.slots() if slot.alive]  # noqa: E731
        awaited("the children of the workers end", lambda: alive() == [os.getpid()], 0.01)
        self.recovered += len(self.arena.recover())

    def empty_pipe(self) -> int:
        """What was sent and not loaded is right; how many messages."""
        found = 0
        while (message := self.pipe.get()) is not None:
            number, sent = message
            if not is_filled(opened(self.arena, sent), number):
                raise Broken(f"array {number} in the pipe shows what others wrote")
            found += 1
        self.pipe.close()
        return found


def referenced(arena: Arena) -> int:
    """Arrays that have a reference, by the entries of their pages."""
    layout, ram = arena.segment.layout, arena.segment.ram
    at, pages = layout.at["arrays"], arena.geometry.pages
    counts = ram.array[at : at + pages * c.AR_STRIDE : c.AR_STRIDE] & c.AR_REFS_MASK
    return int((counts != 0).sum())


def left(arena: Arena) -> Iterator[str]:
    """What is left when all arrays of an arena are gone: nothing, if all is well."""
    arena.collect()
    if referenced(arena):
        yield f"{referenced(arena)} arrays have references"
    if arena.leaks():
        yield f"in transit: {arena.leaks()[:3]}"
    for claim in range(arena.segment.ram.load(c.H_CLAIMS_USED)):
        if arena.run(give_table_back, claim) < 0:
            yield f"claim {claim} has records in its table"
    arena.drain()
    used = arena.statistics().used_pages
    if used:
        yield f"{used} pages are in use"
    yield from map(str, arena.validate())


def storm(seconds: float, seed: int) -> str:
    """A line about ``seconds`` of kills. Raises ``Broken``."""
    with Arena.create(size="256MiB", cpus=64) as arena:
        crew = Crew(arena, seed)
        end = time.monotonic() + seconds
        try:
            while time.monotonic() < end:
                crew.kill_one()
        finally:
            crew.end()
        waiting = crew.empty_pipe()
        orphans = len(arena.leaks())
        arena.ticket_grace_s = 0.0
        arena.recover()
        found = list(left(arena))
        if found:
            raise Broken(f"left: {'; '.join(found[:5])}")
        counted = dict(zip(COUNTS, crew.counts.sum(axis=0).tolist(), strict=True))
    told = ", ".join(f"{count:,} {name}" for name, count in counted.items())
    return (
        f"{crew.kills:,} kills, {crew.recovered:,} claims recovered by the parent, {told};"
        f" {waiting} waited in the pipe, {orphans} orphans given back; 0 left"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    chosen = parser.parse_args()
    print(f"seed {chosen.seed}", flush=True)
    print(storm(60 * chosen.minutes, chosen.seed))


if __name__ == "__main__":
    main()

"""Eight threads that use one arena in every way at once: pages, objects, arrays, close and fork.

    python -m support.thread_storm [--seconds 60 | --rounds N] [--seed N]

Each thread draws from: blocks of pages, pages in bulk, kmalloc, arrays, an arena of its own on the
same segment that it closes, and a fork, whose child goes on with the arena that it inherits and
ends by os._exit or by SIGKILL. What a thread has written must be there when it looks again; in the
end the audit of the segment finds nothing. Prints one line; exit code 1 if anything was wrong.
"""

from __future__ import annotations

import argparse
import faulthandler
import os
import random
import signal
import sys
import threading
import time
from collections import Counter

import numpy as np

from shmalloc import Arena

THREADS = 8
CHILD_LIMIT_S = 60
SLACK_S = 300


class Storm:
    """One thread of the storm."""

    def __init__(self, arena: Arena, number: int, seed: int) -> None:
        self.arena, self.mark = arena, number + 1
        self.rng = random.Random(f"{seed}-{number}")
        self.done: Counter[str] = Counter()
        self.wrong: list[str] = []

    def run(self, deadline_s: float, rounds: int) -> None:
        actions = (self.pages, self.bulk, self.objects, self.arrays, self.other, self.fork)
        weights = (8, 4, 8, 8, 1, 1)
        count = 0
        while time.monotonic() < deadline_s and count < rounds and not self.wrong:
            (action,) = self.rng.choices(actions, weights)
            try:
                action()
            except Exception as error:
                self.wrong.append(f"{action.__name__}: {type(error).__name__}: {error}")
            self.done[action.__name__] += 1
            count += 1

    def check(self, what: str, view: memoryview) -> None:
        """Write our mark, let others run, and look again."""
        view[:] = bytes([self.mark]) * len(view)
        time.sleep(0)
        if view[0] != self.mark or view[-1] != self.mark:
            self.wrong.append(f"{what}: another thread wrote it")

    def pages(self) -> None:
        order = self.rng.randrange(4)
        pfn = self.arena.alloc_pages(order)
        self.check("pages", self.arena.page(pfn, order))
        self.arena.free_pages(pfn, order)

    def bulk(self) -> None:
        pfns = self.arena.alloc_pages_bulk(self.rng.randrange(1, 40))
        self.check("bulk", self.arena.page(pfns[-1]))
        self.arena.free_pages_bulk(pfns)

    def objects(self) -> None:
        size = self.rng.choice((8, 100, 1000, 9000))
        address = self.arena.kmalloc(size)
        self.check("objects", self.arena.memory(address, size))
        self.arena.kfree(address)

    def arrays(self) -> None:
        shared = self.arena.array(np.full(self.rng.randrange(1, 2000), self.mark))
        time.sleep(0)
        if not (np.asarray(shared) == self.mark).all():
            self.wrong.append("arrays: another thread wrote it")
        shared.close()

    def other(self) -> None:
        with Arena.attach(self.arena.name) as other:
            pfn = other.alloc_pages()
            view = other.page(pfn)
            self.check("other", view)
            other.free_pages(pfn)
        bytes(view[:1])  # outlives its arena

    def fork(self) -> None:
        dies = self.rng.random() < 0.5
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                signal.alarm(CHILD_LIMIT_S)
                for action in (self.pages, self.bulk, self.objects):
                    action()
                status = 2 if self.wrong else 0
                if dies:
                    os.kill(os.getpid(), signal.SIGKILL)
            finally:
                os._exit(status)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if code not in (0, -signal.SIGKILL):
            self.wrong.append(f"fork: the child ended with {code}")


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rounds", type=int, default=sys.maxsize)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    unraisable: list[str] = []  # what hooks of forks, finalizers and callbacks raised
    sys.unraisablehook = lambda raised: unraisable.append(f"{raised.err_msg}: {raised.exc_value}")
    faulthandler.dump_traceback_later(options.seconds + SLACK_S, exit=True)
    with Arena.create(size="64MiB", cpus=48) as arena:
        storms = [Storm(arena, number, options.seed) for number in range(THREADS)]
        deadline_s = time.monotonic() + options.seconds
        threads = [
            threading.Thread(target=s.run, args=(deadline_s, options.rounds)) for s in storms
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        arena.recover()
        wrong = unraisable + [text for storm in storms for text in storm.wrong]
        wrong += [str(violation) for violation in arena.validate() + arena.violations()]
    done = sum((storm.done for storm in storms), Counter())
    print(f"{sys.version.split()[0]}: {dict(sorted(done.items()))}, wrong: {wrong[:5]}")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())

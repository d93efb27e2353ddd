"""A producer of frames and two consumers: frames are shared memory, and go when they were used.

Run: python examples/frames.py [fork|forkserver|spawn]
"""

import multiprocessing
import sys
from typing import Any

from shmalloc import Arena

FRAMES = 30
SHAPE = (240, 320, 3)


def produce(name: str, frames: Any) -> None:
    arena = Arena.attach(name)
    for number in range(FRAMES):
        frames.put((number, arena.full(SHAPE, number, "u1")))  # dropped here at once


def consume(frames: Any, sums: Any) -> None:
    for number, frame in iter(frames.get, None):
        sums.put((number, int(frame.sum()) // frame.size))


def main(method: str = "spawn") -> None:
    context = multiprocessing.get_context(method)
    with Arena.create(size="64MiB") as arena:
        frames, sums = context.Queue(), context.Queue()
        consumers = [context.Process(target=consume, args=(frames, sums)) for _ in range(2)]
        producer = context.Process(target=produce, args=(arena.name, frames))
        for process in (*consumers, producer):
            process.start()
        means = dict(sums.get(timeout=60) for _ in range(FRAMES))
        for _ in consumers:
            frames.put(None)
        print("right" if all(means[n] == n for n in range(FRAMES)) else means, arena.leaks())
        for process in (*consumers, producer):
            process.join()


if __name__ == "__main__":
    main(*sys.argv[1:])

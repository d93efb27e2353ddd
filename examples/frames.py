"""A producer of frames and two consumers: frames are shared memory, and go when they were used.

Run: python examples/frames.py [fork|forkserver|spawn]
"""

import multiprocessing
import sys
from typing import Any

from shmalloc import Arena

FRAMES = 30


def produce(arena: Arena, frames: Any) -> None:
    for number in range(FRAMES):
        frames.put((number, arena.full((240, 320, 3), number, "u1")))  # dropped here at once


def consume(frames: Any, sums: Any) -> None:
    for number, frame in iter(frames.get, None):
        sums.put((number, int(frame.sum()) // frame.size))


def main(method: str = "spawn") -> None:
    context = multiprocessing.get_context(method)
    frames, sums = context.Queue(), context.Queue()
    with Arena.create(size="64MiB") as arena:
        work = [(consume, (frames, sums)), (consume, (frames, sums)), (produce, (arena, frames))]
        processes = [context.Process(target=do, args=arguments) for do, arguments in work]
        for process in processes:
            process.start()
        means = dict(sums.get(timeout=60) for _ in range(FRAMES))
        print("right" if all(means[n] == n for n in range(FRAMES)) else means, arena.leaks())
        frames.put(None)
        frames.put(None)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Frames for data loading: producers fill frames of a pool, the consumer reads them in place.

Run: python examples/data_loader.py
"""

import multiprocessing

from shmalloc import Arena, Pool, Queue

BATCHES = 6


def load(pool: Pool, ready: Queue, number: int) -> None:
    """In a child: "reads" batches into frames. It waits for a frame when the consumer is behind."""
    for batch in range(number, BATCHES, 2):
        frame = pool.take()
        frame.array[:] = batch
        ready.put(frame)  # who gets it is its holder


def main() -> None:
    context = multiprocessing.get_context("spawn")
    with Arena.create(size="16MiB") as arena:
        pool = arena.pool(3, (64, 64), "float32")
        ready = arena.queue(3)
        loaders = [context.Process(target=load, args=(pool, ready, n)) for n in range(2)]
        for loader in loaders:
            loader.start()
        means = []
        for _ in range(BATCHES):
            with ready.get() as frame:
                means.append(float(frame.array.mean()))
        for loader in loaders:
            loader.join()
        print(f"means {sorted(means)}, frames free: {pool.free()}")


if __name__ == "__main__":
    main()

"""One numpy array in two processes: the handle pickles to 24 bytes and opens anywhere.

Run: python examples/shared_array.py
"""

import multiprocessing

import numpy as np

from shmalloc import Arena, SharedArray


def double(shared: SharedArray) -> None:
    """In a child: unpickling the handle attached to the segment and took a reference."""
    with shared as values:
        values *= 2


def main() -> None:
    context = multiprocessing.get_context("spawn")
    with Arena.create(size="16MiB") as arena:
        shared = arena.array(np.arange(5))
        child = context.Process(target=double, args=(shared,))
        child.start()
        child.join()
        print(shared.array)
        shared.close()


if __name__ == "__main__":
    main()

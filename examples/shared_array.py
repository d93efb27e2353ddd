"""One numpy array in two processes: a ticket travels, not the data.

Run: python examples/shared_array.py
"""

import multiprocessing

from shmalloc import Arena, SharedArray


def double(shared: SharedArray) -> None:
    """In a child, which has a reference of its own."""
    shared *= 2


def main() -> None:
    context = multiprocessing.get_context("spawn")
    with Arena.create(size="16MiB") as arena:
        shared = arena.array(range(5))
        child = context.Process(target=double, args=(shared,))
        child.start()
        child.join()
        print(shared.array)


if __name__ == "__main__":
    main()

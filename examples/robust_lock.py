"""A lock whose owner is killed: the next one is told, repairs, and all go on.

Run: python examples/robust_lock.py
"""

import multiprocessing
import os
import signal

from shmalloc import Acquired, Arena, Atomic, Lock


def die_in_the_middle(lock: Lock, left: Atomic, right: Atomic) -> None:
    """In a child: half of a change that must never be seen, then the end."""
    with lock:
        left.add(1)
        os.kill(os.getpid(), signal.SIGKILL)
        right.add(1)


def main() -> None:
    context = multiprocessing.get_context("spawn")
    with Arena.create(size="16MiB") as arena:
        lock, left, right = arena.lock(), arena.atomic(), arena.atomic()
        child = context.Process(target=die_in_the_middle, args=(lock, left, right))
        child.start()
        child.join()
        if lock.acquire() is Acquired.OWNER_DIED:
            print(f"told of the death: {left.load()} and {right.load()}")
            right.store(left.load())
            lock.make_consistent()
        lock.release()
        print(f"repaired: {left.load()} and {right.load()}")


if __name__ == "__main__":
    main()

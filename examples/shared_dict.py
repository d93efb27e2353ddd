"""A dict that several processes fill with bytes and arrays; one of them is killed in the middle.

Run: python examples/shared_dict.py [fork | forkserver | spawn]
"""

import multiprocessing
import os
import signal
import sys

import numpy as np

from shmalloc import Arena, Dict


def work(arena: Arena, results: Dict, number: int) -> None:
    """In a child: a row of squares under its number. The third one does not come to that."""
    results[f"worker {number}"] = b"began"
    row = arena.array((np.arange(4) * number) ** 2)
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    results[number] = row
    results[f"worker {number}"] = b"done"


def main() -> None:
    context = multiprocessing.get_context(sys.argv[1] if len(sys.argv) > 1 else "spawn")
    with Arena.create(size="16MiB") as arena:
        results = arena.dict(capacity=100)
        workers = [context.Process(target=work, args=(arena, results, n)) for n in range(1, 5)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        rows = {key: value for key, value in results.items() if isinstance(key, int)}
        print({key: rows[key].tolist() for key in sorted(rows)}, results["worker 3"])


if __name__ == "__main__":
    main()

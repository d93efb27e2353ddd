"""pool.map over rows of one shared array: the workers write, and return arrays of their own.

Run: python examples/pool_map.py [fork|forkserver|spawn]
"""

import multiprocessing
import sys

import numpy as np

from shmalloc import Arena, SharedArray


def smooth(task: tuple[SharedArray, int]) -> SharedArray:
    """Sort row ``k`` in place; return a view of its middle, which is the same memory."""
    table, k = task
    table[k].sort()
    return table[k, 4:6]


def main(method: str = "spawn") -> None:
    context = multiprocessing.get_context(method)
    with Arena.create(size="16MiB") as arena, context.Pool(2) as pool:
        table = arena.array(np.arange(80).reshape(8, 10) * 7 % 10)
        middles = pool.map(smooth, [(table, k) for k in range(8)])
        middles[3][0] = 40
        print("sorted:", table[0].tolist(), "written through a view:", table[3, 4])
        pool.close()
        pool.join()


if __name__ == "__main__":
    main(*sys.argv[1:])

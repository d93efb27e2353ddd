"""What users of Python call, in a loop of Python: ours, and what Python has for shared memory.

An array is made, its first byte is written, and it is closed: dropped, or closed and removed, as
each kind wants it. A block of ``SharedMemoryManager`` has no call that removes it alone: it stays
until the manager ends, so its row has one system call less than the others.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from contextlib import ExitStack
from multiprocessing import heap, managers, shared_memory

import numpy as np

from shmalloc.arena import Arena

Loop = Callable[[int], None]
_numbers = itertools.count()


def ours(loop: str, size_bytes: int, arena: Arena) -> Loop:
    """The loop of a pattern over ``arena``."""
    if loop == "python-pages":
        return _pages(arena)
    return _objects(arena) if loop == "python-object" else _arrays(arena, size_bytes)


def _pages(arena: Arena) -> Loop:
    alloc, free = arena.alloc_pages, arena.free_pages

    def run(n: int) -> None:
        for _ in range(n):
            free(alloc())

    return run


def _objects(arena: Arena) -> Loop:
    cache = arena.cache(f"bench-{os.getpid()}-{next(_numbers)}", 64)
    alloc, free = cache.alloc, cache.free

    def run(n: int) -> None:
        for _ in range(n):
            free(alloc())

    return run


def _arrays(arena: Arena, size_bytes: int) -> Loop:
    empty = arena.empty

    def run(n: int) -> None:
        for _ in range(n):
            array = empty(size_bytes, np.uint8)
            array[0] = 1
            del array

    return run


def theirs(name: str, size_bytes: int, stack: ExitStack) -> Loop:
    """The loop of a peer; what it needs to the end is left on ``stack``."""
    if name == "SharedMemory":
        return _shared_memory(size_bytes)
    if name == "multiprocessing.heap":
        return _heap(size_bytes)
    return _managed(size_bytes, stack.enter_context(managers.SharedMemoryManager()))


def _shared_memory(size_bytes: int) -> Loop:
    def run(n: int) -> None:
        for _ in range(n):
            block = shared_memory.SharedMemory(create=True, size=size_bytes)
            array = np.ndarray(size_bytes, np.uint8, block.buf)
            array[0] = 1
            del array
            block.close()
            block.unlink()

    return run


def _heap(size_bytes: int) -> Loop:
    def run(n: int) -> None:
        for _ in range(n):
            block = heap.BufferWrapper(size_bytes)
            array = np.frombuffer(block.create_memoryview(), np.uint8, size_bytes)
            array[0] = 1
            del array, block

    return run


def _managed(size_bytes: int, manager: managers.SharedMemoryManager) -> Loop:
    def run(n: int) -> None:
        for _ in range(n):
            block = manager.SharedMemory(size_bytes)
            array = np.ndarray(size_bytes, np.uint8, block.buf)
            array[0] = 1
            del array
            block.close()

    return run

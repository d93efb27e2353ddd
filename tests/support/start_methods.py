"""What workers of every start method run: a spawned child imports it by name."""

from __future__ import annotations

import os
import pickle
from multiprocessing.queues import Queue

import numpy as np

from shmalloc import Arena, Dict, open_structure

Found = tuple[Arena, int, int, list[int]]


def work(arena: Arena, found: Queue[Found], ends_without_a_word: bool) -> None:
    """A worker: uses the arena that it was given, tells of it, and sends the arena back."""
    arena.free_pages(arena.alloc_pages(order=2), order=2)
    again = pickle.loads(pickle.dumps(arena))
    found.put((arena, arena.cpu, os.getpid(), [slot.pid for slot in arena.slots() if slot.alive]))
    assert again is arena
    if ends_without_a_word:
        found.close()
        found.join_thread()
        os._exit(0)


def change_everything(handle: bytes, number: int) -> None:
    """Change a dict that has the keys "given" and "left"."""
    table = open_structure(handle)
    assert isinstance(table, Dict)
    table[f"of {number}"] = table.pop("given")[:].tobytes()
    table["array"] = table._arena.array(np.arange(number))
    del table["left"]

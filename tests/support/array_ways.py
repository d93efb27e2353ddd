"""Three ways to share an array between processes, behind one interface, for array_situations.py.

A *way* makes arrays full of one value and drops them as a careful program does. With
``SharedMemory``, who has opened an array closes it, and who made it unlinks it, too. With
``SharedMemoryManager``, each closes and the manager unlinks at its end. With an arena, nothing.

A way pickles to what another process needs to make arrays, too. Each name that a way makes in
/dev/shm is written to the file that NAMES_FILE names, if there is one: array_table.py looks what is
left of them.
"""

from __future__ import annotations

import gc
import os
import time
from contextlib import suppress
from multiprocessing.managers import SharedMemoryManager
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Any

import numpy as np

from shmalloc import Arena
from shmalloc import constants as c
from shmalloc.errors import MisuseError

WORDS = 64
NAMES_FILE = "ARRAY_SITUATION_NAMES"
GONE = (MisuseError, FileNotFoundError)
TICKS_S = 20  # at most, until a tick of each process has given back what it dropped


def value_of(array: Any) -> float:
    return float(np.asarray(array)[-1])


def note_name(name: str) -> None:
    if NAMES_FILE in os.environ:
        with Path(os.environ[NAMES_FILE]).open("a") as file:
            file.write(f"{name.lstrip('/')}\n")


class Ours:
    """Arrays of an arena."""

    def __init__(self, context: Any) -> None:
        self.arena = Arena.create(size="8MiB", cpus=32)
        note_name(self.arena.name)

    @classmethod
    def _of(cls, arena: Arena) -> Ours:
        way = cls.__new__(cls)
        way.arena = arena
        return way

    def __reduce__(self) -> Any:
        return Ours._of, (self.arena,)

    def made(self, value: float, words: int = WORDS) -> Any:
        return self.arena.full(words, float(value))

    def drop(self, *things: Any) -> None:
        """Nothing: it goes with its last name."""

    def collect(self) -> None:
        """Do now what a tick would do."""
        self.arena.collect()

    def churn(self) -> None:
        """Overwrite all that is free."""
        self.arena.collect()
        for _ in range(3):
            kept = [self.made(777.0) for _ in range(40)]
            del kept

    def recover(self) -> None:
        self.arena.recover()

    def end_grace(self) -> None:
        """As if a minute had passed since the end of each dead sender was noticed."""
        self.arena.ticket_grace_s = 0.0
        self.arena.recover()
        self.arena.ticket_grace_s = 60.0

    def lost_bytes(self) -> str:
        """What is said of bytes that no process loads; it is ended by hand."""
        kept, shown = self.left(wait=False), len(self.arena.leaks())
        self.arena.recover(transit_older_than=0)
        if not kept:
            return "nothing kept"
        ended = "by hand" if not self.left(wait=False) else "NEVER"
        return f"{kept} kept, {'shown by leaks()' if shown == kept else 'not shown'}, ended {ended}"

    def left(self, wait: bool = True) -> int:
        """Arrays that have references, when every process has noticed what it dropped."""
        end = time.monotonic() + TICKS_S * wait
        while (found := self._referenced()) and time.monotonic() < end:
            time.sleep(0.01)
        return found

    def _referenced(self) -> int:
        gc.collect()
        self.arena.recover()
        layout, ram = self.arena.segment.layout, self.arena.segment.ram
        at, pages = layout.at["arrays"], self.arena.geometry.pages
        counts = ram.array[at : at + pages * c.AR_STRIDE : c.AR_STRIDE] & c.AR_REFS_MASK
        return int((counts != 0).sum())

    def close(self) -> None:
        self.arena.close()


class Plain:
    """What a program has with ``SharedMemory``: a segment, and an array over it, or a view."""

    def __init__(self, memory: SharedMemory, made_here: bool = False, begin: int = 0) -> None:
        self.memory, self.made_here, self.begin = memory, made_here, begin
        self.array: Any = np.ndarray(memory.size // 8 - begin, float, memory.buf, begin * 8)

    def __getitem__(self, which: Any) -> Any:
        if isinstance(which, slice):
            return Plain(self.memory, self.made_here, self.begin + (which.start or 0))
        return self.array[which]

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return self.array

    def __reduce__(self) -> Any:
        return Plain, (self.memory, False, self.begin)


class Named:
    """``SharedMemory``."""

    def __init__(self, context: Any) -> None:
        pass

    def __reduce__(self) -> Any:
        return type(self), (None,)

    def _new(self, size: int) -> SharedMemory:
        return SharedMemory(create=True, size=size)

    def made(self, value: float, words: int = WORDS) -> Any:
        made = Plain(self._new(words * 8), made_here=True)
        note_name(made.memory.name)
        made.array[:] = value
        return made

    def drop(self, *things: Any) -> None:
        for thing in things:
            thing.array = None
        for thing in things:
            thing.memory.close()
            if thing.made_here:
                self._unlink(thing.memory)

    def _unlink(self, memory: SharedMemory) -> None:
        with suppress(FileNotFoundError):  # a view of it was dropped before
            memory.unlink()

    def collect(self) -> None:
        gc.collect()

    churn = recover = end_grace = collect

    def lost_bytes(self) -> str:
        kept = self.left()
        return f"{kept} kept" if kept else "nothing kept"

    def left(self) -> int:
        """Segments that exist of all that any process made."""
        gc.collect()
        names = Path(os.environ[NAMES_FILE]).read_text().split()
        return sum(Path("/dev/shm", name).exists() for name in names)

    def close(self) -> None:
        """The program ends."""


class Managed(Named):
    """``SharedMemoryManager``: another process may have arrays made, too."""

    def __init__(self, context: Any, address: Any = None) -> None:
        self.manager = SharedMemoryManager(address, ctx=context)
        if address is None:
            self.manager.start()
        else:
            self.manager.connect()

    def __reduce__(self) -> Any:
        return Managed, (None, self.manager.address)

    def _new(self, size: int) -> SharedMemory:
        return self.manager.SharedMemory(size)

    def _unlink(self, memory: SharedMemory) -> None:
        """The manager's business."""

    def close(self) -> None:
        self.manager.shutdown()


WAYS: dict[str, Any] = {"SharedMemory": Named, "SharedMemoryManager": Managed, "ours": Ours}

"""``Ram``: the segment as an array of words, interpreted.

This class implements every word of ``shmalloc.words`` in plain Python. Compiled code takes
only ``base`` and ``words`` from it and runs the real instructions. Interpreted, the accesses are
those of one process at a time: they are atomic under the GIL, not between processes. Runs of many
processes use the native engine.

What it does not do: own or map the memory (segment.py), schedule (the model memories do).
"""

from __future__ import annotations

import mmap
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from threading import get_ident
from typing import Any

import numpy as np

from shmalloc.compiler import notice
from shmalloc.compiler.integers import wrap
from shmalloc.errors import MisuseError

FUTEX_SLEEP_NS = 50_000_000
CLOSE_WAIT_S = 5.0
PLACE_WORDS, _RUNNING, _CALLS = 10, 5, (1 << 32) - 1  # compiler/runtime.py draws a place
_MADV_WIPEONFORK = 18  # since Linux 4.14; Python has no name for it


class WordError(IndexError):
    """An undefined interpreted access; the engine turns it into a ``KernelFault``."""

    def __init__(self, kind: str, index: int, words: int) -> None:
        self.kind, self.index, self.words = kind, index, words
        odd = f"word {index} is odd: a pair starts at an even word"
        super().__init__(
            odd if kind == "odd pair" else f"word {index} is outside the segment of {words} words"
        )


class Unexpected(AssertionError):
    """``expect`` found its condition false; the engine turns it into an ``ExpectationFault``."""

    def __init__(self, code: int) -> None:
        self.code = code
        super().__init__(f"expectation {code} was not met")


def aligned_words(count: int) -> np.ndarray:
    """``count`` zeroed int64 words whose first one is 16-byte aligned."""
    raw = np.zeros(count + 1, dtype=np.int64)
    return raw[1:] if raw.ctypes.data % 16 else raw[:count]


def _wiped_words(count: int) -> np.ndarray:
    """``count`` zeroed int64 words that are zero again in every forked child."""
    page = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with suppress(OSError):  # an older system: then only Python's own forks are noticed
        page.madvise(_MADV_WIPEONFORK)
    return np.frombuffer(page, np.int64, count)


class Ram:
    """Words over a writable buffer. ``buffer`` must be 16-byte aligned and a multiple of 16 bytes.

    Raises ``MisuseError`` on a buffer that cannot hold two-word pairs and ``IndexError`` on an
    interpreted access outside it.

    ``wiped_by_fork``: a forked child may call no compiled kernel here until it calls ``renew``, for
    it would run as its parent. This holds for forks that run no hooks of Python, too.
    """

    kind = "ram"  # of compiled code that runs over it (compiler/kinds.py)

    def __init__(self, buffer: Any, wiped_by_fork: bool = False) -> None:
        view = memoryview(buffer).cast("B")
        if view.nbytes < 16 or view.nbytes % 16:
            raise MisuseError(
                f"buffer: {view.nbytes} bytes; a Ram needs a positive multiple of 16 bytes"
            )
        if view.readonly:
            raise MisuseError("buffer: it is read-only; kernels write to it, pass a writable one")
        self.array = np.frombuffer(view, dtype=np.int64)
        self.base = int(self.array.ctypes.data)
        if self.base % 16:
            raise MisuseError("buffer: not 16-byte aligned, two-word swaps would fault; map a page")
        self._view = view.cast("q")
        self.words = len(self._view)
        self._place = (_wiped_words if wiped_by_fork else aligned_words)(PLACE_WORDS)
        self._ended, self._wiped = "", wiped_by_fork
        self.renew()
        self.place_address = int(self._place.ctypes.data)
        self.builtins: dict[Any, Any] = {}  # kernels bound to these words, by the native engine
        self.on_fault: Callable[[], None] | None = None  # called before a KernelFault is raised

    def renew(self) -> None:
        """Let this process call kernels: when it is made, and in a forked child.

        Fills the place, by which compiled code finds the words (compiler/runtime.py).
        """
        self._pid = os.getpid()
        self.turn = threading.RLock()  # of calls that run alone (compiler/obtain.py)
        self.interpreting = 0  # the thread whose interpreted call runs alone
        self._place[:] = 0
        self._place[0] = self.base
        self._place[1] = 0 if self._ended else self.words
        self._place[3] = FUTEX_SLEEP_NS

    @property
    def view(self) -> memoryview:
        """The words, to be read in less time than by index; until ``release``."""
        return self._view

    @property
    def ended(self) -> str:
        """Why compiled kernels may no longer run here; "": they may."""
        if self._wiped and self._pid != os.getpid() and not self._ended:
            return (
                "this process is a fork without Python's hooks (os.register_at_fork), so it has no"
                " claim of its own; attach to the segment"
            )
        return self._ended

    @classmethod
    def of_words(cls, words: int) -> Ram:
        """A private, zeroed Ram of ``words`` words (tests, small worlds)."""
        return cls(aligned_words(words))

    @property
    def running(self) -> int:
        """Calls that are in a kernel over these words now."""
        if self._pid != os.getpid():
            return 0
        return (int(self._place[_RUNNING]) & _CALLS) + (self.interpreting != 0)

    def wait_until_idle(self) -> None:
        """Wait until no thread is in a kernel: its code would miss the memory.

        Raises ``MisuseError`` if one still is after CLOSE_WAIT_S; at once if it is this thread,
        whose signal handler or finalizer closes the memory.
        """
        end = time.monotonic() + CLOSE_WAIT_S
        while self.running:
            if notice.is_beneath(self.place_address) or self.interpreting == get_ident():
                raise MisuseError(
                    "close: called from a signal handler or a finalizer that interrupted a call of"
                    " this memory; let the handler set a flag, and close later"
                )
            if time.monotonic() > end:
                raise MisuseError(
                    "close: another thread is in a kernel of this memory; let it return first"
                )
            time.sleep(0.001)

    def sleep_at_most(self, seconds: float) -> None:
        """Let compiled kernels over these words sleep for that time in a ``wait``, 50 ms at most.

        For all threads: one that sleeps less than it wanted sleeps again.
        """
        self._place[3] = min(max(int(seconds * 1e9), 1_000), FUTEX_SLEEP_NS)

    def stop(self) -> None:
        """Refuse every further call of a compiled kernel, and wait for those that are in one.

        Raises ``MisuseError`` if one is still there after CLOSE_WAIT_S; then nothing has changed.
        """
        words = int(self._place[1])
        self._place[1] = 0  # first: another thread may be about to enter
        try:
            self.wait_until_idle()
        except BaseException:
            self._place[1] = words
            raise

    def end(self, reason: str) -> None:
        """Refuse every further call of a compiled kernel, with ``reason``."""
        self._ended = reason
        self._place[1] = 0

    def release(self) -> None:
        """Drop the views, so that the buffer can go; waits for threads in kernels."""
        self.stop()
        self.array = np.empty(0, dtype=np.int64)
        self._view.release()
        self.words = 0
        self.builtins.clear()

    def _at(self, i: int) -> int:
        if not 0 <= i < self.words:
            raise WordError("outside", i, self.words)
        return i

    def __getitem__(self, i: Any) -> int:
        if 0 <= i < self.words:  # not through _at: a call costs as much as the rest
            return self._view[i]  # type: ignore[no-any-return]
        raise WordError("outside", i, self.words)

    def __setitem__(self, i: Any, value: Any) -> None:
        if 0 <= i < self.words:
            self._view[i] = value
        else:
            raise WordError("outside", i, self.words)

    load = load_relaxed = fixed = __getitem__
    store = store_relaxed = __setitem__

    def cas(self, i: int, old: int, new: int) -> bool:
        if self._view[self._at(i)] != old:
            return False
        self._view[i] = new
        return True

    def exchange(self, i: int, value: int) -> int:
        old = self._view[self._at(i)]
        self._view[i] = value
        return old

    def fetch_add(self, i: int, delta: int) -> int:
        old = self._view[self._at(i)]
        self._view[i] = wrap(old + delta)
        return old

    def fetch_or(self, i: int, bits: int) -> int:
        old = self._view[self._at(i)]
        self._view[i] = old | bits
        return old

    def fetch_and(self, i: int, bits: int) -> int:
        old = self._view[self._at(i)]
        self._view[i] = old & bits
        return old

    def _pair(self, i: int) -> int:
        if self._at(i) % 2:
            raise WordError("odd pair", i, self.words)
        return i

    def cas2(self, i: int, old0: int, old1: int, new0: int, new1: int) -> bool:
        self._pair(i)
        if self._view[i] != old0 or self._view[i + 1] != old1:
            return False
        self._view[i], self._view[i + 1] = new0, new1
        return True

    def load2(self, i: int) -> tuple[int, int]:
        self._pair(i)
        return self._view[i], self._view[i + 1]

    def fence(self) -> None:
        """Do nothing: interpreted accesses are already in program order."""

    def light_fence(self) -> None:
        """Do nothing, as ``fence``."""

    def heavy_fence(self, i: int) -> None:
        """Do nothing: an interpreted process has its segment to itself."""
        self._at(i)

    def relax(self) -> None:
        """Do nothing: an interpreted process has no other to yield to."""

    def wait(self, i: int, old: int) -> None:
        """Return at once: no other process can wake an interpreted one, and callers loop."""
        self._at(i)

    def wake(self, i: int, count: int) -> None:
        self._at(i)

    def notice(self, i: int) -> None:
        """Do nothing: an interpreted process has its segment to itself and never waits for long."""
        self._at(i)

    def mark(self, i: int) -> None:
        self._view[i] = wrap(self._view[self._at(i)] + 1)

    def expect(self, condition: int, code: int) -> None:
        if not condition:
            raise Unexpected(code)

    def now(self) -> int:
        return time.perf_counter_ns()

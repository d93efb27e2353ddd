"""``JitterRam``: the segment, with something before and after each access. For hunting.

Three things, each off until it is armed, in every mixture:

- delays: a site (the place of one access in a kernel's code) waits now and then before its access:
  a short spin, a long one, sched_yield or a short sleep. Which sites do, of which kind and how
  often is drawn once, from a seed; many never wait, because a race needs one side late, not both;
- a fuse: the process ends itself by SIGKILL immediately before its N-th write from now. A write is
  an attempt: ``mem[i] = v``, a store, a swap, a compare-exchange whether it wins or not;
- a flight recorder: every access goes into a ring in the segment (recorder.py), which outlives us.

hooks.py makes the words of both engines from ``before`` and ``after``; what these do is
state.py, what is compiled native.py. ``fixed``, ``mark`` and ``now`` stay bare.

A site is a number that is the same in every process and every run of the same machine code.
Compiled, it is the number of the instruction among all of its kind in an image (in each half, where
an image is compiled in two): the assembler counts them, after everything was inlined, so one kernel
inlined twice is two sites. Interpreted, it is the line of the kernel. A hash of (operation, kind of
address) would need no compiler, but it cannot tell the first read of a descriptor from the second,
and between the two is where races live.

A lit fuse kills: light it only in a process whose death is handled.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from types import FrameType
from typing import Any

from shmalloc import constants as c
from shmalloc import words as words_module
from shmalloc.compiler.runtime import EXTRA
from shmalloc.engine import hooks
from shmalloc.engine.hooks import HOOKED, Method, hooked_methods
from shmalloc.errors import MisuseError
from shmalloc.memory import Ram, aligned_words
from stress.jitter import recorder, state
from stress.jitter import state as jitter_state
from stress.jitter.delays import KINDS, Delays

OFF = -1
_OWN_FILES = frozenset({__file__, hooks.__file__, state.__file__, words_module.__file__})


class JitterState:
    """The state as interpreted code sees it: its words, and the primitives as methods."""

    def __init__(self, words: memoryview) -> None:
        self.words = words
        self.ring = words[:0]

    def __getitem__(self, i: int) -> int:
        value: int = self.words[i]
        return value

    def __setitem__(self, i: int, value: int) -> None:
        self.words[i] = value

    def die(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def spin(self, count: int) -> None:
        """No kernel runs beside an interpreted one, so there is nothing to wait for."""

    def yield_core(self) -> None:
        os.sched_yield()

    def nap(self, ns: int) -> None:
        time.sleep(ns * 1e-9)

    def clock(self) -> int:
        return time.perf_counter_ns()


class JitterRam(Ram):
    """A Ram whose accesses can be delayed, counted, cut off and recorded.

    Compiled kernels take it where ``get_engine("jitter")`` bound them; interpreted, every kernel
    takes it. Arm it between two calls, never during one.
    """

    kind = "jitter"

    def __init__(self, buffer: Any) -> None:
        super().__init__(buffer)
        self._state_words = aligned_words(jitter_state.STATE_WORDS)
        self._place[EXTRA] = self._state_words.ctypes.data
        self.state = JitterState(self._state_words.data)

    @classmethod
    def over(cls, ram: Ram) -> JitterRam:
        """Another face of the words of ``ram``: release it before ``ram`` is unmapped."""
        return cls(ram.array)

    def release(self) -> None:
        self.stop_recording()
        super().release()

    def light_fuse(self, writes: int) -> None:
        """Die immediately before the ``writes``-th write from now; ``OFF``: stay alive."""
        if writes != OFF and writes < 1:
            raise MisuseError(f"fuse: {writes}; use at least 1 write, or {OFF} for none")
        self.state[jitter_state.WRITES] = 0
        self.state[jitter_state.LAST] = writes
        self._arm(jitter_state.FUSE, writes != OFF)

    @property
    def writes(self) -> int:
        """Attempts to write since the fuse was lit."""
        return self.state[jitter_state.WRITES]

    def delay(self, delays: Delays | None, seed: int = 1, phase: int = 0) -> None:
        """Wait at sites from now on; None: not any more.

        Processes with one ``seed`` have the same sites; ``phase`` sets them apart in time.
        """
        plans = [0, 0] * jitter_state.SITES if delays is None else delays.plans(seed, phase)
        self._state_words[jitter_state.PLANS :] = plans
        self.state[jitter_state.RANDOM] = (seed ^ phase) & jitter_state.RANDOM_MASK
        self._arm(jitter_state.DELAYS, delays is not None)

    def delayed(self) -> dict[str, int]:
        """How often sites have waited, by kind."""
        return {
            kind: self.state[jitter_state.DELAYED + number] for number, kind in enumerate(KINDS)
        }

    def record_into(self, at: int, entries: int, freeze_at: int) -> None:
        """Record every access from now on into the ring of ``entries`` items at word ``at``.

        Continues where an earlier owner of the ring stopped. Ends once word ``freeze_at`` is not
        zero: after that, what led to it would be written over.
        """
        words = recorder.FIRST + entries * c.FLIGHT_ITEM_WORDS
        self.state.ring = self._view[self._at(at) : self._at(at + words - 1) + 1]
        self.state.ring[recorder.MASK] = entries - 1
        self.state[jitter_state.RING] = self.base + 8 * at
        self.state[jitter_state.FREEZE_AT] = self._at(freeze_at)
        self.state[jitter_state.CLOCKED] = self.state.ring[recorder.NEXT] - recorder.CLOCK_EVERY
        self._arm(jitter_state.FLIGHT, True)

    def stop_recording(self) -> None:
        self._arm(jitter_state.FLIGHT, False)
        self.state.ring = self.state.words[:0]

    def peeked(self, i: int) -> int:
        value: int = self._view[i]
        return value

    def _arm(self, what: int, on: bool) -> None:
        active = self.state[jitter_state.ACTIVE]
        self.state[jitter_state.ACTIVE] = active | what if on else active & ~what

    def place(self) -> int:
        """Interpreted: the line of the kernel that makes the access at hand."""
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and frame.f_code.co_filename in _OWN_FILES:
            frame = frame.f_back
        return 0 if frame is None else frame.f_lineno


def arm_fuse(ram: JitterRam, writes: int) -> None:
    """The process dies by SIGKILL immediately before its ``writes``-th write; OFF: not at all."""
    ram.light_fuse(writes)


def noting(bare: dict[str, Method]) -> dict[str, Method]:
    """The accesses that have more operands than ``before`` is told: they note the others."""
    bare_cas, bare_cas2, bare_load2 = bare["cas"], bare["cas2"], bare["load2"]

    def cas(mem: JitterRam, i: int, old: int, new: int) -> Any:
        mem.state[jitter_state.OPERANDS + 1] = new
        return bare_cas(mem, i, old, new)

    def cas2(mem: JitterRam, i: int, old0: int, old1: int, new0: int, new1: int) -> Any:
        for k, value in enumerate((old1, new0, new1), 1):
            mem.state[jitter_state.OPERANDS + k] = value
        return bare_cas2(mem, i, old0, old1, new0, new1)

    def load2(mem: JitterRam, i: int) -> Any:
        pair = bare_load2(mem, i)
        mem.state[jitter_state.OPERANDS] = pair[1]
        return pair

    return bare | {"cas": cas, "cas2": cas2, "load2": load2}


def _install() -> None:
    """The words of ``JitterRam``, interpreted: those of ``Ram``, hooked."""
    method = {"getitem": "__getitem__", "setitem": "__setitem__", "give_way": "relax"}
    bare = {word: getattr(Ram, method.get(word, word)) for word in HOOKED}
    for word, function in hooked_methods(
        jitter_state.before, jitter_state.after, noting(bare)
    ).items():
        setattr(JitterRam, method.get(word, word), function)


_install()

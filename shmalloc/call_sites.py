"""Call stacks of sampled allocations: taken in this process, saved in the segment's depot.

A kernel that allocates may sample the allocation (kernels/page_owner.py); then the record of its
claim leads to the new entry. Here the callables of an arena are wrapped so that they look at that
word after each call, and give the entry the stack of their caller. Only of an arena that samples:
those of other arenas are not wrapped.

A stack is text, one frame a line, the innermost first: ``function (file:line)``. Frames of this
package are left out, and of the others 16 are kept, as in Linux (PAGE_OWNER_STACK_DEPTH).

Threads share a claim. So a call and its look are one turn, which other threads wait for; calls that
wait for other threads take no turn, and may then find the entry of one of these.
"""

from __future__ import annotations

import hashlib
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import numpy as np

from shmalloc import constants as c
from shmalloc.engine import Engine
from shmalloc.kernels.page_owner import enter_stack, set_clocks
from shmalloc.kernels.stack_depot import find_stack, publish_stack, reserve_stack
from shmalloc.segment import Segment

DEPTH = 16
CLOCKS_NS = 10_000_000  # between two looks at the clock
KNOWN = 4096  # stacks that a process remembers; more are looked up again
COMMAND_BYTES = 16  # as Linux's comm
_HASH_BITS = 62
_OURS = str(Path(__file__).parent) + os.sep

_FREEING = {"free_pages", "free_pages_of", "kfree", "cache_free", "drop_array"}

Frames = list[tuple[CodeType, int]]  # code and line, the innermost first


class CallSites:
    """What one process saves of its stacks in one segment that samples."""

    def __init__(self, segment: Segment, engine: Engine) -> None:
        self._segment, self._engine = segment, engine
        self._first = segment.layout.cpu(0) + c.C_OWNER_LAST
        # By id of the code, whose hash would be computed anew each time, and line of each frame.
        # The frames are kept, so that no other code gets such an id.
        self._handles: dict[tuple[int, ...], tuple[int, Frames]] = {}
        self._enter = engine.builtin(enter_stack, segment.ram, releases=False, alone=False)
        self._told_ns = 0
        self.renew()

    def renew(self) -> None:
        """Forget which thread is at work: in the child of a fork it is another one, or none."""
        self._turn = threading.RLock()

    def introduce(self, claim: int) -> None:
        """Write the name of this process into the record of its claim, whose entries copy it."""
        at = self._segment.layout.cpu(claim) + c.C_COMMAND
        name = Path("/proc/self/comm").read_bytes().strip()[: COMMAND_BYTES - 1]
        words = np.frombuffer(name.ljust(COMMAND_BYTES, b"\0"), np.int64)
        for i in range(2):
            # Words have no sign: the byte that would have one is cut.
            self._segment.ram[at + i] = int(words[i]) & ((1 << 63) - 1)
        self._segment.ram[self._first + claim * c.C_STRIDE] = 0  # of another life
        self._segment.ram[self._segment.layout.cpu(claim) + c.C_OWNER_STACK] = 0

    def stand_for(self, claim: int, kernel: Callable[..., Any]) -> None:
        """Give all that ``claim`` allocates from now on one stack: ``kernel``, called from here."""
        code = kernel.__code__
        lines = [frame_text(code.co_name, code.co_filename, code.co_firstlineno)]
        lines += [frame_text(code.co_qualname, code.co_filename, n) for code, n in frames()]
        handle = save_stack(self._segment, self._engine, lines)
        self._segment.ram[self._segment.layout.cpu(claim) + c.C_OWNER_STACK] = handle
        tell_time(self._segment, self._engine, c.PO_LATER_CLOCKS)

    def watching(
        self, kernel: Callable[..., Any], call: Callable[..., Any], alone: bool
    ) -> Callable[..., Any]:
        """``call`` of ``kernel``, which takes a claim first, with a look at what it sampled."""
        if kernel.__name__ in _FREEING:
            return call
        first, view = self._first, self._segment.ram.view

        def watched(claim: int, *arguments: int) -> Any:
            if not alone:
                result = call(claim, *arguments)
                # A call that never waits does not wait here either: another thread may hold our
                # turn while it waits for memory. Its look finds our entries, too.
                if self._turn.acquire(blocking=False):
                    try:
                        self.look(claim)
                    finally:
                        self._turn.release()
                return result
            with self._turn:
                result = call(claim, *arguments)
                if view[first + claim * c.C_STRIDE]:
                    self.look(claim)
            return result

        return watched

    def look(self, claim: int) -> None:
        """Give the entries that ``claim`` made since the last look the stack of our caller."""
        ram, last = self._segment.ram, self._first + claim * c.C_STRIDE
        with self._turn:
            entry = ram[last] if ram.words else 0
            if not entry:
                return
            ram[last] = 0
            handle = self._save_frames(frames())
            thread = threading.get_native_id()
            epoch = ram[self._segment.layout.cpu(claim) + c.C_EPOCH]
            life = epoch << c.LIFE_EPOCH_SHIFT | claim + 1
            for _ in range(self._segment.geometry.page_owner_entries):
                pending = ram[entry + c.PE_STACK]  # first: a new life is written before a new stack
                following = ram[entry + c.PE_NEXT]
                # Of a call before that was interrupted; or of another claim, that took the entry of
                # a block which is freed by now. What came behind it is not known any more.
                if pending & c.STACK_HANDLE_MASK or ram[entry + c.PE_LIFE] != life:
                    break
                if not self._enter(claim, entry, pending, handle, thread):
                    break
                if not following:
                    break
                entry = following
            if time.monotonic_ns() - self._told_ns > CLOCKS_NS:
                tell_time(self._segment, self._engine, c.PO_LATER_CLOCKS)
                self._told_ns = time.monotonic_ns()

    def _save_frames(self, found: Frames) -> int:
        """The handle of a stack, 0 if the depot is full."""
        key = tuple(part for code, line in found for part in (id(code), line))
        known = self._handles.get(key)
        if known is not None:
            return known[0]
        if len(self._handles) >= KNOWN:
            self._handles.clear()
        lines = [frame_text(code.co_qualname, code.co_filename, n) for code, n in found]
        handle = save_stack(self._segment, self._engine, lines)
        self._handles[key] = (handle, found)
        return handle


def frames() -> Frames:
    """Code and line of the frames above, the innermost first, without those of this package."""
    found: Frames = []
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and len(found) < DEPTH:
        if not frame.f_code.co_filename.startswith(_OURS):
            found.append((frame.f_code, frame.f_lineno))
        frame = frame.f_back
    return found


def frame_text(function: str, file: str, line: int) -> str:
    """One line of a stack."""
    return f"{function} ({file}:{line})"


def tell_time(segment: Segment, engine: Engine, at: int) -> None:
    """Write down what the kernels' clock says now, by which readers know when entries were made."""
    engine.call(set_clocks, segment.ram, 0, at, time.monotonic_ns())


def save_stack(segment: Segment, engine: Engine, lines: list[str]) -> int:
    """The handle of a stack, 0 if the depot is full; saved now unless a process did before."""
    text = "\n".join(lines).encode("utf-8", "replace")
    digest = hashlib.sha256(text).digest()[:8]
    hash_bits = int.from_bytes(digest, "little") >> (64 - _HASH_BITS) or 1
    ram = segment.ram
    handle = engine.call(find_stack, ram, 0, hash_bits)
    if handle:
        return int(handle)
    words = -(-len(text) // 8)
    handle = engine.call(reserve_stack, ram, 0, c.SR_TEXT + words)
    if not handle:
        return 0
    at = segment.layout.at["stacks"] + handle
    ram[at + c.SR_HASH], ram[at + c.SR_BYTES] = hash_bits, len(text)
    padded = np.frombuffer(text.ljust(words * 8, b"\0"), np.int64)
    ram.array[at + c.SR_TEXT : at + c.SR_TEXT + words] = padded
    return int(engine.call(publish_stack, ram, 0, handle, hash_bits))

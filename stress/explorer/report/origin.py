"""Where the code of a check comes from: the line that returned it, and the words that it read last.

A check runs in one piece and leaves no steps. After a failure it runs once more, traced, over a
copy of the memory that it refused. The trace shows which frame returned the code and, if that frame
only passed on the result of another kernel on the same line, that kernel, down to the line that
made the code. The words that the check read last are those that it objects to.

``breakpoint()`` in a check stops in its first run, not here.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import FrameType, FunctionType
from typing import Any, NamedTuple

import numpy as np

from shmalloc.compiler.runnable import runnable
from shmalloc.dialect import closure_of
from shmalloc.memory import Ram
from stress.machine.site import Site
from stress.machine.vocabulary import CheckedRam

LAST_READS = 2


class Origin(NamedTuple):
    """``sites``: innermost first. ``words``: those read last, in order of address."""

    sites: tuple[Site, ...] = ()
    words: tuple[int, ...] = ()


class _Watched(CheckedRam):
    """Memory that remembers which words were read last."""

    def __init__(self, words: np.ndarray, returns: Sequence[int]) -> None:
        copy = Ram.of_words(len(words))
        copy.array[:] = words
        super().__init__(copy.array.data, lambda: returns)
        self.reads: list[tuple[int, ...]] = []

    def __getitem__(self, i: int) -> int:
        self.reads.append((i,))
        return super().__getitem__(i)

    load = load_relaxed = __getitem__

    def load2(self, i: int) -> tuple[int, int]:
        self.reads.append((i, i + 1))
        return super().load2(i)


@dataclass
class _Call:
    """A frame that is running or has returned."""

    site: Site | None = None
    value: int | None = None
    last: _Call | None = None  # the last kernel that it called
    last_line: int = 0


@dataclass
class _Tracer:
    """What ``sys.settrace`` calls: it follows the frames of kernels."""

    files: frozenset[str]
    open: list[_Call] = field(default_factory=lambda: [_Call()])

    def __call__(self, frame: FrameType, event: str, argument: Any) -> Callable[..., Any] | None:
        if frame.f_code.co_filename not in self.files:
            return None
        frame.f_trace_lines = False
        self.open.append(_Call())
        return self._leave

    def _leave(self, frame: FrameType, event: str, argument: Any) -> Callable[..., Any]:
        if event == "return":
            call = self.open.pop()
            code = frame.f_code
            call.site = Site(code.co_filename, frame.f_lineno, code.co_qualname)
            call.value = argument if isinstance(argument, int) else None
            parent = self.open[-1]
            parent.last = call
            parent.last_line = frame.f_back.f_lineno if frame.f_back else 0
        return self._leave


def origin_of(
    check: FunctionType, memory: np.ndarray, code: int, returns: Sequence[int] = ()
) -> Origin:
    """The line of ``check`` that returned ``code`` for ``memory``."""
    ram = _Watched(memory, returns)
    tracer = _Tracer(frozenset(kernel.__code__.co_filename for kernel in closure_of(check)))
    run = runnable(check)
    tracing, stopping = sys.gettrace(), sys.breakpointhook
    sys.breakpointhook = lambda *_, **__: None
    sys.settrace(tracer)
    try:
        value = run(ram)
    finally:
        sys.settrace(tracing)
        sys.breakpointhook = stopping
    if int(value or 0) != code:
        return Origin()
    words = sorted({word for read in ram.reads[-LAST_READS:] for word in read})
    return Origin(tuple(_sites(tracer.open[0].last)), tuple(words))


def _sites(call: _Call | None) -> list[Site]:
    sites: list[Site] = []
    while call is not None and call.site is not None:
        sites.insert(0, call.site)
        passed_on = call.last is not None and call.last.value == call.value
        call = call.last if passed_on and call.last_line == call.site.line else None
    return sites

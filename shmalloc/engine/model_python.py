"""``PyModel``: every virtual CPU a greenlet, the scheduler interpreted.

The same decisions as the native model, from the same source (schedule.py), some hundred times
slower; breakpoints work in kernels. With ``trace=True`` each step knows the file, the line and the
function that made it: ``sites``. The words of kernels are methods here; each posts its access in
the control block, switches to the scheduler and performs the access when switched back to.
"""

from __future__ import annotations

import operator
import sys
from collections.abc import Callable
from types import FrameType
from typing import NamedTuple

import numpy as np
from greenlet import getcurrent, greenlet

from shmalloc import words as words_module
from shmalloc.engine import ops
from shmalloc.engine import schedule as s
from shmalloc.engine.program import (
    ModelProgram, ModelResult, make_block_words, run_world,
)  # fmt: skip
from shmalloc.memory import Ram

_OWN_FILES = frozenset({__file__, words_module.__file__})


class Site(NamedTuple):
    """Where a step was made."""

    file: str
    line: int
    function: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line} in {self.function}"


class PyMemory:
    """What interpreted kernels see as ``mem``: every word posts its access and waits its turn."""

    def __init__(self, ram: Ram, block: PyControl, trace: bool) -> None:
        self.ram, self.block, self.trace = ram, block, trace
        self._view = memoryview(ram.array.data)

    def _turn(self, op: int, i: int, a: int = 0) -> None:
        block = self.block
        cpu = block[s.CURRENT]
        block[s.OP + cpu], block[s.AT + cpu], block[s.ARG + cpu] = op, i, a
        if self.trace:
            block.posted[cpu].append(_site(sys._getframe(2)))
        block.hub.switch()

    def _done(self, value: int) -> int:
        self.block[s.VALUE + self.block[s.CURRENT]] = value
        return value

    def _read(self, op: int, i: int) -> int:
        self._turn(op, i)
        return self._done(self._view[i])

    def _write(self, op: int, i: int, value: int) -> None:
        self._turn(op, i, value)
        self._view[i] = self._done(value)

    def _update(self, op: int, i: int, value: int, new: Callable[[int, int], int]) -> int:
        self._turn(op, i, value)
        found = self._view[i]
        self._view[i] = new(found, value)
        return self._done(found)

    def __getitem__(self, i: int) -> int:
        return self._read(ops.OP_READ, i)

    def __setitem__(self, i: int, value: int) -> None:
        self._write(ops.OP_WRITE, i, value)

    def load(self, i: int) -> int:
        return self._read(ops.OP_LOAD, i)

    def load_relaxed(self, i: int) -> int:
        return self._read(ops.OP_LOAD_RELAXED, i)

    def store(self, i: int, value: int) -> None:
        self._write(ops.OP_STORE, i, value)

    def store_relaxed(self, i: int, value: int) -> None:
        self._write(ops.OP_STORE_RELAXED, i, value)

    def cas(self, i: int, old: int, new: int) -> bool:
        self._turn(ops.OP_CAS, i, old)
        return bool(self._done(int(self.ram.cas(i, old, new))))

    def cas2(self, i: int, old0: int, old1: int, new0: int, new1: int) -> bool:
        self._turn(ops.OP_CAS2, i, old0)
        return bool(self._done(int(self.ram.cas2(i, old0, old1, new0, new1))))

    def load2(self, i: int) -> tuple[int, int]:
        self._turn(ops.OP_LOAD2, i)
        pair = self.ram.load2(i)
        self._done(pair[0])
        return pair

    def exchange(self, i: int, value: int) -> int:
        return self._update(ops.OP_EXCHANGE, i, value, lambda found, value: value)

    def fetch_add(self, i: int, delta: int) -> int:
        return self._update(ops.OP_FETCH_ADD, i, delta, operator.add)

    def fetch_or(self, i: int, bits: int) -> int:
        return self._update(ops.OP_FETCH_OR, i, bits, operator.or_)

    def fetch_and(self, i: int, bits: int) -> int:
        return self._update(ops.OP_FETCH_AND, i, bits, operator.and_)

    def fence(self) -> None:
        self._turn(ops.OP_FENCE, 0)
        self._done(0)

    def relax(self) -> None:
        self._turn(ops.OP_RELAX, 0)
        self._done(0)

    def wait(self, i: int, old: int) -> None:
        self._turn(ops.OP_WAIT, i, old)

    def wake(self, i: int, count: int) -> None:
        self._turn(ops.OP_WAKE, i, count)

    def _inside(self, op: int, i: int) -> None:
        """Post an access that is no step only where it is out of range: the schedule ends there."""
        if not 0 <= i < self.ram.words:
            self._turn(op, i)

    def fixed(self, i: int) -> int:
        self._inside(ops.OP_FIXED, i)
        return self._view[i]

    def mark(self, i: int) -> None:
        self._inside(ops.OP_MARK, i)
        count = self._view[i]
        s.remember(self.block, i, count)
        self._view[i] = count + 1

    def now(self) -> int:
        return self.block[s.STEPS]


def _site(frame: FrameType | None) -> Site:
    """The innermost frame that is a kernel's: neither this file's nor a word's."""
    while frame is not None and frame.f_code.co_filename in _OWN_FILES:
        frame = frame.f_back
    assert frame is not None, "a step was made outside of any kernel"
    return Site(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_qualname)


class PyControl(list[int]):
    """The control block, with the scheduler's primitives as methods."""

    def __init__(self, program: ModelProgram, ram: Ram, words: list[int], trace: bool) -> None:
        super().__init__(words)
        self.program, self.ram = program, ram
        self.memory = PyMemory(ram, self, trace)
        self.view = memoryview(ram.array.data)
        self.hub = getcurrent()
        self.fibers: list[greenlet | None] = [None] * len(program.threads)
        self.posted: list[list[Site]] = [[] for _ in program.threads]

    def launch(self, cpu: int) -> None:
        self.posted[cpu].clear()
        self.fibers[cpu] = greenlet(self._main, self.hub)

    def _main(self, cpu: int) -> None:
        try:
            value = self.program.threads[cpu](self.memory, cpu)
        except RecursionError:
            self[s.OUTCOME], self[s.FAULT_CPU] = s.STACK, cpu
            return
        self[s.RETURN + cpu] = int(value or 0)
        self[s.OP + cpu] = ops.OP_FINISH
        self[s.STATE + cpu] = s.FINISHED

    def resume(self, cpu: int) -> None:
        fiber = self.fibers[cpu]
        assert fiber is not None, "resumed before it was launched"
        if fiber:
            fiber.switch()
        else:
            fiber.switch(cpu)

    def run_check(self) -> int:
        """Run the check kernel on the bare memory, and remember what it changed."""
        if self.program.check is None:
            return 0
        before = self.ram.array.copy()
        code = 0
        try:
            code = int(self.program.check(self.ram) or 0)
        except IndexError:
            self[s.OUTCOME] = s.MEMORY
        for i in np.flatnonzero(self.ram.array != before):
            s.remember(self, int(i), int(before[i]))
        return code

    def read_word(self, i: int) -> int:
        return self.view[i]

    def write_word(self, i: int, value: int) -> None:
        self.view[i] = value

    def drop(self) -> None:
        """Give up the CPUs that did not finish: their greenlets end where they stand."""
        self.fibers = [None] * len(self.fibers)


class PyModel:
    """A program laid out for the interpreted model engine: see ``run``."""

    name = "interpreted"

    def __init__(
        self,
        program: ModelProgram,
        step_limit: int = 10_000,
        idle_limit: int = 200,
        log: bool = False,
        trace: bool = False,
    ) -> None:
        self.program = program
        self.ram = Ram.of_words(program.words)
        program.initialize(self.ram)
        words = make_block_words(program, step_limit, idle_limit, log or trace)
        self.block = PyControl(program, self.ram, words, trace)

    def explore(self, seed: int, count: int) -> int:
        """Run ``count`` schedules; how many passed before a failure."""
        self.block.hub = getcurrent()
        try:
            passed: int = s.explore(self.block, seed, count)
            return passed
        finally:
            self.block.drop()

    def run(self, seed: int = 1, schedules: int = 1, seconds: float | None = None) -> ModelResult:
        """Random-walk ``schedules`` schedules with the seeds ``seed``, ``seed`` + 1, and so on."""
        return run_world(self, seed, schedules, seconds)

    def sites(self, result: ModelResult) -> list[Site]:
        """Where each event of ``result``, this world's last run, was made (with ``trace=True``)."""
        following = [0] * len(self.program.threads)
        found = []
        for event in result.events:
            found.append(self.block.posted[event.cpu][following[event.cpu]])
            following[event.cpu] += 1
        return found

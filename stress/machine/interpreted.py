"""``InterpretedMachine``: every virtual CPU a greenlet, the scheduler interpreted.

The same decisions as the native model, from the same source (schedule.py), some hundred times
slower; breakpoints work in kernels, which run rewritten to the arithmetic of compiled code. With
``trace=True`` each step knows the file, the line and the function that made it: ``sites``. The
words of kernels are methods here; each posts its access in the control block, switches to the
scheduler and continues when it has performed the access.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from types import FrameType
from typing import Any

import numpy as np
from greenlet import getcurrent, greenlet

from shmalloc import words as words_module
from shmalloc.compiler.integers import Trap, wrap
from shmalloc.compiler.rewrite import placed
from shmalloc.compiler.runnable import runnable
from shmalloc.compiler.runtime import FAULT_NUMBERS
from shmalloc.dialect import Kernel
from shmalloc.engine import ops
from shmalloc.errors import KernelFault
from shmalloc.memory import Ram, Unexpected
from stress.machine import block as cb
from stress.machine import primitives, vocabulary
from stress.machine.block_layout import Settings
from stress.machine.machine import events_of
from stress.machine.program import Program, plan_of, require_results
from stress.machine.read_only import ReadOnlyRam, WroteError, told
from stress.machine.site import Site
from stress.machine.vocabulary import CheckedRam

_FAULTS = (ArithmeticError, Unexpected)  # what a rewritten kernel raises, but for its accesses
State = tuple[tuple[object, ...], ...]
_OWN_FILES = frozenset({__file__, words_module.__file__, vocabulary.__file__})


class InterpretedMemory:
    """What interpreted kernels see as ``mem``: every word posts its access and waits."""

    def __init__(self, ram: Ram, block: InterpretedControl, trace: bool) -> None:
        self.ram, self.block, self.trace = ram, block, trace
        self._view = memoryview(ram.array.data)

    def _post(self, op: int, i: int, a: int = 0, b: int = 0, c: int = 0, d: int = 0) -> int:
        """Let the scheduler choose; back here, it has performed this access."""
        block = self.block
        cpu = block[cb.CURRENT]
        block[cb.OP + cpu], block[cb.AT + cpu] = op, i
        block[cb.ARG + cpu], block[cb.ARG1 + cpu] = a, b
        block[cb.ARG2 + cpu], block[cb.ARG3 + cpu] = c, d
        if self.trace:
            block.posted[cpu].append(_stack(sys._getframe(2)))
            block.operands[cpu].append((a, b, c, d))
            if block.states:
                block.states[cpu].append(_state(sys._getframe(2)))
        block.hub.switch()
        return block[cb.VALUE + cpu]

    def __getitem__(self, i: int) -> int:
        return self._post(ops.OP_READ, i)

    def __setitem__(self, i: int, value: int) -> None:
        self._post(ops.OP_WRITE, i, value)

    def load(self, i: int) -> int:
        return self._post(ops.OP_LOAD, i)

    def load_relaxed(self, i: int) -> int:
        return self._post(ops.OP_LOAD_RELAXED, i)

    def store(self, i: int, value: int) -> None:
        self._post(ops.OP_STORE, i, value)

    def store_relaxed(self, i: int, value: int) -> None:
        self._post(ops.OP_STORE_RELAXED, i, value)

    def cas(self, i: int, old: int, new: int) -> bool:
        return self._post(ops.OP_CAS, i, old, new) != 0

    def cas2(self, i: int, old0: int, old1: int, new0: int, new1: int) -> bool:
        return self._post(ops.OP_CAS2, i, old0, old1, new0, new1) != 0

    def load2(self, i: int) -> tuple[int, int]:
        low = self._post(ops.OP_LOAD2, i)
        return low, self.block[cb.VALUE1 + self.block[cb.CURRENT]]

    def exchange(self, i: int, value: int) -> int:
        return self._post(ops.OP_EXCHANGE, i, value)

    def fetch_add(self, i: int, delta: int) -> int:
        return self._post(ops.OP_FETCH_ADD, i, delta)

    def fetch_or(self, i: int, bits: int) -> int:
        return self._post(ops.OP_FETCH_OR, i, bits)

    def fetch_and(self, i: int, bits: int) -> int:
        return self._post(ops.OP_FETCH_AND, i, bits)

    def fence(self) -> None:
        self._post(ops.OP_FENCE, 0)

    def light_fence(self) -> None:
        """No step: the model keeps the order of each CPU's program."""

    def heavy_fence(self, i: int) -> None:
        self._post(ops.OP_HEAVY_FENCE, i)

    def relax(self) -> None:
        self._post(ops.OP_RELAX, 0)

    def wait(self, i: int, old: int) -> None:
        self._post(ops.OP_WAIT, i, old)

    def wake(self, i: int, count: int) -> None:
        self._post(ops.OP_WAKE, i, count)

    def _inside(self, op: int, i: int) -> None:
        """Post an access that is no step only if it is out of range: the schedule ends there."""
        if not 0 <= i < self.ram.words:
            self._post(op, i)

    def fixed(self, i: int) -> int:
        self._inside(ops.OP_FIXED, i)
        return self._view[i]

    def mark(self, i: int) -> None:
        self._inside(ops.OP_MARK, i)
        count = self._view[i]
        primitives.remember(self.block, i, count)
        self._view[i] = wrap(count + 1)

    def notice(self, i: int) -> None:
        """Only a supervisor announces a death (stress/crash)."""

    def choose(self, n: int) -> int:
        if not 1 <= n <= cb.MAX_VALUES:
            raise Trap("choice")
        return self._post(ops.OP_CHOOSE, 0, n)

    def expect(self, condition: int, code: int) -> None:
        if not condition:
            raise Unexpected(code)

    def now(self) -> int:
        return self.block[cb.STEPS]


def _stack(frame: FrameType | None) -> tuple[Site, ...]:
    """The kernels' frames, innermost first: not this file's, not a word's, nothing below."""
    found: list[Site] = []
    while frame is not None:
        code = frame.f_code
        if code.co_filename == __file__ and found:
            break
        if code.co_filename not in _OWN_FILES:
            found.append(Site(code.co_filename, frame.f_lineno, code.co_qualname))
        frame = frame.f_back
    return tuple(found)


def _looked_at(writable: bool) -> type[CheckedRam]:
    """The kind of memory that a check sees."""
    return CheckedRam if writable else ReadOnlyRam


def _state(frame: FrameType | None) -> State:
    """Where a CPU is in its kernels, and the locals of each."""
    found: list[tuple[object, ...]] = []
    while frame is not None and not (frame.f_code.co_filename == __file__ and found):
        if frame.f_code.co_filename not in _OWN_FILES:
            numbers = tuple(v for v in frame.f_locals.items() if isinstance(v[1], int))
            found.append((frame.f_code, frame.f_lasti, numbers))
        frame = frame.f_back
    return tuple(found)


class InterpretedControl(list[int]):
    """The control block, with the scheduler's primitives as methods."""

    def __init__(self, program: Program, ram: Ram, words: list[int], trace: bool) -> None:
        super().__init__(words)
        self.program, self.ram = program, ram
        self.memory = InterpretedMemory(ram, self, trace)
        self.view = memoryview(ram.array.data)
        self.seen = {
            cb.CHECK_ENTRY: _looked_at(program.check_writes)(ram.array.data, self.returned),
            cb.INVARIANT_ENTRY: ReadOnlyRam(ram.array.data, self.returned),
        }
        self.threads = [runnable(thread) for thread in program.threads]
        self.watchers = {slot: runnable(kernel) for slot, kernel in program.watchers()}
        for entry in self.watchers:
            self[entry] = 1
        self.faulted: Site | None = None  # where the last schedule did what has no meaning
        self.states: list[list[State]] = []  # of each post of each CPU, where they are wanted
        self.written = ""  # what a check or invariant wrote
        self.hub = getcurrent()
        self.fibers: list[greenlet | None] = [None] * len(program.threads)
        self.posted: list[list[tuple[Site, ...]]] = [[] for _ in program.threads]
        self.operands: list[list[tuple[int, int, int, int]]] = [[] for _ in program.threads]
        self.judged: np.ndarray | None = None  # the memory that a check or invariant refused

    def launch(self, cpu: int) -> None:
        self.posted[cpu].clear()
        self.operands[cpu].clear()
        self.fibers[cpu] = greenlet(self._main, self.hub)

    def _main(self, cpu: int) -> None:
        try:
            value = self.threads[cpu](self.memory, cpu, *self.program.arguments[cpu])
        except _FAULTS as error:
            self[cb.FAULT_CPU] = cpu
            self._note_fault(error)
            return
        except RecursionError:
            self[cb.OUTCOME], self[cb.FAULT_CPU] = cb.STACK, cpu
            return
        self[cb.RETURN + cpu] = int(value or 0)
        self[cb.OP + cpu] = ops.OP_FINISH
        self[cb.STATE + cpu] = cb.FINISHED

    def _note_fault(self, error: ArithmeticError | Unexpected) -> None:
        """CODE says what the fault is, as compiled code does; ``faulted`` says where."""
        fault = placed(error, None)
        assert isinstance(fault, KernelFault)
        if isinstance(error, Unexpected):
            self[cb.OUTCOME], self[cb.CODE] = cb.EXPECTATION, error.code
        else:
            self[cb.OUTCOME], self[cb.CODE] = cb.ARITHMETIC, FAULT_NUMBERS[fault.kind]
        self.faulted = Site(fault.file, fault.line, fault.kernel.rpartition(".")[2])

    def resume(self, cpu: int) -> None:
        fiber = self.fibers[cpu]
        assert fiber is not None, "resumed before it was launched"
        if fiber:
            fiber.switch()
        else:
            fiber.switch(cpu)

    def private_state(self, cpu: int) -> int:
        """Where the greenlet stands, and the locals of its kernels."""
        fiber = self.fibers[cpu]
        frame = fiber.gr_frame if fiber is not None and not fiber.dead else None
        while frame is not None and frame.f_code.co_filename == __file__:
            frame = frame.f_back
        return hash(_state(frame)) & cb.MASK62

    def run_kernel(self, entry: int) -> int:
        """Run the check or the invariant on the bare memory, and remember what it changed."""
        before = self.ram.array.copy()
        code = 0
        try:
            code = int(self.watchers[entry](self.seen[entry]) or 0)
        except IndexError:
            self[cb.OUTCOME] = cb.MEMORY
        except _FAULTS as error:
            self._note_fault(error)
            code = self[cb.CODE]
        except WroteError as error:
            self[cb.OUTCOME], self[cb.CODE] = cb.WROTE, error.index
            role = "check" if entry == cb.CHECK_ENTRY else "invariant"
            self.written = told(role, error.index, error.site)
            return error.index
        if code:
            self.judged = before
        for i in np.flatnonzero(self.ram.array != before):
            primitives.remember(self, int(i), int(before[i]))
        return code

    def returned(self) -> list[int]:
        """What the kernel of each CPU returned."""
        return self[cb.RETURN : cb.RETURN + self[cb.CPUS]]

    def read_word(self, i: int) -> int:
        return self.view[i]

    def write_word(self, i: int, value: int) -> None:
        self.view[i] = value

    def added(self, a: int, b: int) -> int:
        return wrap(a + b)

    def drop(self) -> None:
        """Give up the CPUs that did not finish: their greenlets end where they stand."""
        self.fibers = [None] * len(self.fibers)


class InterpretedMachine:
    """A program laid out for the interpreted engine of the explorer."""

    name = "interpreted"

    def __init__(self, program: Program, trace: bool = False, **settings: Any) -> None:
        require_results(program)
        self.program = program
        self.settings = Settings(**settings)
        if trace:
            self.settings = replace(self.settings, log=True)
        self.ram = Ram.of_words(program.words)
        program.initialize(self.ram)
        words = plan_of(program, self.settings).as_list()
        self.block = InterpretedControl(program, self.ram, words, trace)

    def warm(self, driver: Kernel) -> None:
        """Nothing to prepare: ``driver`` runs as it is."""

    def call(self, driver: Kernel, *arguments: int) -> int:
        """Run a scheduler function over the block."""
        self.block.hub = getcurrent()
        try:
            value: int = driver(self.block, *arguments)
            return value
        finally:
            self.block.drop()

    def stacks(self) -> list[tuple[Site, ...]]:
        """The call stack of each event of the last schedule (``trace=True``).

        A flush has none: the store that it completes was made earlier.
        """
        following = [0] * len(self.program.threads)
        found: list[tuple[Site, ...]] = []
        for event in events_of(self.block):
            if event.op == ops.OP_FLUSH:
                found.append(())
                continue
            found.append(self.block.posted[event.cpu][following[event.cpu]])
            following[event.cpu] += 1
        return found

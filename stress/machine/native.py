"""``NativeMachine``: a program whose virtual CPUs are fibers, under the compiled scheduler.

The scheduler (schedule.py) and the strategies are in one image, the kernels of a program in another
and called through their addresses: a new program compiles nothing but its own kernels. Here are
the machines: the words of a program, its control block and one stack for each CPU (fibers.py).
Given-up fibers are dropped: their stacks are written anew at the next ``launch``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from typing import Any

import numpy as np

from shmalloc.compiler import obtain
from shmalloc.compiler.instances import Instance, symbol_of
from shmalloc.dialect import Kernel
from shmalloc.engine import plans
from shmalloc.engine.doctor import require_native
from shmalloc.errors import EngineError
from shmalloc.memory import PLACE_WORDS, Ram, aligned_words
from stress.machine import block as cb
from stress.machine import fibers
from stress.machine.block_layout import Settings
from stress.machine.native_checks import memory_of
from stress.machine.native_control import CONTROL, STACK_BYTES
from stress.machine.native_memory import MODEL
from stress.machine.program import Program, plan_of, require_results


class NativeControl:
    """A control block that compiled code takes: an array of words, and its place (runtime.py)."""

    def __init__(self, words: np.ndarray) -> None:
        self.array = words
        self._place = aligned_words(PLACE_WORDS)
        self._place[0], self._place[1] = words.ctypes.data, len(words)
        self.place_address = int(self._place.ctypes.data)
        self.on_fault: Callable[[], None] | None = None
        self.turn = nullcontext()
        self.ended = ""


class NativeMachine:
    """A program laid out for the compiled engine of the explorer.

    Raises ``EnvironmentUnfitError`` on a machine without fibers, ``DialectError`` for a kernel that
    is not in the dialect.
    """

    name = "native"

    def __init__(self, program: Program, **settings: Any) -> None:
        require_native()
        require_results(program)
        self.program = program
        self.settings = Settings(**settings)
        self.ram = Ram.of_words(program.words)
        program.initialize(self.ram)
        self.control = NativeControl(plan_of(program, self.settings).as_array())
        self.block = self.control.array
        self._drivers: dict[Kernel, Any] = {}
        self._place()

    def _place(self) -> None:
        """Addresses of memory and kernels."""
        block = self.block
        block[cb.BASE] = self.ram.base
        entries = [Instance(thread, MODEL, True) for thread in self.program.threads]
        watchers = _watchers_of(self.program)
        entries += watchers.values()
        for cpu, thread in enumerate(self.program.threads):
            block[cb.ENTRY + cpu] = _address(Instance(thread, MODEL, True), entries)
        for slot, watcher in watchers.items():
            block[slot] = _address(watcher, entries)
        self._place_stacks(len(self.program.threads))

    def _place_stacks(self, cpus: int) -> None:
        """One stack more than CPUs: what runs over the lowest one destroys nothing else."""
        self._stacks = np.zeros((cpus + 1) * fibers.STACK_WORDS + 2, dtype=np.int64)
        origin = int(self._stacks.ctypes.data)
        stacks = -(-(origin + STACK_BYTES) // 16) * 16
        self.block[cb.STACKS] = stacks
        self.guards = []
        for cpu in range(cpus):
            bottom = stacks + cpu * STACK_BYTES
            word = (bottom - origin) // 8
            self.guards.append(self._stacks[word : word + fibers.GUARD_WORDS])
            self.guards[cpu][:] = fibers.GUARD
            self.block[cb.LIMIT + cpu] = bottom + fibers.RESERVE_WORDS * 8

    def warm(self, driver: Kernel) -> None:
        """Compile ``driver`` (or load it) now, and bind it to this block."""
        if driver not in self._drivers:
            along = [Instance(f, CONTROL, True) for f in plans.drivers_with(driver)]
            obtain.require(Instance(driver, CONTROL, True), obtain.warn, along)
            call = obtain.bound(driver, CONTROL, self.control, releases=True)
            self._drivers[driver] = call

    def call(self, driver: Kernel, *arguments: int) -> int:
        """Run a scheduler function over the block: compiled, without the interpreter's lock."""
        self.warm(driver)
        value: int = self._drivers[driver](*arguments)
        for cpu, guard in enumerate(self.guards):
            if not (guard == fibers.GUARD).all():
                raise EngineError(
                    f"cpu {cpu}: its stack ran over between two accesses and destroyed other data;"
                    " results of this process cannot be trusted. Cure: shallower calls"
                )
        return value


def compile_drivers(drivers: Iterable[Kernel], tell: Callable[[str], None]) -> None:
    """Compile a group of drivers now, or load it: the image that ``warm`` would ask for."""
    obtain.obtain([Instance(driver, CONTROL, True) for driver in drivers], tell)


def _address(entry: Instance, along: list[Instance]) -> int:
    """Address of the machine code of an entry."""
    return obtain.require(entry, obtain.warn, along).address(symbol_of(*entry))


def _watchers_of(program: Program) -> dict[int, Instance]:
    """The check and the invariant, each over its kind of memory, by slot of the block."""
    return {
        slot: Instance(kernel, memory_of(program, slot), True)
        for slot, kernel in program.watchers()
    }


def kernels_of(programs: Iterator[Program]) -> list[Instance]:
    """What is compiled for some programs, to be compiled as one image."""
    found: dict[Instance, None] = {}
    for program in programs:
        found.update((Instance(thread, MODEL, True), None) for thread in program.threads)
        found.update((watcher, None) for watcher in _watchers_of(program).values())
    return list(found)

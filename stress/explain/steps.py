"""A user's workload in small: its own step kernel, on a few CPUs, for a few steps.

What a workload does is its own business, so nothing is drawn but how many CPUs make how many steps,
and the seeds from which their work areas draw. The work areas are as a run prepares them (area.py),
the segment is a small one, and what must hold is what the workload reports, and the audit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from shmalloc import constants as c
from shmalloc.dialect import Kernel, kernel
from shmalloc.errors import MisuseError
from shmalloc.kernels.audit import audit
from shmalloc.units import Memory
from stress.explorer.address import root_of
from stress.explorer.loading import module_of
from stress.machine.program import Program
from stress.programs.checks import first_violation
from stress.programs.initial_state import InitialState
from stress.seeds import derive
from stress.workloads.area import W_PARAMETERS, W_PEER, W_RANDOM, W_WORKERS
from stress.workloads.registry import Workload

NAME = "explained"
MOST_CPUS, MOST_STEPS = 3, 6
PAGES = 16


@kernel
def nothing_is_reported(mem: Memory) -> int:
    """What the workload reported first, else what an audit does."""
    if mem[c.H_REPORT_COUNT] == 0:
        audit(mem, 0)
    return first_violation(mem)


@dataclass(frozen=True)
class StepSketch:
    """``steps``: of each CPU. ``step``: the kernel, or ``FILE.py:NAME``."""

    step: Kernel | str
    steps: tuple[int, ...]
    seed: int = 1
    work_words: int = 64
    parameters: tuple[int, ...] = ()
    module: ClassVar[str] = "stress.explain"
    maker: ClassVar[str] = "explained_steps"

    @property
    def threads(self) -> tuple[tuple[int, ...], ...]:
        """What a reader counts: the steps of each CPU."""
        return tuple((1,) * count for count in self.steps)

    @property
    def operations(self) -> int:
        return sum(self.steps)

    @property
    def text(self) -> str:
        step = self.step if isinstance(self.step, str) else place_of(self.step)
        given = f"    {step!r},\n    steps={list(self.steps)!r},\n    seed={self.seed},\n"
        given += f"    work_words={self.work_words},\n"
        if self.parameters:
            given += f"    parameters={list(self.parameters)!r},\n"
        return f"explained_steps(\n{given})"

    def program(self) -> Program:
        return explained_steps(self.step, self.steps, self.seed, self.work_words, self.parameters)

    def alone(self) -> StepSketch:
        return self

    def variants(self) -> Iterator[StepSketch]:
        """One CPU less, one step less."""
        for cpu, count in enumerate(self.steps):
            if len(self.steps) > 1:
                yield replace(self, steps=(*self.steps[:cpu], *self.steps[cpu + 1 :]))
            if count > 1:
                yield replace(self, steps=(*self.steps[:cpu], count - 1, *self.steps[cpu + 1 :]))


def place_of(step: Kernel) -> str:
    """``FILE.py:NAME``."""
    return f"{step.__code__.co_filename}:{step.__qualname__}"


def step_sketches(workload: Workload) -> Iterator[StepSketch]:
    """Few steps of two CPUs first, then more, with other seeds."""
    seed = 1
    words = max(workload.work_words + workload.work_words % 2, 16)
    while True:
        for cpus in range(2, MOST_CPUS + 1):
            for count in range(1, MOST_STEPS + 1):
                yield StepSketch(
                    workload.step, (count,) * cpus, seed, words, tuple(workload.parameters)
                )
        seed += 1


def explained_steps(
    step: Kernel | str,
    steps: Sequence[int],
    seed: int = 1,
    work_words: int = 64,
    parameters: Sequence[int] = (),
) -> Program:
    """A program in which each CPU makes some steps of a workload.

    ``step``: its kernel ``(mem, cpu, steps)``, or ``FILE.py:NAME``. Raises ``MisuseError`` if there
    is no such kernel.
    """
    found = step if not isinstance(step, str) else _loaded(step)
    state = InitialState.booted(
        PAGES, max_order=2, cpus=len(steps), work_words=work_words, scratch_words=1024, history=16
    )
    for cpu in range(len(steps)):
        at = state.layout.work(cpu)
        state.ram[at + W_RANDOM] = derive(seed, f"explained cpu {cpu}")
        state.ram[at + W_WORKERS] = len(steps)
        state.ram[at + W_PEER] = (cpu + 1) % len(steps)
        for k, value in enumerate(parameters):
            state.ram[at + W_PARAMETERS + k] = value
    story = " ".join(f"cpu {cpu}: {count} steps." for cpu, count in enumerate(steps))
    threads: list[Any] = [(found, count) for count in steps]
    program = state.program(NAME, threads, story, check=nothing_is_reported)
    return _with_areas(program, state.layout.work(0), work_words, len(steps))


def _with_areas(program: Program, first: int, words: int, cpus: int) -> Program:
    """The words of work areas are the workload's own: they are named by their place alone."""

    def inside(index: int) -> bool:
        return first <= index < first + words * cpus

    def word_name(index: int) -> str:
        cpu, offset = divmod(index - first, words)
        known = program.word_name
        if inside(index):
            return f"work area of cpu {cpu} +{offset}"
        return known(index) if known is not None else ""

    def value_name(index: int, value: int) -> str:
        known = program.value_name
        return "" if inside(index) or known is None else known(index, value)

    return replace(program, word_name=word_name, value_name=value_name)


def _loaded(place: str) -> Kernel:
    file, _, name = place.rpartition(":")
    path = Path(file).absolute()
    found: Any = getattr(module_of(path.name, [path.parent], name), name, None)
    if found is None:
        raise MisuseError(f"step: {place} is not there; {root_of(path)} is its root")
    kernel_found: Kernel = found
    return kernel_found

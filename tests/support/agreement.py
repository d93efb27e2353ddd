"""Whether the engines agree: the same kernels over equal memories, compiled, rewritten, evaluated.

``compare(directory, seed, first, count)`` writes a module of random programs, compiles it as one
image, runs each program on both engines a few times, some of them also in the naive evaluator, and
returns a ``Batch``: the differences as text, each with a way to repeat it, and what was run.

An outcome is ("result", value) or ("fault", kind, kernel, line, cpu, index), as naive_evaluator.py
has it. Equal outcomes have results of the same type, and leave the same words in memory.
"""

from __future__ import annotations

import importlib.util
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from shmalloc.engine import get_engine
from shmalloc.errors import KernelFault
from shmalloc.memory import Ram
from support import random_expressions, random_kernels
from support.naive_evaluator import Evaluator, Outcome

ATTEMPTS = 10  # runs of each program, each with arguments and words of its own
Run = Callable[[list[int], list[int]], tuple[Outcome, list[int]]]


@dataclass
class Batch:
    """What was run, and where engines differed."""

    programs: int = 0
    runs: int = 0
    evaluated: int = 0
    faulty_programs: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    differences: list[str] = field(default_factory=list)

    def add(self, other: Batch) -> None:
        self.programs += other.programs
        self.runs += other.runs
        self.evaluated += other.evaluated
        self.faulty_programs += other.faulty_programs
        self.kinds += other.kinds
        self.differences += other.differences

    def __str__(self) -> str:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(self.kinds.items()))
        return (
            f"{self.programs} programs ({self.faulty_programs} faulted), {self.runs} runs"
            f" ({self.evaluated} evaluated, too): {kinds}; {len(self.differences)} differences"
        )


def load_module(directory: Path, name: str, text: str) -> ModuleType:
    """``text`` written to a file and imported from there, since kernels need a source."""
    path = directory / f"{name}.py"
    path.write_text(text)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def compare(directory: Path, seed: int, first: int, count: int, naive_every: int = 5) -> Batch:
    """Run the programs ``first`` to ``first + count - 1`` of ``seed`` in all ways.

    ``naive_every``: every how many programs one is also evaluated; 0 for none.
    """
    name = f"random_{seed}_{first}"
    text = random_kernels.module_text(seed, count, first)
    module = load_module(directory, name, text)
    kernels = [getattr(module, f"program_{k}") for k in range(first, first + count)]
    ways = {kind: engine_runs(kind, kernels) for kind in ("native", "interpreted")}
    naive = Evaluator(text, name)
    batch = Batch(programs=count)
    for number, kernel in enumerate(kernels, first):
        runs = {kind: way[kernel] for kind, way in ways.items()}
        if naive_every and number % naive_every == 0:
            runs["naive"] = _naive_run(naive, kernel.__name__)
        _compare_one(batch, runs, seed, number, kernel.__code__.co_argcount - 1)
    return batch


def _compare_one(batch: Batch, runs: dict[str, Run], seed: int, number: int, takes: int) -> None:
    faulted = False
    for attempt in range(ATTEMPTS):
        arguments = random_kernels.arguments_of(seed, number, takes, attempt)
        words = random_kernels.words_of(seed, number, attempt)
        found = {kind: run(list(words), arguments) for kind, run in runs.items()}
        outcome, after = found["native"]
        batch.runs += 1
        batch.evaluated += "naive" in found
        batch.kinds[outcome[1] if outcome[0] == "fault" else outcome[0]] += 1
        faulted = faulted or outcome[0] == "fault"
        for kind, (other, left) in found.items():
            if not (same(outcome, other) and after == left):
                where = f"seed {seed}, program {number}, attempt {attempt}, {arguments}"
                text = f"{where}: native {outcome}, {kind} {other}"
                batch.differences.append(text + _first_difference(after, left))
    batch.faulty_programs += faulted


def same(first: Any, second: Any) -> bool:
    """Equal in value and type, in tuples as well."""
    if isinstance(first, tuple) and isinstance(second, tuple) and len(first) == len(second):
        return all(same(a, b) for a, b in zip(first, second, strict=True))
    return type(first) is type(second) and first == second


def _first_difference(words: list[int], others: list[int]) -> str:
    for at, (one, other) in enumerate(zip(words, others, strict=True)):
        if one != other:
            return f"; word {at}: {one} and {other}"
    return ""


def engine_runs(name: str, kernels: list[FunctionType]) -> dict[FunctionType, Run]:
    """How to run each of ``kernels`` on an engine, compiled together."""
    engine = get_engine(name)
    engine.warm(kernels, lambda _: None)
    ram = Ram.of_words(random_expressions.WORDS)
    return {kernel: _engine_run(engine.bind(kernel), ram) for kernel in kernels}


def _engine_run(bound: Callable[..., Any], ram: Ram) -> Run:
    def run(words: list[int], arguments: list[int]) -> tuple[Outcome, list[int]]:
        ram.array[:] = words
        try:
            outcome: Outcome = ("result", bound(ram, *arguments))
        except KernelFault as fault:
            index = fault.index if fault.kind in ("outside", "odd pair") else None
            outcome = ("fault", fault.kind, fault.kernel, fault.line, fault.cpu, index)
        except Exception as error:  # a bug of that engine, which no other has
            outcome = ("error", type(error).__name__, str(error))
        return outcome, ram.array.tolist()

    return run


def _naive_run(naive: Evaluator, name: str) -> Run:
    def run(words: list[int], arguments: list[int]) -> tuple[Outcome, list[int]]:
        outcome = naive.call(name, words, arguments)
        return outcome, words

    return run

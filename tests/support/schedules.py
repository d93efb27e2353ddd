"""Random schedules of a program on one engine, and what the last of them left behind.

``RandomSchedules`` runs the walk of the explorer seed by seed, so that a test can compare two
engines in lock step. It stops at the first failure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from stress.explorer.searches import Budget, Plan, Search
from stress.machine import block as cb
from stress.machine.block_layout import Settings
from stress.machine.machine import VERDICTS, Event, events_of, fault_of
from stress.machine.program import Program


@dataclass(frozen=True, eq=False)
class Ending:
    """What the last schedule left behind; ``schedules``, ``steps``, ``abandoned`` count them all.

    "passed": no schedule failed; "abandoned": none failed, and some reached the step limit.
    """

    verdict: str
    code: int
    schedules: int
    steps: int
    abandoned: int
    failing_seed: int | None
    events: tuple[Event, ...]
    memory: np.ndarray
    returns: tuple[int, ...]
    fault: Event | None


class RandomSchedules:
    """A program under a random walk; ``settings`` are those of the machine."""

    def __init__(self, engine: str, program: Program, **settings: Any) -> None:
        plan = Plan("random", Settings(**settings), engine, 1, stop_on_failure=True)
        self.search = Search(program, plan, Budget(None, None))
        self.machine = self.search.machine

    def run(self, seed: int = 1, schedules: int = 1) -> Ending:
        """Run the schedules of consecutive seeds until one fails."""
        passed = self.machine.call(self.search.driver, seed, schedules)
        failing = seed + passed if passed < schedules else None
        block = self.machine.block
        verdict = VERDICTS[int(block[cb.OUTCOME])]
        if failing is None:
            verdict = "abandoned" if block[cb.ABANDONED_COUNT] else "passed"
        assert verdict != "error", "a schedule that was run twice did not repeat"
        cpus = int(block[cb.CPUS])
        return Ending(
            verdict=verdict,
            code=int(block[cb.CODE]),
            schedules=int(block[cb.SCHEDULES]),
            steps=int(block[cb.TOTAL_STEPS]),
            abandoned=int(block[cb.ABANDONED_COUNT]),
            failing_seed=failing,
            events=events_of(block) if block[cb.LOGGING] else (),
            memory=self.machine.ram.array.copy(),
            returns=tuple(int(value) for value in block[cb.RETURN : cb.RETURN + cpus]),
            fault=fault_of(block),
        )

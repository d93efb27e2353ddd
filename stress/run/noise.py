"""What makes a worker's life uneven: delays at its accesses, moves to other cores, pauses.

``Noise`` is what the controller wants of a worker, a part of its task. The worker asks it for the
memory that its kernels run over, and for all that happens between two batches; what happens inside
of a batch is the memory's own doing (stress/jitter/ram.py).
"""

from __future__ import annotations

import os
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shmalloc import constants as c
from shmalloc.segment import Segment
from stress.jitter.spec import Jitter, Stutter
from stress.seeds import derive
from stress.spec import RunSpec

if TYPE_CHECKING:  # it loads the compiler, and the command that asks for no noise needs none
    from stress.jitter.ram import JitterRam


@dataclass(frozen=True)
class Noise:
    """``engine`` runs the worker's kernels; ``jitter``: None if it is fuse or recorder.

    ``cores``: those that a worker may be moved to; empty: it stays.
    """

    engine: str
    seed: int
    jitter: Jitter | None
    cores: tuple[int, ...]

    @classmethod
    def of(cls, spec: RunSpec, cores: list[int]) -> Noise | None:
        """The noise of a run; None if its workers use the segment as it is."""
        if not spec.hooked:
            return None
        jitter = spec.jitter
        moved = tuple(cores) if jitter is not None and jitter.shuffle else ()
        seed = spec.seed if jitter is None or jitter.seed is None else jitter.seed
        return cls(spec.work_engine, derive(seed, "jitter"), jitter, moved)

    def memory(self, segment: Segment, cpu: int) -> JitterRam:
        """The segment as the kernels of slot ``cpu`` see it."""
        from stress.jitter.ram import JitterRam

        ram = JitterRam.over(segment.ram)
        if self.jitter is not None:
            ram.delay(self.jitter.delays, self.seed, cpu)
        if segment.geometry.flight:
            ring = segment.layout.flight(cpu)
            ram.record_into(ring, segment.geometry.flight, freeze_at=c.H_REPORT_COUNT)
        return ram

    def move(self, cpu: int, turn: int) -> None:
        """Run on another core from now on, or on the same one: drawn for each turn of each slot."""
        if self.cores:
            drawn = random.Random(derive(self.seed, f"core of {cpu} in turn {turn}"))
            os.sched_setaffinity(0, [drawn.choice(self.cores)])

    def pause_s(self) -> float:
        """How long this moment's stutter still lasts; 0 if it is time to work.

        One clock for all processes: they stop together, and begin together.
        """
        stutter = None if self.jitter is None else self.jitter.stutter
        return 0.0 if stutter is None else left_of_pause(stutter, time.monotonic())


def left_of_pause(stutter: Stutter, now_s: float) -> float:
    """Seconds from ``now_s`` until work goes on."""
    whole_s = stutter.work_s + stutter.pause_s
    phase_s = now_s % whole_s
    return whole_s - phase_s if phase_s >= stutter.work_s else 0.0

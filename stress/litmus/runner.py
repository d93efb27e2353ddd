"""A litmus run: every test for some seconds in turns, each turn with another layout of the cells.

A turn is a number of rounds that takes about ``TURN_S``; between turns the controller draws the
next setting and checks for Ctrl-C. Settings and delays repeat with the seed; interleavings do not.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from shmalloc.engine.native import warm_together
from stress.litmus.answers import answer_of
from stress.litmus.arena import MAX_GAP_LINES, MAX_STRIDE_LINES, Arena, Setting
from stress.litmus.catalogue import Litmus, Outcome
from stress.litmus.cells import play_rounds
from stress.litmus.grading import Grade, Row, missed, rows_of
from stress.litmus.team import Team, TeamError
from stress.progress import Report, Step, silent
from stress.run.fork_server import start_forkserver
from stress.run.interrupts import ImmediateEnd, Interrupts
from stress.run.workers import cores
from stress.seeds import derive
from stress.verdict import Verdict, worst

TURN_S = 0.05
FIRST_SAMPLES = 1 << 16  # of the first turn, when nothing is known about the machine
# (cells, delays): long batches run apart, which fills store buffers; short ones stay together
BATCHES = ((1024, 1), (1024, 16), (512, 32), (256, 1), (256, 16))
CROWDED_BATCH = (4096, 1)  # more processes than cores: a round costs a switch of each core
SPINS = 2000


@dataclass(frozen=True)
class LitmusResult:
    """What one test showed."""

    test: Litmus
    cores: tuple[int, ...]  # of its processes
    samples: int
    seconds: float
    rows: list[Row]

    @property
    def rate(self) -> float:
        """Samples a second."""
        return self.samples / self.seconds if self.seconds else 0.0

    @property
    def verdict(self) -> Verdict:
        if any(row.violation for row in self.rows):
            return Verdict.FAILED
        tested = self.samples and len(set(self.cores)) > 1 and not self.one_outcome
        return Verdict.PASSED if tested else Verdict.VACUOUS

    @property
    def one_outcome(self) -> bool:
        """Whether all samples ended alike although others are allowed: no accesses ever met."""
        allowed = [row for row in self.rows if row.grade is not Grade.FORBIDDEN]
        return len(allowed) > 1 and sum(row.samples > 0 for row in self.rows) == 1

    @property
    def notes(self) -> list[str]:
        """What a reader of the table has to know."""
        used = len(set(self.cores))
        notes = []
        if used == 1:
            notes.append("inconclusive: only one core, so no two processes ever ran at once")
        elif used < self.test.processes:
            notes.append(
                f"{self.test.processes} processes on {used} cores never run all at once:"
                f" weak effects need {self.test.processes} cores"
            )
        if used > 1 and self.one_outcome:
            notes.append(
                "inconclusive: every sample showed the same outcome, so the accesses never met;"
                " run it longer, on a quieter machine"
            )
        elif used > 1 and self.samples and missed(self.rows):
            notes.append("no outcome that should be seen was; run it longer, on a quieter machine")
        return notes


@dataclass
class LitmusRun:
    """The tests of one command, filled while it runs."""

    tests: Sequence[Litmus]
    seconds: float
    seed: int
    results: list[LitmusResult] = field(default_factory=list)
    troubles: list[tuple[Verdict, str]] = field(default_factory=list)

    @property
    def verdict(self) -> Verdict:
        return worst([*(r.verdict for r in self.results), *(v for v, _ in self.troubles)])


Told = Callable[[LitmusResult], None]


def run_litmus(run: LitmusRun, interrupts: Interrupts, told: Told, report: Report = silent) -> None:
    """Run the tests of ``run`` and fill it; ``told`` gets each result as it becomes available.

    ``report`` receives in each turn the seconds played so far, of all tests.

    Raises ``EnvironmentUnfitError`` if this machine cannot run compiled kernels.
    """
    plan = (("native", play_rounds),)
    file = Arena.make_file()
    try:
        with interrupts.first_at_once():
            warm_together(plan)  # compiled once, here; the processes are forks of one that loads it
            start_forkserver([plan])
        arena = Arena(file)
        with Team(file, max(test.processes for test in run.tests), cores()) as team:
            for test in run.tests:
                if not interrupts.requested:
                    result = play_test(test, run, arena, team, interrupts, report)
                    run.results.append(result)
                    told(result)
    except TeamError as error:
        run.troubles.append((Verdict.ERROR, str(error)))
    except ImmediateEnd:
        pass  # the request is recorded, and reported below
    finally:
        os.close(file)
    if interrupts.requested:
        run.troubles.append((Verdict.INTERRUPTED, f"stopped by {interrupts.signal_name}"))


def play_test(
    test: Litmus,
    run: LitmusRun,
    arena: Arena,
    team: Team,
    interrupts: Interrupts,
    report: Report = silent,
) -> LitmusResult:
    """Turns of one test until its time is over."""
    chance = random.Random(derive(run.seed, f"litmus {test.name}"))
    usable = cores()
    pinned = tuple(usable[cpu % len(usable)] for cpu in range(test.processes))
    arena.begin(test, [chance.getrandbits(60) | 1 for _ in range(test.processes)])
    crowded = len(usable) < test.processes
    samples, seconds, wanted = 0, 0.0, FIRST_SAMPLES
    while seconds < run.seconds and not interrupts.requested:
        setting = _draw(chance, crowded)
        arena.set_up(test, setting)
        rounds = max(1, wanted // setting.cells)
        seconds += team.play(test.processes, rounds)
        samples += rounds * setting.cells
        report(_step(run, test, seconds, samples))
        left = min(TURN_S, run.seconds - seconds)
        wanted = max(FIRST_SAMPLES, int(samples / seconds * left))
    counts = arena.counts()
    assert counts.total() == samples, f"{test.name}: {counts.total()} counted of {samples} samples"
    return result_of(test, pinned, seconds, counts)


def _step(run: LitmusRun, test: Litmus, seconds: float, samples: int) -> Step:
    done = len(run.results) * run.seconds + min(seconds, run.seconds)
    return Step(f"litmus {test.name}", done, len(run.tests) * run.seconds, f"{samples:,} samples")


def result_of(
    test: Litmus, pinned: tuple[int, ...], seconds: float, counts: Counter[Outcome]
) -> LitmusResult:
    """Counted outcomes, graded."""
    rows = rows_of(test, counts, answer_of(test.name))
    return LitmusResult(test, pinned, counts.total(), seconds, rows)


def _draw(chance: random.Random, crowded: bool) -> Setting:
    cells, delays = CROWDED_BATCH if crowded else chance.choice(BATCHES)
    return Setting(
        cells,
        chance.randint(1, MAX_STRIDE_LINES),
        chance.randint(0, MAX_GAP_LINES),
        delays,
        spins=0 if crowded else SPINS,
    )

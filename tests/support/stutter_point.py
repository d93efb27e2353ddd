"""Words of a real run, overwritten while its workers are parked: more rows for the detection table.

A run of ``shmstress run`` in this process, small, with every workload of the default list. At each
stutter point, behind the audit of the run itself, words of its segment are corrupted one at a time
and put back; then the run goes on, and must pass.
"""

from __future__ import annotations

import random
from unittest import mock

from shmalloc.errors import Violation
from stress import cli
from stress.run.memory import RunMemory
from support.corruption import Corruption, Tally, Watch

FRAME_WORDS = 20_000  # of all frames' words those that are classified; of the rest all are


class StutterPoint:
    """The segment of a run whose workers are parked."""

    def __init__(self, memory: RunMemory) -> None:
        self.ram, self.layout = memory.ram, memory.layout
        self._memory = memory

    def audit(self) -> list[Violation]:
        return _own_audit(self._memory) + self._memory.reports.violations()

    def forget_reports(self) -> None:
        self._memory.clear_reports()

    def some_words(self, seed: int) -> list[int]:
        frames, end = self.layout.at["frames"], self.layout.words
        chosen = random.Random(seed).sample(range(frames, end), FRAME_WORDS)
        return [*range(frames), *sorted(chosen)]


_own_audit = RunMemory.audit


def of_a_run(each: int, others: int, seed: int, *options: str) -> Tally:
    """Corruptions at the stutter points of one run; ``options`` are of ``shmstress run``."""
    total, watch = Tally(), Watch()

    def audit_and_corrupt(memory: RunMemory) -> list[Violation]:
        found = _own_audit(memory)
        deadline, memory.deadline = memory.deadline, None  # the watch is enough
        point = StutterPoint(memory)
        words = point.some_words(seed + len(total.words))
        assert point.audit() == []
        total.add(Corruption(point, seed, watch, words).run(each, others))
        memory.deadline = deadline
        return found

    line = ["run", "--ram", "8MiB", "--workers", "3", "--duration", "6s", "--audit-every", "2s"]
    with mock.patch.object(RunMemory, "audit", audit_and_corrupt):
        code = cli.run([*line, "--seed", str(seed), "--progress", "never", *options])
    if code != 0:
        total.silent.append(f"the run itself ended with code {code}")
    return total

"""Which steps of a long trace are shown.

Never left out: the two steps of the conflict, the steps on both sides of a switch or a marker, the
last steps of each CPU, the suspects, and the steps that touch a word at stake. Exceptions among the
latter: the reads inside a spin (the same line of the same CPU finds what it found before and will
find again), and the oldest ones if there are more than ``MOST_AT_STAKE``.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Sequence
from typing import NamedTuple

from shmalloc.engine import ops
from stress.explorer.report.trace import Step, Trace, addresses_of
from stress.machine.site import Site
from stress.quantities import counted

LAST_STEPS = 2  # of each CPU, never left out
MOST_AT_STAKE = 200


class Gap(NamedTuple):
    """Consecutive steps of one CPU that are not shown."""

    first: int
    last: int
    cpu: int

    @property
    def steps(self) -> int:
        return self.last - self.first + 1

    def __str__(self) -> str:
        return f"... {counted(self.steps, 'step')}"


def folded(trace: Trace, margin: int, shortest: int) -> list[Step | Gap]:
    """The steps, with a ``Gap`` for every run of ``shortest`` or more steps that can be left out.

    ``margin``: show this number of steps before and after an important one as well. A run of
    steps never reaches over a switch, so it is of one CPU.
    """
    steps = trace.steps
    kept = [False] * len(steps)
    for at, around in _important(trace, margin):
        first, end = max(0, at - around), min(len(steps), at + around + 1)
        kept[first:end] = [True] * (end - first)
    shown: list[Step | Gap] = []
    at = 0
    while at < len(steps):
        end = at
        while end < len(steps) and not kept[end]:
            end += 1
        if end - at >= shortest:
            shown.append(Gap(steps[at].index, steps[end - 1].index, steps[at].cpu))
        else:
            end = max(end, at + 1)
            shown.extend(steps[at:end])
        at = end
    return shown


def at_stake(trace: Trace) -> list[Step]:
    """The steps that touch a word at stake: of a spin the first and the last read, of very many
    steps the last ones. Suspects are among them, whatever they touch.
    """
    stake = set(trace.at_stake)
    steps = [step for step in trace.steps if stake.intersection(addresses_of(step))]
    repeats_earlier = _repeats(steps)
    repeats_later = _repeats(steps[::-1])
    inside = repeats_earlier & repeats_later
    shown = {step.index for step in steps if step.index not in inside}
    shown = set(sorted(shown)[-MOST_AT_STAKE:]) | trace.suspects
    return [step for step in trace.steps if step.index in shown]


def _repeats(steps: Sequence[Step]) -> set[int]:
    """The reads that find what the same line of their CPU found in that word the last time."""
    found: dict[tuple[int, tuple[Site, ...], int], tuple[int, int]] = {}
    repeated = set()
    for step in steps:
        place = step.cpu, step.stack, step.address
        seen = step.value, step.second
        if step.stack and step.op <= ops.LAST_READ and found.get(place) == seen:
            repeated.add(step.index)
        found[place] = seen
    return repeated


def _important(trace: Trace, margin: int) -> list[tuple[int, int]]:
    """Positions of the steps that are always shown, and the margin shown around each."""
    important = {}
    of_cpu: defaultdict[int, deque[int]] = defaultdict(lambda: deque(maxlen=LAST_STEPS))
    stake = {step.index for step in at_stake(trace)}
    marked = {marker.before for marker in trace.markers}
    for at, step in enumerate(trace.steps):
        of_cpu[step.cpu].append(at)
        if step.index in stake:
            important[at] = 0
        if trace.conflict and step.index in trace.conflict:
            important[at] = margin
        if at and (step.cpu != trace.steps[at - 1].cpu or step.index in marked):
            important[at - 1] = important[at] = margin
    for last in of_cpu.values():
        important |= dict.fromkeys(last, margin)
    return sorted(important.items())

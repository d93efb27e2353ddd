"""Which outcomes a memory model allows: the explorer runs every schedule of the test.

It runs the very kernels that the processes run, over one cell, with store buffers (tso) and without
(sc). It runs them in plain Python: a litmus test has a handful of classes, and compiling the model
for them would take a minute.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

from stress.explorer.explore import explore
from stress.explorer.result import EXHAUSTED
from stress.litmus.catalogue import CATALOGUE, Litmus, Outcome


@dataclass(frozen=True)
class Answer:
    """The outcomes that sequential consistency and x86-TSO allow."""

    sc: frozenset[Outcome]
    tso: frozenset[Outcome]


@functools.cache
def answer_of(name: str) -> Answer:
    """The explorer's answer for the test of that name."""
    test = CATALOGUE[name]
    answer = Answer(_allowed(test, "sc"), _allowed(test, "tso"))
    assert answer.sc <= answer.tso, f"{name}: tso must allow all that sc does"
    return answer


def _allowed(test: Litmus, memory: str) -> frozenset[Outcome]:
    found = explore(
        test.program(),
        strategy="dpor",
        memory=memory,
        engine="interpreted",
        seconds=None,
        races=False,
        stop_on_failure=False,
    )
    if found.verdict != EXHAUSTED:
        raise AssertionError(f"{test.name} under {memory} was not explored to its end: {found}")
    return frozenset((first, second, x, y) for first, second, x, y in found.outcomes)

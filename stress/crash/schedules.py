"""Schedules of a crash run, by name: what a report prints and ``--schedule`` takes.

::

    order-1.0@at-once    CPU 1 runs as long as it can, then CPU 0; recovery runs before all others
    random-17@beside     CPUs drawn with seed 17; odd seeds switch rarely; recovery runs among them
    class-4@after        the 4th class that DPOR finds; recovery runs when no other CPU can continue

Up to the first death a schedule does not depend on the victim or the place of its death.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass

from shmalloc.errors import MisuseError
from stress.crash import strategy as crash_strategy

WAYS = {
    "order": crash_strategy.IN_ORDER,
    "random": crash_strategy.AT_RANDOM,
    "class": crash_strategy.BY_TRACE,
}
STARTS = {
    "at-once": crash_strategy.AT_ONCE,
    "beside": crash_strategy.BESIDE,
    "after": crash_strategy.AFTER,
}
_NAME = re.compile(r"(order)-([0-9.]+)@([a-z-]+)|(random|class)-([0-9]{1,12})@([a-z-]+)")
MAX_ORDERED = 3  # up to this number of CPUs all orders are tried; above it, only rotations


@dataclass(frozen=True)
class Schedule:
    """``order``: of the CPUs (way "order"); ``number``: seed or class of the other ways."""

    way: str
    start: str
    number: int = 0
    order: tuple[int, ...] = ()

    def __str__(self) -> str:
        which = ".".join(map(str, self.order)) if self.way == "order" else self.number
        return f"{self.way}-{which}@{self.start}"

    @classmethod
    def parse(cls, text: str, cpus: int) -> Schedule:
        """Raises ``MisuseError`` if the text is no schedule of ``cpus`` CPUs."""
        match = _NAME.fullmatch(text)
        if match is None:
            raise MisuseError(
                f"schedule: {text!r}; use order-0.1@at-once, random-17@beside or class-4@after"
            )
        groups = [group for group in match.groups() if group is not None]
        way, which, start = groups
        if start not in STARTS:
            raise MisuseError(f"schedule: recovery {start!r}; use {', '.join(STARTS)}")
        if way != "order":
            return cls(way, start, number=int(which))
        order = tuple(int(part) for part in which.split(".") if part)
        if sorted(order) != list(range(cpus)):
            raise MisuseError(f"schedule: order {which}; name each of the {cpus} CPUs once")
        return cls(way, start, order=order)


def orders(cpus: int) -> list[tuple[int, ...]]:
    """Orders without preemption: all orders of a few CPUs, only the rotations of more."""
    every = tuple(range(cpus))
    if cpus <= MAX_ORDERED:
        return list(itertools.permutations(every))
    return [every[k:] + every[:k] for k in every]


def schedules_of(cpus: int, seeds: int = 0, classes: int = 0, seed: int = 1) -> list[Schedule]:
    """Simplest first: orders, then ``seeds`` random schedules, then ``classes`` of DPOR."""
    starts = list(STARTS)
    found = [
        Schedule("order", start, order=order)
        for order in orders(cpus)
        for start in ("at-once", "after")
    ]
    found += [Schedule("random", starts[k % 3], number=seed + k) for k in range(seeds)]
    found += [Schedule("class", starts[k % 3], number=k) for k in range(classes)]
    return found

"""The number of classes, estimated from probes, with an interval.

A *beginning* is a class of equivalent ones, as ``dpor/probe.py`` runs them: the order of some steps
that matter. A population goes through all of them, one step after the other. Each member has a
weight, and the weights stand for all beginnings of that length: a beginning with k ends follows
from k shorter ones, and takes 1 / k of the weight of each. Members that are equivalent become one,
with the sum of their weights. So as long as the population holds all beginnings, each weighs 1, and
the sum over those that are whole schedules is the number of classes, exactly. Where there are more
than POPULATION, some are dropped at random and the others weigh more, so that every weight keeps
its expected value (Fearnhead and Clifford, JRSS B 2003). The sum is then an unbiased estimate, and
the spread of several populations gives the interval.

This is the stochastic enumeration that Balasubramanian and others apply to the tree of a stateless
DPOR (State space estimation for DPOR-based model checkers, PLDI 2026), here in the graph of all
beginnings: it needs no tree that an exploration has to discover first.

Two things can make the estimate wrong. A word that no probe has seen raced for is taken for a quiet
one; then classes are missing. And of the probes a few may carry most of the weight; then the
interval is too narrow, and mostly too low. With 50 members this is rare for programs of up to some
100,000 classes (docs/explored.md); small populations would be cheap and useless.
"""

from __future__ import annotations

import math
import random
import time
from dataclasses import replace
from typing import NamedTuple

from shmalloc.dialect import Kernel
from stress.explorer.dpor import probe
from stress.explorer.dpor import search as dpor_search
from stress.machine import block as cb
from stress.machine.block_layout import Settings
from stress.machine.engines import make_machine
from stress.machine.models import MODELS
from stress.machine.program import Program

DRIVERS: tuple[Kernel, ...] = (probe.learn, probe.probe)
SHARE = 0.2  # of the time of an exploration
MOST_S = 10.0
UNLIMITED_S = 2.0
POPULATION = 50  # members
POPULATIONS = 10  # 500 probes
TRIAL = 5  # members of the first population, which finds words that are raced for
LEAST = 3  # populations: the interval of two says nothing
LEARNING = 200  # random schedules before the first population
LEARNING_BATCH = 10
# of Student's distribution, both sides together 5 %, for 1, 2, ... degrees of freedom
STUDENT = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26)


class Estimate(NamedTuple):
    """The estimated number of classes, and an interval that has the true one in 19 of 20 cases."""

    classes: float
    low: float
    high: float
    probes: int

    @property
    def exact(self) -> bool:
        return self.low == self.high


def time_of(budget: float | None) -> float:
    """How long an exploration of so many seconds may sample; None: it has no end in time."""
    return UNLIMITED_S if budget is None else min(MOST_S, SHARE * budget)


class Member(NamedTuple):
    """A beginning: its weight, the entries of actors that were taken, those that can come next."""

    weight: float
    taken: tuple[int, ...]
    choices: tuple[int, ...]


class _Restart(Exception):
    """A probe has seen a word raced for that was taken for a quiet one."""


class _LateError(Exception):
    """The time is up."""


class Sampler:
    """Populations over the beginnings of one program."""

    def __init__(self, program: Program, settings: Settings, engine: str, seed: int) -> None:
        cpus = len(program.threads)
        actors = MODELS[settings.model].actors(cpus)
        room = dpor_search.dpor_words(
            program.words, actors, cpus, settings.step_limit, dpor_search.MIN_POOL + program.words
        )
        self.machine = make_machine(
            engine, program, replace(settings, parking=True, tree_words=room)
        )
        for driver in DRIVERS:
            self.machine.warm(driver)
        self.block = self.machine.block
        self.random = random.Random(seed)
        self.seed = seed
        self.end = math.inf
        self.cut = False  # the present population has dropped members

    def estimate(self, seconds: float, populations: int = POPULATIONS) -> Estimate | None:
        """The estimate of so many populations, or of those that ``seconds`` allow; None: of less
        than LEAST, unless the first has seen everything."""
        self.end = time.perf_counter() + seconds
        found: list[float] = []
        size = TRIAL
        try:
            self.learn()
            while len(found) < populations:
                try:
                    found.append(self.population(size))
                except _Restart:
                    found.clear()
                    continue
                if not self.cut:
                    return Estimate(found[-1], found[-1], found[-1], size)
                if size == TRIAL:
                    size = POPULATION
                    found.clear()
        except _LateError:
            pass
        return interval_of(found, size)

    def learn(self) -> None:
        for first in range(0, LEARNING, LEARNING_BATCH):
            self.machine.call(probe.learn, self.seed + first, LEARNING_BATCH)
            self._keep_time()

    def _keep_time(self) -> None:
        if time.perf_counter() > self.end:
            raise _LateError

    def population(self, size: int = POPULATION) -> float:
        """The number of classes as one population of so many members sees it."""
        self.cut = False
        whole = 0.0
        members: dict[int, Member] = {}
        known = int(self.block[probe.LEARNED])
        whole += self._probe(Member(1.0, (), ()), members)
        while members:
            following: dict[int, Member] = {}
            for member in members.values():
                for actor in member.choices:
                    taken = (*member.taken, actor)
                    whole += self._probe(Member(member.weight, taken, ()), following)
                    if int(self.block[probe.LEARNED]) != known:
                        raise _Restart  # at once: what was taken has another meaning now
                self._keep_time()
            members = thin(following, size, self.random)
            self.cut |= len(members) < len(following)
        return whole

    def _probe(self, member: Member, members: dict[int, Member]) -> float:
        """Run the beginning of ``member`` and add it to ``members``; the weight of a whole one."""
        block, first = self.block, int(self.block[cb.REPEAT_AT])
        for k, actor in enumerate(member.taken):
            block[first + k] = actor
        count = self.machine.call(probe.probe, len(member.taken))
        weight = member.weight / int(block[probe.ENDS])
        if count == 0:
            return weight
        key = int(block[probe.KEY])
        if key in members:
            other = members[key]
            members[key] = other._replace(weight=other.weight + weight)
        else:
            choices = tuple(int(actor) for actor in block[cb.CHOICES : cb.CHOICES + count])
            members[key] = Member(weight, member.taken, choices)
        return 0.0


def thin(members: dict[int, Member], most: int, rng: random.Random) -> dict[int, Member]:
    """At most ``most`` of the members: the heavy ones as they are, of the others a systematic
    sample with equal weights, in an order that has similar ones side by side."""
    if len(members) <= most:
        return members
    heavy = sorted(members.items(), key=lambda item: -item[1].weight)
    kept, rest = 0, sum(member.weight for member in members.values())
    while kept < most and heavy[kept][1].weight * (most - kept) >= rest:
        rest -= heavy[kept][1].weight
        kept += 1
    chosen = dict(heavy[:kept])
    if kept == most:
        return chosen
    share = rest / (most - kept)
    ticket, passed = rng.random() * share, 0.0
    for key, member in sorted(heavy[kept:], key=lambda item: sorted(item[1].taken)):
        passed += member.weight
        if passed > ticket:
            ticket += share
            chosen[key] = member._replace(weight=share)
    return chosen


def interval_of(found: list[float], size: int) -> Estimate | None:
    """The mean of some populations with its interval of 95 %."""
    count = len(found)
    if count < LEAST:
        return None
    mean = sum(found) / count
    variance = sum((value - mean) ** 2 for value in found) / (count - 1)
    width = STUDENT[min(count - 1, len(STUDENT)) - 1] * math.sqrt(variance / count)
    return Estimate(mean, max(mean - width, 1.0), mean + width, count * size)

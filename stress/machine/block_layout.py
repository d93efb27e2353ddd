"""Where the areas of a control block lie: what depends on the program, its size and its settings.

An area that is not wanted (no log, no race detection, sequential consistency) takes no room.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stress.machine import block as cb
from stress.machine.arguments import whole_of
from stress.machine.models import MODELS, model_named
from stress.machine.races import RELEASED

TABLE_SLOTS = 1024
IDLE_LIMIT = 200
MAX_STEPS = 10_000_000  # of a schedule: its trace is kept


@dataclass(frozen=True)
class Settings:
    """How a program is run: see ``explore``.

    ``parking``: see parking.py. ``tree_words``: room that a strategy wants behind the rest.
    ``follows``: for each CPU 1 + the one like it whose first step comes before its own, or 0.
    """

    step_limit: int = 10_000
    idle_limit: int = IDLE_LIMIT
    log: bool = False
    model: str = "sc"
    races: bool = False
    parking: bool = False
    free_spins: int = 1
    tree_words: int = 0
    follows: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        model_named(self.model)
        whole_of("step_limit", self.step_limit, 1, MAX_STEPS)
        whole_of("free_spins", self.free_spins, 0)


@dataclass
class BlockPlan:
    """A block before it exists: how many words, and those that are not zero at the start."""

    size: int
    content: dict[int, int]

    def as_list(self) -> list[int]:
        words = [0] * self.size
        for at, value in self.content.items():
            words[at] = value
        return words

    def as_array(self) -> np.ndarray:
        words = np.zeros(self.size, dtype=np.int64)
        for at, value in self.content.items():
            words[at] = value
        return words

    def add(self, slot: int, size: int, content: Sequence[int] = ()) -> None:
        """An area of ``size`` words at the end; the header word ``slot`` says where."""
        self.content[slot] = self.size
        for offset, value in enumerate(content):
            if value:
                self.content[self.size + offset] = value
        self.size += size


def plan_block(
    words: int,
    cpus: int,
    settings: Settings,
    observe: Sequence[int | tuple[str, int]] = (),
    undefined: Sequence[tuple[int, int]] = (),
    locks: Sequence[int] = (),
) -> BlockPlan:
    """A control block for a memory of ``words`` words and ``cpus`` CPUs."""
    areas = BlockPlan(cb.VARIABLE, {})
    head = areas.content
    head[cb.CPUS], head[cb.WORDS], head[cb.EPOCH] = cpus, words, 1
    head[cb.ACTORS] = MODELS[settings.model].actors(cpus)
    head[cb.MODEL], head[cb.DEPTH] = MODELS[settings.model].number, MODELS[settings.model].depth
    head[cb.STEP_LIMIT], head[cb.IDLE_LIMIT] = settings.step_limit, settings.idle_limit
    head[cb.LOGGING], head[cb.CLOCKED] = int(settings.log), int(settings.races)
    head[cb.PARKING], head[cb.FREE_SPINS] = int(settings.parking), settings.free_spins
    for cpu, leader in enumerate(settings.follows):
        head[cb.FOLLOWS + cpu] = leader
    limit = settings.step_limit
    areas.add(cb.TRACE_AT, limit)
    areas.add(cb.REPEAT_AT, limit)
    areas.add(cb.KEPT_AT, limit)
    if settings.log:
        areas.add(cb.LOG_AT, cb.EVENT_WORDS * limit)
    areas.add(cb.STAMPS_AT, words)
    areas.add(cb.UNDO_AT, 2 * words)
    if MODELS[settings.model].delays_stores:
        areas.add(cb.BUFFERS_AT, cpus * head[cb.DEPTH] * (cb.ENTRY_CLOCK + cpus))
    if settings.parking:
        areas.add(cb.WATCH_AT, cpus * cb.WATCH_WORDS)
    if settings.races:
        _add_clocks(areas, words, cpus)
    if undefined:
        areas.add(cb.UNDEFINED_AT, 2 * words + 2, _undefined_flags(words, undefined))
    head[cb.LOCK_COUNT] = len(locks)
    areas.add(cb.LOCKS_AT, len(locks), locks)
    _add_outcomes(areas, observe)
    areas.add(cb.TREE_AT, settings.tree_words)
    head[cb.TREE_WORDS] = settings.tree_words
    return areas


def _add_clocks(areas: BlockPlan, words: int, cpus: int) -> None:
    areas.content[cb.SHADOW_WORDS] = RELEASED + 4 * cpus
    areas.add(cb.SHADOW_AT, words * (RELEASED + 4 * cpus))
    for slot in (cb.CLOCKS_AT, cb.PENDING_AT, cb.FENCED_AT):
        areas.add(slot, cpus * cpus)
    areas.add(cb.READS_AT, cpus * cb.READS_KEPT * 2)


def add_arguments(areas: BlockPlan, arguments: Sequence[Sequence[int]]) -> None:
    """What the kernel of each CPU is called with, behind the memory and the CPU."""
    row = 1 + cb.MAX_ARGUMENTS
    content = [0] * (len(arguments) * row)
    for cpu, given in enumerate(arguments):
        content[cpu * row : cpu * row + 1 + len(given)] = [len(given), *given]
    areas.add(cb.ARGUMENTS_AT, len(content), content)


def _undefined_flags(words: int, ranges: Sequence[tuple[int, int]]) -> list[int]:
    flags = [0] * (2 * words)
    for first, end in ranges:
        for at in range(first, end):
            flags[2 * at] = 1
    return flags


def _add_outcomes(areas: BlockPlan, observe: Sequence[int | tuple[str, int]]) -> None:
    head = areas.content
    head[cb.OBSERVED] = len(observe)
    coded = [what if isinstance(what, int) else -1 - what[1] for what in observe]
    areas.add(cb.OBSERVE_AT, len(coded), coded)
    head[cb.TABLE_SLOTS] = TABLE_SLOTS if observe else 0
    areas.add(cb.TABLE_AT, head[cb.TABLE_SLOTS] * (len(observe) + 1))

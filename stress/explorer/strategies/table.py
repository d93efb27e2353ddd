"""The random strategies by name. A new one is a module like random_walk.py and a line here.

The strategies in ``RANDOM`` when searches.py is imported are compiled together; a later one is
compiled alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import ModuleType

from shmalloc.dialect import Kernel
from stress.explorer.strategies import pct, pos, random_walk, surw
from stress.explorer.strategies.walk import driver_of


def _no_room(words: int, cpus: int) -> int:
    return 0


@dataclass(frozen=True)
class RandomStrategy:
    """A module of three functions, and what they need.

    ``about``: one phrase, for help. ``room(words, cpus)``: the words of TREE that it needs for a
    program of that size. ``header``: the words of the block that hold arguments of ``explore``.
    """

    module: ModuleType
    about: str
    room: Callable[[int, int], int] = _no_room
    header: Mapping[int, str] = field(default_factory=dict)

    def driver(self) -> Kernel:
        """Its loop, a function over the control block."""
        return driver_of(self.module)


RANDOM: dict[str, RandomStrategy] = {
    "random": RandomStrategy(random_walk, "every CPU that can run is equally likely"),
    "pct": RandomStrategy(
        pct, "priorities, lowered at random moments", pct.room, {pct.DEPTH: "depth"}
    ),
    "pos": RandomStrategy(pos, "a random priority for each pending step"),
    "surw": RandomStrategy(surw, "uniform over the orders of accesses to one word", surw.room),
}

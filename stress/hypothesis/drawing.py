"""Strategies that draw small programs, piece by piece: operations, threads, programs.

All of them draw data (small.py), so that a program that fails shrinks to few CPUs, few operations,
low words and zeros, and is printed as the call that makes it again. ``.example()`` shows what
comes.

Four CPUs with four accesses each have 63 million schedules under sc, and more under tso. A test
that runs every schedule bounds ``max_cpus`` and ``max_accesses``.
"""

from __future__ import annotations

from collections.abc import Collection

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from shmalloc.errors import MisuseError
from stress.hypothesis.small import (
    ACCESSES,
    MOST_CPUS,
    MOST_WORDS,
    OPERATIONS,
    Operation,
    SmallProgram,
    small_program,
)
from stress.quantities import nearest

HIGHEST = 3  # of the values that are drawn


def operations(
    words: int = 2, accesses: Collection[str] = tuple(ACCESSES)
) -> SearchStrategy[Operation]:
    """One operation on ``words`` words, ``("store", 0, 1)``, named in ``accesses``.

    By default those that always end; ``accesses=[*ACCESSES, *BLOCKING]`` draws the others too.
    Values are 0 to 3, or what the CPU read last.
    """
    _require_words(words)
    for name in accesses:
        if name not in OPERATIONS:
            raise nearest(name, tuple(OPERATIONS), "accesses")
    kinds = {
        "word": st.integers(0, words - 1),
        "pair": st.sampled_from(range(0, words, 2)),
        "value": st.integers(0, HIGHEST) | st.sampled_from(["r", "r+1"]),
    }
    wanted = [name for name in OPERATIONS if name in accesses]  # the simplest first
    if not wanted:
        raise MisuseError("accesses: none; use names of ACCESSES or BLOCKING")
    return st.one_of(
        [st.tuples(st.just(name), *(kinds[kind] for kind in OPERATIONS[name])) for name in wanted]
    )


def threads(
    words: int = 2, accesses: Collection[str] = tuple(ACCESSES), max_accesses: int = 4
) -> SearchStrategy[list[Operation]]:
    """What one CPU does: 1 to ``max_accesses`` operations."""
    return st.lists(operations(words, accesses), min_size=1, max_size=max_accesses)


def programs(
    words: int = 2,
    accesses: Collection[str] = tuple(ACCESSES),
    max_accesses: int = 4,
    min_cpus: int = 2,
    max_cpus: int = 4,
) -> SearchStrategy[SmallProgram]:
    """Programs of ``min_cpus`` to ``max_cpus`` CPUs on ``words`` words that hold 0 to 3 at first.

    Raises ``MisuseError`` for a number of words or CPUs that no small program has.
    """
    _require_words(words)
    if not 1 <= min_cpus <= max_cpus <= MOST_CPUS:
        raise MisuseError(f"min_cpus, max_cpus: {min_cpus}, {max_cpus}; use 1 to {MOST_CPUS}")
    each = threads(words, accesses, max_accesses)
    return st.builds(
        small_program,
        st.lists(each, min_size=min_cpus, max_size=max_cpus),
        init=st.lists(st.integers(0, HIGHEST), min_size=words, max_size=words),
    )


def _require_words(words: int) -> None:
    if not 2 <= words <= MOST_WORDS or words % 2:
        raise MisuseError(f"words: {words}; use 2, 4, 6 or {MOST_WORDS}")

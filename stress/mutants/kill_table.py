"""What became of single-token mutants: a table of modules, an estimate for all of them, the holes.

The share that is killed counts those that are mutants at all: neither refused by the dialect nor
equivalent, and no order that needs C11. The locks and the others are taken apart: what was judged
as a whole is exact, as the locks should be, and what was drawn is estimated, by Wilson's interval
("Probable inference", 1927), which holds near 0 and 1, too.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from stress.mutants.single_token import TokenMutant
from stress.mutants.systematic import (
    CRASH,
    EQUIVALENT,
    KILLED,
    NEEDS_C11,
    PROGRAMS,
    REFUSED,
    RUN,
    SURVIVED,
    TESTS,
    TROUBLE,
    Judged,
    is_lock,
)
from stress.quantities import counted

Z_95 = 1.959964  # of the normal distribution, both sides
COLUMNS = (
    "kernels",
    "mutants",
    "judged",
    REFUSED,
    PROGRAMS,
    CRASH,
    RUN,
    TESTS,
    EQUIVALENT,
    NEEDS_C11,
    SURVIVED,
    TROUBLE,
)
NUMBERS = COLUMNS[1:]

Pair = tuple[TokenMutant, Judged]


class Share(NamedTuple):
    """Of what was drawn, with an interval of 95 %."""

    part: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.part:.1%} (95 %: {self.low:.1%} to {self.high:.1%})"


def wilson(successes: int, trials: int) -> Share:
    """The share of successes in all of which ``trials`` were drawn at random."""
    if trials == 0:
        return Share(0.0, 0.0, 1.0)
    part, square = successes / trials, Z_95 * Z_95
    middle = (part + square / (2 * trials)) / (1 + square / trials)
    spread = math.sqrt(part * (1 - part) / trials + square / (4 * trials * trials))
    half = Z_95 * spread / (1 + square / trials)
    return Share(part, max(middle - half, 0.0), min(middle + half, 1.0))


def killed_share(judged: Sequence[Pair], all_mutants: Sequence[TokenMutant]) -> Share:
    """The share of all mutants that are killed, from those that were judged."""
    shares = []
    for of_locks in (True, False):
        size = sum(is_lock(one) == of_locks for one in all_mutants)
        group = [one.outcome for mutant, one in judged if is_lock(mutant) == of_locks]
        killed, survived = group.count(KILLED), group.count(SURVIVED)
        if killed + survived:
            share = wilson(killed, killed + survived)
            exact = len(group) == size
            shares.append((size, Share(*3 * (share.part,)) if exact else share))
    weight = sum(size for size, _ in shares)
    if weight == 0:
        return wilson(0, 0)
    return Share(*(sum(size * share[k] for size, share in shares) / weight for k in range(3)))


def rows(judged: Sequence[Pair], all_mutants: Sequence[TokenMutant]) -> Iterator[tuple[str, ...]]:
    """The cells of each module, then those of all."""
    known = Counter(_stem(mutant) for mutant in all_mutants)
    for stem in [*sorted({_stem(mutant) for mutant, _ in judged}), "all"]:
        group = [one for mutant, one in judged if stem in (_stem(mutant), "all")]
        number = len(all_mutants) if stem == "all" else known[stem]
        counts = Counter(one.stage if one.outcome == KILLED else one.outcome for one in group)
        yield (
            stem,
            *(f"{n:,}" for n in (number, len(group), *map(counts.__getitem__, NUMBERS[2:]))),
        )


def _stem(mutant: TokenMutant) -> str:
    return mutant.module.rpartition(".")[2]


def holes(judged: Sequence[Pair]) -> list[str]:
    """A line for each mutant that survived or was trouble."""
    return [
        f"{one.outcome}: {mutant}" + (f" ({one.note})" if one.note else "")
        for mutant, one in judged
        if one.outcome in (SURVIVED, TROUBLE)
    ]


def last_line(judged: Sequence[Pair], all_mutants: Sequence[TokenMutant]) -> str:
    mutants = counted(len(all_mutants), "single-token mutant")
    if not judged:
        return f"{mutants}, none of them judged"
    share = killed_share(judged, all_mutants)
    return f"{mutants}, {len(judged):,} judged; killed: {share}"


def markdown(judged: Sequence[Pair], all_mutants: Sequence[TokenMutant]) -> str:
    """The table and the holes, for docs/mutants.md."""
    lines = [" | ".join(("", *COLUMNS, "")).strip(), "|---|" + "---:|" * len(NUMBERS)]
    lines += ["| " + " | ".join(cells) + " |" for cells in rows(judged, all_mutants)]
    lines += ["", last_line(judged, all_mutants) + ".", ""]
    lines += [f"- {hole}" for hole in holes(judged)]
    return "\n".join(lines) + "\n"

"""Two sides, round by round: medians, their ratio, and how sure that ratio is.

A round is one measurement: samples within a round depend on each other, rounds do not. So the
spread is that of rounds. The ratio is the median of the ratios of every round of B to every round
of A; its bounds are the 95 % confidence interval of the Mann-Whitney test (Hodges and Lehmann 1963,
Moses 1965), which is exact for any distribution and any number of rounds. Too few rounds have no
bounds (three on each side, for example): then the page says that nothing can be concluded.

Does not say why two sides differ, and compares only what both have.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from itertools import accumulate
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stress.report.page.model import Comparison, Pair, Side, Unit

MOST_NAMED = 6
LEVEL = 0.05  # the share of equal figures that look different
EXACT = 40  # rounds of a side; with more, the normal distribution is as good

Measured = Mapping[tuple[str, Unit], Sequence[float]]  # of each figure, a value for each round


def compared(left: tuple[str, Measured], right: tuple[str, Measured]) -> Comparison:
    """``left`` and ``right``: what each side is, and its figures."""
    both = [figure for figure in left[1] if figure in right[1]]
    pairs = [_pair(name, unit, left[1][name, unit], right[1][name, unit]) for name, unit in both]
    only = dict.fromkeys(name for name, unit in (*left[1], *right[1]) if (name, unit) not in both)
    notes = [f"Only on one side, so not compared: {_some(list(only))}."] if only else []
    if not both:
        notes.append("The two have no figure in common.")
    bounds = (
        "B to A is the median of the ratios of all pairs of rounds; the bounds below it hold 95"
        " times of 100, so of twenty equal figures one is expected to look different."
    )
    return Comparison(left[0], right[0], tuple(pairs), tuple(notes), bounds)


def _some(names: Sequence[str]) -> str:
    more = len(names) - MOST_NAMED
    return "; ".join(names[:MOST_NAMED]) + (f"; and {more:,} more" if more > 0 else "")


def _pair(name: str, unit: Unit, left: Sequence[float], right: Sequence[float]) -> Pair:
    ones, others = np.array(left, float), np.array(right, float)
    ratio = low = high = math.nan
    if (ones > 0).all():
        ratios = np.sort(np.outer(others, 1 / ones).ravel())
        ratio = float(np.median(ratios))
        cut = cut_of(len(ones), len(others))
        if cut is not None:
            low, high = float(ratios[cut]), float(ratios[-1 - cut])
    return Pair(name, unit, _side(ones), _side(others), ratio, low, high)


def _side(values: NDArray[np.float64]) -> Side:
    return Side(len(values), *(float(of(values)) for of in (np.median, np.min, np.max)))


@cache
def cut_of(left: int, right: int) -> int | None:
    """How many of all sorted ratios lie outside of the bounds at each end; None: too few rounds.

    It is the largest k for which P(U <= k) is at most half of ``LEVEL``, U being the statistic of
    Mann and Whitney for two equal sides.
    """
    if min(left, right) > EXACT:
        spread = math.sqrt(left * right * (left + right + 1) / 12)
        return math.floor(left * right / 2 - NormalDist().inv_cdf(1 - LEVEL / 2) * spread) - 1
    ways = [1] + [0] * (left * right)  # coefficients of the q-binomial: orders of both with that U
    for size in range(1, left + 1):
        for at in range(len(ways) - 1, right + size - 1, -1):
            ways[at] -= ways[at - right - size]
        for at in range(size, len(ways)):
            ways[at] += ways[at - size]
    most = LEVEL / 2 * math.comb(left + right, left)
    below = sum(1 for reached in accumulate(ways) if reached <= most)
    return below - 1 if below else None


# --- words ---------------------------------------------------------------------------------------
def bounds_text(pair: Pair) -> str:
    return "" if math.isnan(pair.low) else f"{pair.low:.3g} to {pair.high:.3g}"


def conclusion(pair: Pair) -> str:
    if math.isnan(pair.low):
        return "too few rounds to say"
    if not pair.differs:
        return "none shown"
    return "B is larger" if pair.low > 1 else "B is smaller"


# --- bars ----------------------------------------------------------------------------------------
class Bar(NamedTuple):
    """A ratio and its bounds on the axis of all bars, in percent from the left; 50 is equality."""

    dot: float
    low: float
    high: float


def bars(comparison: Comparison) -> list[Bar | None]:
    """A bar for each pair; None where there is no ratio to show."""
    shown = [v for p in comparison.pairs for v in (p.ratio, p.low, p.high) if v > 0]
    reach = max([1.5, *(max(value, 1 / value) for value in shown)]) * 1.1

    def place(value: float) -> float:
        return round(50 + 50 * math.log(value) / math.log(reach), 2)

    return [_bar(pair, place) for pair in comparison.pairs]


def _bar(pair: Pair, place: Callable[[float], float]) -> Bar | None:
    if not pair.ratio > 0:
        return None
    low, high = (pair.low, pair.high) if pair.low > 0 else (pair.ratio, pair.ratio)
    return Bar(place(pair.ratio), place(low), place(high))

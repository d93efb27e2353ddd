"""The estimated number of classes, from the part of the tree that DPOR has seen.

At every step of the current path some branches are done, one is open and some are planned. If all
subtrees below a step were equal, the explored share of the tree would be::

    sum over the path of   branches done / branches known * product above of 1 / branches known

and classes / share estimates the total (Knuth 1975, with the path of the search as the probe). It
is exact at the end. Before, it is too low while branches are still to be discovered: an indication
of size, not a bound. It costs nothing, and is used until sampling.py has an estimate without bias.
"""

from __future__ import annotations

from typing import Any

from stress.explorer.dpor.records import BRANCHES_DONE, depth_at
from stress.explorer.dpor.search import DONE, PREFIX
from stress.explorer.dpor.tree import branches_left
from stress.machine import block as cb


def estimate_classes(block: Any) -> float:
    """Estimated number of classes of the whole search; the exact count when it is done."""
    classes = float(block[cb.SCHEDULES])
    if block[DONE]:
        return classes
    share = 0.0
    above = 1.0
    for index in range(int(block[PREFIX])):
        depth = depth_at(block, index)
        known = int(branches_left(block, depth)) + 1  # done, planned, and the one that is open
        share += above * int(block[depth + BRANCHES_DONE]) / known
        above /= known
    return classes / share if share > 0 else classes

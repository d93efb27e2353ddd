"""How far an exploration is, for those who wait: in time or in schedules, whichever ends first.

A ``Budget`` hears of every batch; here that becomes a ``Step``. Code that calls ``explore`` and
names no report gets a line of the logger "stress" every ten seconds.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from stress.explorer.searches import Budget
from stress.progress import Report, Step, logged


def watched(name: str, budget: Budget, report: Report | None) -> Callable[[int], None]:
    """What ``budget.ran`` is to be, so that ``report`` hears how far the program ``name`` is."""
    told = logged(logging.getLogger("stress")) if report is None else report
    total = 0

    def ran(schedules: int) -> None:
        nonlocal total
        total += schedules
        told(_step(name, budget, total))

    return ran


def _step(name: str, budget: Budget, total: int) -> Step:
    shares = [(budget.elapsed, budget.seconds), (total, budget.schedules)]
    limited = [(min(done, limit), limit) for done, limit in shares if limit]
    done, limit = max(limited, key=lambda share: share[0] / share[1], default=(0, None))
    return Step(name, done, limit, f"{total:,} schedules")

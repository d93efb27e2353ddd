"""The progress of an exploration: in time or in schedules, whichever ends first.

A ``Budget`` reports every batch; this module makes a ``Step`` of it. Code that calls ``explore``
without a report gets a line of the logger "stress" every ten seconds.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from stress.explorer.searches import Budget
from stress.progress import Report, Step, logged
from stress.quantities import counted


def watched(name: str, budget: Budget, report: Report | None) -> Callable[[int], None]:
    """A function for ``budget.ran`` that tells ``report`` the progress of program ``name``."""
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
    return Step(name, done, limit, counted(total, "schedule"))

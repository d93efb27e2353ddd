"""How long a recorded run took, and how long it worked: a soak that went on later had pauses.

What a run that has not ended did last is known from its rounds and samples. The database has no
times of sessions: a soak keeps the sum of its work with each round that ended.
"""

from __future__ import annotations

from collections.abc import Sequence

from stress.records.rows import RoundRow, RunRow


def elapsed_s(run: RunRow, rounds: Sequence[RoundRow], last_s: float = 0.0) -> float:
    """Seconds from the start of the run to its end, or to the last that is known of it.

    ``last_s``: of its last sample, since the start.
    """
    if run.ended_s is not None:
        return max(0.0, run.ended_s - run.started_s)
    ends = [one.ended_s for one in rounds if one.ended_s] + [one.started_s for one in rounds]
    return max(0.0, last_s, max(ends, default=run.started_s) - run.started_s)


def worked_s(run: RunRow, rounds: Sequence[RoundRow], last_s: float = 0.0) -> float:
    """The same without the pauses of a soak that went on later."""
    whole_s = elapsed_s(run, rounds, last_s)
    if sessions_of(run) < 2:
        return whole_s
    worked = float(run.summary.get("clock_s", whole_s))
    if run.ended_s is None and rounds and rounds[-1].state != "ended":
        worked += max(0.0, whole_s - (rounds[-1].started_s - run.started_s))
    return min(worked, whole_s)


def sessions_of(run: RunRow) -> int:
    """How often a soak began or went on; 1 for every other run."""
    return max(1, int(run.summary.get("sessions", 1)))

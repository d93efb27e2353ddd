"""Rounds: every job has one slice in each, in turn, so that all see the same machine.

A slice is 1-2 ms long where each worker has a core: shorter than the time after which Linux gives a
core to another process, so most slices are undisturbed. Where workers are more than cores a slice
has to be longer than several turns of the scheduler. How many repeats make a slice is found by
trying, before the first round.

A job whose slices are dropped gets further rounds, up to PATIENCE times as many; its row says how
many slices it rests on.
"""

from __future__ import annotations

from collections.abc import Sequence

from stress.bench.figures import Row, Series, row_of
from stress.bench.jobs import Job
from stress.bench.team import Answer, Team
from stress.progress import Report, Step, silent

SLICE_NS = 1_500_000
CROWDED_NS = 25_000_000
PATIENCE = 4
TRIES = 10
GROWTH = 16
NEAR = 0.7  # of its length is enough for a slice
BELIEVED = 4  # slices more before a length is believed


def measure(team: Team, rounds: int, report: Report = silent) -> tuple[list[Row], list[Job]]:
    """Measure the jobs of ``team``; their rows, and the jobs of which no slice could be kept.

    Raises ``BenchError``.
    """
    jobs = [job for job in team.jobs if job.peer is None or job.peer.name not in team.refused]
    series = [Series(job, team.crowded(job)) for job in jobs]
    for done, one in enumerate(series):
        report(Step("warming up", done, len(series), str(one.job)))
        one.repeats = repeats_of(team, one)
    for number in range(rounds * PATIENCE):
        lacking = [one for one in series if len(one.slices) < rounds]
        if not lacking:
            break
        for one in lacking:
            kept = sum(min(len(s.slices), rounds) for s in series)
            report(Step("measuring", kept, rounds * len(series), str(one.job)))
            one.add(team.slice(one.job, one.repeats, number), len(team.cores))
    rows = [row_of(one) for one in series]
    lost = [one.job for one, row in zip(series, rows, strict=True) if row is None]
    return [row for row in rows if row is not None], lost


def repeats_of(team: Team, series: Series) -> int:
    """So many repeats of the loop that a slice has its length.

    The shortest of some slices counts: the first one is cold, and any may be interrupted.
    """
    wanted = CROWDED_NS if series.crowded else SLICE_NS
    repeats = 1
    for _ in range(TRIES):
        spent = shortest_ns(team, series, repeats, 2)
        if spent > wanted * NEAR:
            spent = min(spent, shortest_ns(team, series, repeats, BELIEVED))
        if spent > wanted * NEAR:
            break
        repeats = max(repeats + 1, int(repeats * min(GROWTH, wanted / max(spent, 1))))
    return repeats


def shortest_ns(team: Team, series: Series, repeats: int, slices: int) -> int:
    """The time of the shortest of so many slices."""
    answers = [team.slice(series.job, repeats, number) for number in range(slices)]
    if series.crowded:
        return min(map(wall_ns, answers))
    return min(max(one.own_ns for one in answer) for answer in answers)


def wall_ns(answers: Sequence[Answer]) -> int:
    """From the first begin to the last end of a slice."""
    return max(a.end_ns for a in answers) - min(a.start_ns for a in answers)

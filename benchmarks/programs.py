"""Explore every program of the allocator: to the end if possible, else a million schedules.

``python benchmarks/programs.py [NAME...] > table``: a row for each program and memory model, in
Markdown (docs/explored.md). A row that is still open has the estimated number of its classes with
its interval of 95 %, and the time that DPOR would take for them at the rate of this run. Takes less
than an hour; exit code 1 if anything failed.
"""

from __future__ import annotations

import sys

import click

from stress import Exploration
from stress.check.loop import NATIVE, Loop, Turn, jobs_of
from stress.explorer.result import BUDGET
from stress.explorer.sampling import Sampler
from stress.machine.block_layout import Settings
from stress.programs import PROGRAMS
from stress.quantities import counted, rough_count, rough_duration

TURNS = (
    Turn("dpor", NATIVE, 10.0),  # all classes
    Turn("auto", NATIVE, 300.0, schedules=1_100_000),  # a sample, if there are too many classes
)
FOR_EVER_S = 1e9
ESTIMATE_S = 60.0  # at most, for the classes of a row that is still open
MEMORIES = ("sc", "tso")


def explored(name: str) -> list[tuple[str, Exploration]]:
    """A row of the table for each memory model, and the exploration that decides."""
    found = []
    for job in jobs_of(name, PROGRAMS[name](), MEMORIES):
        loop = Loop([job], TURNS, FOR_EVER_S).run()
        results = [outcome.result for outcome in loop.outcomes]
        first, last = results[0], results[-1]
        assert isinstance(first, Exploration) and isinstance(last, Exploration)
        text = classes(last.classes) if last.classes is not None else ""
        if last.verdict == BUDGET:
            text = f"{counted(last.schedules, 'schedule')} of {still_open(first)}"
        found.append((f"| {name} | {job.memory} | {last.verdict} | {text} |", last))
    return found


def classes(count: float) -> str:
    return f"{rough_count(count)} class{'' if count == 1 else 'es'}"


def still_open(search: Exploration) -> str:
    """``about 50,655 classes (21,230 to 80,080): 5 s``, of a DPOR that did not come to its end."""
    program, settings = search.program, Settings(model=search.memory, races=True)
    least = search.classes
    assert least
    found = Sampler(program, settings, NATIVE, search.seed).estimate(ESTIMATE_S)
    if found is None:
        return f"more than {classes(least)}"
    number, low, high = (max(value, least) for value in found[:3])
    seconds = number * search.seconds / least
    interval = f"{rough_count(low)} to {rough_count(high)}"
    return f"about {classes(number)} ({interval}): {rough_duration(seconds)}"


@click.command()
@click.argument("names", nargs=-1)
def main(names: tuple[str, ...]) -> None:
    failed = 0
    click.echo("| program | memory | verdict | explored |\n|---|---|---|---|")
    for name in names or PROGRAMS:
        for row, result in explored(name):
            click.echo(row)
            if not result.passed:
                failed = 1
                click.echo(result.failure.report() if result.failure else result.note, err=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()

"""Explore every program of the allocator: to the end if possible, else a million schedules.

``python benchmarks/programs.py [NAME...] > table``: a row for each program and memory model, in
Markdown (docs/explored.md). Takes some ten minutes; exit code 1 if anything failed.
"""

from __future__ import annotations

import sys

import click

from stress import Exploration
from stress.check.loop import NATIVE, Loop, Turn, jobs_of
from stress.explorer.result import BUDGET
from stress.programs import PROGRAMS

TURNS = (
    Turn("dpor", NATIVE, 10.0),  # all classes
    Turn("auto", NATIVE, 300.0, schedules=1_100_000),  # a sample, if there are too many classes
)
FOR_EVER_S = 1e9
MEMORIES = ("sc", "tso")


def explored(name: str) -> list[tuple[str, Exploration]]:
    """A row of the table for each memory model, and the exploration that decides."""
    found = []
    for job in jobs_of(name, PROGRAMS[name](), MEMORIES):
        loop = Loop([job], TURNS, FOR_EVER_S).run()
        results = [outcome.result for outcome in loop.outcomes]
        first, last = results[0], results[-1]
        assert isinstance(first, Exploration) and isinstance(last, Exploration)
        text = f"{last.classes:,} classes" if last.classes is not None else ""
        if last.verdict == BUDGET:
            text = f"{last.schedules:,} schedules of about {first.estimate:,.0f} classes"
            if first.interval is not None:
                text += " ({:,.0f} to {:,.0f})".format(*first.interval)
        found.append((f"| {name} | {job.memory} | {last.verdict} | {text} |", last))
    return found


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

"""Explore every program of the allocator: to the end where it can be reached, else a million times.

``python benchmarks/programs.py [NAME...] > table``: a row for each program and memory model, in
Markdown (docs/explored.md). Takes some ten minutes; exit code 1 if anything failed.
"""

from __future__ import annotations

import sys

import click

from stress import Exploration, explore
from stress.programs import PROGRAMS

MILLION = 1_100_000  # schedules, where the classes are too many
CLASSES_S = 10.0  # time for DPOR alone
SAMPLE_S = 300.0
STEP_LIMIT = 5_000


def explored(name: str, memory: str) -> tuple[str, Exploration]:
    """A row of the table, and the exploration that decides."""
    program = PROGRAMS[name]()
    result = explore(program, "dpor", memory, seconds=CLASSES_S, step_limit=STEP_LIMIT)
    if result.verdict == "passed-budget":
        sample = explore(
            program, "auto", memory, schedules=MILLION, seconds=SAMPLE_S, step_limit=STEP_LIMIT
        )
        if sample.verdict != "passed-budget":
            result = sample
        else:
            text = f"{sample.schedules:,} schedules of about {result.estimate:,.0f} classes"
            return f"| {name} | {memory} | {sample.verdict} | {text} |", sample
    return f"| {name} | {memory} | {result.verdict} | {result.classes:,} classes |", result


@click.command()
@click.argument("names", nargs=-1)
def main(names: tuple[str, ...]) -> None:
    failed = 0
    click.echo("| program | memory | verdict | explored |\n|---|---|---|---|")
    for name in names or PROGRAMS:
        for memory in ("sc", "tso"):
            row, result = explored(name, memory)
            click.echo(row)
            if not result.passed:
                failed = 1
                click.echo(result.failure.report() if result.failure else result.note, err=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()

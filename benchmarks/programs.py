"""Explore every program of the allocator to its end, or a sample: docs/explored.md.

``python benchmarks/programs.py [NAME...] [--write docs/explored.md]``: a row for each program and
memory model. A row that is still open has the estimated number of its classes with its interval of
95 %, and the time that DPOR would take for them at the rate of this run. Takes less than an hour
on two idle cores; exit code 1 if anything failed.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import click

from stress import Exploration
from stress.check.loop import NATIVE, Loop, Turn, jobs_of
from stress.explorer.result import BUDGET, EXHAUSTED
from stress.explorer.sampling import Sampler
from stress.machine.block_layout import Settings
from stress.programs import PROGRAMS
from stress.quantities import counted, rough_count, rough_duration

DPOR_S = 10.0  # for all classes
SAMPLE_S = 300.0  # at most, for the schedules of a row that is still open
FOR_EVER_S = 1e9
MEMORIES = ("sc", "tso")
COLUMNS = "| program | memory | verdict | explored |\n|---|---|---|---|\n"
PAGE = """# What the explorer has covered of the allocator

`tox -e explore` (`benchmarks/programs.py`), {date}, on the kernels of that day: every program of `shmstress list --programs`,
under sequential consistency and x86's store buffers, with races, torn pairs and the audit as the judge. {exhausted} of {rows} rows were
run to their end: one schedule of every class. Each of the others had {sample}, by DPOR and the portfolio in turns; their
number of classes is estimated, with an interval of 95 % and the time that DPOR would take for them. {failed}; what had failed before is
in `bugs.md`. The same programs with deaths: `crash.md`.

{table}"""  # noqa: E501 - the lines of the page


@dataclass(frozen=True)
class Row:
    """One line of the table. ``failure``: in words; "" if nothing failed."""

    text: str
    verdict: str
    failure: str


def explored(name: str, schedules: int, estimate_s: float) -> list[Row]:
    """A row for each memory model."""
    turns = (Turn("dpor", NATIVE, DPOR_S), Turn("auto", NATIVE, SAMPLE_S, schedules=schedules))
    found = []
    for job in jobs_of(name, PROGRAMS[name](), MEMORIES):
        loop = Loop([job], turns, FOR_EVER_S).run()
        results = [outcome.result for outcome in loop.outcomes]
        first, last = results[0], results[-1]
        assert isinstance(first, Exploration) and isinstance(last, Exploration)
        text = classes(last.classes) if last.classes is not None else ""
        if last.verdict == BUDGET:
            text = f"{counted(last.schedules, 'schedule')} of {still_open(first, estimate_s)}"
        failure = ""
        if not last.passed:
            failure = last.failure.report() if last.failure else last.note
        row = f"| {name} | {job.memory} | {last.verdict} | {text} |\n"
        found.append(Row(row, last.verdict, failure))
    return found


def classes(count: float) -> str:
    return f"{rough_count(count)} class{'' if count == 1 else 'es'}"


def still_open(search: Exploration, estimate_s: float) -> str:
    """``about 50,655 classes (21,230 to 80,080): 5 s``, of a DPOR that did not come to its end."""
    program, settings = search.program, Settings(model=search.memory, races=True)
    least = search.classes
    assert least
    found = Sampler(program, settings, NATIVE, search.seed).estimate(estimate_s)
    if found is None:
        return f"more than {classes(least)}"
    number, low, high = (max(value, least) for value in found[:3])
    seconds = number * search.seconds / least
    interval = f"{rough_count(low)} to {rough_count(high)}"
    return f"about {classes(number)} ({interval}): {rough_duration(seconds)}"


def page(rows: list[Row], schedules: int) -> str:
    """The whole of docs/explored.md."""
    failures = sum(bool(row.failure) for row in rows)
    return PAGE.format(
        date=time.strftime("%Y-%m-%d"),
        exhausted=sum(row.verdict == EXHAUSTED for row in rows),
        rows=len(rows),
        sample=counted(schedules, "schedule"),
        failed=f"{counted(failures, 'row')} failed" if failures else "Nothing failed",
        table=COLUMNS + "".join(row.text for row in rows),
    )


@click.command()
@click.argument("names", nargs=-1)
@click.option("--schedules", default=1_100_000, help="Of a row that is not run to its end.")
@click.option("--estimate", default=60.0, help="Seconds for the number of its classes, at most.")
@click.option("--jobs", default=os.cpu_count(), help="Programs at a time.")
@click.option("--write", type=Path, help="The page; else the table goes to standard output.")
def main(
    names: tuple[str, ...], schedules: int, estimate: float, jobs: int, write: Path | None
) -> None:
    work = partial(explored, schedules=schedules, estimate_s=estimate)
    rows: list[Row] = []
    click.echo(COLUMNS, nl=False, err=write is not None)
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        for found in pool.imap(work, names or PROGRAMS):
            rows += found
            for row in found:
                click.echo(row.text, nl=False, err=write is not None)
                if row.failure:
                    click.echo(row.failure, err=True)
    if write is not None:
        write.write_text(page(rows, schedules), "utf-8")
    sys.exit(any(row.failure for row in rows))


if __name__ == "__main__":
    main()

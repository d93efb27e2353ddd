"""``shmstress sweep``: the N-th allocation of every caller fails, for every N."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import TYPE_CHECKING

import click

from stress import progress as watching
from stress.options import OPERATIONS, engine, option, progress
from stress.options import command as as_command
from stress.verdict import Verdict

if TYPE_CHECKING:
    from stress.faults.sweep import Row, Sweep


@as_command("sweep")
@click.argument("names", nargs=-1, metavar="[OPERATION]...", type=OPERATIONS)
@engine("interpreted")
@option("--list", "only_list", is_flag=True, setting=False, help="List the operations and stop.")
@progress()
def command(names: tuple[str, ...], engine: str, only_list: bool, progress: str) -> int:
    """Let the 1st, 2nd, 3rd ... allocation of each OPERATION fail, until none is left to fail.

    After each failure the operation must have answered properly, must succeed when it is repeated,
    and must leave nothing behind; the audit must be clean. By default all operations are swept.

    Exit codes: 0 passed, 1 an operation did not survive a failure, 3 an operation never stopped
    allocating, 4 usage, 5 nothing was allocated.
    """
    from stress.faults.operations import OPERATIONS as known
    from stress.tables import grid, show

    if only_list:
        listing = grid("operation", "story", heading=False)
        for operation in known.values():
            listing.add_row(operation.name, operation.story)
        show(listing)
        return 0
    return _sweep(names or tuple(known), engine, progress)


def _sweep(names: tuple[str, ...], engine: str, progress: str) -> int:
    from stress.faults.sweep import sweep_all, verdict_of
    from stress.tables import grid, show

    sweeps: list[Sweep] = []
    try:
        with watching.shown(progress) as report:
            for number, result in enumerate(sweep_all(names, engine), 1):
                sweeps.append(result)
                report(watching.Step("sweep", number, len(names), result.name))
    finally:  # an interrupt loses nothing of what was found
        table = grid("operation", "N", "what fails", "answer", right=["N"])
        for result in sweeps:
            for cells in _rows(result):
                table.add_row(*cells)
        if sweeps:
            show(table)
        for line in _problems(sweeps):
            click.echo(line)
    verdict = verdict_of(sweeps)
    faults = sum(result.faults for result in sweeps)
    click.echo(f"{verdict.name} operations={len(sweeps)} faults={faults}")
    return verdict.exit_code


def _rows(result: Sweep) -> Iterator[tuple[str, str, str, str]]:
    """Runs that follow each other with one answer share a row: ``4..32``."""
    name = result.name
    for (lasting, kind, answer), rows in groupby(result.rows, key=_outcome):
        numbers = [row.nth for row in rows]
        span = f"{numbers[0]}..{numbers[-1]}" if len(numbers) > 1 else str(numbers[0])
        fails = "nothing" if kind == "-" else f"{kind} and all later ones" if lasting else kind
        yield name, span, fails, answer
        name = ""


def _problems(sweeps: list[Sweep]) -> Iterator[str]:
    for result in sweeps:
        for row in result.rows:
            for problem in row.problems:
                yield f"!!! {result.name}, N = {row.nth}: {problem}"
        if result.verdict not in (Verdict.PASSED, Verdict.FAILED):
            yield f"!!! {result.name}: {result.verdict.name}: {result.verdict.meaning}"


def _outcome(row: Row) -> tuple[bool, str, str]:
    return row.lasting, row.kind, row.answer

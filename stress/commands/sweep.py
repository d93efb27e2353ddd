"""``shmstress sweep``: the N-th allocation of every caller fails, for every N."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

import click

from stress.faults.operations import OPERATIONS
from stress.faults.sweep import Row, Sweep, sweep_all, verdict_of
from stress.quantities import nearest
from stress.spec import ENGINES
from stress.verdict import Verdict


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--engine", default="interpreted", show_default=True, help="interpreted or native.")
@click.option("--list", "only_list", is_flag=True, help="Only name the operations.")
def command(names: tuple[str, ...], engine: str, only_list: bool) -> int:
    """Let the 1st, 2nd, 3rd ... allocation of an operation fail, until a run passes untouched.

    After each failure the operation has answered properly, works when it is done again, the audit
    is clean and nothing was lost. Without NAME: every operation.
    """
    if engine not in ENGINES:
        raise nearest(engine, ENGINES, "engine")
    if only_list:
        for line in _list():
            click.echo(line)
        return 0
    sweeps: list[Sweep] = []
    for result in sweep_all(names, engine):
        if not sweeps:  # a name that is unknown has been refused by now
            click.echo(f"{'operation':<18} {'N':>6} {'what fails':<21} answer")
        sweeps.append(result)
        for line in _lines(result):
            click.echo(line)
    verdict = verdict_of(sweeps)
    faults = sum(result.faults for result in sweeps)
    click.echo(f"{verdict.name} operations={len(sweeps)} faults={faults}")
    return verdict.exit_code


def _list() -> Iterator[str]:
    for operation in OPERATIONS.values():
        yield f"{operation.name:<18} {operation.story}"


def _lines(result: Sweep) -> Iterator[str]:
    """Runs that follow each other with one answer share a line: ``4..32``."""
    name = result.name
    for (lasting, kind, answer), rows in groupby(result.rows, key=_outcome):
        numbers = [row.nth for row in rows]
        span = f"{numbers[0]}..{numbers[-1]}" if len(numbers) > 1 else str(numbers[0])
        fails = "nothing" if kind == "-" else f"{kind}, all behind it" if lasting else kind
        yield f"{name:<18} {span:>6} {fails:<21} {answer}"
        name = ""
    for row in result.rows:
        for problem in row.problems:
            yield f"!!! {result.name}, N = {row.nth}: {problem}"
    if result.verdict not in (Verdict.PASSED, Verdict.FAILED):
        yield f"!!! {result.name}: {result.verdict.name}: {result.verdict.meaning}"


def _outcome(row: Row) -> tuple[bool, str, str]:
    return row.lasting, row.kind, row.answer

"""``shmstress history``: the runs, the rounds and the findings of a database."""

from __future__ import annotations

import json as json_module

import click

from shmalloc.errors import MisuseError
from stress.options import Names, json_file, option
from stress.options import command as as_command

STATUSES = ("open", "ignored", "fixed")


@as_command("history")
@click.argument("database", metavar="[DB|DIR]", required=False, type=click.Path())
@option("--db", metavar="FILE", help="The database, if it is not the argument.")
@option(
    "--run",
    "run_id",
    type=click.IntRange(1),
    metavar="ID",
    setting=False,
    help="Show the rounds of this run.",
)
@option(
    "--status",
    type=Names("status", STATUSES),
    setting=False,
    help="Show only the findings of this status.",
)
@json_file("Write all of it to FILE as JSON; - is standard output.")
def command(
    database: str | None,
    db: str | None,
    run_id: int | None,
    status: str | None,
    json: str | None,
) -> int:
    """Show what was run with --db, and what was found; shmstress show tells of one finding.

    The database is DB, else --db, else $SHMSTRESS_DB or the settings file. It may be in use.

    Exit codes: 0 shown, 4 usage.
    """
    from stress.records.reader import Reader
    from stress.report import history
    from stress.report.places import require_places, write_to
    from stress.report.sources import database_of
    from stress.tables import show

    require_places(json=json)
    with Reader(database_of(named(database, db), "history")) as reader, reader.snapshot():
        runs = reader.runs() if run_id is None else [reader.run(run_id)]
        rounds, findings = reader.rounds(run_id), reader.findings(status)
        if json is not None:
            whole = history.document(reader, runs, rounds, findings)
            write_to(json, json_module.dumps(whole, indent=2) + "\n")
            return 0
        show(history.runs_table(runs, rounds))
        if run_id is not None:
            click.echo()
            show(history.rounds_table(rounds))
        if findings:
            click.echo()
            show(history.findings_table(findings))
        click.echo(f"\n{history.sums(runs, findings)}")
    return 0


def named(database: str | None, db: str | None) -> str:
    """The database that a command reads. Raises ``MisuseError`` if none is named."""
    chosen = database if database is not None else db
    if chosen is None:
        raise MisuseError("db: none is named; use --db FILE, or set db in shmstress.toml")
    return chosen

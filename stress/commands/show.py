"""``shmstress show``: one finding of a database, in words; its status; its files."""

from __future__ import annotations

import json as json_module
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from shmalloc.errors import MisuseError
from stress.commands.history import named
from stress.options import command as as_command
from stress.options import json_file, option

if TYPE_CHECKING:
    from stress.records.reader import Reader
    from stress.records.rows import FindingRow

STATUS = "Its status"
FILES = "Its files"


@as_command("show")
@click.argument("fingerprint", metavar="FINGERPRINT")
@option("--db", metavar="FILE", help="The database.")
@option("--ignore", is_flag=True, setting=False, group=STATUS, help="Hunts go past it from now on.")
@option("--open", "reopen", is_flag=True, setting=False, group=STATUS, help="It counts again.")
@option(
    "--fixed",
    is_flag=True,
    setting=False,
    group=STATUS,
    help="It is mended; if it is seen again, it is open again.",
)
@option(
    "--artifact",
    metavar="NAME",
    setting=False,
    group=FILES,
    help="Write this file of it to --output.",
)
@option(
    "--output",
    metavar="FILE",
    default="-",
    setting=False,
    group=FILES,
    help="Where --artifact is written; - is standard output.",
)
@json_file("Write all of it to FILE as JSON; - is standard output.")
def command(
    fingerprint: str,
    db: str | None,
    ignore: bool,
    reopen: bool,
    fixed: bool,
    artifact: str | None,
    output: str,
    json: str | None,
) -> int:
    """Show a finding of a database; its first letters are enough of FINGERPRINT.

    The database is --db, else $SHMSTRESS_DB or the settings file.

    Exit codes: 0 shown or done, 4 usage, 7 the database cannot be written.
    """
    from stress.records.reader import Reader
    from stress.report.history import printable
    from stress.report.places import require_places
    from stress.report.shown_finding import status_line
    from stress.report.sources import database_of

    require_places(json=json, **({} if artifact is None else {"output": output}))
    path = database_of(named(None, db), "show")
    chosen = [name for name, on in _statuses(ignore, reopen, fixed) if on]
    if len(chosen) > 1:
        raise MisuseError("show: --ignore, --open and --fixed exclude each other; use one of them")
    if chosen:
        _set_status(path, fingerprint, chosen[0])
    with Reader(path) as reader, reader.snapshot():
        finding = reader.finding(fingerprint)
        if artifact is not None:
            _write_out(reader, finding, artifact, output)
        elif chosen and json is None:
            click.echo(printable(status_line(finding, str(path))))
        else:
            _show(reader, finding, str(path), json)
    return 0


def _statuses(ignore: bool, reopen: bool, fixed: bool) -> tuple[tuple[str, bool], ...]:
    return ("ignored", ignore), ("open", reopen), ("fixed", fixed)


def _set_status(path: Path, letters: str, status: str) -> None:
    from stress.records.reader import Reader
    from stress.records.writer import Records

    with Reader(path) as reader:
        name = reader.finding(letters).fingerprint
    with Records(path, create=False) as records:
        records.set_status(name, status)


def _show(reader: Reader, finding: FindingRow, database: str, json: str | None) -> None:
    from stress.report import shown_finding
    from stress.report.history import printable
    from stress.report.places import write_to

    if json is not None:
        whole = shown_finding.document(reader, finding)
        write_to(json, json_module.dumps(whole, indent=2) + "\n")
        return
    for line in shown_finding.finding_lines(reader, finding, database):
        click.echo(printable(line))


def _write_out(reader: Reader, finding: FindingRow, name: str, output: str) -> None:
    from stress.report.places import write_bytes_to

    files = reader.artifacts(fingerprint=finding.fingerprint)
    for file in files:
        if file.name == name:
            content = reader.content(file.id)
            break
    else:
        known = ", ".join(file.name for file in files) or "none"
        raise MisuseError(f"artifact: {name!r} is not kept with it; known are {known}")
    if output == "-":
        sys.stdout.flush()
        sys.stdout.buffer.write(content)
        sys.stdout.flush()
    else:
        write_bytes_to(output, content)

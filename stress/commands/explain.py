"""``shmstress explain``: a failure of real processes becomes a schedule of the explorer."""

from __future__ import annotations

import json as json_module
from pathlib import Path

import click

from stress.options import command as as_command
from stress.options import duration, json_file, option, seed
from stress.verdict import Verdict

BUDGET_S = 120.0
FOLDER = "explained"
REPEAT_SHARE = 0.25


@as_command("explain")
@click.argument("failure", metavar="RUN_DIR|DATABASE:FINGERPRINT")
@duration("Time to look for a schedule", unset="2m")
@seed("Seed of the programs that are drawn", default=1)
@option(
    "--into",
    metavar="DIR",
    default=FOLDER,
    show_default=True,
    help="Where the file for pytest is written.",
)
@json_file("Write what was found to FILE as JSON; - is standard output.")
def command(
    failure: str, seconds: float | None, seed: int | None, into: str, json: str | None
) -> int:
    """Find a schedule that breaks the invariant of a failed run, and write it as a test.

    RUN_DIR is what shmstress run --out wrote, or the document of its --json; DATABASE:FINGERPRINT
    is a finding of a database.

    The operations in flight become small programs, and the explorer looks for a schedule of one
    that breaks the same invariant. What is found is cut down.

    Exit codes: 1 a schedule was found, 4 usage, 5 none was found: it says how far it came.
    """
    from stress.explain.explanation import explain, lines_of
    from stress.explain.sources import evidence_of, repeated
    from stress.explain.writing import again, write
    from stress.report.exports import Exports

    files = Exports({}, json=json, into=into)
    budget = seconds or BUDGET_S
    aside = files.aside
    evidence = repeated(evidence_of(failure), budget * REPEAT_SHARE)
    made = explain(evidence, budget, seed or 1, lambda text: click.echo(text, err=True))
    for line in lines_of(made):
        click.echo(line, err=aside)
    path = None
    if made.found is not None:
        path = write(made, Path(into))
        click.echo(f"written: {path}\nto see it again:\n  {again(made, path)}", err=aside)
    if json is not None:
        document = {
            "explained": made.found is not None,
            "same": made.found is not None and made.found.same,
            "sentence": str(made),
            "token": made.token,
            "file": None if path is None else str(path),
            "seconds": made.effort.seconds,
        }
        files.put(json, json_module.dumps(document, indent=2) + "\n")
    return files.exit_code(Verdict.VACUOUS if made.found is None else Verdict.FAILED)

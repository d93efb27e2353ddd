"""``shmstress report``: what a database or a directory of ``run --out`` says, for people."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click

from shmalloc.errors import EnvironmentUnfitError, MisuseError
from stress.options import command as as_command
from stress.options import exports, html_file, option
from stress.report.exports import Exports
from stress.verdict import Verdict

if TYPE_CHECKING:
    from stress.records.reader import Reader

COMPARISON = "Comparison"


@as_command("report")
@click.argument("source", metavar="DB|DIR", type=click.Path())
@option(
    "--run",
    "run_id",
    type=click.IntRange(1),
    metavar="ID",
    setting=False,
    show_default="the last one",
    help="Which run of the database; shmstress history lists them.",
)
@option(
    "--compare",
    metavar="OTHER",
    setting=False,
    group=COMPARISON,
    help="Compare with another database or directory, or with the run of that ID.",
)
@option(
    "--by",
    metavar="NAME[=A,B]",
    setting=False,
    group=COMPARISON,
    help="Compare rounds that differ in a setting, such as link-store.",
)
@html_file("Write one self-contained page to FILE; - is standard output.")
@exports("junit", "ktap", "markdown", "sarif")
def command(
    source: str,
    run_id: int | None,
    compare: str | None,
    by: str | None,
    html: str | None,
    exports: dict[str, str | None],
) -> int:
    """Write a report of a run, a soak or a hunt that was recorded with --db or --out.

    Exit codes: 0 written, 4 usage, 7 a library is missing.
    """
    from stress.records.reader import Reader
    from stress.report.sources import database_of, run_of
    from stress.report.suites.recorded import suite_of

    files = Exports(exports, html=html)
    if html is None and not files:
        raise MisuseError("report: say what to write: --html FILE, or another of the formats")
    if compare is not None and by is not None:
        raise MisuseError("by: not together with --compare; leave one of the two out")
    database = database_of(source)
    for name, file in {"html": html, **exports}.items():
        require_other_file(name, file, database)
    with Reader(database) as reader, reader.snapshot():
        if html is not None:
            files.put(html, page_of(reader, source, run_id, compare, by))
        files.write(lambda: suite_of(reader, run_of(reader, run_id)))
    return files.exit_code(Verdict.PASSED)


def require_other_file(option: str, file: str | None, database: Path) -> None:
    """Raises ``MisuseError`` if a file would overwrite the database."""
    if file is not None and file != "-" and database.exists() and Path(file).exists():
        if Path(file).samefile(database):
            raise MisuseError(f"{option}: {file} is the database; name another file")


def page_of(
    reader: Reader, source: str, run_id: int | None, compare: str | None, by: str | None
) -> str:
    """The page of one run; ``source`` is what it calls the database."""
    if find_spec("matplotlib") is None:
        raise EnvironmentUnfitError(
            "html: the page needs matplotlib for its pictures; pip install 'shmalloc[report]'"
        )
    from stress.report.page import gather, sides
    from stress.report.page.render import render
    from stress.report.sources import run_of

    run = run_of(reader, run_id)
    report = gather.report_of(reader, run, source)
    if compare is not None:
        both = sides.with_other(reader, source, run_id, run.id, compare)
        report = replace(report, comparison=both)
    if by is not None:
        report = replace(report, comparison=sides.by_setting(reader, source, run_id, by))
    return render(report)

"""``shmstress top``: watch a segment, or a soak by its database, and change nothing."""

from __future__ import annotations

import os
import shutil
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click

from shmalloc.errors import EnvironmentUnfitError, MisuseError, SegmentError
from shmalloc.physical import SHM_DIRECTORY, path_of
from stress.options import SEGMENTS, Names, Time, json_file, option
from stress.options import command as as_command
from stress.report.places import require_place, write_to
from stress.verdict import Verdict

if TYPE_CHECKING:
    from stress.top.source import Source

SORTS = ("number", "fill", "rate")


@as_command("top")
@click.argument("name", required=False, type=SEGMENTS)
@option("--once", is_flag=True, setting=False, help="Print one frame as text and end.")
@option(
    "--interval", type=Time(), default="1s", show_default=True, help="Time between two readings."
)
@option(
    "--sort",
    type=Names("sort", SORTS),
    default="number",
    show_default=True,
    help="Order of CPU slots, caches and counters.",
)
@json_file("Write one reading to FILE as JSON and end; - is standard output.")
def command(name: str | None, once: bool, interval: float, sort: str, json: str | None) -> int:
    """Watch the segment NAME, or the database NAME of a soak, while others work on it.

    Reads only: nothing is written to the segment, no CPU slot is taken, no process is stopped.
    Without NAME it lists the segments of this machine.

    Exit codes: 0 shown, also if the segment was removed meanwhile, 2 ended by SIGTERM or SIGHUP, 3
    the view failed, 4 usage, or nothing that can be watched, 7 this machine cannot show it.
    """
    require_place("json", json)
    if name is None:
        _list(json)
        return 0
    try:
        source = _source(name)
        try:
            return _watch(source, once, interval, sort, json)
        finally:
            source.close()
    except SegmentError as error:
        raise MisuseError(str(error)) from error


def _source(name: str) -> Source:
    """What ``name`` names: a segment, or a file that is a database."""
    from stress.top.source import SegmentSource

    path = Path(name)
    if path.parent == SHM_DIRECTORY:
        return SegmentSource(path.name)
    if "/" in name or (not os.path.lexists(path_of(name)) and path.exists()):
        from stress.top.soak import DatabaseSource

        return DatabaseSource(name)
    return SegmentSource(name)


def _watch(source: Source, once: bool, interval_s: float, sort: str, json: str | None) -> int:
    if once or json is not None or not sys.stdout.isatty():
        _show_once(source, interval_s, sort, json)
        return 0
    if find_spec("textual") is None:
        raise EnvironmentUnfitError(
            "top: the live view needs textual; pip install 'shmalloc[top]', or use --once"
        )
    from stress.top.app import TopApp

    app = TopApp(source, interval_s, sort)
    app.run()
    if app.return_code in (None, 0, Verdict.INTERRUPTED.exit_code):
        return app.return_code or 0
    return Verdict.ERROR.exit_code  # textual has shown why


def _show_once(source: Source, interval_s: float, sort: str, json: str | None) -> None:
    """Read twice, so that there are rates."""
    from stress.top.frame import WIDTH, frame
    from stress.top.source import json_text

    source.read()
    if not source.ended:
        time.sleep(interval_s)
        source.read()
    if json is not None:
        write_to(json, json_text(source))
    if json != "-":
        width = shutil.get_terminal_size((WIDTH, 0)).columns
        ascii = not (sys.stdout.encoding or "").lower().startswith("utf")
        click.echo(frame(source.panels(sort), width, ascii), nl=False)


def _list(json: str | None) -> None:
    """The segments that exist."""
    from stress.tables import show
    from stress.top.segments import json_of, segments, table_of

    found = segments()
    if json is not None:
        write_to(json, json_of(found))
    if json == "-":
        return
    if not found:
        click.echo("no segments; one exists while a run or an Arena does: shmstress run")
        return
    show(table_of(found))
    click.echo("watch one: shmstress top NAME")

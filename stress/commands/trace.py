"""``shmstress trace``: import a recorder's text as a trace, and show what a trace has."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from shmalloc.errors import MisuseError
from stress import progress as watching
from stress.options import Names, option
from stress.options import command as as_command
from stress.options.command import Group
from stress.options.shared import PROGRESS
from stress.quantities import nearest
from stress.report.places import require_file

AUTO = "auto"


def _formats() -> list[str]:
    from stress.trace.importing import FORMATS  # numpy costs 0.1 s: not for --help

    return [AUTO, *FORMATS]


class _Group(Group):
    """Names the nearest command for one that does not exist."""

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        found = super().get_command(ctx, name)
        if found is None and not ctx.resilient_parsing:
            raise nearest(name, self.list_commands(ctx), "trace")
        return found


@click.group("trace", cls=_Group)
def command() -> None:
    """Import recorded allocations of other tools, and show what a trace has.

    A trace is replayed by shmstress run --workload trace --trace FILE; docs/traces.md has the
    formats. shmstress record makes one of its own.
    """


@as_command("import")
@click.argument("file")
@option("--out", required=True, metavar="FILE", setting=False, help="Write the trace to FILE.")
@option(
    "--format",
    type=Names("format", _formats),
    default=AUTO,
    show_default=True,
    setting=False,
    metavar="FORMAT",
    help="What FILE is: ftrace, trace-cmd, perf, function_graph, rep, mtrace or csv.",
)
@option(
    "--progress",
    type=Names("progress", PROGRESS),
    default="auto",
    show_default=True,
    setting=False,
    envvar="SHMSTRESS_PROGRESS",
    help="Show progress on standard error; auto: if that is a terminal.",
)
def import_command(file: str, out: str, format: str, progress: str) -> int:
    """Make a trace of FILE, the text of a recorder; - is standard input.

    FILE may be compressed by gzip, bzip2 or xz. Every line that is no event of the trace is
    counted, and the first of each kind is shown with its number.

    Exit codes: 0 written, 4 there is nothing usable in FILE, or it cannot be read.
    """
    from stress.trace.format import save
    from stress.trace.importing import import_text
    from stress.trace.summary import brief

    require_file("out", out)
    if Path(file).exists() and Path(out).exists() and Path(file).samefile(out):
        raise MisuseError(f"out: {out} is the text itself; name another file")
    with watching.shown(progress) as report:
        imported = import_text(file, format, report)
    trace = replace(imported.trace, source=out)
    save(trace, out)
    for line in (*imported.report(), *brief(trace)):
        click.echo(line)
    return 0


@as_command("show")
@click.argument("file")
def show_command(file: str) -> int:
    """Show what the trace FILE has: events, CPUs, time, and what is approximated.

    FILE may be "sample", the recording of this package.
    """
    from stress.trace.format import load
    from stress.trace.summary import summary

    for line in summary(load(file)):
        click.echo(line)
    return 0


command.add_command(import_command)
command.add_command(show_command)

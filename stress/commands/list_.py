"""``shmstress list``: workloads, marks, invariants, programs and operations, by name."""

from __future__ import annotations

import sys

import click

from stress.options import Names, option
from stress.options import command as as_command
from stress.workloads import EVENT_NAMES, WORKLOADS

KINDS = ("workloads", "marks", "invariants", "programs", "operations")


@as_command("list")
@click.argument("kind", default="workloads", type=Names("kind", KINDS))
@option("--programs", is_flag=True, setting=False, help="List the programs of shmstress explore.")
@option("--invariants", is_flag=True, setting=False, help="List what must hold, and the checker.")
@option("--markdown", is_flag=True, setting=False, help="Print a table as Markdown.")
@option(
    "-v",
    "--verbose",
    is_flag=True,
    setting=False,
    help="Print the story of each workload or program.",
)
def command(kind: str, programs: bool, invariants: bool, markdown: bool, verbose: bool) -> int:
    """List what there is: workloads (the default), marks, invariants, programs, or operations and
    who calls them."""
    kind = "programs" if programs else "invariants" if invariants else kind
    if kind == "workloads":
        _list_workloads(verbose)
    elif kind == "programs":
        from stress.programs import PROGRAMS  # numpy: not for --help

        for name, build in PROGRAMS.items():
            click.echo(f"{name}\n    {build().story}\n" if verbose else name)
    elif kind == "marks":
        for name in EVENT_NAMES.values():
            click.echo(name)
    elif kind == "operations":
        _list_operations(markdown)
    else:
        _list_invariants(markdown)
    return 0


def _list_workloads(verbose: bool) -> None:
    from stress.tables import grid, show

    table = grid("workload", "what it does", heading=False)
    for workload in WORKLOADS.values():
        if verbose:
            click.echo(f"{workload.story}\n")
        else:
            table.add_row(workload.name, workload.summary)
    if not verbose:
        show(table)


def _list_operations(markdown: bool) -> None:
    from stress.report import operation_table
    from stress.tables import show

    if markdown:
        click.echo(operation_table.markdown(), nl=False)
    else:
        show(operation_table.table())


def _list_invariants(markdown: bool) -> None:
    from rich.console import Console  # rich costs 80 ms: only where it is used

    from stress.report import invariant_table

    if markdown:
        click.echo(invariant_table.markdown(), nl=False)
    else:
        width = None if sys.stdout.isatty() else invariant_table.PLAIN_WIDTH
        invariant_table.print_table(Console(file=sys.stdout, width=width))

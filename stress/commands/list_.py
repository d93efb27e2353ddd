"""``shmstress list``: workloads, marks, invariants and programs, by name."""

from __future__ import annotations

import sys

import click

from stress.programs import PROGRAMS
from stress.quantities import nearest
from stress.workloads import EVENT_NAMES, WORKLOADS

_KINDS = ("workloads", "marks", "invariants", "programs")


@click.command("list")
@click.argument("kind", default="workloads")
@click.option("--programs", is_flag=True, help="List the programs of shmstress explore.")
@click.option("--invariants", is_flag=True, help="List what must hold, and who checks it.")
@click.option("--markdown", is_flag=True, help="Print the invariants as Markdown.")
@click.option("-v", "--verbose", is_flag=True, help="Print the story of each workload or program.")
def command(kind: str, programs: bool, invariants: bool, markdown: bool, verbose: bool) -> int:
    """List what there is: workloads (the default), marks, invariants or programs."""
    kind = "programs" if programs else "invariants" if invariants else kind
    if kind not in _KINDS:
        raise nearest(kind, _KINDS, "kind")
    if kind == "workloads":
        for workload in WORKLOADS.values():
            click.echo(f"{workload.story}\n" if verbose else _line(workload.name, workload.summary))
    elif kind == "programs":
        for name, build in PROGRAMS.items():
            click.echo(f"{name}\n    {build().story}\n" if verbose else name)
    elif kind == "marks":
        for name in EVENT_NAMES.values():
            click.echo(name)
    else:
        _list_invariants(markdown)
    return 0


def _line(name: str, text: str) -> str:
    return f"{name:<12} {text}"


def _list_invariants(markdown: bool) -> None:
    from rich.console import Console  # rich costs 80 ms: only where it is used

    from stress.report import invariant_table

    if markdown:
        click.echo(invariant_table.markdown(), nl=False)
    else:
        width = None if sys.stdout.isatty() else invariant_table.PLAIN_WIDTH
        invariant_table.print_table(Console(file=sys.stdout, width=width))

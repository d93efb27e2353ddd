"""``shmstress list``: workloads, marks, invariants and explorer programs, by name."""

from __future__ import annotations

import click

from stress.programs import PROGRAMS
from stress.quantities import nearest
from stress.run.evidence import INVARIANT_NAMES
from stress.workloads import EVENT_NAMES, WORKLOADS

_KINDS = ("workloads", "marks", "invariants", "programs")


@click.command("list")
@click.argument("kind", default="workloads")
@click.option("--programs", is_flag=True, help="List the programs of shmstress explore.")
@click.option("-v", "--verbose", is_flag=True, help="Tell each workload's whole story.")
def command(kind: str, programs: bool, verbose: bool) -> int:
    """List what there is: workloads (default), marks, invariants or programs."""
    kind = "programs" if programs else kind
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
        for code, name in sorted(INVARIANT_NAMES.items()):
            click.echo(_line(str(code), name))
    return 0


def _line(name: str, text: str) -> str:
    return f"{name:<12} {text}"

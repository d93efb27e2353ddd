"""``shmstress mutants``: our own kernels, broken on purpose, before the hunter."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from rich.console import Console

from shmalloc.errors import MisuseError
from stress.mutants import MUTANTS, PARTS, Mutant
from stress.mutants.report import PLAIN_WIDTH, document, print_tables, verdict_of
from stress.mutants.report import markdown as as_markdown
from stress.mutants.runner import ENGINES, Hunted, hunt_all
from stress.mutants.tree import build, place
from stress.quantities import nearest
from stress.report.places import require_place, write_to

CHOICES = (*ENGINES, "both")


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--engine", default="explorer", show_default=True, help=", ".join(CHOICES) + ".")
@click.option("--seconds", type=float, help="Budget of each hunt; else the mutant's own, 60.")
@click.option("--original", is_flag=True, help="Hunt the kernels as they are: must find nothing.")
@click.option("--list", "listing", is_flag=True, help="List the mutants with their stories.")
@click.option("--plant", metavar="DIR", help="Only build the one mutant in DIR and leave it there.")
@click.option("--json", metavar="FILE", help="Write the results as JSON; - is standard output.")
@click.option("--markdown", metavar="FILE", help="Write the tables as Markdown.")
def command(
    names: tuple[str, ...], engine: str, seconds: float | None, original: bool, listing: bool,
    plant: str | None, json: str | None, markdown: str | None,
) -> int:  # fmt: skip
    """Plant each mutant in a copy of the packages and see who finds it. All mutants by default.

    Exit codes: 0 all that must be found were, 1 one survived, or the original kernels failed,
    2 interrupted, 3 a hunt came to no end, 4 usage.
    """
    mutants = chosen(names)
    if engine not in CHOICES:
        raise nearest(engine, CHOICES, "engine")
    if seconds is not None and not seconds > 0:
        raise MisuseError(f"seconds: {seconds:g}; use more than 0")
    require_place("json", json)
    require_place("markdown", markdown)
    if listing:
        click.echo("\n".join(_listed(mutants)))
        return 0
    if plant is not None:
        return _plant(mutants, plant)
    engines = ENGINES if engine == "both" else (engine,)
    results: list[Hunted] = []
    try:
        with place() as root:
            hunt_all(mutants, root, engines, seconds, original, results, _tell)
    finally:
        if results:  # an interrupt loses nothing of what was found
            _show(results, [mutant.name for mutant in mutants], seconds, json)
            if markdown is not None:
                Path(markdown).write_text(as_markdown(results))
    return verdict_of(results).exit_code


def chosen(names: tuple[str, ...]) -> list[Mutant]:
    """The mutants of these names, or of these parts; all where there is no name."""
    found: dict[str, Mutant] = {}
    for name in names or tuple(PARTS):
        if name in PARTS:
            found |= {mutant.name: mutant for mutant in PARTS[name]}
        elif name in MUTANTS:
            found[name] = MUTANTS[name]
        else:
            raise nearest(name, [*MUTANTS, *PARTS], "mutant")
    return list(found.values())


def _listed(mutants: list[Mutant]) -> list[str]:
    return [f"{mutant.name} ({mutant.invariant})\n    {mutant.story}" for mutant in mutants]


def _plant(mutants: list[Mutant], place: str) -> int:
    if len(mutants) != 1:
        raise MisuseError(f"plant: {len(mutants)} mutants; name one")
    require_place("out", place)
    build(Path(place), mutants[0])
    click.echo(f"PYTHONPATH={place} python -m stress replay TOKEN  # in that directory")
    return 0


def _tell(hunted: Hunted) -> None:
    click.echo(str(hunted), err=True)


def _show(results: list[Hunted], names: list[str], seconds: float | None, json: str | None) -> None:
    if json is not None:
        write_to(json, document(results, names, seconds))
    stream = sys.stderr if json == "-" else sys.stdout
    width = None if stream.isatty() else PLAIN_WIDTH
    print_tables(results, Console(file=stream, width=width))

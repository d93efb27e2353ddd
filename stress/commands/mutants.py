"""``shmstress mutants``: our own kernels, broken on purpose, before the hunter."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from shmalloc.errors import MisuseError
from stress import progress as watching
from stress.options import MUTANTS, duration, engine, exports, json_file, option, progress
from stress.options import command as as_command

if TYPE_CHECKING:
    from stress.mutants import Mutant
    from stress.mutants.runner import Hunted
    from stress.report.exports import Exports
    from stress.report.suite import Start

ENGINES = ("explorer", "native")
CHOICES = (*ENGINES, "both")
ACTIONS = "Instead of a hunt"


@as_command("mutants")
@click.argument("names", nargs=-1, metavar="[MUTANT|PART]...", type=MUTANTS)
@engine("explorer", CHOICES, help="The hunter: the explorer, a native run, or both.")
@duration("Time for each hunt", unset="the mutant's own, mostly 1m")
@option("--original", is_flag=True, help="Hunt the kernels as they are; nothing may be found.")
@json_file()
@exports("junit", "ktap", "markdown")
@progress()
@option(
    "--list",
    "listing",
    is_flag=True,
    setting=False,
    group=ACTIONS,
    help="List the mutants with their stories.",
)
@option(
    "--plant",
    metavar="DIR",
    setting=False,
    group=ACTIONS,
    help="Build the one mutant in DIR and leave it there.",
)
def command(
    names: tuple[str, ...],
    engine: str,
    seconds: float | None,
    original: bool,
    json: str | None,
    exports: dict[str, str | None],
    progress: str,
    listing: bool,
    plant: str | None,
) -> int:
    """Plant each MUTANT in a copy of the packages and see which hunter finds it.

    By default all mutants are hunted; a PART, such as buddy or slab, stands for all of its mutants.

    Exit codes: 0 all that must be found were found, 1 one survived, or a hunt failed on the
    original kernels, 2 interrupted, 3 a hunt did not come to an end, 4 usage.
    """
    from stress.report.exports import Exports
    from stress.report.suite import Start

    mutants = chosen(names)
    start, files = Start.now(), Exports(exports, json=json)
    if listing:
        _list(mutants)
        return 0
    if plant is not None:
        return _plant(mutants, plant)
    engines = ENGINES if engine == "both" else (engine,)
    results: list[Hunted] = []
    try:
        _hunt(mutants, engines, seconds, original, results, progress)
    finally:
        if results:  # an interrupt loses nothing of what was found
            _show(results, [mutant.name for mutant in mutants], seconds, json, files.aside)
            _export(results, files, start)
    from stress.mutants.report import verdict_of

    return verdict_of(results).exit_code


def chosen(names: tuple[str, ...]) -> list[Mutant]:
    """The mutants of these names, or of these parts; all if there is no name."""
    from stress.mutants import MUTANTS, PARTS

    found: dict[str, Mutant] = {}
    for name in names or tuple(PARTS):
        found |= {m.name: m for m in PARTS.get(name) or (MUTANTS[name],)}
    return list(found.values())


def _list(mutants: list[Mutant]) -> None:
    from stress.tables import grid, show

    table = grid("mutant", "invariant", "story")
    for mutant in mutants:
        table.add_row(mutant.name, mutant.invariant, mutant.story)
    show(table)


def _plant(mutants: list[Mutant], place: str) -> int:
    from stress.mutants.tree import build
    from stress.report.places import require_place

    if len(mutants) != 1:
        raise MisuseError(f"plant: {len(mutants)} mutants; name one")
    require_place("out", place)
    build(Path(place), mutants[0])
    click.echo(f"PYTHONPATH={place} python -m stress replay TOKEN  # in that directory")
    return 0


def _hunt(
    mutants: list[Mutant],
    engines: tuple[str, ...],
    seconds: float | None,
    original: bool,
    results: list[Hunted],
    progress: str,
) -> None:
    from stress.mutants.runner import hunt_all
    from stress.mutants.tree import place

    total = None if original else len(mutants) * len(engines)

    with watching.shown(progress, ticking=True) as report, place() as root:

        def now() -> watching.Step:
            done = len(results)
            hunted = mutants[min(done // len(engines), len(mutants) - 1)]
            name = "the original" if original else hunted.name
            found = sum(result.outcome == "found" for result in results)
            return watching.Step(f"hunting {name}", done, total, f"{found} of {done} found")

        report(now())
        for hunted in hunt_all(mutants, root, engines, seconds, original):
            results.append(hunted)  # at once, so an interrupt loses nothing
            click.echo(str(hunted), err=True)
            report(now())


def _show(
    results: list[Hunted],
    names: list[str],
    seconds: float | None,
    json: str | None,
    aside: bool,
) -> None:
    from stress.mutants import report
    from stress.report.places import write_to

    if json is not None:
        write_to(json, report.document(results, names, seconds))
    report.print_tables(results, to_stderr=aside)


def _export(results: list[Hunted], files: Exports, start: Start) -> None:
    from stress.mutants.suite import suite_of
    from stress.options.again import command_line

    interrupted = sys.exc_info()[0] is not None
    files.write(lambda: suite_of(results, start, command_line(), interrupted))

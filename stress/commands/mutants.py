"""``shmstress mutants``: our own kernels, broken on purpose, before the hunter."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from shmalloc.errors import MisuseError
from stress import progress as watching
from stress.options import (
    MUTANTS,
    Time,
    database,
    duration,
    engine,
    exports,
    json_file,
    option,
    progress,
    seed,
)
from stress.options import command as as_command
from stress.options.again import command_line
from stress.quantities import nearest

if TYPE_CHECKING:
    from stress.mutants import Mutant
    from stress.mutants.runner import Hunted
    from stress.report.exports import Exports
    from stress.report.recording import Recording
    from stress.report.suite import Start

ENGINES = ("explorer", "native")
CHOICES = (*ENGINES, "both")
ACTIONS = "Instead of a hunt"
SYSTEMATIC = "Single-token mutants"
STAGES = "programs,crash,run,tests"
STAGE_S = 20.0


@as_command("mutants")
@click.argument("names", nargs=-1, metavar="[MUTANT|PART]...", type=MUTANTS)
@engine("explorer", CHOICES, help="The hunter: the explorer, a native run, or both.")
@duration("Time for each hunt", unset="the mutant's own, mostly 1m")
@option("--original", is_flag=True, help="Hunt the kernels as they are; nothing may be found.")
@option("--real", is_flag=True, help="Make each token happen in real processes: one more column.")
@option(
    "--explain",
    type=Time(),
    default=None,
    metavar="TIME",
    help="Explain what native runs find, each in that time: one more column.",
)
@database()
@json_file()
@exports("junit", "ktap", "markdown")
@progress()
@option(
    "--systematic",
    is_flag=True,
    group=SYSTEMATIC,
    help="Hunt generated mutants, one token each, of all kernels or of modules (PART).",
)
@option(
    "--sample", type=int, metavar="N", group=SYSTEMATIC, help="Draw N, besides all of the locks."
)
@seed("Seed of the sample", default=1, group=SYSTEMATIC)
@option(
    "--state",
    metavar="FILE",
    default="mutants.jsonl",
    show_default=True,
    group=SYSTEMATIC,
    help="What was judged, one line each; a later run carries on there.",
)
@option(
    "--stages",
    default=STAGES,
    show_default=True,
    group=SYSTEMATIC,
    help="Who hunts, one after the other; --duration is the time of each.",
)
@option(
    "--jobs",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    group=SYSTEMATIC,
    help="Mutants at a time.",
)
@option("--table", is_flag=True, group=SYSTEMATIC, help="Hunt nothing; print what is known.")
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
    real: bool,
    explain: float | None,
    db: str | None,
    json: str | None,
    exports: dict[str, str | None],
    progress: str,
    listing: bool,
    plant: str | None,
    systematic: bool,
    **how: Any,
) -> int:
    """Plant each MUTANT in a copy of the packages and see which hunter finds it.

    By default all mutants are hunted; a PART, such as buddy or slab, stands for all of its mutants.

    --systematic hunts thousands of generated ones: each comparison, step, order, statement and pair
    of arguments of the kernels changed. There a PART is a module of kernels, such as lock.

    Exit codes: 0 all that must be found were found, 1 one survived, or a hunt failed on the
    original kernels, 2 interrupted, 3 a hunt did not come to an end, 4 usage.
    """
    from stress.mutants.report import verdict_of
    from stress.mutants.runner import Following, hunt_all
    from stress.records.fingerprint import Ignored
    from stress.records.work import Work
    from stress.report.exports import Exports
    from stress.report.places import require_place
    from stress.report.recording import recorded
    from stress.report.suite import Start

    require_place("state", how["state"])
    if systematic:
        return _systematic(names, seconds, json, exports, progress, how)
    mutants = chosen(names)
    start, files = Start.now(), Exports(exports, json=json, db=db)
    if listing:
        _list(mutants)
        return 0
    if plant is not None:
        return _plant(mutants, plant)
    engines = ENGINES if engine == "both" else (engine,)
    following = Following(real, explain)
    results: list[Hunted] = []
    spec = {"mutants": [mutant.name for mutant in mutants], "seconds": seconds}
    try:
        with recorded(db, Ignored(), Work("mutants", command_line(), spec)) as recording:
            hunted = [mutant.name for mutant in mutants for _ in engines]
            _hunt(
                [] if original else hunted,
                lambda root: hunt_all(mutants, root, engines, seconds, original, following),
                results,
                recording,
                progress,
            )
            recording.verdict = verdict_of(results)
    finally:
        if results:  # an interrupt loses nothing of what was found
            _show(results, [mutant.name for mutant in mutants], seconds, json, files)
            _export(results, files, start)
    return files.exit_code(verdict_of(results))


def chosen(names: tuple[str, ...]) -> list[Mutant]:
    """The mutants of these names, or of these parts; all if there is no name."""
    from stress.mutants import MUTANTS, PARTS

    found: dict[str, Mutant] = {}
    for name in names or tuple(PARTS):
        if name not in PARTS and name not in MUTANTS:
            raise nearest(name, [*PARTS, *MUTANTS], "mutant")
        found |= {m.name: m for m in PARTS.get(name) or (MUTANTS[name],)}
    return list(found.values())


def _systematic(
    names: tuple[str, ...],
    seconds: float | None,
    json: str | None,
    exports: dict[str, str | None],
    progress: str,
    how: dict[str, Any],
) -> int:
    from stress.mutants.session import Wanted, perform

    wanted = Wanted(
        names,
        how["sample"],
        how["seed"],
        Path(how["state"]),
        tuple(how["stages"].split(",")),
        seconds or STAGE_S,
        how["jobs"],
        how["table"],
    )
    return perform(wanted, json, exports["markdown"], progress).exit_code


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
    require_place("plant", place)
    build(Path(place), mutants[0])
    click.echo(f"PYTHONPATH={place} python -m stress replay TOKEN  # in that directory")
    return 0


def _hunt(
    names: list[str],
    hunts: Callable[[Path], Iterator[Hunted]],
    results: list[Hunted],
    recording: Recording,
    progress: str,
) -> None:
    """All ``hunts``, one at a time. ``names``: of the mutants in turn; empty for the original."""
    from stress.mutants.record import record_hunt, work_of
    from stress.mutants.tree import place

    with watching.shown(progress, ticking=True) as report, place() as root:

        def now() -> watching.Step:
            done = len(results)
            name = names[min(done, len(names) - 1)] if names else "the original"
            found = sum(result.outcome == "found" for result in results)
            note = f"{found} of {done} found"
            return watching.Step(f"hunting {name}", done, len(names) or None, note)

        report(now())
        for hunted in hunts(root):
            results.append(hunted)  # at once, so an interrupt loses nothing
            recording.record(recording.round(work_of(hunted)), partial(record_hunt, hunted=hunted))
            click.echo(str(hunted), err=True)
            report(now())


def _show(
    results: list[Hunted],
    names: list[str],
    seconds: float | None,
    json: str | None,
    files: Exports,
) -> None:
    from stress.mutants import report

    report.print_tables(results, to_stderr=files.aside)
    if json is not None:
        files.put(json, report.document(results, names, seconds))


def _export(results: list[Hunted], files: Exports, start: Start) -> None:
    from stress.mutants.suite import suite_of

    interrupted = sys.exc_info()[0] is not None
    files.write(lambda: suite_of(results, start, command_line(), interrupted))

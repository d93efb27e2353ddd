"""``shmstress crash``: kill a CPU before each of its writes, and see whether it is recovered."""

from __future__ import annotations

from pathlib import Path

import click

from shmalloc.errors import MisuseError
from stress.commands.replay import folders_of
from stress.crash.adapt import reported
from stress.crash.again import rerun
from stress.crash.allocator import allocator_case, case_names
from stress.crash.case import CrashCase
from stress.crash.report import covered, missing, site_table, table
from stress.crash.result import CrashResult
from stress.crash.search import SEEDS, Effort, Hunt
from stress.crash.sites import OPERATION_NAMES, know_all_sites
from stress.crash.story import tell
from stress.crash.targets import load_cases
from stress.machine.engines import ENGINES
from stress.machine.site import Site
from stress.quantities import counted, nearest
from stress.report.places import require_place
from stress.verdict import Verdict

SHOWN_FAILURES = 10
VERDICTS = {"passed": Verdict.PASSED, "failed": Verdict.FAILED, "cut": Verdict.VACUOUS}


@click.command()
@click.argument("targets", nargs=-1, metavar="[PROGRAM]...")
@click.option("--list", "listing", is_flag=True, help="List the allocator's cases.")
@click.option("--from", "root", metavar="ROOT", help="One run: where its path starts.")
@click.option("--schedule", help="One run: of this schedule, as a failure prints it.")
@click.option("--victim", type=int, default=0, show_default=True, help="One run: who dies.")
@click.option("--write", type=int, help="One run: the write that the victim does not make.")
@click.option("--then", type=int, default=0, help="One run: the same for the supervisor.")
@click.option("--full", is_flag=True, help="One run: every step after the death.")
@click.option(
    "--depth",
    type=int,
    default=1,
    show_default=True,
    help="2: kill the supervisor, too, at each of its writes.",
)
@click.option("--seeds", type=int, default=SEEDS, show_default=True, help="Random schedules.")
@click.option(
    "--classes", type=int, default=0, show_default=True, help="Classes of DPOR as schedules."
)
@click.option(
    "--again", type=int, default=2, show_default=True, help="depth 2: in so many schedules."
)
@click.option(
    "--stride",
    type=int,
    default=1,
    show_default=True,
    help="depth 2: at every n-th write of the supervisor.",
)
@click.option("--seed", type=int, default=1, show_default=True, help="Of the first random one.")
@click.option("--seconds", type=float, help="At most so long for each program.")
@click.option("--races", is_flag=True, help="Look for data races as well.")
@click.option("--engine", default="native", show_default=True, help=" or ".join(ENGINES) + ".")
@click.option("--sites", is_flag=True, help="Print one line for each write site.")
@click.option("--markdown", metavar="FILE", help="Write the table as Markdown.")
def command(
    targets: tuple[str, ...], listing: bool, root: str | None, schedule: str | None, victim: int,
    write: int | None, then: int, full: bool, depth: int, seeds: int, classes: int, again: int,
    stride: int, seed: int, seconds: float | None, races: bool, engine: str, sites: bool,
    markdown: str | None,
) -> int:  # fmt: skip
    """Kill CPUs of PROGRAM before each of their writes and let others recover. All by default.

    PROGRAM: a case of the allocator (--list), a glob such as 'pages-*', FILE.py, FILE.py:NAME or
    MODULE:NAME of a CrashCase. Exit codes: 0 all recovered, 1 not, 4 usage, 5 runs were cut.
    """
    require_place("markdown", markdown)
    if engine not in ENGINES:
        raise nearest(engine, ENGINES, "engine")
    if listing:
        for name in case_names():
            click.echo(f"{name}\n    {allocator_case(name).story}")
        return 0
    cases = load_cases(targets or case_names(), folders_of(root) if schedule else None)
    if schedule is not None:
        if len(cases) != 1:
            raise MisuseError(f"schedule: one run is of one program; {len(cases)} are named")
        case = next(iter(cases.values()))
        return _one_run(case, schedule, victim, write, then, full, engine)
    effort = Effort(
        seeds=seeds,
        classes=classes,
        depth=depth,
        again=again,
        stride=stride,
        seed=seed,
        engine=engine,
        races=races,
        seconds=seconds,
    )
    total = CrashResult(cases=0)
    followed: set[tuple[Site, ...]] = set()
    know_all_sites()
    try:
        for name, case in cases.items():
            total.add(_hunt(name, case, effort, followed))
    finally:  # an interrupt loses nothing of what was found
        if total.cases:
            _show(total, complete=not targets, sites=sites, markdown=markdown)
    return VERDICTS[total.verdict].exit_code


def _hunt(
    name: str, case: CrashCase, effort: Effort, followed: set[tuple[Site, ...]]
) -> CrashResult:
    click.echo(f"{name} ...", err=True, nl=False)
    result = Hunt(case, effort, OPERATION_NAMES, followed).run()
    once, again = result.total(), result.total(second=True)
    said = f" {once.crashes:,} crashes"
    said += f", {again.crashes:,} in recovery" if again.crashes else ""
    lost = once.failed + again.failed
    click.echo(f"{said}, {lost:,} not recovered, {result.seconds:.1f} s", err=True)
    return result


def _show(total: CrashResult, complete: bool, sites: bool, markdown: str | None) -> None:
    known = covered(total)
    click.echo(table(total, known if complete else ()))
    if sites:
        click.echo(site_table(total))
    if complete:
        click.echo(missing(known, by_operation=sites))
    if markdown is not None:
        Path(markdown).write_text(table(total, known if complete else (), markdown=True))
    rate = total.runs / total.seconds if total.seconds else 0
    click.echo(
        f"{counted(total.cases, 'program')}, {counted(total.schedules, 'schedule')},"
        f" {total.runs:,} crashes"
        f" ({rate:,.0f}/s), {total.steps:,} steps"
    )
    if not total.complete:
        click.echo("the time was over before everything was tried: raise --seconds")
    for failure in total.failures[:SHOWN_FAILURES]:
        click.echo(f"{failure}\n  {failure.command}")
    if len(total.failures) > SHOWN_FAILURES:
        click.echo(f"... and {len(total.failures) - SHOWN_FAILURES} more places")
    if total.failures:
        first = total.failures[0]
        click.echo("\n" + tell(first, reported if first.case.name in case_names() else None))


def _one_run(
    case: CrashCase,
    schedule: str,
    victim: int,
    write: int | None,
    then: int,
    full: bool,
    engine: str,
) -> int:
    again = rerun(case, schedule, victim, write or 0, then, engine, full)
    click.echo(again.text)
    if again.run.kind == "abandoned":
        return Verdict.VACUOUS.exit_code
    return (Verdict.FAILED if again.run.failed else Verdict.PASSED).exit_code

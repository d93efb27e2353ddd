"""``shmstress crash``: kill a CPU before each of its writes, and check the recovery."""

from __future__ import annotations

import json as json_module
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import click

from shmalloc.errors import MisuseError
from stress import progress as watching
from stress.commands.replay import folders_of
from stress.crash.account import account_of, page, tell
from stress.crash.again import rerun
from stress.crash.allocator import allocator_case, case_names
from stress.crash.case import CrashCase
from stress.crash.document import document
from stress.crash.report import covered, missing, site_table, table
from stress.crash.result import VERDICT_OF, CrashFailure, CrashResult
from stress.crash.search import SEEDS, Effort, Hunt
from stress.crash.sites import OPERATION_NAMES, Coverage, know_all_sites
from stress.crash.targets import load_cases
from stress.machine.engines import ENGINES
from stress.machine.site import Site
from stress.options import CASES, database, duration, exports, html_file, ignore, json_file, option
from stress.options import command as as_command
from stress.options import engine as engine_option
from stress.options import progress as progress_option
from stress.options import seed as seed_option
from stress.options.again import command_line
from stress.quantities import counted
from stress.records.failures import identity_of_crash
from stress.records.fingerprint import Ignored
from stress.records.outcomes import record_crash
from stress.records.work import Work
from stress.report.exports import Exports
from stress.report.recording import Recording, gone_past, recorded, told
from stress.report.suite import Start
from stress.report.suites.crash import Crashed, suite_of
from stress.tables import grid, show
from stress.verdict import Verdict

SHOWN_FAILURES = 10
EFFORT = "Effort"
ONE_RUN = "One run, as a failure prints it"
SECOND = "Deaths in recovery"


@as_command("crash")
@click.argument("targets", nargs=-1, metavar="[PROGRAM]...", type=CASES)
@duration("Time for each program", unset="until all is tried", group=EFFORT)
@option(
    "--seeds",
    type=int,
    default=SEEDS,
    show_default=True,
    metavar="N",
    group=EFFORT,
    help="Number of random schedules.",
)
@seed_option("Seed of the first random schedule", default=1, group=EFFORT)
@option(
    "--classes",
    type=int,
    default=0,
    show_default=True,
    metavar="N",
    group=EFFORT,
    help="Number of schedules that DPOR adds, one of each class.",
)
@option("--races", is_flag=True, group=EFFORT, help="Report data races as failures.")
@engine_option("native", ENGINES, group=EFFORT)
@option(
    "--depth",
    type=int,
    default=1,
    show_default=True,
    metavar="[1|2]",
    group=SECOND,
    help="2: kill the supervisor too, before each of its writes.",
)
@option(
    "--again",
    type=int,
    default=2,
    show_default=True,
    metavar="N",
    group=SECOND,
    help="Number of schedules in which the supervisor dies.",
)
@option(
    "--stride",
    type=int,
    default=1,
    show_default=True,
    metavar="N",
    group=SECOND,
    help="Kill the supervisor before every N-th write only.",
)
@option("--schedule", setting=False, group=ONE_RUN, help="The schedule to run.")
@option(
    "--victim",
    type=int,
    default=0,
    show_default=True,
    setting=False,
    metavar="CPU",
    group=ONE_RUN,
    help="The CPU that dies.",
)
@option(
    "--write",
    type=int,
    setting=False,
    metavar="N",
    group=ONE_RUN,
    help="The write before which the victim dies.",
)
@option(
    "--then",
    type=int,
    default=0,
    setting=False,
    metavar="N",
    group=ONE_RUN,
    help="The write before which the supervisor dies.",
)
@option(
    "--from",
    "root",
    metavar="ROOT",
    setting=False,
    group=ONE_RUN,
    help="The folder at which the path of PROGRAM starts.",
)
@option("--full", is_flag=True, setting=False, group=ONE_RUN, help="Show every step.")
@option("--sites", is_flag=True, group="Results", help="Print one line for each write site.")
@ignore("failures", group=EFFORT)
@database()
@json_file()
@html_file("Write the first failure to FILE as a page.")
@exports("junit", "ktap", "markdown", "sarif", "perfetto")
@progress_option()
@option(
    "--list",
    "listing",
    is_flag=True,
    setting=False,
    group="Results",
    help="List the allocator's cases and stop.",
)
def command(
    targets: tuple[str, ...],
    listing: bool,
    root: str | None,
    schedule: str | None,
    victim: int,
    write: int | None,
    then: int,
    full: bool,
    sites: bool,
    exports: dict[str, str | None],
    ignore: tuple[str, ...],
    db: str | None,
    json: str | None,
    html: str | None,
    engine: str,
    progress: str,
    **more: Any,
) -> int:
    """Kill a CPU of each PROGRAM before each of its writes and let others recover.

    PROGRAM is a case of the allocator (see --list), FILE.py, FILE.py:NAME or MODULE:NAME of a
    CrashCase. Names may be globs, such as 'pages-*'. By default all cases of the allocator run.

    Exit codes: 0 every death was recovered, 1 one was not, 2 interrupted, 4 usage, 5 runs were cut.
    """
    start, files = Start.now(), Exports(exports, json=json, html=html, db=db)
    if listing:
        table = grid("case", "story", heading=False)
        for name in case_names():
            table.add_row(name, allocator_case(name).story)
        show(table)
        return 0
    cases = load_cases(targets or case_names(), folders_of(root) if schedule else None)
    if schedule is not None:
        if len(cases) != 1:
            raise MisuseError(f"schedule: one run is of one program; {len(cases)} are named")
        case = next(iter(cases.values()))
        return _one_run(case, schedule, victim, write, then, full, engine)
    effort = Effort(engine=engine, **more)
    total = CrashResult(cases=0)
    by_name: dict[str, CrashResult] = {}
    work = Work("crash", command_line(), asdict(effort), effort.seed)
    try:
        with recorded(db, Ignored(ignore), work) as recording:
            _hunt_all(cases, effort, progress, recording, by_name, total)
            recording.verdict = VERDICT_OF[total.verdict]
    except KeyboardInterrupt:
        if not total.failures:
            raise
    finally:  # an interrupt loses nothing of what was found
        if total.cases:
            known = covered(total) if not targets else ()
            cut = total.interrupted or len(by_name) < len(cases)
            crashed = Crashed(total, by_name, known, interrupted=cut)
            with redirect_stdout(sys.stderr if files.aside else sys.stdout):
                _show(total, known, sites)
            sys.stdout.flush()
            _write(total, json, html, files)
            trace = partial(_trace, total.failures[0]) if total.failures else None
            files.write(lambda: suite_of(crashed, start, command_line()), trace)
    return files.exit_code(VERDICT_OF[total.verdict])


def _trace(failure: CrashFailure) -> str:
    from stress.report.perfetto import perfetto

    return perfetto(account_of(failure))


def _hunt_all(
    cases: Mapping[str, CrashCase],
    effort: Effort,
    progress: str,
    recording: Recording,
    by_name: dict[str, CrashResult],
    total: CrashResult,
) -> None:
    """Every case in turn; ``by_name`` and ``total`` grow meanwhile."""
    followed: set[tuple[Site, ...]] = set()
    know_all_sites()
    for number, (name, case) in enumerate(cases.items()):
        spec = {"program": name, **asdict(effort)}
        round_id = recording.round(Work("crash", command_line(name), spec, effort.seed))
        place = f"{number + 1} of {len(cases)}, "
        result, interrupt = _hunt(case, effort, followed, progress, place)
        if recording.ignores:
            result.ignore(lambda one: recording.is_ignored(identity_of_crash(one).fingerprint))
        found = recording.record(round_id, partial(record_crash, result=result))
        past = [identity_of_crash(one).fingerprint for one in result.ignored]
        for line in (*gone_past(past, recording.path), *told(found or (), recording.path)):
            click.echo(line, err=True)
        by_name[name] = result
        total.add(result)
        if interrupt is not None:
            raise interrupt


def _hunt(
    case: CrashCase, effort: Effort, followed: set[tuple[Site, ...]], progress: str, place: str
) -> tuple[CrashResult, KeyboardInterrupt | None]:
    """What was found, and what ended it from outside."""
    interrupt = None
    with watching.shown(progress) as report:

        def tell(step: watching.Step) -> None:
            report(replace(step, label=f"{place}{step.label}"))

        hunt = Hunt(case, effort, OPERATION_NAMES, followed, tell)
        try:
            hunt.run()
        except KeyboardInterrupt as error:
            interrupt = error
    result = hunt.result
    once, again = result.total(), result.total(second=True)
    said = f"{case.name}: {once.crashes:,} crashes"
    said += f", {again.crashes:,} in recovery" if again.crashes else ""
    lost = once.failed + again.failed
    click.echo(f"{said}, {lost:,} not recovered, {result.seconds:.1f} s", err=True)
    return result, interrupt


def _show(total: CrashResult, known: Sequence[Coverage], sites: bool) -> None:
    """``known``: the write sites of the allocator, if all of its cases ran."""
    click.echo(table(total, known))
    if sites:
        click.echo(site_table(total))
    if known:
        click.echo(missing(known, by_operation=sites))
    rate = total.runs / total.seconds if total.seconds else 0
    click.echo(
        f"{counted(total.cases, 'program')}, {counted(total.schedules, 'schedule')},"
        f" {total.runs:,} crashes"
        f" ({rate:,.0f}/s), {total.steps:,} steps"
    )
    if total.interrupted:
        click.echo("interrupted before everything was tried")
    elif not total.complete:
        click.echo("the time ran out before everything was tried: raise --duration")
    for failure in total.failures[:SHOWN_FAILURES]:
        click.echo(f"{failure}\n  {failure.command}")
    if len(total.failures) > SHOWN_FAILURES:
        click.echo(f"... and {len(total.failures) - SHOWN_FAILURES} more places")
    if total.ignored:
        click.echo(f"{counted(len(total.ignored), 'place')} more where only ignored failures were")
    if total.failures:
        first = total.failures[0]
        click.echo("\n" + tell(first))


def _write(total: CrashResult, json: str | None, html: str | None, files: Exports) -> None:
    if json is not None:
        files.put(json, json_module.dumps(document(total), indent=2) + "\n")
    files.page(html, (lambda: page(total.failures[0])) if total.failures else None)


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

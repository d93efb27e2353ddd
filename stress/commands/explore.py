"""``shmstress explore``: try the schedules of one program."""

from __future__ import annotations

import json as json_module
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import click

from stress import progress as watching
from stress.explorer.auto import AUTO
from stress.explorer.explore import DEFAULT_SECONDS, explore
from stress.explorer.report.document import document
from stress.explorer.report.failure import Failure
from stress.explorer.report.naming import Naming
from stress.explorer.result import VERDICT_OF, Exploration, ExplorationInterrupted
from stress.explorer.searches import strategies
from stress.explorer.targets import load_programs
from stress.machine.engines import ENGINES
from stress.machine.program import Program
from stress.options import (
    MEMORIES,
    PROGRAMS,
    Names,
    database,
    duration,
    engine,
    exports,
    html_file,
    ignore,
    json_file,
    option,
    progress,
    seed,
)
from stress.options import command as as_command
from stress.options.again import command_line
from stress.quantities import counted
from stress.records.fingerprint import Ignored
from stress.records.outcomes import record_exploration
from stress.records.work import Work
from stress.report.exports import Exports
from stress.report.perfetto import perfetto
from stress.report.recording import Recording, gone_past, recorded, told
from stress.report.suite import Start
from stress.report.suites.explore import suite_of
from stress.verdict import Verdict, worst

OUTCOMES_SHOWN = 20
STRATEGIES = (*strategies(), AUTO)
SEARCH = "Search"
BOUNDS = "For single strategies"


@as_command("explore")
@click.argument("targets", nargs=-1, required=True, metavar="PROGRAM...", type=PROGRAMS)
@option(
    "--strategy",
    type=Names("strategy", STRATEGIES),
    default=AUTO,
    show_default=True,
    group=SEARCH,
    help=f"How schedules are chosen: {', '.join(STRATEGIES)}.",
)
@option(
    "--memory",
    type=MEMORIES,
    default="sc",
    show_default=True,
    group=SEARCH,
    help="Memory model: sc runs accesses in order, tso and pso delay stores.",
)
@duration("Time for each program", default=f"{DEFAULT_SECONDS:g}s", unlimited=True, group=SEARCH)
@option("--schedules", type=int, metavar="N", group=SEARCH, help="Maximum number of schedules.")
@option(
    "--step-limit",
    type=int,
    default=10_000,
    show_default=True,
    metavar="N",
    group=SEARCH,
    help="Maximum length of a schedule; longer ones are cut.",
)
@option(
    "--all-failures",
    is_flag=True,
    group=SEARCH,
    help="Count all failures; do not stop at the first.",
)
@option(
    "--symmetry",
    is_flag=True,
    group=SEARCH,
    help="Try CPUs that are alike up to permutation only (dfs, dpor, auto).",
)
@option(
    "--races/--no-races",
    default=True,
    show_default=True,
    group=SEARCH,
    help="Report data races and torn pairs as failures.",
)
@engine("native", ENGINES, group=SEARCH)
@option(
    "--workers",
    type=int,
    default=1,
    show_default=True,
    metavar="N",
    group=SEARCH,
    help="Number of threads that explore.",
)
@seed("Seed of the random strategies", default=1, group=SEARCH)
@option(
    "--preemptions",
    type=int,
    metavar="N",
    group=BOUNDS,
    help="dfs: maximum number of preemptions; tried with 0, 1, ... up to N.",
)
@option(
    "--delays",
    type=int,
    metavar="N",
    group=BOUNDS,
    help="dfs: maximum number of delays; tried with 0, 1, ... up to N.",
)
@option(
    "--depth",
    type=int,
    default=3,
    show_default=True,
    metavar="N",
    group=BOUNDS,
    help="pct: depth of the bugs to look for.",
)
@option(
    "--free-spins",
    aliases=("--vain-spins",),
    type=int,
    default=1,
    show_default=True,
    metavar="N",
    group=BOUNDS,
    help="dfs, dpor: rounds of a loop without progress before its CPU waits for a change.",
)
@option("--paths", is_flag=True, group="Results", help="Show the calls that led to each step.")
@ignore("failures", group=SEARCH)
@database()
@json_file()
@html_file()
@exports("junit", "ktap", "markdown", "sarif", "perfetto")
@progress()
def command(
    targets: tuple[str, ...],
    ignore: tuple[str, ...],
    db: str | None,
    json: str | None,
    html: str | None,
    exports: dict[str, str | None],
    all_failures: bool,
    paths: bool,
    progress: str,
    **how: Any,
) -> int:
    """Try the schedules of each PROGRAM until one fails, all are tried, or the time is over.

    PROGRAM is a name of shmstress list --programs, FILE.py, FILE.py:NAME or MODULE:NAME. Names may
    be globs, such as 'buddy-*' or 'FILE.py:*'.

    Exit codes: 0 passed, 1 a schedule failed, 2 interrupted, 3 a schedule did not repeat or a check
    wrote, 4 usage, 5 schedules were cut at the step limit, 7 this machine cannot run it.
    """
    start, files = Start.now(), Exports(exports, json=json, html=html, db=db)
    results: list[Exploration] = []
    programs = load_programs(targets)
    how["stop_on_failure"] = not all_failures
    work = Work("explore", command_line(), how, how["seed"])
    try:
        with recorded(db, Ignored(ignore), work) as recording:
            for name, program in programs.items():
                spec = {"program": name, **how}
                round_id = recording.round(Work("explore", command_line(name), spec, how["seed"]))
                with watching.shown(progress) as report:
                    known = _known(recording)
                    found, interrupt = _explored(program, progress=report, known=known, **how)
                results.append(found)
                click.echo("\n".join(summary(found, paths)), err=files.aside)
                names = recording.record(round_id, partial(record_exploration, result=found))
                past = gone_past(_met(found), recording.path)
                for line in (*past, *told(names or (), recording.path)):
                    click.echo(line, err=files.aside)
                if interrupt is not None:
                    raise interrupt
            recording.verdict = worst(VERDICT_OF[result.verdict] for result in results)
    except KeyboardInterrupt:
        if all(result.failure is None for result in results):
            raise
        recording.verdict = Verdict.FAILED
    finally:  # an interrupt loses nothing of what was found
        sys.stdout.flush()
        if results:
            _write(results, json, html, files)
            failures = [result.failure for result in results if result.failure is not None]
            trace = partial(perfetto, failures[0]) if failures else None
            left = [*programs][len(results) :]
            files.write(lambda: suite_of(results, start, command_line(), left), trace)
    return files.exit_code(recording.verdict)


def _explored(program: Program, **how: Any) -> tuple[Exploration, KeyboardInterrupt | None]:
    """What was found, and what ended it from outside."""
    try:
        return explore(program, **how), None
    except ExplorationInterrupted as error:
        return error.exploration, error


def _known(recording: Recording) -> Callable[[Failure], bool] | None:
    """What says that the search goes past a failure; None where nothing is ignored."""
    if not recording.ignores:
        return None
    from stress.records.failures import identity_of

    return lambda failure: recording.is_ignored(identity_of(failure).fingerprint)


def _met(found: Exploration) -> list[str]:
    """The fingerprints of the ignored failures that a search went past."""
    if not found.known:
        return []
    from stress.records.failures import identity_of

    return [identity_of(failure).fingerprint for failure, _ in found.known]


def _write(results: list[Exploration], json: str | None, html: str | None, files: Exports) -> None:
    """One document, or a list of them; the page of the first failure."""
    if json is not None:
        documents = [document(result) for result in results]
        whole = documents[0] if len(documents) == 1 else documents
        files.put(json, json_module.dumps(whole, indent=2) + "\n")
    failures = [result.failure for result in results if result.failure is not None]
    files.page(html, failures[0].html if failures else None)


def _outcomes_title(result: Exploration) -> str:
    """What the tuples below it hold: ``outcomes, by (head, what cpu 1 returned):``."""
    naming = Naming(result.program)
    parts = [
        naming.in_prose(one) if isinstance(one, int) else f"what cpu {one[1]} returned"
        for one in result.program.observe
    ]
    return f"outcomes, by ({', '.join(parts)}):"


def summary(result: Exploration, paths: bool = False) -> list[str]:
    """What people read."""
    lines = [str(result)]
    if result.guarantee:
        lines.append(f"guarantee: {result.guarantee}")
    if result.note:
        lines.append(f"note: {result.note}")
    if result.abandoned:
        cut = counted(result.abandoned, "schedule")
        lines.append(f"{cut} cut at the step limit: raise --step-limit")
    if result.outcomes:
        lines.append(_outcomes_title(result))
    for outcome, count in result.outcomes.most_common(OUTCOMES_SHOWN):
        lines.append(f"  {count:>12,}  {outcome}")
    if len(result.outcomes) > OUTCOMES_SHOWN:
        lines.append(f"  ... and {len(result.outcomes) - OUTCOMES_SHOWN} outcomes more")
    if result.failures > 1:
        lines.append(f"{result.failures:,} schedules failed; this is the first:")
    if result.failure is not None:
        lines += ["", result.failure.report(paths=paths)]
    return lines

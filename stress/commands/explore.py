"""``shmstress explore``: try the schedules of one program."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import Any

import click

from shmalloc.sizes import parse_duration
from stress.explorer.explore import AUTO, DEFAULT_SECONDS, explore
from stress.explorer.report.document import document
from stress.explorer.result import ABANDONED, BUDGET, ERROR, EXHAUSTED, FAILED, Exploration
from stress.explorer.searches import strategies
from stress.explorer.targets import load_programs
from stress.machine.block_layout import MODELS
from stress.machine.engines import ENGINES
from stress.report.places import require_place, write_to
from stress.verdict import Verdict, worst

VERDICT_OF = {
    FAILED: Verdict.FAILED,
    EXHAUSTED: Verdict.PASSED,
    BUDGET: Verdict.PASSED,
    ABANDONED: Verdict.VACUOUS,
    ERROR: Verdict.ERROR,
}
OUTCOMES_SHOWN = 20


def _seconds(ctx: click.Context, parameter: click.Parameter, value: str) -> float | None:
    """A plain number is seconds; 0 is no limit."""
    try:
        seconds = float(value)
    except ValueError:
        seconds = parse_duration(value)
    return seconds or None


@click.command()
@click.argument("targets", nargs=-1, required=True, metavar="PROGRAM...")
@click.option(
    "--strategy", default=AUTO, show_default=True, help=", ".join((*strategies(), AUTO)) + "."
)
@click.option("--memory", default="sc", show_default=True, help=", ".join(MODELS) + ".")
@click.option("--schedules", type=int, help="At most so many schedules.")
@click.option(
    "--seconds",
    default=str(int(DEFAULT_SECONDS)),
    show_default=True,
    callback=_seconds,
    help="At most so long, such as 30 or 5m; 0: no limit.",
)
@click.option("--seed", type=int, default=1, show_default=True, help="Of the random strategies.")
@click.option("--preemptions", type=int, help="dfs: bounds 0, 1, ... up to this one.")
@click.option("--delays", type=int, help="dfs: the same for delays.")
@click.option("--depth", type=int, default=3, show_default=True, help="pct: depth of a bug.")
@click.option(
    "--step-limit", type=int, default=10_000, show_default=True, help="Longer schedules are cut."
)
@click.option(
    "--vain-spins",
    type=int,
    default=1,
    show_default=True,
    help="dfs, dpor: spins in vain before a CPU waits for a change.",
)
@click.option("--engine", default="native", show_default=True, help=" or ".join(ENGINES) + ".")
@click.option("--races/--no-races", default=True, help="Look for data races and torn pairs.")
@click.option("--all-failures", is_flag=True, help="Count failures instead of stopping at one.")
@click.option("--workers", type=int, default=1, show_default=True, help="Threads that explore.")
@click.option("--paths", is_flag=True, help="Show the calls that led to each step.")
@click.option("--json", metavar="FILE", help="Write the result as JSON; - is standard output.")
@click.option("--html", metavar="FILE", help="Write the failure as a page.")
def command(
    targets: tuple[str, ...],
    json: str | None,
    html: str | None,
    all_failures: bool,
    paths: bool,
    **how: Any,
) -> int:
    """Try schedules of PROGRAM: FILE.py, FILE.py:NAME, MODULE:NAME, or a name of shmstress list
    --programs. Names may be globs such as 'buddy-*' or 'FILE.py:*'.

    Exit codes: 0 passed, 1 failed, 3 a schedule did not repeat, 4 usage, 5 abandoned at the step
    limit, 7 this machine cannot.
    """
    for option, path in (("json", json), ("html", html)):
        require_place(option, path)
    results = []
    for name, program in load_programs(targets).items():
        click.echo(f"exploring {name} (kernels are compiled at their first run)", err=True)
        results.append(explore(program, stop_on_failure=not all_failures, **how))
        click.echo("\n".join(summary(results[-1], paths)), err=json == "-")
    _write(results, json, html)
    return worst(VERDICT_OF[result.verdict] for result in results).exit_code


def _write(results: list[Exploration], json: str | None, html: str | None) -> None:
    """One document, or a list of them; the page of the first failure."""
    if json is not None:
        documents = [document(result) for result in results]
        whole = documents[0] if len(documents) == 1 else documents
        write_to(json, json_module.dumps(whole, indent=2) + "\n")
    failures = [result.failure for result in results if result.failure is not None]
    if html is not None and failures:
        Path(html).write_text(failures[0].html())


def summary(result: Exploration, paths: bool = False) -> list[str]:
    """What people read."""
    lines = [str(result)]
    if result.guarantee:
        lines.append(f"guarantee: {result.guarantee}")
    if result.note:
        lines.append(f"note: {result.note}")
    if result.abandoned:
        lines.append(f"{result.abandoned:,} schedules were cut: raise --step-limit")
    for outcome, count in result.outcomes.most_common(OUTCOMES_SHOWN):
        lines.append(f"  {count:>12,}  {outcome}")
    if len(result.outcomes) > OUTCOMES_SHOWN:
        lines.append(f"  ... and {len(result.outcomes) - OUTCOMES_SHOWN} outcomes more")
    if result.failures > 1:
        lines.append(f"{result.failures:,} schedules failed; this is the first:")
    if result.failure is not None:
        lines += ["", result.failure.report(paths=paths)]
    return lines

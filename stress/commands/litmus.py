"""``shmstress litmus``: memory-order tests in real processes, graded by the explorer."""

from __future__ import annotations

import math

import click

from shmalloc.errors import MisuseError
from stress.litmus.catalogue import CATALOGUE, chosen
from stress.litmus.report import document, last_lines, result_lines
from stress.litmus.runner import LitmusResult, LitmusRun, run_litmus
from stress.quantities import parse_seed
from stress.report.places import require_place, write_to
from stress.run.interrupts import Interrupts
from stress.seeds import fresh_seed


@click.command(epilog=f"Tests: {', '.join(CATALOGUE)}.")
@click.argument("names", nargs=-1, metavar="[TEST]...")
@click.option("--seconds", type=float, default=2.0, show_default=True, help="For each test.")
@click.option("--seed", help="Of cells and delays; a fresh one by default.")
@click.option("--json", metavar="FILE", help="Write the results as JSON; - is standard output.")
def command(names: tuple[str, ...], seconds: float, seed: str | None, json: str | None) -> int:
    """Play small shapes of code in real processes and compare what is seen with the model.

    All tests by default. Every outcome is graded by the explorer's answer for the same code:
    allowed by sc, weak (by tso only), or FORBIDDEN.

    Exit codes: 0 nothing forbidden was seen, 1 something was, 2 interrupted, 3 a process died,
    4 usage, 5 one core, so nothing was tested, 7 this machine cannot.
    """
    tests = chosen(names)
    if not 0 < seconds < math.inf:
        raise MisuseError(f"seconds: {seconds:g}; use more than 0")
    require_place("json", json)
    run = LitmusRun(tests, seconds, parse_seed(seed) if seed else fresh_seed())
    to_stderr = json == "-"  # standard output is the document then

    def tell(result: LitmusResult) -> None:
        click.echo("\n".join([*result_lines(result), ""]), err=to_stderr)

    click.echo("litmus", err=True)
    with Interrupts() as interrupts:
        run_litmus(run, interrupts, tell)
    if json is not None:
        write_to(json, document(run))
    click.echo("\n".join(last_lines(run)), err=to_stderr)
    return run.verdict.exit_code

"""``shmstress litmus``: memory-order tests in real processes, graded by the explorer."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from stress import progress as watching
from stress.options import LITMUS_TESTS, duration, json_file, option, progress
from stress.options import command as as_command
from stress.options import seed as seed_option

if TYPE_CHECKING:
    from stress.litmus.catalogue import Litmus
    from stress.litmus.runner import LitmusResult, LitmusRun


@as_command("litmus")
@click.argument("names", nargs=-1, metavar="[TEST]...", type=LITMUS_TESTS)
@duration("Time for each test", default="2s")
@seed_option("Seed of cells and delays")
@json_file()
@progress()
@option("--list", "listing", is_flag=True, setting=False, help="List the tests and stop.")
def command(
    names: tuple[str, ...],
    seconds: float,
    seed: int | None,
    json: str | None,
    progress: str,
    listing: bool,
) -> int:
    """Run small tests of memory order in real processes and compare what is seen with the model.

    By default all tests run. The explorer's answer for the same code grades every outcome: allowed
    under sc, weak (allowed under tso only), or FORBIDDEN.

    Exit codes: 0 nothing forbidden was seen, 1 something was, 2 interrupted, 3 a process died,
    4 usage, 5 one core, so nothing was tested, 7 this machine cannot run it.
    """
    from stress.litmus.catalogue import chosen
    from stress.litmus.report import document, last_lines
    from stress.litmus.runner import LitmusRun
    from stress.report.exports import Exports
    from stress.seeds import fresh_seed

    tests = chosen(names)
    files = Exports({}, json=json)
    if listing:
        return _list(tests)
    run = LitmusRun(tests, seconds, fresh_seed() if seed is None else seed)
    _play(run, progress, files.aside)
    click.echo("\n".join(last_lines(run)), err=files.aside)
    sys.stdout.flush()
    if json is not None:
        files.put(json, document(run))
    return files.exit_code(run.verdict)


def _list(tests: list[Litmus]) -> int:
    from stress.tables import grid, show

    table = grid("test", "what each process does", "story")
    for test in tests:
        table.add_row(test.name, " | ".join(test.code), test.story)
    show(table)
    return 0


def _play(run: LitmusRun, progress: str, to_stderr: bool) -> None:
    """Run the tests; each result is printed when it is there."""
    from stress.litmus.report import result_lines
    from stress.litmus.runner import run_litmus
    from stress.run.interrupts import Interrupts
    from stress.surroundings import require_processes

    require_processes(max(test.processes for test in run.tests) + 2, "litmus tests")
    with Interrupts() as interrupts, watching.shown(progress) as report:

        def tell(result: LitmusResult) -> None:
            click.echo("\n".join([*result_lines(result), ""]), err=to_stderr)

        run_litmus(run, interrupts, tell, report)

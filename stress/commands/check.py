"""``shmstress check``: what did I break?"""

from __future__ import annotations

import json as json_module
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from shmalloc.errors import MisuseError
from stress import progress as watching
from stress.options import PROGRAMS, duration, exports, html_file, json_file, option, progress
from stress.options import command as as_command
from stress.options.again import command_line
from stress.verdict import Verdict

if TYPE_CHECKING:
    from stress.check.changes import Changes
    from stress.check.loop import Loop, Outcome
    from stress.check.select import Selection
    from stress.check.unprepared import UnpreparedError
    from stress.report.exports import Exports
    from stress.report.suite import Start
    from stress.report.suites.check import Checked

SECONDS = "60"
# Interpreted, nothing is compiled: a few schedules of everything, then a second each.
GLANCE_S, GLANCE_SCHEDULES, LOOK_S = 1.0, 60, 1.0
LINGER_S = 1.5  # for a shorter schedule, after the first failure


@as_command("check")
@click.argument("parts", nargs=-1, metavar="[PART]...", type=PROGRAMS)
@option(
    "--changed",
    is_flag=True,
    setting=False,
    help="Explore only programs that reach what differs from the last commit.",
)
@option(
    "--since",
    metavar="REV",
    setting=False,
    help="Compare with the commit or branch REV instead, such as main or HEAD~3.",
)
@option(
    "--crash",
    is_flag=True,
    setting=False,
    help="Run crash cases as well: CPUs die, others recover.",
)
@duration("Time for everything, compiling included", default=SECONDS)
@json_file("Write the result to FILE as JSON; - is standard output.")
@html_file("Write the failure to FILE as a page.")
@exports("junit", "ktap", "markdown", "sarif", "perfetto")
@progress()
def command(
    parts: tuple[str, ...],
    changed: bool,
    since: str | None,
    crash: bool,
    seconds: float,
    json: str | None,
    html: str | None,
    exports: dict[str, str | None],
    progress: str,
) -> int:
    """Find out what a change broke: explore programs until one fails.

    PART is a program, a glob, the beginning of programs' names (buddy), a module of kernels, a
    file of kernels or programs, or MODULE:NAME. With --changed, only programs are explored whose
    kernels reach what has changed in the checkout: kernels, constants, programs, checks.

    Every program is interpreted for a second, or run natively if its image is on disk, small and
    large worlds in turns; then all are explored natively for the rest of the time. The first
    failure is shown in words. The table goes to standard error as it grows.

    Exit codes: 0 passed, 1 a program failed, 2 interrupted, 3 a schedule did not repeat, 4 usage,
    5 nothing to run or no time for all, 7 this machine cannot run it.
    """
    from stress.report.exports import Exports
    from stress.report.suite import Start

    start, files = Start.now(), Exports(exports, json=json, html=html)
    if not (parts or changed or since):
        raise MisuseError("check: nothing is named; name a part such as buddy, or use --changed")
    _load()
    from stress.check import verdict
    from stress.check.changes import changes_since, other_packages, packages_checkout
    from stress.check.select import candidates, select
    from stress.check.unprepared import UnpreparedError
    from stress.report.suites.check import Checked, suite_of

    wanted = changed or bool(since)
    try:
        found = candidates(parts, crash)
    except UnpreparedError as error:
        changes = changes_since(since, _files_of(parts)) if wanted else None
        return _show_unprepared(error, changes, json, files, start)
    changes = changes_since(since, _files_of(parts)) if wanted else None
    selection = select(found, changes)
    other = "" if wanted else other_packages(packages_checkout())
    if other:  # an edit here would pass unseen
        selection.left.append(other)
    click.echo(verdict.headline(selection, changes), err=True)
    loop = _loop(selection, seconds, start.elapsed_s)
    interrupted = False
    try:
        with watching.shown(progress) as loop.report:
            loop.run()
    except KeyboardInterrupt:  # nothing of what was found is lost
        interrupted = True
    checked = Checked(loop, selection, changes, seconds, interrupted)
    _show(checked, files.aside)  # before the files: a disk may be full
    sys.stdout.flush()
    _write(checked, json, html, files)
    files.write(lambda: suite_of(checked, start, command_line()), _trace(checked))
    if interrupted and not loop.failures:
        raise KeyboardInterrupt
    return files.exit_code(verdict.verdict_of(loop))


def _files_of(parts: tuple[str, ...]) -> list[Path]:
    """The files among ``parts``: FILE.py, FILE.py:NAME and, as they are loaded, MODULE:NAME."""
    files = []
    for part in parts:
        place = part if part.endswith(".py") else part.rpartition(":")[0]
        file = place if place.endswith(".py") else getattr(sys.modules.get(place), "__file__", None)
        if isinstance(file, str) and Path(file).is_file():
            files.append(Path(file).resolve())
    return files


def _show_unprepared(
    error: UnpreparedError, changes: Changes | None, json: str | None, files: Exports, start: Start
) -> int:
    from stress.check import unprepared
    from stress.report.suites.check import suite_of_unprepared

    aside = files.aside
    click.echo(unprepared.text_of(error, changes), err=aside)
    click.echo(f"not checked: {unprepared.LEFT}\n{Verdict.FAILED.name}", err=aside)
    if json is not None:
        whole = unprepared.document_of(error, changes)
        files.put(json, json_module.dumps(whole, indent=2) + "\n")
    files.write(lambda: suite_of_unprepared(error, changes, start, command_line()))
    return files.exit_code(Verdict.FAILED)


def _load() -> None:
    """Import the kernels and the programs, which may be broken: they are being worked on."""
    try:
        import stress.check.select  # noqa: F401
    except Exception as error:
        from stress.broken import told

        raise told("the packages", error, ours=True) from error


def _loop(selection: Selection, seconds: float, spent_s: float) -> Loop:
    from stress.check.loop import INTERPRETED, NATIVE, QUICKEST, Loop, Turn, jobs_of

    jobs = [
        job
        for memory in ("sc", "tso")
        for name, thing in selection.chosen.items()
        for job in jobs_of(name, thing, (memory,))
    ]
    turns = (
        Turn("dpor", QUICKEST, GLANCE_S, GLANCE_SCHEDULES, fair=True),
        Turn("auto", INTERPRETED, LOOK_S, fair=True),
        Turn("auto", NATIVE),
    )
    tell = _teller() if jobs else lambda outcome: None
    return Loop(list(dict.fromkeys(jobs)), turns, seconds, tell, linger_s=LINGER_S, spent_s=spent_s)


def _teller() -> Callable[[Outcome], None]:
    """Prints a row on standard error: by rich on a terminal, else as plain text."""
    from stress.check import verdict

    if not sys.stderr.isatty():
        click.echo(verdict.line(verdict.COLUMNS), err=True)
        return lambda outcome: click.echo(verdict.line(verdict.row(outcome)), err=True)
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=True, force_jupyter=False, highlight=False)
    console.print(Text(verdict.line(verdict.COLUMNS), style="bold"))
    styles = {"failed": "bold red", "passed-exhausted": "green", "error": "red"}

    def tell(outcome: Outcome) -> None:
        text = verdict.line(verdict.row(outcome))
        console.print(Text(text, style=styles.get(outcome.verdict, "")), soft_wrap=True)

    return tell


def _trace(checked: Checked) -> Callable[[], str] | None:
    """What makes a trace of the failure that is shown, if there is one."""
    from stress.check import verdict
    from stress.report.perfetto import perfetto

    first = verdict.shortest(checked.loop)
    return None if first is None else lambda: perfetto(verdict.account_of(first))


def _show(checked: Checked, aside: bool) -> None:
    from stress.check import verdict

    first = verdict.shortest(checked.loop)
    if first is not None:
        click.echo(verdict.failure_text(first, checked.changes), err=aside)
    for text in verdict.last_words(checked.loop, checked.selection, checked.seconds):
        click.echo(text, err=aside)


def _write(checked: Checked, json: str | None, html: str | None, files: Exports) -> None:
    from stress.check import verdict

    first = verdict.shortest(checked.loop)
    if json is not None:
        found = checked.loop, checked.selection, checked.changes, checked.seconds
        files.put(json, json_module.dumps(verdict.document(*found), indent=2) + "\n")
    files.page(html, None if first is None else lambda: verdict.page_of(first))

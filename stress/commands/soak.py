"""``shmstress soak``: hours of rounds, recorded in a database."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from shmalloc.errors import MisuseError
from stress.metrics.attach import attached
from stress.metrics.places import Places
from stress.options import (
    PROGRAMS,
    WORKLOADS,
    Names,
    Size,
    Time,
    duration,
    exports,
    ignore,
    json_file,
    keep,
    metrics,
    option,
    progress,
)
from stress.options import command as as_command
from stress.options import seed as seed_option
from stress.verdict import Verdict

if TYPE_CHECKING:
    from stress.records.writer import Records
    from stress.report.exports import Exports
    from stress.soak.draw import Drawer
    from stress.soak.session import Session
    from stress.soak.spec import SoakSpec
    from stress.soak.view import View

KINDS = ("run", "explore", "crash", "trace")
ROUNDS, FINDINGS, DATABASE = "Rounds", "Findings", "Database"
DEFAULT_DURATION = "1h"
SHOWN_ROUNDS = 10
# What may be said anew when a soak goes on.
OF_METRICS = {"metrics_port", "metrics_address", "metrics_file"}
OF_A_SESSION = OF_METRICS | {
    "db",
    "resume",
    "seconds",
    "keep",
    "ignore",
    "json",
    "junit",
    "ktap",
    "markdown",
    "sarif",
    "progress",
}


def _workloads() -> list[str]:
    from stress.workloads import WORKLOADS as KNOWN

    return [name for name in KNOWN if name != "trace"]


@as_command("soak")
@duration("Time of the whole soak", default=DEFAULT_DURATION)
@option(
    "--db",
    default="soak.db",
    show_default=True,
    metavar="FILE",
    group=DATABASE,
    help="The database that everything is recorded in.",
)
@option(
    "--resume",
    is_flag=True,
    setting=False,
    group=DATABASE,
    help="Go on with the last soak of the database: its settings, the next round, the time left.",
)
@keep(group=DATABASE)
@seed_option(group=ROUNDS)
@option(
    "--rounds",
    type=int,
    metavar="N",
    group=ROUNDS,
    help="Most rounds of the soak, if they fit into its time.",
)
@option(
    "--round-time",
    type=Time(),
    default="20s",
    show_default=True,
    group=ROUNDS,
    help="Time of one round.",
)
@option(
    "--weights",
    default="run=8,explore=2,crash=1,trace=1",
    show_default=True,
    metavar="KIND=N,...",
    group=ROUNDS,
    help="How often each kind of round is drawn.",
)
@option(
    "--only",
    type=Names("only", KINDS, several=True),
    metavar="KIND,...",
    group=ROUNDS,
    help="Draw rounds of these kinds only.",
)
@option(
    "--workload",
    type=WORKLOADS,
    show_default="all",
    group=ROUNDS,
    help="Workloads to draw from, separated by commas.",
)
@option(
    "--program",
    type=Names(PROGRAMS.name, lambda: PROGRAMS.known, several=True, open=True),
    default="*",
    show_default=True,
    group=ROUNDS,
    help="Programs and crash cases to draw from: names, globs, FILE.py:NAME, separated by commas.",
)
@option(
    "--trace",
    default="sample",
    show_default=True,
    metavar="FILE,...",
    group=ROUNDS,
    help="Recordings to draw from.",
)
@option(
    "--without",
    default="",
    metavar="FEATURE,...",
    group=ROUNDS,
    help="Features that no round has: names or globs, such as 'fault:*'.",
)
@option(
    "--workers",
    default="auto",
    show_default=True,
    group=ROUNDS,
    help="Most processes of a round, or a share of the cores; auto: three per core.",
)
@option(
    "--ram",
    type=Size(),
    default="256MiB",
    show_default=True,
    metavar="SIZE",
    group=ROUNDS,
    help="Most memory of a round.",
)
@ignore(group=FINDINGS)
@option(
    "--repeat",
    type=int,
    default=5,
    show_default=True,
    metavar="N",
    group=FINDINGS,
    help="How often a failing round is repeated.",
)
@option(
    "--minimize-time",
    type=Time(),
    default="2m",
    show_default=True,
    group=FINDINGS,
    help="Time to repeat a failing round, and again to cut it down.",
)
@option(
    "--explain",
    type=Time(),
    default=None,
    metavar="TIME",
    group=FINDINGS,
    help="Time to find a schedule for what real processes broke.",
)
@json_file()
@exports("junit", "ktap", "markdown", "sarif")
@metrics()
@progress("Show progress; auto: live on a terminal, a line for each round elsewhere.")
@option(
    "--dry-run",
    is_flag=True,
    setting=False,
    group="Results",
    help=f"Print the settings and the first {SHOWN_ROUNDS} rounds, and stop.",
)
def command(
    db: str,
    resume: bool,
    keep: int | None,
    ignore: tuple[str, ...],
    json: str | None,
    exports: dict[str, str | None],
    metrics: Places,
    progress: str,
    dry_run: bool,
    **settings: Any,
) -> int:
    """Run rounds of everything for hours: real processes, explorations, crashes, recordings.

    Each round is drawn from the seed, with a random set of features switched off, and recorded in
    the database as it happens. A failing round is repeated, cut down and recorded once. Ctrl-C ends
    the round and the soak, a second one at once; --resume goes on after either, and after a crash.

    Exit codes: 0 passed, 1 something was found, 2 interrupted, 3 a round could not be run, 4 usage,
    5 nothing passed, or what had to happen never did, 7 this machine cannot run it.
    """
    from stress.records.fingerprint import Ignored
    from stress.records.writer import Records
    from stress.report.exports import Exports
    from stress.soak.session import begin_soak, resume_soak

    files = Exports(exports, json=json, db=db)
    ctx = click.get_current_context()
    given = [p.name for p in ctx.command.params if _is_typed(ctx, p.name or "")]
    if resume:
        _refuse_settings(ctx, [name for name in given if name not in OF_A_SESSION])
    spec = _spec(**settings)
    drawer = _drawer(spec)
    if dry_run:
        return _show_rounds(drawer)
    with (
        attached(metrics, "soak", partial(click.echo, err=True)) as exporter,
        Records(db, create=not resume, ignored=Ignored(ignore), keep_bytes=keep) as records,
    ):
        if resume:
            seconds = settings["seconds"] if "seconds" in given else None
            session = resume_soak(records, seconds)
        else:
            session = begin_soak(records, spec)
        view = _view(progress)
        if exporter is None:
            return files.exit_code(_soak(records, session, view, files, json))
        from stress.soak.measured import MeasuredView

        verdict = _soak(records, session, MeasuredView(view, exporter), files, json)
        exporter.finish(verdict)
        return files.exit_code(verdict)


def _is_typed(ctx: click.Context, name: str) -> bool:
    return ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE


def _refuse_settings(ctx: click.Context, names: list[str]) -> None:
    """A soak that goes on has its settings."""
    if names:
        option = next(p.opts[0] for p in ctx.command.params if p.name == names[0])
        raise MisuseError(
            f"resume: {option} is a setting of the soak, which goes on as it began; leave it out"
        )


def _spec(
    seconds: float,
    seed: int | None,
    workload: str | None,
    program: str,
    trace: str,
    workers: str,
    ram: int,
    only: str | None,
    **texts: Any,
) -> SoakSpec:
    """The spec of these settings, all of which are checked."""
    from stress.quantities import exact_bytes, exact_duration
    from stress.run.workers import cores
    from stress.seeds import fresh_seed
    from stress.settings import read_fields
    from stress.soak.spec import SoakSpec, parse_weights, require_spec, workers_of

    weights = parse_weights(texts["weights"])
    given = {
        "workload": ",".join(_workloads()) if workload is None else workload,
        "program": ",".join(map(_absolute, program.split(","))),
        "workers": str(workers_of(workers, len(cores()))),
        "duration": exact_duration(seconds),
        "round-time": exact_duration(texts["round_time"]),
        "rounds": "off" if texts["rounds"] is None else str(texts["rounds"]),
        "seed": hex(fresh_seed() if seed is None else seed),
        "weights": str(weights if only is None else weights.only(only.split(","))),
        "trace": ",".join(map(_absolute, trace.split(","))),
        "ram": exact_bytes(ram),
        "without": texts["without"],
        "repeat": str(texts["repeat"]),
        "minimize-time": exact_duration(texts["minimize_time"]),
        "explain": "off" if texts["explain"] is None else exact_duration(texts["explain"]),
    }
    spec = SoakSpec(**read_fields(SoakSpec, given))
    require_spec(spec, _workloads())
    return spec


def _absolute(target: str) -> str:
    """The path of a file from the root, so that a soak goes on in any directory."""
    path, colon, name = target.strip().partition(".py:")
    file = Path(f"{path}.py" if colon else path)
    return f"{file.absolute()}{colon and ':'}{name}" if file.is_file() else target


def _drawer(spec: SoakSpec) -> Drawer:
    from stress.run.workers import cores
    from stress.soak.draw import Drawer

    return Drawer(spec, len(cores()))


def _show_rounds(drawer: Drawer) -> int:
    click.echo(f"# {drawer.spec.command_line()}")
    for number in range(1, SHOWN_ROUNDS + 1):
        click.echo(drawer.round(number).command)
    return 0


def _soak(
    records: Records, session: Session, view: View, files: Exports, json: str | None
) -> Verdict:
    """One session, from the first line to the last."""
    from shmalloc.leftovers import sweep
    from stress.records.reader import Reader
    from stress.report.suites.recorded import suite_of
    from stress.soak.hunt import Soak
    from stress.soak.stops import Stops
    from stress.soak.summary import Summary, first_line

    drawer = _drawer(session.spec)  # a soak that goes on has other settings than this command
    click.echo(first_line(session), err=files.aside)
    sys.stdout.flush()
    sweep()  # of a soak that was killed
    with Stops() as stops:
        soak = Soak(drawer, records, session, view, stops)
        verdict = soak.run()
    summary = Summary.of(session, verdict, drawer, records.path)
    for line in summary.lines():
        click.echo(line, err=files.aside)
    sys.stdout.flush()
    if json is not None:
        files.put(json, summary.document())
    with Reader(records.path) as reader:
        files.write(lambda: suite_of(reader, reader.run(session.run_id)))
    return verdict


def _view(wanted: str) -> View:
    from stress.soak.view import LineView, View

    if wanted == "never":
        return View()
    if wanted == "always" or sys.stderr.isatty():
        from stress.soak.live import LiveView  # rich costs 80 ms: only where it is seen

        return LiveView(always=wanted == "always")
    return LineView()

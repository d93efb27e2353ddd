"""``shmstress run``: worker processes on one segment, checked by oracles and audits."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from msgspec.structs import replace

from shmalloc.errors import MisuseError
from shmalloc.layout import LINK_STORES
from stress.metrics.attach import attached, end_of
from stress.metrics.places import Places
from stress.options import (
    WORKLOADS,
    Names,
    Time,
    database,
    duration,
    engine,
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
from stress.options.files import use_file
from stress.quantities import exact_duration
from stress.report.artifacts import Artifacts
from stress.report.document import json_document
from stress.report.exports import Exports
from stress.report.progress import PlainProgress
from stress.report.recorded_run import RecordedRun, recorded_run
from stress.report.sources import DATABASE
from stress.report.suite import Start
from stress.report.suites.run import suite_of
from stress.report.text import first_line, result_lines
from stress.run.controller import Controller
from stress.run.interrupts import Interrupts
from stress.run.progress import Progress, Several
from stress.run.result import RunResult
from stress.run.workers import cores
from stress.seeds import fresh_seed
from stress.spec import Outputs, RawSpec, RunSpec, option_text, resolve
from stress.surroundings import plain, require_files, require_processes
from stress.trace.options import with_trace
from stress.verdict import Verdict
from stress.workloads import DEFAULT_WORKLOADS
from stress.workloads import WORKLOADS as WORKLOADS_BY_NAME

if TYPE_CHECKING:
    from stress.metrics.exporter import Exporter

# Open files of the controller, as measured, with some to spare.
FILES, FILES_A_WORKER, FILES_OF_FAULTS = 24, 4, 24
PROCESSES = 2  # besides the workers: the one that forks them, and the one that removes memory
MEMORY = "Memory"
CHECKS = "Faults and checks"


def _read_file(ctx: click.Context, parameter: click.Parameter, value: str | None) -> None:
    """A spec file gives defaults: it stands below the options and the environment."""
    if value is not None and not ctx.resilient_parsing:
        use_file(ctx, Path(value))


@as_command("run", text_of=option_text)
@click.argument(
    "file",
    required=False,
    callback=_read_file,
    expose_value=False,
    is_eager=True,
    type=click.Path(),
)
@option(
    "--workload",
    type=WORKLOADS,
    default=",".join(DEFAULT_WORKLOADS),
    show_default=True,
    help="Workloads, separated by commas; shmstress list describes them.",
)
@option(
    "--workers",
    default="auto",
    show_default=True,
    help="Number of processes, or a share of the cores such as 50%; auto: three per core.",
)
@duration("Time to work", unset="20s, or once through the trace")
@seed_option()
@engine("native", help="Engine that runs the kernels; interpreted is slow and takes one worker.")
@option("--trace", metavar="FILE", help="Recording that the workload trace replays.")
@option(
    "--ram",
    metavar="SIZE",
    group=MEMORY,
    show_default="256MiB",
    help="Memory to manage, such as 64MiB or 4GiB.",
)
@option(
    "--zones",
    default="2",
    show_default=True,
    group=MEMORY,
    help="Number of equal zones, or SIZE[@NODE][:OFFSET+SIZE...],...: size, node, holes.",
)
@option(
    "--link-store",
    type=Names("link-store", tuple(LINK_STORES)),
    default="page",
    show_default=True,
    group=MEMORY,
    help="Where free pages keep the links of their list.",
)
@option(
    "--geometry",
    metavar="SPEC",
    group=MEMORY,
    help="What the segment is made of, such as fill=poison,harden=on,pcp=list,max-order=6; off is"
    " the default, random draws it from the seed. Also init-on-alloc, init-on-free, min-free,"
    " pcp-batch, pcp-high, pageblock-order, reporting, debug-pagealloc, unaccepted, biased-locks,"
    " spins, history, start-pfn, page-owner and cpus; see docs/geometry.md.",
)
@option(
    "--prealloc/--no-prealloc",
    default=False,
    group=MEMORY,
    help="Reserve all memory before the start.",
)
@option(
    "--faults",
    metavar="SPEC",
    group=CHECKS,
    help="Faults to inject, such as kill:every=100ms, or off; see docs/faults.md.",
)
@option(
    "--jitter",
    metavar="SPEC",
    group=CHECKS,
    help="Delay accesses at random: on, off, or settings; see docs/jitter.md.",
)
@option(
    "--flight",
    metavar="N",
    group=CHECKS,
    help="Keep the last N accesses of each CPU and show them with a failure.",
)
@option(
    "--audit-every",
    type=Time(),
    default="5s",
    show_default=True,
    group=CHECKS,
    help="Time between full audits; there are at least two.",
)
@option(
    "--hang-timeout",
    type=Time(),
    default="10s",
    show_default=True,
    group=CHECKS,
    help="Time after which a silent worker counts as hung.",
)
@ignore("violations", group=CHECKS)
@database()
@keep()
@json_file()
@exports("junit", "ktap", "markdown", "sarif", "perfetto")
@option("--out", metavar="DIR", group="Results", help="Write everything about the run to DIR.")
@option(
    "--explain",
    type=Time(),
    default=None,
    metavar="TIME",
    group="Results",
    help="After a failure, look that long for a schedule that explains it, and write a test.",
)
@metrics()
@progress("Show progress; auto: live on a terminal, one line every ten seconds elsewhere.")
@option(
    "--dry-run",
    is_flag=True,
    setting=False,
    group="Results",
    help="Print the resolved settings as a command line and as TOML, and stop.",
)
def command(
    ignore: tuple[str, ...],
    db: str | None,
    keep: int | None,
    json: str | None,
    exports: dict[str, str | None],
    out: str | None,
    explain: float | None,
    metrics: Places,
    progress: str,
    dry_run: bool,
    seed: int | None,
    seconds: float | None,
    audit_every: float,
    hang_timeout: float,
    **texts: Any,
) -> int:
    """Run workloads in many processes on one segment; check them with oracles and audits.

    FILE holds settings in TOML, as --dry-run prints them.

    Exit codes: 0 passed, 1 a violation was found, 2 interrupted, 3 the tool itself failed, 4 usage,
    5 nothing ran, or what had to happen never did, 7 this machine cannot run it.
    """
    raw = RawSpec(
        seed=hex(fresh_seed() if seed is None else seed),
        duration=None if seconds is None else exact_duration(seconds),
        audit_every=exact_duration(audit_every),
        hang_timeout=exact_duration(hang_timeout),
        **texts,
    )
    asked = resolve(with_trace(raw), WORKLOADS_BY_NAME, len(cores()))
    for name, why in unfit_workloads(asked).items():
        click.echo(f"workload {name} is left out: {why}", err=True)
    spec = with_fit_workloads(asked)
    files = Exports(exports, json=json, out=out, db=db)
    if dry_run:
        click.echo(f"# {spec.command_line()}\n{spec.toml()}", nl=False)
        return 0
    outputs = Outputs(json, out, progress, db, ignore, keep, explain)
    with attached(metrics, "run", partial(click.echo, err=True)) as exporter:
        return run_spec(spec, outputs, files, exporter)


def with_fit_workloads(spec: RunSpec) -> RunSpec:
    """``spec`` without the workloads of the default list that cannot run in it."""
    unfit = unfit_workloads(spec)
    return replace(spec, workloads=tuple(n for n in spec.workloads if n not in unfit))


def unfit_workloads(spec: RunSpec) -> dict[str, str]:
    """The workloads of the default list that cannot run under the faults of ``spec``, and why.

    Nor can those that need more workers. One that was asked for is a misuse if a fault rules it
    out; with too few workers it runs, and is vacuous.
    """
    excluded = {
        name: fault.name
        for fault in spec.faults
        for name in spec.workloads
        if fault.name in WORKLOADS_BY_NAME[name].unfit
    }
    reasons = {name: WORKLOADS_BY_NAME[name].unfit[fault] for name, fault in excluded.items()}
    if excluded and spec.workloads != DEFAULT_WORKLOADS:
        name, fault_name = next(iter(excluded.items()))
        said = f"{fault_name} with workload {name}: {reasons[name]}"
        raise MisuseError(f"faults: {said}; leave one of the two out")
    unfit = {name: f"not with faults {excluded[name]}: {why}" for name, why in reasons.items()}
    if spec.workloads == DEFAULT_WORKLOADS:
        for name in spec.workloads:
            least = WORKLOADS_BY_NAME[name].least_workers
            if least > spec.workers:
                unfit[name] = f"it needs {least} workers, and there is {spec.workers}"
    return unfit


def require_limits(spec: RunSpec) -> None:
    """Raises ``EnvironmentUnfitError`` if this process may not open or start what a run needs."""
    faults = spec.live_faults
    files = FILES + FILES_A_WORKER * spec.workers + (FILES_OF_FAULTS if faults else 0)
    what = f"{spec.workers} workers"
    require_files(files, what)
    require_processes(spec.workers + PROCESSES + int(faults), what)


def run_spec(
    spec: RunSpec, outputs: Outputs, files: Exports, exporter: Exporter | None = None
) -> int:
    """Run ``spec``, write all results where they are wanted, and return the exit code."""
    require_limits(spec)
    artifacts = None if outputs.out is None else Artifacts(outputs.out, spec)
    databases = [] if outputs.db is None else [outputs.db]
    databases += [] if artifacts is None else [str(artifacts.directory / DATABASE)]
    with recorded_run(spec, databases, outputs.ignored, outputs.keep_bytes) as record:
        return _run(spec, outputs, files, artifacts, record, exporter)


def _run(
    spec: RunSpec,
    outputs: Outputs,
    files: Exports,
    artifacts: Artifacts | None,
    record: RecordedRun,
    exporter: Exporter | None,
) -> int:
    start = Start.now()
    lines_to_stderr = files.aside
    click.echo(plain(first_line(spec)), err=lines_to_stderr)
    sys.stdout.flush()

    def finish(result: RunResult) -> int:
        record.finish(result, None if artifacts is None else artifacts.directory)
        for line in result_lines(result):  # before the files: a disk may be full
            click.echo(plain(line), err=lines_to_stderr)
        sys.stdout.flush()
        _write(result, outputs, artifacts, files)
        files.write(lambda: suite_of(result, start), _flight(result))
        if exporter is not None:
            end_of(exporter, result)
        return files.exit_code(result.verdict)

    def abandon(result: RunResult) -> None:
        code = finish(result)
        sys.stdout.flush()
        os._exit(code)  # the main thread is in a kernel that never ends

    view = _progress(outputs.progress)
    with Interrupts() as interrupts:
        progress = record.progress(view if exporter is None else Several([view, exporter]))
        controller = Controller(
            spec, progress, interrupts, artifacts, abandon, is_known=record.is_known
        )
        result = controller.run()
    code = finish(result)
    if outputs.explain_s is not None and result.verdict is Verdict.FAILED:
        from stress.explain.result import explain_result  # the explorer: only where it is used

        tell = partial(click.echo, err=files.aside)
        explain_result(result, outputs.explain_s, tell=tell)
    return code


def _flight(result: RunResult) -> Callable[[], str] | None:
    """What makes a trace of the flight recording, if there is one."""
    if not result.flight:
        return None
    from stress.report.perfetto_flight import perfetto

    again = result.spec.command_line()
    return lambda: perfetto(result.flight, f"shmstress run, seed {result.spec.seed:#x}", again)


def _progress(wanted: str) -> Progress:
    if wanted == "never":
        return Progress()
    if wanted == "always" or sys.stderr.isatty():
        from stress.report.live import LiveProgress  # rich costs 80 ms: only where it is seen

        return LiveProgress(always=wanted == "always")
    return PlainProgress()


def _write(
    result: RunResult, outputs: Outputs, artifacts: Artifacts | None, files: Exports
) -> None:
    document = json_document(result)
    if outputs.json is not None:
        files.put(outputs.json, document)
    if artifacts is not None:
        with files.tried():
            artifacts.save_result(result, document)
            click.echo(f"results in {artifacts.directory}", err=True)

"""``shmstress run``: worker processes on one segment, checked by oracles and audits."""

from __future__ import annotations

import os
import sys
import tomllib
from collections.abc import Callable
from msgspec.structs import replace
from pathlib import Path
from typing import Any

import click

from shmalloc.errors import MisuseError
from stress.quantities import nearest
from stress.report.artifacts import Artifacts
from stress.report.document import json_document, junit_document
from stress.report.places import require_place, write_to
from stress.report.progress import PlainProgress, Progress
from stress.report.text import first_line, result_lines
from stress.run.controller import Controller
from stress.run.workers import cores
from stress.run.interrupts import Interrupts
from stress.run.result import RunResult
from stress.seeds import fresh_seed
from stress.spec import PROGRESS, Outputs, RawSpec, RunSpec, resolve
from stress.trace.options import with_trace
from stress.workloads import DEFAULT_WORKLOADS, WORKLOADS

_FILE_KEYS = (
    "workload", "workers", "ram", "zones", "link-store", "duration", "seed", "engine",
    "audit-every", "hang-timeout", "trace", "prealloc", "faults", "json", "junit", "out",
    "progress", "jitter", "flight",
)  # fmt: skip


def _read_file(ctx: click.Context, parameter: click.Parameter, value: str | None) -> None:
    """A spec file gives defaults: it stands below the options and the environment."""
    if value is None:
        return
    try:
        settings = tomllib.loads(Path(value).read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise MisuseError(f"spec file: {value}: {error}") from error
    for name in settings:
        if name not in _FILE_KEYS:
            raise nearest(name, _FILE_KEYS, f"spec file {value}, key")
    ctx.default_map = {name.replace("-", "_"): setting for name, setting in settings.items()}


Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def _option(name: str, help: str, default: str | None = None, **more: Any) -> Decorator:
    variable = f"SHMSTRESS_{name.replace('-', '_').upper()}"
    return click.option(
        f"--{name}", default=default, envvar=variable, show_default=default is not None,
        help=help, **more,
    )  # fmt: skip


@click.command()
@click.argument("file", required=False, callback=_read_file, is_eager=True, expose_value=False)
@_option("workload", "Names, separated by commas; see shmstress list.", ",".join(DEFAULT_WORKLOADS))
@_option("workers", "A number, a share of the cores such as 50%, or auto: 3 a core.", "auto")
@_option("ram", "Memory to manage, such as 256MiB (the default) or 4GiB.")
@_option("zones", "A number of equal zones, or SIZE[@NODE],...", "2")
@_option("link-store", "Where free pages keep their list links: page, descriptor or table.", "page")
@_option("duration", "How long to work, such as 5m or 2h; else 20s, or once through the trace.")
@_option("seed", "Where all randomness comes from; a fresh one by default.")
@_option("engine", "native, or interpreted (one worker, slow).", "native")
@_option("audit-every", "Time between full audits; there are at least two.", "5s")
@_option("hang-timeout", "A worker silent for longer than this is hung.", "10s")
@_option("trace", "Recording that the workload trace replays; else a small one.", metavar="FILE")
@_option("faults", "Such as kill:every=100ms,stop:every=1s,for=300ms; see docs/faults.md.")
@_option("prealloc", "Reserve all memory before the start.", is_flag=True)
@_option("jitter", "Delay accesses at random: on, or settings.", metavar="SPEC")
@_option("flight", "Keep the last N accesses of each CPU for violations and deaths.", metavar="N")
@_option("json", "Write the results as JSON; - is standard output.", metavar="FILE")
@_option("junit", "Write the results as JUnit XML.", metavar="FILE")
@_option("out", "Make a directory with everything about the run in DIR.", metavar="DIR")
@_option("progress", "auto (live on a terminal), always (live) or never.", "auto")
@click.option("--dry-run", is_flag=True, help="Print the resolved spec, as command line and TOML.")
def command(
    json: str | None, junit: str | None, out: str | None, progress: str, dry_run: bool,
    seed: str | None, prealloc: bool | None, **texts: Any,
) -> int:  # fmt: skip
    """Run workloads in many processes on one segment. FILE is a spec in TOML, see --dry-run."""
    raw = RawSpec(seed=seed or hex(fresh_seed()), prealloc=bool(prealloc), **texts)
    spec = fit_for_faults(resolve(with_trace(raw), WORKLOADS, len(cores())))
    if progress not in PROGRESS:
        raise nearest(progress, PROGRESS, "progress")
    for option, path in (("json", json), ("junit", junit), ("out", out)):
        require_place(option, path)
    if dry_run:
        click.echo(f"# {spec.command_line()}\n{spec.toml()}", nl=False)
        return 0
    return run_spec(spec, Outputs(json, junit, out, progress))


def fit_for_faults(spec: RunSpec) -> RunSpec:
    """``spec`` with workloads that can run under its faults.

    Of the default list, those that cannot are left out; one that was asked for is a misuse.
    """
    unfit = {
        name: f"{fault.name} with workload {name}: {WORKLOADS[name].unfit[fault.name]}"
        for fault in spec.faults
        for name in spec.workloads
        if fault.name in WORKLOADS[name].unfit
    }
    if unfit and spec.workloads != DEFAULT_WORKLOADS:
        raise MisuseError(f"faults: {next(iter(unfit.values()))}; leave one of the two out")
    return replace(spec, workloads=tuple(n for n in spec.workloads if n not in unfit))


def run_spec(spec: RunSpec, outputs: Outputs) -> int:
    """Run ``spec``, write all results where they are wanted, and return the exit code."""
    lines_to_stderr = outputs.json == "-"  # standard output is the document then
    click.echo(first_line(spec), err=lines_to_stderr)
    sys.stdout.flush()
    artifacts = None if outputs.out is None else Artifacts(outputs.out, spec)

    def finish(result: RunResult) -> int:
        _write(result, outputs, artifacts)
        for line in result_lines(result):
            click.echo(line, err=lines_to_stderr)
        return result.verdict.exit_code

    def abandon(result: RunResult) -> None:
        code = finish(result)
        sys.stdout.flush()
        os._exit(code)  # the main thread is in a kernel that never ends

    with Interrupts() as interrupts:
        controller = Controller(spec, _progress(outputs.progress), interrupts, artifacts, abandon)
        result = controller.run()
    return finish(result)


def _progress(wanted: str) -> Progress:
    if wanted == "never":
        return Progress()
    if wanted == "always" or sys.stderr.isatty():
        from stress.report.live import LiveProgress  # rich costs 80 ms: only where it is seen

        return LiveProgress()
    return PlainProgress()


def _write(result: RunResult, outputs: Outputs, artifacts: Artifacts | None) -> None:
    document = json_document(result)
    if outputs.json is not None:
        write_to(outputs.json, document)
    if outputs.junit is not None:
        Path(outputs.junit).write_text(junit_document(result))
    if artifacts is not None:
        artifacts.save_result(result, document)
        click.echo(f"results in {artifacts.directory}", err=True)

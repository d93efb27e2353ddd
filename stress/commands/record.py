"""``shmstress record``: a trace of what Linux's own allocators do while a command runs."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import click

from shmalloc.errors import EnvironmentUnfitError, MisuseError
from stress.options import Size, option
from stress.options import command as as_command
from stress.quantities import counted
from stress.run.workers import describe_exit
from stress.trace.format import Trace, save
from stress.trace.record import EVENTS, Recorder
from stress.trace.tracefs import Instance

KILL_AFTER_S = 5.0


@as_command("record", context_settings={"ignore_unknown_options": True})
@option("--out", required=True, metavar="FILE", help="Write the trace to FILE, such as t.npz.")
@option(
    "--buffer",
    type=Size(),
    default="64MiB",
    show_default=True,
    help="Size of the event buffer of each CPU.",
)
@click.argument("cmd", nargs=-1, required=True, type=click.UNPROCESSED)
def command(out: str, buffer: int, cmd: tuple[str, ...]) -> int:
    """Record the page and slab allocations of the whole system while CMD runs.

    Needs root and tracefs. Nothing is kept but numbers and the names of slab caches: no addresses,
    no process names. Replay it with shmstress run --workload trace --trace FILE.
    """
    _check_out(Path(out))
    recorder = Recorder()
    with _signals_raise(), Instance(EVENTS, buffer) as instance:
        status = _run(instance, cmd)
        recorder.feed(instance.lines())
        full = instance.full_cpus()
    recorder.cut([*full, *recorder.lost])
    trace = recorder.trace(out)
    if not len(trace):
        raise EnvironmentUnfitError(f"record: no event was recorded while {cmd[0]!r} ran")
    save(trace, out)
    for line in _summary(trace, recorder, full):
        click.echo(line)
    click.echo(f"{cmd[0]} {describe_exit(status)}")
    return 0


def _check_out(path: Path) -> None:
    """Check before the work that its result can be written."""
    if not path.parent.is_dir():
        raise MisuseError(f"out: {str(path)!r}; there is no directory {str(path.parent)!r}")
    if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        raise MisuseError(f"out: {str(path)!r} may not be written; use another file")


@contextmanager
def _signals_raise() -> Iterator[None]:
    """SIGTERM and SIGHUP end us as Ctrl-C does: through every ``with`` block on the way."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {n: signal.signal(n, interrupt) for n in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _run(instance: Instance, cmd: tuple[str, ...]) -> int:
    """Run ``cmd`` with recording on; its exit status, negative for a signal."""
    with instance.on():
        try:
            process = subprocess.Popen(cmd)
        except OSError as error:
            raise MisuseError(f"command: {cmd[0]!r}: {error.strerror}") from error
        try:
            return process.wait()
        finally:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """On an interruption, end the command first."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(KILL_AFTER_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _summary(trace: Trace, recorder: Recorder, full: dict[int, int]) -> Iterator[str]:
    counts = ", ".join(f"{count:,} {name}" for name, count in trace.counts().items())
    seconds = int(trace.time_ns[-1]) / 1e9
    cpus, caches = counted(len(trace.cpus), "CPU"), counted(len(trace.caches), "cache")
    yield f"{trace.source}: {counted(len(trace), 'event')} in {seconds:.3f} s on {cpus}"
    yield f"{counts}; peak {counted(trace.peak_pages(), 'page')}, {caches}"
    if recorder.skipped:
        skipped = ", ".join(f"{count:,} {why}" for why, count in sorted(recorder.skipped.items()))
        yield f"left out: {skipped}"
    lost = {**recorder.lost, **full}
    if lost:
        cpus = ", ".join(f"{count:,} on CPU {cpu}" for cpu, count in sorted(lost.items()))
        yield f"LOST: {cpus}; the trace ends where the first buffer was full, use a larger --buffer"

"""``shmstress record``: a trace of what Linux's own allocators do while a command runs."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click

from shmalloc.errors import EnvironmentUnfitError, MisuseError
from stress.options import Size, option
from stress.options import command as as_command
from stress.report.places import require_file
from stress.surroundings import sentence
from stress.trace.tracefs import Instance
from stress.verdict import Verdict

if TYPE_CHECKING:
    from stress.trace.importing import Imported
    from stress.trace.record import RawText

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
@option("--keep-raw", is_flag=True, help="Keep the kernel's text, too, in FILE.txt.")
@click.argument("cmd", nargs=-1, required=True, type=click.UNPROCESSED)
def command(out: str, buffer: int, keep_raw: bool, cmd: tuple[str, ...]) -> int:
    """Record the page and slab allocations of the whole system while CMD runs.

    Needs root and tracefs. The text of the kernel is written to FILE.txt first and converted after;
    it stays there if that fails or is interrupted. The trace has nothing but numbers and the names
    of slab caches: no addresses, no process names. Replay it with shmstress run --workload trace
    --trace FILE.
    """
    from stress.run.workers import describe_exit
    from stress.trace import record
    from stress.trace.importing import NothingUsable
    from stress.trace.summary import brief

    place = Path(out)
    require_file("out", out)
    raw = record.RawText(place)
    try:
        with _signals_raise():
            status, imported = _record(cmd, buffer, raw, place)
            if status is not None and imported is None:
                imported = record.convert(raw, place)
    except NothingUsable as error:
        text = f"record: no event was recorded while {cmd[0]!r} ran{_kept(raw)}"
        raise EnvironmentUnfitError(text) from error
    except BaseException:
        click.echo(f"record: not converted{_kept(raw)}", err=True)
        raise
    if status is None or imported is None:
        click.echo(f"record: interrupted{_kept(raw)}", err=True)
        return Verdict.INTERRUPTED.exit_code
    for line in (*imported.report(), *brief(replace(imported.trace, source=out))):
        click.echo(line)
    if keep_raw:
        click.echo(f"text: {raw.path}")
    else:
        raw.remove()
    click.echo(f"{cmd[0]} {describe_exit(status)}")
    return 0


def _kept(raw: RawText) -> str:
    """Where the text of the recording is, and how it becomes a trace."""
    return f"; its text is kept, convert it: {raw.import_command}" if raw.lines else ""


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


def _record(
    cmd: tuple[str, ...], buffer: int, raw: RawText, out: Path
) -> tuple[int | None, Imported | None]:
    """Run ``cmd`` and keep the text: its exit status, None if it was interrupted.

    Where there is no room for the text, the trace is made before the instance is gone.
    """
    from stress.trace.record import EVENTS, convert_at_once

    with Instance(EVENTS, buffer) as instance:
        status: int | None = None
        with suppress(KeyboardInterrupt):  # what was recorded until now is not lost
            status = _run(instance, cmd)
        try:
            raw.write(instance)
        except OSError as error:
            raw.remove()
            click.echo(f"record: its text cannot be kept: {sentence(error)}", err=True)
            return status, convert_at_once(instance, out)
    return status, None


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

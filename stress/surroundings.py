"""What the command line needs of the process and the machine around it, and how that goes wrong.

Standard output must be open; a working directory must exist if a command needs one. A reader that
goes away is no error: ``head`` has seen enough, the work goes on, and the exit code is that of the
verdict. Limits of the system are the machine's fault, not ours: ``unfit`` says such an error in one
sentence, for exit code 7.
"""

from __future__ import annotations

import errno
import io
import os
import resource
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from shmalloc import cgroup
from shmalloc.compiler.directory import shown
from shmalloc.errors import EnvironmentUnfitError, MisuseError

STANDARD_ERROR = 2  # its descriptor
LOW_PROCESS_LIMIT = 4096  # under a higher one, counting is not worth its time
SHARED_MEMORY = "/dev/shm"
_OF_NO_FILE = (errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM)  # whatever file it names
_OF_THE_MACHINE = (*_OF_NO_FILE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # not of a name
_CURES = {
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "close files of other processes, or raise fs.file-max",
    errno.EFBIG: "raise the limit of file sizes (ulimit -f)",
    errno.EAGAIN: "raise the limit of processes (ulimit -u, or pids.max of the control group)",
    errno.ENOMEM: "free memory, or raise its limit (ulimit -v)",
    errno.ENOSPC: "make room there",
    errno.EDQUOT: "make room there, or raise the quota",
    errno.EROFS: "remount it writable",
    errno.EACCES: "change the permissions, or run as another user",
    errno.EPERM: "change the permissions, or run as another user",
}


class _Pipe(io.FileIO):
    """A standard stream that goes on without its reader; standard error also without room.

    A terminal that was closed is a reader that went away.

    Results go to standard output, so a disk that is full there is told. Nothing could tell that
    standard error is full, and it changes no verdict.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, "wb", closefd=False)
        self._terminal = self.isatty()

    def write(self, data: object) -> int:
        try:
            return super().write(data)  # type: ignore[arg-type]
        except OSError as error:
            gone = isinstance(error, BrokenPipeError) or (
                self._terminal and error.errno == errno.EIO
            )
            if not gone and self.fileno() != STANDARD_ERROR:
                raise
            _discard(self.fileno())
            return len(data)  # type: ignore[arg-type]


def _discard(descriptor: int) -> None:
    """Let everything that is written to ``descriptor`` from now on go nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)


def prepare_streams() -> None:
    """Make the standard streams of this process fit for a command.

    Raises ``EnvironmentUnfitError`` if standard output is closed. A closed standard input or error
    is opened on nothing, so that no other file takes its number.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free, which is this
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
    if sys.stdout is None:
        raise EnvironmentUnfitError(
            "standard output is closed; redirect it to a file, or to /dev/null"
        )
    sys.stdout, sys.stderr = _without_reader(sys.stdout), _without_reader(sys.stderr)


def _without_reader(stream: TextIO) -> TextIO:
    stream.flush()
    raw = _Pipe(stream.fileno())
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        stream.encoding,
        "backslashreplace",  # of a name that this terminal has no letters for, the rest is read
        line_buffering=getattr(stream, "line_buffering", False) or stream is sys.stderr,
    )


def plain(text: str) -> str:
    """``text`` from outside without what a terminal would obey; its lines stay lines."""
    return "\n".join(shown(line.expandtabs()) for line in text.split("\n"))


def flush_streams() -> None:
    """Write out what is left. Raises ``EnvironmentUnfitError`` if there is no room for it."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError as error:
            _discard(stream.fileno())  # the interpreter flushes once more when it ends
            stream.flush()
            raise EnvironmentUnfitError(f"standard output: {sentence(error)}") from error


def unwritable(option: str, path: str, error: OSError) -> Exception:
    """The error for a file that cannot be written: of the machine, or of who named the file."""
    if error.errno in _OF_THE_MACHINE:
        return OSError(error.errno, error.strerror, path)
    reason = error.strerror or str(error)
    return MisuseError(
        f"{option}: {path} cannot be written ({reason}); name an existing, writable place"
    )


@contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """While the file ``path`` is written: an error is told with its name, which a full disk lacks.

    Raises ``OSError`` for a limit of the machine, ``MisuseError`` for any other one.
    """
    try:
        yield
    except OSError as error:
        if isinstance(error, BrokenPipeError) or error.errno is None:
            raise  # a reader that has seen enough; a defect of ours
        raise unwritable("output", str(path), error) from error


def require_files(wanted: int, what: str) -> None:
    """Raises ``EnvironmentUnfitError`` if ``what`` opens more files than this process may."""
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= most < wanted:
        raise EnvironmentUnfitError(
            f"{what} need {wanted} open files, and the limit is {most};"
            f" {_CURES[errno.EMFILE]}, or use fewer"
        )


def require_processes(wanted: int, what: str) -> None:
    """Raises ``EnvironmentUnfitError`` if this user may not start ``wanted`` processes more.

    A process that cannot be forked dies in another process, too late to be told well.
    """
    left = cgroup.tasks_left()
    if left is not None and wanted > left:
        raise EnvironmentUnfitError(
            f"{what} need {wanted} processes, and their control group has room for {left};"
            " raise its limit (pids.max), or use fewer"
        )
    most, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    if os.getuid() == 0 or not 0 <= most < LOW_PROCESS_LIMIT:
        return
    running = sum(_tasks(path) for path in Path("/proc").glob("[0-9]*"))
    if running + wanted > most:
        raise EnvironmentUnfitError(
            f"{what} need {wanted} processes, {running} are running, and the limit is {most};"
            f" {_CURES[errno.EAGAIN]}, or use fewer"
        )


def _tasks(process: Path) -> int:
    """Threads of that process, if it is this user's."""
    try:
        ours = process.stat().st_uid == os.getuid()
        return sum(1 for _ in (process / "task").iterdir()) if ours else 0
    except OSError:  # it has ended
        return 0


def unfit(error: BaseException) -> str | None:
    """The sentence for an error that a limit or the state of this machine caused, else None."""
    for one in chain(error):
        if isinstance(one, OSError) and one.errno in _CURES:
            return sentence(one)
        if isinstance(one, shutil.Error):  # of many files at once; it has texts, not numbers
            for number in _CURES:
                if os.strerror(number) in str(one):
                    return sentence(OSError(number, ""))
        if isinstance(one, FileNotFoundError) and not _has_directory():
            return "the working directory no longer exists; change to another"
        if isinstance(one, FileNotFoundError) and not Path(SHARED_MEMORY).is_dir():
            return f"{SHARED_MEMORY} does not exist; mount a tmpfs there"
        if isinstance(one, RuntimeError) and "start new thread" in str(one):
            return f"no thread can be started; {_CURES[errno.EAGAIN]}"
        if type(one) is MemoryError:
            return f"out of memory; {_CURES[errno.ENOMEM]}"
    return None


def _has_directory() -> bool:
    try:
        return Path.cwd().is_dir()
    except FileNotFoundError:
        return False


def sentence(error: OSError) -> str:
    """What went wrong, where, and the cure."""
    reason = os.strerror(error.errno or 0)
    named = error.filename is not None and error.errno not in _OF_NO_FILE
    place = f"{error.filename}: " if named else ""
    if error.errno == errno.EROFS and not os.access(SHARED_MEMORY, os.W_OK):
        place = f"{SHARED_MEMORY}: "
    return f"{place}{reason}; {_CURES.get(error.errno or 0, 'change that')}"


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """``error`` and what led to it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__

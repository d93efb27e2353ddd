"""What a worker's process says as a signal ends it: in which kernel that was.

The line is written to descriptor 2 by the signal handler of the image (compiler/symbols.py), as are
complaints of the C library. That descriptor is the worker's log if it has one, else a file
without a name that only worker and controller know. What Python writes to ``sys.stderr`` is still
seen at once.
"""

from __future__ import annotations

import os
import re
import sys
from contextlib import suppress
from pathlib import Path

_CRASH = re.compile(r"^SIG[A-Z]+ (in kernel .+)$", re.MULTILINE)


class LastWords:
    """The controller's end: made before the worker is started, read when it is dead."""

    def __init__(self, log: str | None) -> None:
        self._log = log
        self._descriptor = -1 if log is not None else os.memfd_create("last-words")
        self.path = log or f"/proc/{os.getpid()}/fd/{self._descriptor}"

    def of_crash(self) -> str:
        """Such as " in kernel shmalloc.kernels.buddy:merge +0x42, address 0x10"; else empty."""
        found = _CRASH.findall(self._text())
        return f" {found[-1]}" if found else ""

    def others(self) -> str:
        """What else was said; empty if there is a log, which has it all."""
        return "" if self._log is not None else _CRASH.sub("", self._text()).strip()

    def _text(self) -> str:
        with suppress(OSError):
            return Path(self.path).read_text(errors="backslashreplace")
        return ""

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def speak_into(path: str) -> None:
    """The worker's end: descriptor 2 goes there from now on, ``sys.stderr`` stays what it is."""
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1, errors="backslashreplace")
    redirect(path)


def redirect(path: str) -> None:
    """Let descriptor 2 append to ``path``, which may be a log that is not there yet."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(file, 2)
    os.close(file)

"""Real processes that use the image store, steered line by line through their pipes.

A child imports the store alone, without the rest of the package, so that it starts at once. It may
become another user first (after its imports: that user may not be able to read our interpreter).
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import shmalloc

KEY = "0123456789abcdef" * 4
OTHER_KEY = KEY[::-1]
OTHER_USER = 65534
PATIENCE_S = 60.0
PREAMBLE = f"""
import sys, types
sys.modules["shmalloc"] = package = types.ModuleType("shmalloc")
package.__path__ = [sys.argv[1]]
import os, pathlib, signal, tempfile, threading, time
from shmalloc.compiler import claims, directory, imagefile, store
KEY, OTHER_KEY = {KEY!r}, {OTHER_KEY!r}
def say(text):
    os.write(1, (str(text) + "\\n").encode())  # one write, as threads and forks say things, too
def tell(line):
    say("told: " + line)
def build():
    say("building")
    return b"built " * 100
def build_when_allowed():
    say("building")
    sys.stdin.readline()
    return b"built " * 100
user = int(sys.argv[2])
if user:
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
"""


class Child:
    """One process that runs ``code`` after the preamble; ``user`` 0 means ours."""

    def __init__(self, code: str, user: int = 0, **environment: str | Path) -> None:
        package = str(Path(shmalloc.__path__[0]))
        kept = {k: v for k, v in os.environ.items() if not k.startswith("SHMALLOC_")}
        self.process = subprocess.Popen(
            [sys.executable, "-c", PREAMBLE + code, package, str(user)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            env=kept | {k: str(v) for k, v in environment.items()},
            cwd="/",
        )
        self._text = b""
        self.pid = self.process.pid

    def line(self, awaited: str = "its next line") -> str:
        """The next line it prints; fails after PATIENCE_S, naming what was awaited."""
        assert self.process.stdout is not None
        end_s = time.monotonic() + PATIENCE_S
        while b"\n" not in self._text:
            left_s = end_s - time.monotonic()
            ready, _, _ = select.select([self.process.stdout], [], [], max(left_s, 0))
            assert ready, f"child {self.pid} never came to {awaited!r}; it said {self._text!r}"
            piece = os.read(self.process.stdout.fileno(), 1 << 16)
            assert piece, f"child {self.pid} ended before {awaited!r}; it said {self._text!r}"
            self._text += piece
        line, self._text = self._text.split(b"\n", 1)
        return line.decode()

    def expect(self, start: str) -> str:
        line = self.line(start)
        assert line.startswith(start), f"awaited {start!r}, but child {self.pid} said {line!r}"
        return line

    def allow(self) -> None:
        """Let ``build_when_allowed`` return."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"\n")
        self.process.stdin.flush()

    def rest(self) -> list[str]:
        """What it prints until its end, which must be a good one."""
        out, _ = self.process.communicate(timeout=PATIENCE_S)
        assert self.process.returncode == 0, f"child {self.pid} failed after {out!r}"
        return (self._text + out).decode().splitlines()

    def kill(self) -> None:
        """End it and what it has forked, which would keep its pipes open."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.process.communicate()


@contextmanager
def children(*started: Child) -> Iterator[None]:
    """End these processes whatever happens in the block."""
    try:
        yield
    finally:
        for child in started:
            if child.process.returncode is None:
                child.kill()


def until(condition: Callable[[], bool], what: str) -> None:
    """Poll a condition; fails with its name instead of guessing a delay."""
    end_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end_s, f"it never came to this: {what}"
        time.sleep(0.002)

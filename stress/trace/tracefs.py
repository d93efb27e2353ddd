"""An instance of the kernel's tracing: it has its own buffers and changes nothing global.

    with Instance(EVENTS, buffer_bytes) as instance:
        with instance.on(): ...                    records, on all CPUs
        lines, lost = instance.lines(), instance.full_cpus()

An instance is a directory below ``instances/`` of tracefs. It is removed when the ``with`` block
ends, in whatever way; the next recorder removes the instance of a killed one (the name carries pid
and start time of its owner). Buffers keep the oldest events: a full buffer drops later ones, so
that what was recorded before has no holes.

Needs root. If something is missing, an ``EnvironmentUnfitError`` says what to do.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from shmalloc.errors import EnvironmentUnfitError
from shmalloc.processes import own_identity, owner_alive

ROOTS = (Path("/sys/kernel/tracing"), Path("/sys/kernel/debug/tracing"))
_SYSTEM = "kmem"
_NAME = re.compile(r"shmstress-(\d+)-(\d+)")
_DROPPED = re.compile(r"^(?:dropped events|overrun|commit overrun): (\d+)$", re.MULTILINE)


def find_tracefs(roots: Sequence[Path] = ROOTS) -> Path:
    """The folder where tracefs is mounted and writable."""
    if sys.platform != "linux":
        raise EnvironmentUnfitError(f"record: needs Linux's tracefs, this is {sys.platform}")
    for root in roots:
        if (root / "instances").is_dir():
            if os.access(root / "instances", os.W_OK):
                return root
            raise EnvironmentUnfitError(f"record: {root} may not be written; run it as root")
    if os.geteuid() != 0:
        raise EnvironmentUnfitError(
            f"record: no tracefs can be seen at {roots[0]}; run it as root (user id 0)"
        )
    raise EnvironmentUnfitError(
        f"record: tracefs is not mounted; run: mount -t tracefs nodev {roots[0]}"
        " (a kernel without CONFIG_TRACING has none, a container may not be allowed to)"
    )


def sweep(root: Path) -> list[str]:
    """Remove the instances of dead recorders; returns their names."""
    swept = []
    for path in (root / "instances").iterdir():
        match = _NAME.fullmatch(path.name)
        if match and not owner_alive(int(match[1]), int(match[2])):
            path.rmdir()
            swept.append(path.name)
    return swept


class Instance:
    """One tracing instance; it exists inside the ``with`` block."""

    def __init__(
        self, events: Sequence[str], buffer_bytes: int, roots: Sequence[Path] = ROOTS
    ) -> None:
        self._root = find_tracefs(roots)
        self._events = events
        self._buffer_bytes = buffer_bytes
        missing = [e for e in events if not (self._root / "events" / _SYSTEM / e).is_dir()]
        if missing:
            raise EnvironmentUnfitError(
                f"record: this kernel has no trace events {', '.join(missing)} in {_SYSTEM};"
                " use one that has (Linux 6.1 or later, with CONFIG_EVENT_TRACING)"
            )
        pid, start = own_identity()
        self.path = self._root / "instances" / f"shmstress-{pid}-{start}"

    def __enter__(self) -> Instance:
        sweep(self._root)
        try:
            self.path.mkdir()
        except OSError as error:
            text = f"record: {self.path}: {error.strerror}; tracing may be locked down here"
            raise EnvironmentUnfitError(text) from error
        try:
            self._set_up()
        except BaseException as error:
            self.path.rmdir()
            if isinstance(error, OSError):
                raise EnvironmentUnfitError(
                    f"record: {error.filename}: {error.strerror}; with a smaller --buffer?"
                ) from error
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Switch off and remove; the buffers go with the directory."""
        self._write("tracing_on", "0")
        for event in self._events:
            self._write(f"events/{_SYSTEM}/{event}/enable", "0")
        self.path.rmdir()

    def _write(self, name: str, text: str) -> None:
        (self.path / name).write_text(text)

    def _set_up(self) -> None:
        self._write("tracing_on", "0")
        self._write("trace_clock", "mono")
        self._write("options/overwrite", "0")
        if (self.path / "options/hash-ptr").exists():  # two objects may share a hash of 32 bits
            self._write("options/hash-ptr", "0")
        self._write("buffer_size_kb", str(max(1, self._buffer_bytes >> 10)))
        for event in self._events:
            self._write(f"events/{_SYSTEM}/{event}/enable", "1")

    @contextmanager
    def on(self) -> Iterator[None]:
        """Record while the block runs."""
        self._write("tracing_on", "1")
        try:
            yield
        finally:
            self._write("tracing_on", "0")

    def lines(self) -> Iterator[bytes]:
        """What was recorded, as text in time order. The buffers keep it."""
        with (self.path / "trace").open("rb") as file:
            yield from file

    def full_cpus(self) -> dict[int, int]:
        """CPU -> number of events that its buffer dropped; only CPUs with a loss."""
        lost = {}
        for path in self.path.glob("per_cpu/cpu*/stats"):
            count = sum(int(number) for number in _DROPPED.findall(path.read_text()))
            if count:
                lost[int(path.parent.name.removeprefix("cpu"))] = count
        return lost

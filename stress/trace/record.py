"""Recording: the kernel's text is kept on disk first, and becomes a trace after.

    Instance -> OUT.txt -> import_text -> OUT

The text is removed when the trace is written. It stays if the conversion fails or is interrupted,
and then ``import_command`` converts it. If the disk has no room for the text, the trace is made
from the instance itself, which still has all of it.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain, count
from pathlib import Path
from typing import IO

from stress.trace.format import save
from stress.trace.importing import Imported, import_lines, import_text
from stress.trace.kernel_text import FULL, KernelText
from stress.trace.tracefs import Instance

EVENTS = (
    "mm_page_alloc",
    "mm_page_free",
    "kmem_cache_alloc",
    "kmem_cache_free",
    "kmalloc",
    "kfree",
)


class RawText:
    """The text of one recording, beside the trace ``out``. Nothing is written over."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self.path: Path | None = None  # as soon as it is there
        self.lines = 0  # that are on disk

    def write(self, instance: Instance) -> None:
        """Copy what ``instance`` recorded; for its owner only, as it has addresses and names."""
        with self._new() as file:
            for line in recorded(instance):
                file.write(line)
                self.lines += 1

    def _new(self) -> IO[bytes]:
        """``OUT.txt``, or the next number of it that is free."""
        out = self._out
        beside = out.parent if not out.exists() or out.is_file() else Path(tempfile.gettempdir())
        names = chain([f"{out.name}.txt"], (f"{out.name}.{n}.txt" for n in count(2)))
        for name in names:
            with suppress(FileExistsError):
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
                descriptor = os.open(beside / name, flags, 0o600)
                self.path = beside / name
                return os.fdopen(descriptor, "wb")
        raise AssertionError("numbers do not end")

    def remove(self) -> None:
        if self.path is not None:
            self.path.unlink(missing_ok=True)
        self.path, self.lines = None, 0

    @property
    def import_command(self) -> str:
        return f"shmstress trace import {self.path} --out {self._out}"


def recorded(instance: Instance) -> Iterator[bytes]:
    """The text of a recording, and at its end which buffers were full."""
    full = sorted(instance.full_cpus().items())
    marks = (f"{FULL.format(cpu, dropped)}\n".encode() for cpu, dropped in full)
    return chain(instance.lines(), marks)


def convert(raw: RawText, out: Path) -> Imported:
    """Make the trace of the text and write it. Raises what ``import_text`` and ``save`` raise."""
    assert raw.path is not None
    return _saved(import_text(raw.path, KernelText.name), out)


def convert_at_once(instance: Instance, out: Path) -> Imported:
    """The same without a text on disk."""
    lines = (line.decode("utf-8", "replace") for line in recorded(instance))
    return _saved(import_lines(lines, str(out), KernelText.name), out)


def _saved(imported: Imported, out: Path) -> Imported:
    save(imported.trace, out)
    return imported

"""``Trace``: recorded page and object traffic, and what a sound trace is.

One row an event, in time order::

    time_ns int64   since the first event          id    uint32  which allocation, dense
    cpu     uint8                                  arg   uint32  the order; bytes of an object; 0
    task    uint16  dense                          flag  uint16  migratetype; index into caches
    kind    uint8   0, 1 page alloc, free          caches  names of the slab caches
                    2, 3 object alloc, free        notes   what is approximated, in sentences

Each id is allocated once and freed at most once, after its allocation and by the matching kind of
free. ``load`` accepts nothing else: every error names the file, the array, the row and the cure.
Files without ``notes`` are accepted; docs/traces.md has the limits.

archive.py reads and writes the file, compile.py interprets traces, importing.py makes them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np

from shmalloc import constants as c
from shmalloc.errors import MisuseError
from stress.trace.archive import NotAnArchive, Wanted, read_arrays, write_arrays

PAGE_ALLOC, PAGE_FREE, OBJECT_ALLOC, OBJECT_FREE = range(4)
KINDS = 4
LARGEST_ORDER = 10  # Linux: MAX_PAGE_ORDER
LARGEST_OBJECT_BYTES = 1 << 22  # Linux: KMALLOC_MAX_SIZE
MAX_EVENTS = 1 << 24
MAX_CACHES = 4096
MAX_NAME_CHARS = 128
MAX_NOTES = 64
MAX_NOTE_CHARS = 400
SAMPLE = "sample"  # the name of the recording that is part of the package
RECORD_AGAIN = "record it again with shmstress record, or import it with shmstress trace import"

_TYPES = {
    "time_ns": np.int64,
    "cpu": np.uint8,
    "task": np.uint16,
    "kind": np.uint8,
    "id": np.uint32,
    "arg": np.uint32,
    "flag": np.uint16,
}
_WANTED = {
    **{name: Wanted(np.dtype(type_), MAX_EVENTS) for name, type_ in _TYPES.items()},
    "caches": Wanted(None, MAX_CACHES, MAX_NAME_CHARS),
    "notes": Wanted(None, MAX_NOTES, MAX_NOTE_CHARS, optional=True),
}


@dataclass(frozen=True, eq=False)
class Trace:
    """One recording: arrays of equal length, except ``caches``. ``validate`` checks it."""

    time_ns: np.ndarray
    cpu: np.ndarray
    task: np.ndarray
    kind: np.ndarray
    id: np.ndarray
    arg: np.ndarray
    flag: np.ndarray
    caches: np.ndarray
    notes: tuple[str, ...] = ()
    source: str = "trace"

    def __len__(self) -> int:
        return len(self.kind)

    @property
    def cpus(self) -> tuple[int, ...]:
        """The CPUs with events, ascending: the k-th is replayed on slot k."""
        return tuple(int(cpu) for cpu in np.unique(self.cpu))

    @property
    def is_alloc(self) -> np.ndarray:
        return np.asarray((self.kind & 1) == 0)

    def alloc_row(self) -> np.ndarray:
        """For every id up to the largest, the row of its allocation, or -1."""
        rows = np.full(int(self.id.max(initial=0)) + 1, -1, dtype=np.int64)
        allocs = np.flatnonzero(self.is_alloc)
        rows[self.id[allocs]] = allocs
        return rows

    def page_delta(self) -> np.ndarray:
        """The change of the number of allocated pages by each event."""
        is_page = self.kind <= PAGE_FREE
        pages = np.left_shift(1, np.where(is_page, self.arg, 0).astype(np.int64))
        return np.where(is_page, np.where(self.is_alloc, pages, -pages), 0)

    def remote(self) -> np.ndarray:
        """Whether each event is a free on another CPU than that of the allocation."""
        alloc_cpu = self.cpu[self.alloc_row()[self.id]]
        return np.asarray(~self.is_alloc & (alloc_cpu != self.cpu))

    def counts(self) -> dict[str, int]:
        """What a faithful replay does: events by kind, and frees on another CPU."""
        by_kind = np.bincount(self.kind, minlength=KINDS)
        names = ("page allocs", "page frees", "object allocs", "object frees")
        counted = {name: int(n) for name, n in zip(names, by_kind, strict=True)}
        return {**counted, "remote frees": int(self.remote().sum())}

    def peak_pages(self) -> int:
        """The largest number of pages that are allocated at once, slab pages not counted."""
        return int(np.cumsum(self.page_delta()).max(initial=0))


def load(path: str | Path) -> Trace:
    """The trace in a file, or the package's own for the name ``sample``.

    Raises ``MisuseError`` for a file that is missing, is no trace, or is unsound.
    """
    source = str(path)
    try:
        arrays = read_arrays(sample_file() if source == SAMPLE else path, _WANTED, RECORD_AGAIN)
    except NotAnArchive as error:
        if not error.is_text:
            raise
        new = Path(source).name.partition(".")[0] or "t"
        cure = f"import it first: shmstress trace import {source} --out {new}.npz"
        raise MisuseError(f"trace: {source}: text, not an .npz file; {cure}") from error
    notes = arrays.pop("notes", np.array([], dtype=np.str_))
    for name, texts in (("caches", arrays["caches"]), ("notes", notes)):
        if not _printable(texts):
            raise _unsound(source, name, "has characters that cannot be printed")
    trace = Trace(**arrays, notes=tuple(notes.tolist()), source=source)
    validate(trace)
    return trace


def _printable(texts: np.ndarray) -> bool:
    """Whether every text is of letters, digits, signs and blanks; looked at as numbers first."""
    points = (
        texts.view(np.uint32) if texts.dtype.itemsize and len(texts) else np.zeros(0, np.uint32)
    )
    no_letters = (points > 0x10FFFF) | ((points >= 0xD800) & (points < 0xE000))
    return not no_letters.any() and all(text.isprintable() for text in texts.tolist())


def sample_file() -> Path:
    """The recording that is part of the package."""
    return Path(str(files("stress") / "data" / "sample.npz"))


def save(trace: Trace, path: str | Path) -> None:
    """Write a trace, compressed, after validating it, so that no unsound file ever exists."""
    validate(trace)
    arrays = {name: getattr(trace, name) for name in (*_TYPES, "caches")}
    notes = [note[:MAX_NOTE_CHARS] for note in trace.notes[:MAX_NOTES]]
    write_arrays(path, {**arrays, "notes": np.array(notes, dtype=np.str_)})


def validate(trace: Trace) -> None:
    """Raise ``MisuseError`` for the first thing that is wrong with ``trace``."""
    for check in (_shapes, _ranges, _pairs):
        for name, problem in check(trace):
            raise _unsound(trace.source, name, problem)


def _unsound(source: str, name: str, problem: str) -> MisuseError:
    return MisuseError(f"trace: {source}: array {name!r} {problem}; {RECORD_AGAIN}")


Problem = tuple[str, str]


def _shapes(trace: Trace) -> Iterator[Problem]:
    """Types and lengths; all other checks rely on them."""
    for name, wanted in _TYPES.items():
        array = getattr(trace, name)
        if array.dtype != wanted:
            yield name, f"has type {array.dtype}, expected {np.dtype(wanted)}"
        if array.ndim != 1 or len(array) != len(trace.kind):
            yield name, f"has shape {array.shape}, expected ({len(trace.kind)},) as 'kind' has"
    if trace.caches.dtype.kind != "U" or trace.caches.ndim != 1:
        yield "caches", f"has type {trace.caches.dtype}, expected a list of names"
    if len(trace.caches) > MAX_CACHES:
        yield "caches", f"names {len(trace.caches)} caches, at most {MAX_CACHES} are supported"
    if not len(trace.kind):
        yield "kind", "is empty: nothing was recorded"


def _ranges(trace: Trace) -> Iterator[Problem]:
    """Problems that show in one row, or in two neighbouring rows."""
    is_page, kind = trace.kind <= PAGE_FREE, trace.kind
    page_alloc, is_object = kind == PAGE_ALLOC, ~is_page
    bytes_bad = (trace.arg < 1) | (trace.arg > LARGEST_OBJECT_BYTES)
    rules = (
        ("time_ns", np.diff(trace.time_ns, prepend=trace.time_ns[:1]) < 0,
         "goes back in time at", "the rows have to be sorted"),
        ("kind", kind >= KINDS, "is unknown at", "0 to 3 are known"),
        ("arg", is_page & (trace.arg > LARGEST_ORDER), "is too large an order at",
         f"0 to {LARGEST_ORDER} exist"),
        ("arg", (kind == OBJECT_ALLOC) & bytes_bad, "is no size of an object at",
         f"1 to {LARGEST_OBJECT_BYTES} bytes are possible"),
        ("flag", page_alloc & (trace.flag >= c.MT_PCP_TYPES), "is no migratetype at",
         f"0 to {c.MT_PCP_TYPES - 1} are known"),
        ("flag", is_object & (trace.flag >= len(trace.caches)), "is no cache at",
         f"'caches' has {len(trace.caches)} names"),
    )  # fmt: skip
    for name, bad, problem, rule in rules:
        if bad.any():
            row = int(np.argmax(bad))
            yield name, f"{problem} row {row} ({getattr(trace, name)[row]}): {rule}"
    if len(trace.cpus) > c.MAX_TRACED_CPUS:
        yield "cpu", f"names {len(trace.cpus)} CPUs, at most {c.MAX_TRACED_CPUS} are supported"
    if int(trace.id.max()) >= 2 * len(trace):
        yield "id", f"is not dense: {trace.id.max()} among {len(trace)} events"


def _pairs(trace: Trace) -> Iterator[Problem]:
    """Problems of ids: each is allocated once and freed at most once, later, by the same kind."""
    allocs, frees = np.flatnonzero(trace.is_alloc), np.flatnonzero(~trace.is_alloc)
    for rows, what in ((allocs, "allocated"), (frees, "freed")):
        times = np.bincount(trace.id[rows], minlength=1)
        if np.max(times) > 1:
            twice = int(np.argmax(times))
            row = int(rows[np.flatnonzero(trace.id[rows] == twice)[1]])
            yield "id", f"{twice} is {what} twice, again at row {row}"
    alloc_row = trace.alloc_row()[trace.id[frees]]
    for bad, name, problem in (
        (alloc_row < 0, "id", "is freed but never allocated"),
        (alloc_row > frees, "id", "is freed before it is allocated"),
        (trace.kind[alloc_row] + 1 != trace.kind[frees], "kind", "is not the free of its alloc"),
        (
            (trace.kind[frees] == PAGE_FREE) & (trace.arg[alloc_row] != trace.arg[frees]),
            "arg",
            "is not the order of its alloc",
        ),
        (
            (trace.kind[frees] == OBJECT_FREE) & (trace.flag[alloc_row] != trace.flag[frees]),
            "flag",
            "is not the cache of its alloc",
        ),
    ):
        if bad.any():
            row = int(frees[bad.argmax()])
            yield name, f"{problem}: row {row}, id {trace.id[row]}"

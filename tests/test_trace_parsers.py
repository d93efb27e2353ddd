"""Every layout of every tool: random events, printed as the tool does, are read as they were.

The printers (tests/support/trace_texts.py) are written from the printf formats of the tools, and
the pairing there is a dict: neither shares code with the parser.
"""

from __future__ import annotations

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from stress.trace.format import PAGE_FREE, Trace, validate
from stress.trace.importing import import_lines
from stress.trace.tally import UNKNOWN
from support.trace_texts import (
    CACHE_ALLOC,
    KFREE,
    LAYOUTS,
    PAGE_ALLOC,
    Event,
    Layout,
    Row,
    expected,
)

CACHES = {"filp": 192, "dentry": 216, "ext4 inode-cache": 1088}
KMALLOC_BYTES = (8, 96, 1024, 8192)
COMMS = st.text(st.sampled_from("ab1-:[]()<>/#._ é"), min_size=1, max_size=15)


def printed_comm(comm: str) -> str:
    """The printers pad with blanks, so a name is told from its padding by none at its ends."""
    return comm.strip() or "x"


@st.composite
def events(draw: st.DrawFn) -> list[Event]:
    """Events of few pages and objects, so that most frees find an allocation."""
    found: list[Event] = []
    time_ns = draw(st.integers(0, 10**12))
    for _ in range(draw(st.integers(1, 25))):
        time_ns += draw(st.integers(0, 3_000))
        kind = draw(st.integers(PAGE_ALLOC, KFREE))
        where = time_ns, draw(st.integers(0, 61)), draw(st.integers(0, 99_999))
        comm = printed_comm(draw(COMMS))
        if kind <= PAGE_FREE:
            pfn, order = 0x100 + draw(st.integers(0, 3)) * 1024, draw(st.integers(0, 1))
            found.append(Event(kind, *where, comm, pfn, order, draw(st.integers(0, 2))))
        else:
            cache = draw(st.sampled_from(sorted(CACHES)))
            key = 0xFFFF888012345000 + draw(st.integers(0, 3)) * 8192
            size = CACHES[cache] if kind == CACHE_ALLOC else draw(st.sampled_from(KMALLOC_BYTES))
            found.append(Event(kind, *where, comm, key, size, 0, cache))
    return found


def rows_of(trace: Trace) -> list[Row]:
    """The rows as ``expected`` has them, tasks and CPUs as they are in the trace."""
    whats = [
        str(flag) if kind <= PAGE_FREE else str(trace.caches[flag])
        for kind, flag in zip(trace.kind.tolist(), trace.flag.tolist(), strict=True)
    ]
    columns = (trace.time_ns, trace.cpu, trace.task, trace.kind, trace.id, trace.arg)
    return list(zip(*(column.tolist() for column in columns), whats, strict=True))


def dense(rows: list[Row]) -> list[Row]:
    """Times from the first row, tasks numbered in their order."""
    tasks = {pid: number for number, pid in enumerate(sorted({row[2] for row in rows}))}
    return [(row[0] - rows[0][0], row[1], tasks[row[2]], *row[3:]) for row in rows]


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
@given(happened=events())
@settings(max_examples=25)
def test_what_is_printed_is_read_again(layout: Layout, happened: list[Event]) -> None:
    """The format is found, no line is lost without a word, and the rows are those that happened."""
    want = expected(happened, layout)
    assume(want)
    text = layout.text(happened)
    imported = import_lines(text, "t")
    validate(imported.trace)
    told = sum(imported.tally.count(group) for group in imported.tally.seen)
    assert (imported.format, rows_of(imported.trace)) == (layout.format, dense(want))
    assert len(imported.trace) + imported.left_out.total() + told == len(text) == imported.lines
    assert imported.tally.count(UNKNOWN) == 0

"""A flight recording as a trace for ui.perfetto.dev: a track for each CPU, an instant each access.

The recorder reads the clock at some accesses only (stress/jitter/recorder.py), so an access was
made at or after its time. Those between two clocks stand one behind the other in a slice that lasts
until the next clock. Times are ticks of the time stamp counter, whose rate is not recorded: a
thousand ticks are shown as a microsecond, and 0 is the moment at which it went wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from stress.report.perfetto_events import Trace, Track
from stress.run.flight import Entry

TICKS_OF_US = 1_000


def perfetto(entries: Sequence[Entry], title: str, again: str) -> str:
    """The trace of these accesses as JSON; there is at least one."""
    facts = {
        "clock": f"1 us is {TICKS_OF_US:,} ticks of the time stamp counter",
        "to try again": again,
    }
    trace = Trace(title, facts)
    first = min(entry.ticks for entry in entries)
    end = max(entry.ticks for entry in entries) - first + TICKS_OF_US
    for cpu in sorted({entry.cpu for entry in entries}):
        track = trace.track(f"cpu {cpu}")
        own = [entry._replace(ticks=entry.ticks - first) for entry in entries if entry.cpu == cpu]
        _track(trace, track, own, end)
    if first <= 0:
        trace.instant(trace.tracks[0], _us(-first), "it went wrong", everywhere=True)
    return trace.document(_us(end))


def _track(trace: Trace, track: Track, entries: Sequence[Entry], end: int) -> None:
    groups = [(ticks, list(some)) for ticks, some in groupby(entries, key=lambda one: one.ticks)]
    following = [ticks for ticks, _ in groups[1:]]
    for (start, some), until in zip(groups, [*following, end], strict=True):
        trace.begin(track, _us(start), f"from tick {start:,} on", {"accesses": len(some)})
        for entry, at in zip(some, _spread(start, until, len(some)), strict=True):
            trace.instant(track, at, _name(entry), {"ticks": entry.ticks, "op": entry.op})
        trace.end(track, _us(until))


def _spread(start: int, until: int, count: int) -> Iterator[float]:
    """``count`` times in order, within the slice."""
    for number in range(count):
        yield _us(start) + (_us(until) - _us(start)) * (number + 0.5) / count


def _name(entry: Entry) -> str:
    said = " ".join(part for part in (entry.op, entry.word, entry.did) if part)
    return f"{said} (killed before this)" if entry.died else said


def _us(ticks: int) -> float:
    return ticks / TICKS_OF_US

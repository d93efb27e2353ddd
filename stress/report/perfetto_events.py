"""The Trace Event Format, which ui.perfetto.dev and chrome://tracing open: tracks and their events.

::

    M          names of processes and tracks          i   an instant
    B ... E    a slice; they nest                     C   a counter
    s -> f     an arrow between two slices            (all at ``ts``, in microseconds)

Rules that ``Trace`` keeps, because viewers show nonsense otherwise: the events of a track are in
order of time; each ``B`` has its ``E``, innermost first; an arrow begins and ends inside of a
slice. ``document`` closes what is still open.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from stress import __version__

PROCESS = 1  # all tracks are threads of one process
FIRST_TRACK = 1  # 0 is the idle thread to some viewers
Event = dict[str, Any]
Args = Mapping[str, object]
NO_ARGS: Args = {}


@dataclass
class Track:
    """A row of the view. ``number`` is unique and orders the rows."""

    number: int
    name: str
    open: list[str] = field(default_factory=list)  # slices, outermost first


@dataclass
class Trace:
    """Events in the making. ``title``: of the process. ``facts``: what else there is to say."""

    title: str
    facts: Mapping[str, str]
    tracks: list[Track] = field(default_factory=list)
    _events: list[Event] = field(default_factory=list)
    _arrows: int = 0

    def track(self, name: str) -> Track:
        """A new row below the others."""
        self.tracks.append(Track(FIRST_TRACK + len(self.tracks), name))
        return self.tracks[-1]

    def begin(self, track: Track, at: float, name: str, args: Args = NO_ARGS) -> None:
        track.open.append(name)
        self._add("B", track, at, name, args=args)

    def end(self, track: Track, at: float) -> None:
        self._add("E", track, at, track.open.pop())

    def instant(
        self, track: Track, at: float, name: str, args: Args = NO_ARGS, everywhere: bool = False
    ) -> None:
        """On its track, or across all of them."""
        self._add("i", track, at, name, s="g" if everywhere else "t", args=args)

    def counter(self, name: str, at: float, **values: float) -> None:
        self._add("C", None, at, name, args=values)

    def arrow(self, name: str, start: tuple[Track, float], end: tuple[Track, float]) -> None:
        """From the slice that is open on a track at a time to one that is open later."""
        self._arrows += 1
        self._add("s", *start, name, cat=name, id=self._arrows)
        self._add("f", *end, name, cat=name, id=self._arrows, bp="e")

    def _add(self, kind: str, track: Track | None, at: float, name: str, **more: Any) -> None:
        number = FIRST_TRACK if track is None else track.number
        event: Event = {"ph": kind, "ts": at, "pid": PROCESS, "tid": number, "name": name}
        self._events.append({"cat": "schedule", **event, **more})

    def document(self, end: float) -> str:
        """JSON, ending with a newline; slices that are open end at ``end``."""
        for track in self.tracks:
            while track.open:
                self.end(track, end)
        events = sorted(self._events, key=lambda event: event["ts"])  # stable: B and E stay nested
        whole = {
            "traceEvents": [*self._names(), *events],
            "displayTimeUnit": "ns",
            "otherData": {"tool": f"shmstress {__version__}", **self.facts},
        }
        return json.dumps(whole, separators=(",", ":")) + "\n"

    def _names(self) -> list[Event]:
        """Metadata: how the process and its tracks are called, and their order."""
        found = [_metadata("process_name", FIRST_TRACK, name=self.title)]
        for track in self.tracks:
            found.append(_metadata("thread_name", track.number, name=track.name))
            found.append(_metadata("thread_sort_index", track.number, sort_index=track.number))
        return found


def _metadata(kind: str, track: int, **args: object) -> Event:
    return {"ph": "M", "ts": 0, "pid": PROCESS, "tid": track, "name": kind, "args": args}

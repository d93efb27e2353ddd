"""The rules of the Trace Event Format, checked from its description; shares no code with us.

``Trace`` reads a document, raises ``RuleError`` where a rule is broken, and gives what a viewer
would show: tracks by name with nested slices, instants, arrows and counters.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field

FIELDS = {
    "M": {"ph", "ts", "pid", "tid", "name", "args"},
    "B": {"ph", "ts", "pid", "tid", "name"},
    "E": {"ph", "ts", "pid", "tid"},
    "i": {"ph", "ts", "pid", "tid", "name", "s"},
    "C": {"ph", "ts", "pid", "name", "args"},
    "s": {"ph", "ts", "pid", "tid", "name", "cat", "id"},
    "f": {"ph", "ts", "pid", "tid", "name", "cat", "id", "bp"},
}
METADATA = {"process_name": "name", "thread_name": "name", "thread_sort_index": "sort_index"}


class RuleError(Exception):
    """A rule that is broken."""


@dataclass
class Slice:
    """``inside``: the names of the slices around it, outermost first."""

    name: str
    start: float
    end: float = -1.0
    inside: tuple[str, ...] = ()
    args: dict = field(default_factory=dict)


@dataclass
class Track:
    name: str = ""
    slices: list[Slice] = field(default_factory=list)
    instants: list[dict] = field(default_factory=list)
    open: list[Slice] = field(default_factory=list)

    def at(self, ts):
        """The innermost slice that is open at ``ts``; None if none is."""
        around = [one for one in self.slices if one.start <= ts < one.end]
        return max(around, key=lambda one: len(one.inside), default=None)


class Trace:
    """``arrows``: (name, track and slice it leaves, track and slice it reaches)."""

    def __init__(self, text: str) -> None:
        whole = json.loads(text)
        self.facts = whole.get("otherData", {})
        self.process = ""
        self.counters: dict[str, list[tuple[float, dict]]] = {}
        self._tracks: dict[tuple[int, int], Track] = {}
        self._ends: dict[int, dict[str, dict]] = {}
        last: dict[tuple[int, int], float] = {}
        for event in whole["traceEvents"]:
            missing = FIELDS[event["ph"]] - event.keys()
            if missing or not isinstance(event["ts"], int | float) or event["ts"] < 0:
                raise RuleError(f"{missing} missing, or a wrong time: {event}")
            place = event["pid"], event.get("tid", 0)
            if event["ph"] not in "MC":
                if event["ts"] < last.get(place, 0.0):
                    raise RuleError(f"time runs backwards: {event}")
                last[place] = event["ts"]
            self._take(event, self._tracks.setdefault(place, Track()))
        for track in self._tracks.values():
            if track.open:
                raise RuleError(f"{track.name}: never ends: {track.open[-1].name}")
            if not track.name:
                raise RuleError("a track without a name")
        self.tracks = {track.name: track for track in self._tracks.values()}
        if len(self.tracks) != len(self._tracks) or not self.process:
            raise RuleError("two tracks of one name, or a process without one")
        self.arrows = [self._arrow(ends) for ends in self._ends.values()]

    def _take(self, event: dict, track: Track) -> None:
        kind = event["ph"]
        if kind == "M":
            value = event["args"][METADATA[event["name"]]]
            if event["name"] == "thread_name":
                track.name = value
            elif event["name"] == "process_name":
                self.process = value
        elif kind == "B":
            inside = tuple(one.name for one in track.open)
            track.open.append(Slice(event["name"], event["ts"], -1, inside, event.get("args", {})))
            track.slices.append(track.open[-1])
        elif kind == "E":
            if not track.open or track.open[-1].name != event.get("name", track.open[-1].name):
                raise RuleError(f"ends what has not begun: {event}")
            track.open.pop().end = event["ts"]
        elif kind == "i":
            if event["s"] not in ("t", "p", "g"):
                raise RuleError(f"no scope: {event}")
            track.instants.append(event)
        elif kind == "C":
            if not all(isinstance(value, int | float) for value in event["args"].values()):
                raise RuleError(f"no number: {event}")
            self.counters.setdefault(event["name"], []).append((event["ts"], event["args"]))
        else:
            if kind in self._ends.setdefault(event["id"], {}):
                raise RuleError(f"an arrow with two ends of one kind: {event}")
            self._ends[event["id"]][kind] = event

    def _arrow(self, ends: dict[str, dict]) -> tuple:
        if ends.keys() != {"s", "f"}:
            raise RuleError(f"an arrow with one end: {ends}")
        start, end = ends["s"], ends["f"]
        same = (start["name"], start["cat"]) == (end["name"], end["cat"])
        if not same or start["ts"] > end["ts"] or end["bp"] != "e":
            raise RuleError(f"no arrow: {ends}")
        found = [start["name"]]
        for one in (start, end):
            track = self._tracks[one["pid"], one["tid"]]
            around = track.at(one["ts"])
            if around is None:
                raise RuleError(f"an arrow outside of all slices: {one}")
            found += [track.name, around.name]
        return tuple(found)

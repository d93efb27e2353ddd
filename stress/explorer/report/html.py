"""An account as one self-contained page: no server, no network, no other file.

This module lays the trace out in rows and lanes; page.html.j2 has their look. All rows have one
height, so arrows are computed here and drawn without a script; the script of the page adds keys,
the filter by word and copying. The page can be read without its script.

Rules:
- the template engine escapes all input (names, source text, cause, token); none of it goes into
  the script
- a trace of more than ``MOST_ROWS`` steps is folded, and the page says how many are left out; it
  always shows the steps that ``folded`` never leaves out
"""

from __future__ import annotations

import linecache
import math
from dataclasses import dataclass
from importlib import resources
from typing import NamedTuple

from jinja2 import Environment, StrictUndefined
from markupsafe import escape

from shmalloc.compiler.directory import shown
from stress.explorer.report import wording
from stress.explorer.report.account import Account
from stress.explorer.report.folding import Gap, folded
from stress.explorer.report.frames import decided_by, shown_site
from stress.explorer.report.places import path_at, place_in_file, source_at
from stress.explorer.report.trace import Blocked, Marker, Step, addresses_of
from stress.machine.site import Site
from stress.quantities import counted

MOST_ROWS = 2000
FOLD_MARGINS = (400, 100, 25, 5)  # the first one that meets MOST_ROWS applies
SHORTEST_GAP = 4
ROW_PX = 34
CONTEXT_LINES = 3
MOST_WORDS = 24
WORDS_AT_END = 6  # more only on request
LANE_CHARACTERS = (22, 60)  # least and most, besides the source
LANE_HUES = (210, 150, 275, 48, 185, 310, 95, 240)  # no red: red is what went wrong
# The drawing of a cycle: its circle, a CPU on it, the distance of a word from it.
CYCLE_PX = 320
CYCLE_RADIUS = 92
NODE_RADIUS = 26
LABEL_RADIUS = CYCLE_RADIUS + 8


class SourceLine(NamedTuple):
    number: int
    text: str
    current: bool


class Frame(NamedTuple):
    """One call: its place, the text of its line, and the lines around that."""

    place: str
    function: str
    text: str
    context: tuple[SourceLine, ...]


@dataclass(frozen=True)
class Row:
    """One line of the lanes. ``key`` names it in the address of the page, ``#step=key``."""

    key: str
    cpu: int
    words: wording.Words
    addresses: tuple[int, ...] = ()
    switch: str = ""
    state: str = ""  # conflict, fault, stuck or gap
    notes: tuple[str, ...] = ()
    place: str = ""
    source: str = ""
    frames: tuple[Frame, ...] = ()
    at_stake: bool = False
    decides: str = ""  # the line that the value read decides

    @property
    def grave(self) -> bool:
        """True if its first note is why the schedule failed."""
        return self.state in ("conflict", "fault")


class Elbow(NamedTuple):
    """An arrow between two rows: down, across in the gap between rows, down. Lanes in percent."""

    kind: str
    from_x: float
    to_x: float
    from_y: float
    across_y: float
    to_y: float


class Node(NamedTuple):
    """A CPU of the cycle, the arc to the one it waits for, and the word written beside it."""

    cpu: int
    x: float
    y: float
    arc: str
    label: str
    label_x: float
    label_y: float
    anchor: str


@dataclass(frozen=True)
class Layout:
    rows: tuple[Row, ...]
    elbows: tuple[Elbow, ...]
    left_out: int
    words: tuple[tuple[int, str, int], ...]  # address, place, accesses
    more_words: int


def render(account: Account) -> str:
    """``account`` as the text of a page."""
    template = resources.files("stress.explorer.report").joinpath("page.html.j2").read_text("utf-8")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    layout = _layout(account)
    trace, naming = account.trace, account.naming
    stacks = wording.stacks_of(trace)
    return environment.from_string(template).render(
        account=account,
        trace=trace,
        layout=layout,
        lanes=account.lanes,
        row_px=ROW_PX,
        hues=LANE_HUES,
        lane_characters=_lane_characters(layout.rows),
        steps=counted(len(trace.steps), "step"),
        waiting=wording.waiting_lines(trace.blocked, naming),
        cycle=_cycle_nodes(account, wording.cycle_of(trace.blocked)),
        cycle_px=CYCLE_PX,
        node_radius=NODE_RADIUS,
        conflict_title=wording.conflict_title(account),
        pair=[
            (step, wording.words_of(step, naming), shown_site(stacks[step.index]))
            for step in wording.conflicting(trace)
        ],
        returned=wording.returned(trace) if account.kind == "check" else [],
        memory=wording.left_behind(account),
        most_words=WORDS_AT_END,
    )


def framed(account: Account) -> str:
    """The page in a frame, for a notebook: its style and its script stay inside."""
    page = render(account).replace("&", "&amp;").replace('"', "&quot;")
    style = "width: 100%; height: 40em; border: 0"
    return f'<iframe srcdoc="{page}" style="{style}" title="{escape(account.headline)}"></iframe>'


# --- rows ----------------------------------------------------------------------------------------
def _layout(account: Account) -> Layout:
    trace = account.trace
    notes = wording.buffer_notes(account)
    stacks = wording.stacks_of(trace)
    shown = _shown(account)
    rows: list[Row] = []
    markers = list(trace.markers)
    for item in shown:
        while markers and markers[0].before <= (
            item.first if isinstance(item, Gap) else item.index
        ):
            rows.append(_marker_row(markers.pop(0)))
        if isinstance(item, Gap):
            rows.append(_gap_row(item))
        else:
            rows.append(_step_row(account, item, stacks[item.index], notes.get(item.index)))
    rows += [_marker_row(marker) for marker in markers]
    if trace.fault:
        rows.append(_fault_row(account, trace.fault))
    rows += [_blocked_row(account, blocked) for blocked in trace.blocked]
    counts: dict[int, int] = {}
    for row in rows:
        for address in row.addresses:
            counts[address] = counts.get(address, 0) + 1
    used = sorted(counts, key=lambda address: (-counts[address], address))[:MOST_WORDS]
    return Layout(
        rows=tuple(rows),
        elbows=tuple(_elbows(account, rows)),
        left_out=sum(g.steps for g in shown if isinstance(g, Gap)),
        words=tuple((a, account.naming.place(a), counts[a]) for a in sorted(used)),
        more_words=len(counts) - len(used),
    )


def _shown(account: Account) -> list[Step | Gap]:
    trace = account.trace
    if len(trace.steps) <= MOST_ROWS:
        return list(trace.steps)
    shown: list[Step | Gap] = []
    for margin in FOLD_MARGINS:
        shown = folded(trace, margin, SHORTEST_GAP)
        if len(shown) <= MOST_ROWS:
            break
    return shown


def _gap_row(gap: Gap) -> Row:
    words = wording.Words(f"{gap} left out", "", "")
    return Row(key=f"{gap.first}-{gap.last}", cpu=gap.cpu, words=words, state="gap")


def _marker_row(marker: Marker) -> Row:
    words = wording.Words(marker.text, "", "")
    return Row(key=f"before-{marker.before}-{marker.cpu}", cpu=marker.cpu, words=words, state="gap")


def _lane_characters(rows: tuple[Row, ...]) -> int:
    """The width that a lane needs for its steps, in characters."""
    least, most = LANE_CHARACTERS
    longest = max((len(f"{row.words} {' '.join(row.notes)}") for row in rows), default=0)
    return max(least, min(most, longest))


def _step_row(account: Account, step: Step, stack: tuple[Site, ...], note: str | None) -> Row:
    site = shown_site(stack)
    conflict = account.trace.conflict
    mark = conflict is not None and step.index in conflict
    marks = [wording.conflict_mark(account)] if mark else []
    touched = addresses_of(step)
    at_stake = bool(set(account.trace.at_stake) & set(touched))
    decided = decided_by(site) if at_stake else None
    return Row(
        key=str(step.index),
        cpu=step.cpu,
        words=wording.words_of(step, account.naming),
        addresses=touched,
        at_stake=at_stake,
        switch="preempt" if step.preempted else "switch" if step.switched else "",
        state="conflict" if mark else "",
        notes=tuple(marks + ([note] if note else [])),
        place=place_in_file(site),
        source=source_at(site),
        frames=_frames(stack),
        decides=f"{path_at(decided)}: {source_at(decided)}" if decided else "",
    )


def _fault_row(account: Account, fault: Step) -> Row:
    site = shown_site(fault.stack)
    return Row(
        key="failed",
        cpu=fault.cpu,
        words=wording.fault_words(fault, account.naming),
        addresses=addresses_of(fault),
        state="fault",
        notes=(wording.fault_reason(account, fault), "not performed"),
        place=place_in_file(site),
        source=source_at(site),
        frames=_frames(fault.stack),
    )


def _blocked_row(account: Account, blocked: Blocked) -> Row:
    stack = wording.waiting_stack(account.trace, blocked)
    return Row(
        key=f"stuck-{blocked.cpu}",
        cpu=blocked.cpu,
        words=wording.wait_words(blocked, account.naming),
        addresses=(blocked.address,),
        state="stuck",
        place=place_in_file(blocked.site),
        source=source_at(blocked.site),
        frames=_frames(stack),
    )


def _frames(stack: tuple[Site, ...]) -> tuple[Frame, ...]:
    shown = shown_site(stack)
    return tuple(
        Frame(
            path_at(site), site.function, source_at(site), _context(site) if site == shown else ()
        )
        for site in stack
    )


def _context(site: Site) -> tuple[SourceLine, ...]:
    """The line and those around it, without their common indentation."""
    lines = linecache.getlines(site.file)
    first = max(1, site.line - CONTEXT_LINES)
    last = min(len(lines), site.line + CONTEXT_LINES)
    texts = [shown(lines[number - 1].rstrip().expandtabs()) for number in range(first, last + 1)]
    common = min((len(text) - len(text.lstrip()) for text in texts if text), default=0)
    return tuple(
        SourceLine(first + at, text[common:], first + at == site.line)
        for at, text in enumerate(texts)
    )


# --- drawings ------------------------------------------------------------------------------------
def _elbows(account: Account, rows: list[Row]) -> list[Elbow]:
    """One arrow for each switch, and one from the earlier to the later step of the conflict."""
    elbows = [
        _elbow(row.switch, rows, at - 1, at, account.trace.cpus)
        for at, row in enumerate(rows)
        if at and row.switch
    ]
    pair = [at for at, row in enumerate(rows) if row.state == "conflict"]
    if len(pair) == 2:
        elbows.append(_elbow("conflict", rows, pair[0], pair[1], account.trace.cpus))
    return elbows


def _elbow(kind: str, rows: list[Row], start: int, end: int, lanes: int) -> Elbow:
    lane_percent = 100 / lanes
    return Elbow(
        kind=kind,
        from_x=round(rows[start].cpu * lane_percent, 3),
        to_x=round(rows[end].cpu * lane_percent, 3),
        from_y=(start + 0.5) * ROW_PX,
        across_y=(start + 1) * ROW_PX,
        to_y=(end + 0.5) * ROW_PX,
    )


def _cycle_nodes(account: Account, cycle: tuple[Blocked, ...]) -> list[Node]:
    """The CPUs of ``cycle`` on a circle, clockwise, each with an arc to the one it waits for."""
    step = 2 * math.pi / max(1, len(cycle))
    free = (NODE_RADIUS + 5) / CYCLE_RADIUS  # an arc begins and ends beside a CPU, not in it
    nodes = []
    for at, blocked in enumerate(cycle):
        angle = at * step - math.pi / 2
        x, y = _on_circle(angle, CYCLE_RADIUS)
        start = _on_circle(angle + free, CYCLE_RADIUS)
        end = _on_circle(angle + step - free, CYCLE_RADIUS)
        large = int(step - 2 * free > math.pi)
        arc = (
            f"M {start[0]} {start[1]} A {CYCLE_RADIUS} {CYCLE_RADIUS} 0 {large} 1 {end[0]} {end[1]}"
        )
        between = angle + step / 2
        label = account.naming.in_prose(blocked.address)
        label_at = _on_circle(between, LABEL_RADIUS)
        nodes.append(Node(blocked.cpu, x, y, arc, label, *label_at, _anchor(math.cos(between))))
    return nodes


def _anchor(rightward: float) -> str:
    """The end of a text that touches the circle, so that long words extend away from it."""
    if abs(rightward) < 0.1:
        return "middle"
    return "start" if rightward > 0 else "end"


def _on_circle(angle: float, radius: float) -> tuple[float, float]:
    middle = CYCLE_PX / 2
    return round(middle + radius * math.cos(angle), 1), round(middle + radius * math.sin(angle), 1)

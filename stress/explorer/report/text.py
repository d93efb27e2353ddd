"""An account as text for a terminal, a mail or a log: plain characters, no colours.

From top to bottom: what failed and why; for a long trace, the steps that touched the words at stake
(history.py); the steps with one column for each CPU; which CPU waits for which; the conflicting
pair with its call stacks; what the CPUs returned; and the line that repeats the run. If columns
would be too narrow for most of their steps, the source goes below its step, or the CPUs share one
column. Only source lines are ever cut; a source line below a step is not repeated for the CPU's
next step on the same line.

Every line fits the width (at least 40) but one: the line that repeats the run stays in one piece,
so that it can be copied.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from io import StringIO

from rich.box import ASCII
from rich.table import Table
from rich.text import Text

from stress.explorer.report import wording
from stress.explorer.report.account import Account
from stress.explorer.report.folding import Gap, folded
from stress.explorer.report.frames import decided_by, shown_site
from stress.explorer.report.history import history
from stress.explorer.report.places import path_at, place_in_file, source_at
from stress.explorer.report.trace import Marker, Step, addresses_of
from stress.machine.site import Site
from stress.quantities import counted
from stress.tables import plain_console

MARGIN_STEPS = 3
MANY_LINES = 24  # of steps: a longer trace comes with a history of the words at stake
MOST_BROKEN = 4  # CPUs keep their columns if at most one step in four takes two lines
SHORTEST_GAP = 8
SHOWN_WORDS = 16
SHOWN_NAMES = 6  # words at the end, if they have names
# Widths in characters.
NUMBER_WIDTH = len("failed")
SWITCH_WIDTH = len("preempt")
SEPARATOR = len(" | ")
LEFT_COLUMNS = NUMBER_WIDTH + SEPARATOR + SWITCH_WIDTH
NARROWEST_CPU = 22
NARROWEST_SOURCE = 32
NARROWEST = 40
LEGEND = "preempt: the CPU before could have continued; switch: it had ended, slept or yielded"
STACK_INDENT = " " * 6


@dataclass(frozen=True)
class Line:
    """The text of one step, before its column is known."""

    number: str
    switch: str
    cpu: int
    said: str
    mark: str  # why it matters: "<< race"
    source: tuple[str, ...]  # lines

    @property
    def marked(self) -> str:
        return f"{self.said} {self.mark}".rstrip()


def render(account: Account, width: int = 120, paths: bool = False, full: bool = False) -> str:
    """``account`` as text, ``width`` characters wide.

    ``paths``: with the calls of each step. ``full``: with every step.
    """
    out = StringIO()
    console = plain_console(out, max(NARROWEST, width))
    console.print(f"{account.headline} (memory model {account.memory_model})")
    console.print(account.cause)
    console.print()
    lines = _lines(account, paths, full)
    if len(lines) > MANY_LINES:
        for text in history(account):
            console.print(text, overflow="ellipsis", no_wrap=text.startswith(STACK_INDENT))
    console.print(_table(account, lines, console.width))
    if any(step.switched for step in account.trace.steps):
        console.print(LEGEND)
    for section in (_waiting(account), _conflict(account), _end(account)):
        for line in section:
            console.print(line)
    if account.facts:
        console.print(", ".join(account.facts))
    if account.again:
        console.print(account.again_title)
        for line in account.again:
            console.print(f"  {line}", soft_wrap=True)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


# --- the steps -----------------------------------------------------------------------------------
def _lines(account: Account, paths: bool, full: bool) -> list[Line]:
    """The steps, then what did not happen: the access that failed, and the CPUs that wait."""
    trace, naming = account.trace, account.naming
    notes = wording.buffer_notes(account)
    stacks = wording.stacks_of(trace)
    markers = list(trace.markers)
    lines: list[Line] = []
    for shown in trace.steps if full else folded(trace, MARGIN_STEPS, SHORTEST_GAP):
        first = shown.first if isinstance(shown, Gap) else shown.index
        while markers and markers[0].before <= first:
            lines.append(_marker_line(markers.pop(0)))
        if isinstance(shown, Gap):
            lines.append(Line("...", "", shown.cpu, str(shown), "", ()))
        else:
            lines.append(_step_line(account, shown, stacks, notes.get(shown.index, ""), paths))
    lines += [_marker_line(marker) for marker in markers]
    if trace.fault:
        fault = trace.fault
        reason = f"<< {wording.fault_reason(account, fault)}"
        said = str(wording.fault_words(fault, naming))
        lines.append(Line("failed", "", fault.cpu, said, reason, _sources(fault.stack, paths)))
    for blocked in trace.blocked:
        said = wording.wait_in_short(blocked, naming)
        stack = (blocked.site,) if blocked.site else ()
        lines.append(Line("stuck", "", blocked.cpu, said, "", _sources(stack, paths)))
    return lines


def _marker_line(marker: Marker) -> Line:
    return Line("----", "", marker.cpu, marker.text, "", ())


def _step_line(
    account: Account, step: Step, stacks: dict[int, tuple[Site, ...]], note: str, paths: bool
) -> Line:
    trace = account.trace
    marks = []
    if trace.conflict and step.index in trace.conflict:
        marks.append(f"<< {wording.conflict_mark(account)}")
    if note:
        marks.append(f"({note})")
    switch = "preempt" if step.preempted else "switch" if step.switched else ""
    said = str(wording.words_of(step, account.naming))
    sources = _sources(stacks[step.index], paths)
    decides = set(trace.at_stake) & set(addresses_of(step))
    decided = decided_by(shown_site(stacks[step.index])) if decides else None
    if decided:
        sources = (*sources[:1], _source(decided), *sources[1:])
    return Line(str(step.index), switch, step.cpu, said, " ".join(marks), sources)


def _sources(stack: tuple[Site, ...], paths: bool) -> tuple[str, ...]:
    """The line of the step; with ``paths`` those of all calls."""
    if paths:
        return tuple(_source(site) for site in stack)
    site = shown_site(stack)
    return (_source(site),) if site else ()


def _source(site: Site | None) -> str:
    return f"{place_in_file(site)} {source_at(site)}".strip()


def _without_repeats(lines: list[Line]) -> list[Line]:
    """Drop the source of a step on the same lines as the one before it."""
    kept = []
    for before, line in zip([None, *lines], lines, strict=False):
        same = before is not None and before.cpu == line.cpu and not line.switch
        repeats = same and before is not None and before.source[:1] == line.source[:1]
        kept.append(replace(line, source=line.source[1:]) if repeats else line)
    return kept


def _table(account: Account, lines: list[Line], width: int) -> Table:
    """The steps in the first form that fits ``width``; the last form always does."""
    cpus = account.trace.cpus
    titles = account.lanes
    if _source_width(lines, cpus, width) >= NARROWEST_SOURCE:
        return _beside(lines, titles, width)
    lane = _lane_width(cpus, width)
    broken = sum(len(line.marked) > lane for line in lines)
    if lane >= NARROWEST_CPU and broken * MOST_BROKEN <= len(lines):
        return _below(lines, titles, width)
    shared = [replace(line, said=f"cpu {line.cpu} | {line.said}", cpu=0) for line in lines]
    if _source_width(shared, 1, width) >= NARROWEST_SOURCE:
        return _beside(shared, ["access"], width)
    return _below(shared, ["access"], width)


def _longest(lines: list[Line]) -> int:
    return max([NARROWEST_CPU, *(len(line.marked) for line in lines)])


def _source_width(lines: list[Line], lanes: int, width: int) -> int:
    """The width that remains for a column of source if no step is broken."""
    return width - LEFT_COLUMNS - lanes * (SEPARATOR + _longest(lines)) - SEPARATOR


def _lane_width(lanes: int, width: int) -> int:
    """The width of a lane if there is no column of source."""
    return (width - LEFT_COLUMNS) // lanes - SEPARATOR


def _beside(lines: list[Line], titles: list[str], width: int) -> Table:
    """Lanes, and a column for the source."""
    table = _table_of(titles, _longest(lines))
    source_width = _source_width(lines, len(titles), width)
    table.add_column("source", no_wrap=True, overflow="ellipsis", width=source_width)
    for line in lines:
        cells = _cells(line, len(titles), Text(line.marked))
        table.add_row(line.number, line.switch, *cells, Text("\n".join(line.source)))
    return table


def _below(lines: list[Line], titles: list[str], width: int) -> Table:
    """Lanes, with marks and source below the step."""
    lane_width = _lane_width(len(titles), width)
    table = _table_of(titles, lane_width)
    for line in _without_repeats(lines):
        sources = [Text(text) for text in line.source]
        for source in sources:
            source.truncate(lane_width, overflow="ellipsis")
        fits = len(line.marked) <= lane_width
        said = [line.marked] if fits else [line.said, line.mark]
        parts = [Text(part) for part in said if part] + sources
        cells = _cells(line, len(titles), Text("\n").join(parts))
        table.add_row(line.number, line.switch, *cells)
    return table


def _table_of(titles: list[str], lane_width: int) -> Table:
    """All widths are fixed: a table that shrinks by itself drops the step numbers first."""
    table = Table(box=ASCII, show_edge=False, pad_edge=False, header_style="", padding=(0, 1))
    table.add_column("step", justify="right", width=NUMBER_WIDTH)
    table.add_column("switch", width=SWITCH_WIDTH)
    for title in titles:
        table.add_column(Text(title), overflow="fold", width=lane_width)
    return table


def _cells(line: Line, lanes: int, said: Text) -> list[Text]:
    cells = [Text("")] * lanes
    cells[line.cpu] = said
    return cells


# --- what follows the steps ----------------------------------------------------------------------
def _waiting(account: Account) -> Iterator[str]:
    """Which CPU waits for which, and where."""
    blocked_cpus = account.trace.blocked
    if not blocked_cpus:
        return
    yield ""
    yield from wording.waiting_lines(blocked_cpus, account.naming)
    for blocked in blocked_cpus:
        yield f"  cpu {blocked.cpu} {wording.wait_in_short(blocked, account.naming)}"
        yield from _stack(wording.waiting_stack(account.trace, blocked))


def _conflict(account: Account) -> Iterator[str]:
    """The pair again, or the access that failed, each with its call stack."""
    fault = account.trace.fault
    pair = wording.conflicting(account.trace)
    if pair:
        yield ""
        yield f"{wording.conflict_title(account)}:"
    notes = wording.buffer_notes(account)
    stacks = wording.stacks_of(account.trace)
    for step in pair:
        note = f" ({notes[step.index]})" if step.index in notes else ""
        yield f"  step {step.index}, cpu {step.cpu}: {wording.words_of(step, account.naming)}{note}"
        yield from _stack(stacks[step.index])
    if fault:
        yield ""
        reason = wording.fault_reason(account, fault)
        words = wording.fault_words(fault, account.naming)
        yield f"Not performed, cpu {fault.cpu}: {words} ({reason})"
        yield from _stack(fault.stack)


def _stack(stack: tuple[Site, ...]) -> Iterator[str]:
    for depth, site in enumerate(stack):
        called = "called from " if depth else ""
        yield f"{STACK_INDENT}{called}{path_at(site)} in {site.function}"
        text = source_at(site)
        if text:
            yield f"{STACK_INDENT}    {text}"


def _end(account: Account) -> Iterator[str]:
    """The final state. A failure before the end has no results: not all CPUs returned."""
    trace = account.trace
    yield ""
    if account.kind == "check" and trace.returns:
        yield f"returned: {', '.join(wording.returned(trace))}"
    left = wording.left_behind(account)
    if left:
        named = any(not place.startswith("[") for place, _ in left)
        most = SHOWN_NAMES if named else SHOWN_WORDS
        words = [f"{place} = {value}" for place, value in left[:most]]
        hidden = len(left) - len(words)
        more = f" and {counted(hidden, 'more word')}" if hidden else ""
        yield f"memory at the end: {', '.join(words)}{more}"

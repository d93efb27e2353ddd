"""The failure as text for a terminal, a mail or a log: no colours, nothing but characters.

From top to bottom: what failed and why, the steps with one column for each CPU, who waits for
whom, the conflicting pair with its call stacks, what the CPUs returned, and the line that shows it
again. Where columns would be too narrow the source goes below its step, and where even that is too
narrow the CPUs share one column. Only source lines are ever cut.

Every line fits the width (40 at least) but one: the line to repeat it stays in one piece, so that
it can be copied.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from io import StringIO

from rich.box import ASCII
from rich.console import Console
from rich.table import Table
from rich.text import Text

from stress.machine.site import Site
from stress.explorer.address import again_title
from stress.explorer.report import wording
from stress.explorer.report.failure import Failure, Step

MARGIN_STEPS = 3
SHORTEST_GAP = 8
SHOWN_WORDS = 16
# Widths in characters.
NUMBER_WIDTH = len("failed")
SWITCH_WIDTH = len("preempt")
SEPARATOR = len(" | ")
LEFT_COLUMNS = NUMBER_WIDTH + SEPARATOR + SWITCH_WIDTH
NARROWEST_CPU = 22
NARROWEST_SOURCE = 32
NARROWEST = 40
LEGEND = "preempt: the CPU before could have gone on; switch: it had ended, slept or given way"
STACK_INDENT = " " * 6


@dataclass(frozen=True)
class Line:
    """What one step says, before it is known into which column it goes."""

    number: str
    switch: str
    cpu: int
    said: str
    mark: str  # why it matters: "<< race"
    source: str

    @property
    def marked(self) -> str:
        return f"{self.said} {self.mark}".rstrip()


def render(failure: Failure, width: int = 120) -> str:
    """``failure`` as text, ``width`` characters wide."""
    out = StringIO()
    # Whatever this process writes to: the text is the same everywhere.
    console = Console(
        file=out, width=max(NARROWEST, width), color_system=None, force_terminal=False,
        force_jupyter=False, markup=False, emoji=False, highlight=False, legacy_windows=False,
    )  # fmt: skip
    console.print(f"{failure.headline} (memory model {failure.memory_model})")
    console.print(failure.cause)
    console.print()
    console.print(_table(failure, console.width))
    if any(step.switched for step in failure.trace.steps):
        console.print(LEGEND)
    for section in (_waiting(failure), _conflict(failure), _end(failure)):
        for line in section:
            console.print(line)
    console.print(", ".join(wording.history_of(failure)))
    console.print(again_title(failure.program))
    console.print(f"  {wording.replay_line(failure)}", soft_wrap=True)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


# --- the steps -----------------------------------------------------------------------------------
def _lines(failure: Failure) -> list[Line]:
    """What happened, then what did not: the access that failed, and the CPUs that wait."""
    trace = failure.trace
    notes = wording.buffer_notes(failure)
    stacks = wording.stacks_of(trace)
    lines = []
    for shown in wording.folded(trace, MARGIN_STEPS, SHORTEST_GAP):
        if isinstance(shown, wording.Gap):
            lines.append(Line("...", "", shown.cpu, str(shown), "", ""))
        else:
            site = wording.innermost(stacks[shown.index])
            lines.append(_line_of(failure, shown, site, notes.get(shown.index, "")))
    if trace.fault:
        fault = trace.fault
        reason = f"<< {wording.fault_reason(failure, fault)}"
        said = str(wording.fault_words(fault))
        lines.append(Line("failed", "", fault.cpu, said, reason, _source(fault.site)))
    for blocked in trace.blocked:
        said = wording.wait_in_short(blocked)
        lines.append(Line("stuck", "", blocked.cpu, said, "", _source(blocked.site)))
    return lines


def _line_of(failure: Failure, step: Step, site: Site | None, note: str) -> Line:
    marks = []
    if failure.trace.conflict and step.index in failure.trace.conflict:
        marks.append(f"<< {wording.conflict_mark(failure)}")
    if note:
        marks.append(f"({note})")
    switch = "preempt" if step.preempted else "switch" if step.switched else ""
    said = str(wording.words_of(step))
    return Line(str(step.index), switch, step.cpu, said, " ".join(marks), _source(site))


def _source(site: Site | None) -> str:
    return f"{wording.place_in_file(site)} {wording.source_at(site)}".strip()


def _table(failure: Failure, width: int) -> Table:
    """The steps in the first form that ``width`` has room for; the last one takes any."""
    cpus = failure.trace.cpus
    lines = _lines(failure)
    titles = [f"cpu {cpu} {name}" for cpu, name in enumerate(wording.kernel_names(failure))]
    if _source_width(lines, cpus, width) >= NARROWEST_SOURCE:
        return _beside(lines, titles, width)
    if _lane_width(cpus, width) >= NARROWEST_CPU:
        return _below(lines, titles, width)
    shared = [replace(line, said=f"cpu {line.cpu} | {line.said}", cpu=0) for line in lines]
    if _source_width(shared, 1, width) >= NARROWEST_SOURCE:
        return _beside(shared, ["access"], width)
    return _below(shared, ["access"], width)


def _longest(lines: list[Line]) -> int:
    return max([NARROWEST_CPU, *(len(line.marked) for line in lines)])


def _source_width(lines: list[Line], lanes: int, width: int) -> int:
    """What remains for a column of source when no step is to be broken."""
    return width - LEFT_COLUMNS - lanes * (SEPARATOR + _longest(lines)) - SEPARATOR


def _lane_width(lanes: int, width: int) -> int:
    """The width of a lane where there is no column of source."""
    return (width - LEFT_COLUMNS) // lanes - SEPARATOR


def _beside(lines: list[Line], titles: list[str], width: int) -> Table:
    """Lanes, and a column for the source."""
    table = _table_of(titles, _longest(lines))
    source_width = _source_width(lines, len(titles), width)
    table.add_column("source", no_wrap=True, overflow="ellipsis", width=source_width)
    for line in lines:
        cells = _cells(line, len(titles), Text(line.marked))
        table.add_row(line.number, line.switch, *cells, Text(line.source))
    return table


def _below(lines: list[Line], titles: list[str], width: int) -> Table:
    """Lanes, with marks and source below the step."""
    lane_width = _lane_width(len(titles), width)
    table = _table_of(titles, lane_width)
    for line in lines:
        source = Text(line.source)
        source.truncate(lane_width, overflow="ellipsis")
        fits = len(line.marked) <= lane_width
        said = [line.marked] if fits else [line.said, line.mark]
        parts = [Text(part) for part in said if part] + ([source] if source else [])
        cells = _cells(line, len(titles), Text("\n").join(parts))
        table.add_row(line.number, line.switch, *cells)
    return table


def _table_of(titles: list[str], lane_width: int) -> Table:
    """All widths are given: a table that shrinks by itself drops the step numbers first."""
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
def _waiting(failure: Failure) -> Iterator[str]:
    """Who waits for whom, and where."""
    blocked_cpus = failure.trace.blocked
    if not blocked_cpus:
        return
    yield ""
    yield from wording.waiting_lines(blocked_cpus)
    for blocked in blocked_cpus:
        yield f"  cpu {blocked.cpu} {wording.wait_in_short(blocked)}"
        yield from _stack(wording.waiting_stack(failure.trace, blocked))


def _conflict(failure: Failure) -> Iterator[str]:
    """The pair again, or the access that failed, each with how its CPU came there."""
    fault = failure.trace.fault
    pair = wording.conflicting(failure.trace)
    if pair:
        yield ""
        yield f"{wording.conflict_title(failure)}:"
    notes = wording.buffer_notes(failure)
    stacks = wording.stacks_of(failure.trace)
    for step in pair:
        note = f" ({notes[step.index]})" if step.index in notes else ""
        yield f"  step {step.index}, cpu {step.cpu}: {wording.words_of(step)}{note}"
        yield from _stack(stacks[step.index])
    if fault:
        yield ""
        reason = wording.fault_reason(failure, fault)
        yield f"Not performed, cpu {fault.cpu}: {wording.fault_words(fault)} ({reason})"
        yield from _stack(fault.stack)
    if failure.trace.faulted:
        yield ""
        yield "Here:"
        yield from _stack((failure.trace.faulted,))


def _stack(stack: tuple[Site, ...]) -> Iterator[str]:
    for depth, site in enumerate(stack):
        called = "called from " if depth else ""
        yield f"{STACK_INDENT}{called}{wording.path_at(site)} in {site.function}"
        text = wording.source_at(site)
        if text:
            yield f"{STACK_INDENT}    {text}"


def _end(failure: Failure) -> Iterator[str]:
    """What is left behind. A failure before the end has no results: not all CPUs returned."""
    trace = failure.trace
    yield ""
    if failure.kind == "check" and trace.returns:
        yield f"returned: {', '.join(wording.returned(trace))}"
    touched = wording.touched(trace)
    if touched:
        words = [f"[{a}] = {wording.number(value)}" for a, value in touched[:SHOWN_WORDS]]
        hidden = len(touched) - len(words)
        more = f" and {wording.count_of(hidden, 'more word')}" if hidden else ""
        yield f"memory at the end: {', '.join(words)}{more}"

"""``import_text``: any text of a recorder becomes a trace; nothing of it is lost without a word.

    text -> its format (FORMATS) -> rows -> pairing.py -> Trace, and ``Imported``, which says what
    became of every line

A text is read once, a chunk at a time; memory grows with the events that are kept (about 130 bytes
each), not with the text. At most MAX_EVENTS events are kept: reading stops there, and that is told.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path

from shmalloc.errors import MisuseError
from stress.progress import Step, silent
from stress.quantities import counted, nearest
from stress.trace.format import MAX_EVENTS, Trace
from stress.trace.grammar import Grammar
from stress.trace.graph_text import GraphText
from stress.trace.heap_text import MtraceText, RepText
from stress.trace.kernel_text import TRACE_CMD, KernelText
from stress.trace.pairing import Pairing
from stress.trace.perf_text import PerfText
from stress.trace.table_text import TableText
from stress.trace.tally import LEFT_OUT, OTHER, UNKNOWN, Tally
from stress.trace.text import CURE, MAX_LINE_CHARS, Text

AUTO = "auto"
BEYOND = f"events behind the first {MAX_EVENTS:,}"
ORIGIN = "imported from: "  # the beginning of the first note
# Of two formats that know equally many lines, the first is taken.
FORMATS: dict[str, type[Grammar]] = {
    KernelText.name: KernelText,
    TRACE_CMD: KernelText,
    PerfText.name: PerfText,
    GraphText.name: GraphText,
    RepText.name: RepText,
    MtraceText.name: MtraceText,
    TableText.name: TableText,
}
_GUESS_LINES = 2000
_GUESS_CHARS = 1 << 22


class NothingUsable(MisuseError):
    """A text of a known format without one event that a trace can have."""


@dataclass(frozen=True)
class Imported:
    """A trace, and what became of the text that it is from."""

    trace: Trace
    format: str
    sentence: str  # what the format is
    lines: int
    tally: Tally
    left_out: Counter[str]  # events that found no partner, by why
    lost: Counter[int]  # events that the recorder itself lost, by CPU
    full: Counter[int]  # events after the end of a full buffer, by CPU
    warnings: tuple[str, ...]  # of the text as a whole

    def report(self) -> Iterator[str]:
        """Every line of the text, one line for each kind of it."""
        yield f"format: {self.format}, {self.sentence}; {counted(self.lines, 'line')}"
        yield from self.warnings
        for cpu, count in sorted(self.full.items()):
            yield (
                f"LOST: {counted(count, 'event')} of CPU {cpu}, whose buffer was full;"
                " the trace ends where the first one was"
            )
        for cpu, count in sorted(self.lost.items()):
            yield f"LOST: {counted(count, 'event')} of CPU {cpu}; pairs across the gap may be wrong"
        for why, count in self.left_out.most_common():
            yield f"left out: {why}: {count:,}"
        yield from self.tally.lines()


def import_text(
    path: str | Path, format: str = AUTO, report: Callable[[Step], None] = silent
) -> Imported:
    """The trace in a text, ``-`` for standard input, of a format of FORMATS or one to be found out.

    Raises ``MisuseError`` for a text without any usable event, and for what is no text.
    """
    require_format(format)
    with Text(path) as text:
        chunks = text.chunks()
        first = list(_first_lines(chunks))
        if text.damaged and not first:
            raise MisuseError(
                f"trace: {text.name}: {text.damaged}, and no line of it can be read; copy it again"
            )
        grammar = (FORMATS[format] if format != AUTO else _guess(first, text.name))()
        importing = _Importing(grammar, text.name)
        for lines in chain(first, chunks):
            if not importing.take(lines):
                break
            report(Step(f"reading {text.name}", text.done or 0, 1 if text.done else None))
        return importing.finish(_warnings(text, importing))


def import_lines(lines: Iterable[str], name: str, format: str = AUTO) -> Imported:
    """The trace in ``lines``, which are whole and not too long. Raises ``MisuseError``."""
    require_format(format)
    ends = (line.rstrip("\r\n") for line in lines)
    first = list(islice(ends, _GUESS_LINES))
    importing = _Importing((FORMATS[format] if format != AUTO else _guess([first], name))(), name)
    chunk: list[str] = first
    while importing.take(chunk) and (chunk := list(islice(ends, _GUESS_LINES))):
        pass
    return importing.finish(())


def require_format(name: str) -> None:
    """Raises ``MisuseError`` for a format that is not known."""
    if name != AUTO and name not in FORMATS:
        raise nearest(name, [AUTO, *FORMATS], "format")


def _first_lines(chunks: Iterator[list[str]]) -> Iterator[list[str]]:
    """The chunks that a guess needs."""
    lines = chars = 0
    for chunk in chunks:
        yield chunk
        lines += len(chunk)
        chars += sum(map(len, chunk))
        if lines >= _GUESS_LINES or chars >= _GUESS_CHARS:
            break


def _guess(chunks: Iterable[list[str]], name: str) -> type[Grammar]:
    """The format that knows most of the first lines."""
    lines = list(chain.from_iterable(chunks))[:_GUESS_LINES]
    known = {grammar: sum(map(grammar.knows, lines)) for grammar in FORMATS.values()}
    best = max(known, key=known.__getitem__)
    if known[best]:
        return best
    seen = Tally()
    for number, line in enumerate(lines, 1):
        seen.unknown(number, line)
    first = next(seen.lines(), "the file is empty").partition(": ")[2] or "the file is empty"
    formats = ", ".join(FORMATS)
    raise MisuseError(
        f"trace: {name}: no format is known by its first {counted(len(lines), 'line')} ({first});"
        f" known are {formats}, see --format"
    )


class _Importing:
    """Reads chunk after chunk with one grammar."""

    def __init__(self, grammar: Grammar, name: str) -> None:
        self.grammar = grammar
        self.name = name
        self.lines = 0
        self.full = False

    def take(self, lines: list[str]) -> bool:
        """Read some lines; False if no more can be kept."""
        take = self.grammar.take
        for number, line in enumerate(lines, self.lines + 1):
            take(number, line)
        self.lines += len(lines)
        self.full = len(self.grammar.rows) >= MAX_EVENTS
        return not self.full

    def finish(self, warnings: tuple[str, ...]) -> Imported:
        grammar = self.grammar
        pairing = Pairing(grammar.one_space)
        if not len(grammar.rows):
            raise self._nothing()
        table = grammar.rows.table(MAX_EVENTS)
        pairing.counts[BEYOND] += len(grammar.rows) - len(table)
        trace = pairing.trace(table, grammar.caches, grammar.full_cpus)
        left_out = +pairing.counts
        if not len(trace):
            raise self._nothing(left_out)
        origin = f"{ORIGIN}{grammar.sentence}, {counted(self.lines, 'line')}"
        notes = (origin, *warnings, *grammar.notes(), *pairing.notes)
        told = tuple(f"left out: {why}: {count:,}" for why, count in left_out.most_common())
        return Imported(
            replace(trace, source=self.name, notes=(*notes, *told)),
            grammar.name,
            grammar.sentence,
            self.lines,
            grammar.tally,
            left_out,
            grammar.lost,
            grammar.full_cpus,
            warnings,
        )

    def _nothing(self, left_out: Counter[str] | None = None) -> NothingUsable:
        """The error for a text without a usable event, with what was seen instead."""
        tally = self.grammar.tally
        seen = [f"{count:,} {why}" for why, count in (left_out or {}).items()]
        for group in (LEFT_OUT, OTHER):
            seen += [f"{one.count:,} {kind}" for kind, one in list(tally.seen[group].items())[:3]]
        if unknown := tally.seen[UNKNOWN]:
            first = min(unknown.values(), key=lambda one: one.line)
            count = tally.count(UNKNOWN)
            seen.append(f"{count:,} not understood, first in line {first.line:,}: {first.text}")
        what = ", ".join(seen) or "no line at all"
        return NothingUsable(
            f"trace: {self.name}: no usable event in {counted(self.lines, 'line')} read as"
            f" {self.grammar.name} ({what}); {CURE}, or another --format"
        )


def _warnings(text: Text, importing: _Importing) -> tuple[str, ...]:
    found = []
    if text.damaged:
        found.append(f"{text.damaged}: what is behind line {importing.lines:,} is lost")
    if text.cut_lines:
        found.append(f"{counted(text.cut_lines, 'line')} cut at {MAX_LINE_CHARS:,} characters")
    if importing.full:
        found.append(
            f"a trace has at most {MAX_EVENTS:,} events: reading stopped at line"
            f" {importing.lines:,}"
        )
    return tuple(found)

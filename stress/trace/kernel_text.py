"""What Linux prints of its trace: tracefs in its formats, and ``trace-cmd report``.

::

    make-4812  [000] .....   913.204101: kfree: call_site=... ptr=...    tracefs; irq-info may lack
    make-4812  (   4800) [000] .....   913.204101: kfree: ...            option record-tgid
    make-4812  [000] ..... 2417832198170: kfree: ...                     clocks without a unit
        make-4812    0d..2.  4812us+: kfree: ...                         option latency-format
        make   4812   0 0 00000000 00000001 [379f23ce] 8.197ms (+0.001ms): kfree: ...    and verbose
    kfree: call_site=...                                                 without context-info
    make-4812  [000]   913.204101: kfree:                (f+0x6c) call_site=...     trace-cmd report
    make-4812  [000]2633286531485: kfree: ...   (+4)     kfree: ...      -t -R -l, --ts-diff

The name of a task may hold anything, blanks, dashes, colons and brackets too; at most 16 characters
of it are printed (more in front of it, where several files are reported).
"""

from __future__ import annotations

import re
from typing import ClassVar

from stress.trace.events import KernelEvents
from stress.trace.grammar import COMMENT, EMPTY, LINE_NS, Grammar, nanoseconds

STACKS = "lines of stack traces"
FUNCTIONS = "lines of functions"
TRACE_CMD = "trace-cmd"  # the name of its reports
LOSSES = "marks of lost events"
FULL = "# shmstress: the buffer of CPU {} was full, {} events were dropped"

_TASK = r"(?:.{0,16}|.{17,64}?)-(\d{1,10})\s++"
_TIME = r"(\d{1,20})(?:\.(\d{1,9}))?"
_EVENT = r":\s++(?:\(\+\d+\)\s++)?(?:(\w+):\s*+)?(.*)"
_USUAL = re.compile(
    _TASK + r"(?:\([ \d-]{1,12}\)\s++)?\[(\d{1,5})\]\s*+(?:[.dDbX]\S*+\s++)?" + _TIME + _EVENT
)
_LATENCY = re.compile(
    _TASK + r"(\d{1,5})(?:[.dDbX]\S*+|-0x[\da-f]+)\s++" + _TIME + r"us[ +!#*@$]?" + _EVENT
)
_LATENCY_TIME = re.compile(_TASK + r"(\d{1,5})(?:[.dDbX]\S*+|-0x[\da-f]+)\s++" + _TIME + _EVENT)
_VERBOSE = re.compile(
    r"\s*+\S.{0,63}?\s++(\d{1,10})\s++(\d{1,5}) \d+ [\da-f]{8} [\da-f]{8,16} \[[\da-f]{8,16}\] "
    r"(\d{1,20})(?:\.(\d{3})ms)? \(\+\d+(?:\.\d{3}ms)?\)" + _EVENT
)
_BARE = re.compile(r"()()()()(mm_page\w+|kmalloc\w*|kfree|kmem_cache_\w+|rss_stat):\s*+(.*)")
_LOST = re.compile(r"\s*+CPU:(\d{1,5}) \[(?:LOST )?(\d{1,18})? ?EVENTS(?: DROPPED)?\]")
_FULL = re.compile(re.escape(FULL).replace(r"\{\}", r"(\d{1,18})"))
_TRACE_CMD = re.compile(
    r"\s*+(?:.{0,64}: )?(?:cpus=\d+|version = \d+|CPU \d+ is empty|CPU:\d+ \[SUB.*)$"
)


class KernelText(Grammar):
    """The text of tracefs (``trace``, ``trace_pipe``, or that of one CPU), or of trace-cmd."""

    name = "ftrace"
    sentence = "trace of the kernel (tracefs)"
    patterns: ClassVar[tuple[re.Pattern[str], ...]] = (
        _USUAL,
        _LATENCY,
        _LATENCY_TIME,
        _VERBOSE,
        _BARE,
    )

    def __init__(self) -> None:
        super().__init__()
        self.events = KernelEvents(self.rows, self.caches)
        self._pattern = _USUAL
        self._ticks = False
        self._bare = 0

    @classmethod
    def knows(cls, line: str) -> bool:
        return any(pattern.match(line) for pattern in cls.patterns)

    def take(self, number: int, line: str) -> None:
        match = self._pattern.match(line) or self._other_form(line)
        if match is None:
            self._no_event(number, line)
            return
        pid, cpu, seconds, fraction, event, fields = match.groups()
        if event is None or not self.events.knows(event):
            self.other(_kind(event, fields), number, line)
            return
        if self._pattern is _USUAL and fraction is not None:
            time_ns = nanoseconds(seconds, fraction)
        else:
            time_ns = self._time(seconds, fraction)
        where = time_ns, int(cpu or 0), int(pid or 0)
        why = self.events.take(event, fields, where)
        if why:
            self.leave_out(why, number, line)

    def _other_form(self, line: str) -> re.Match[str] | None:
        """The line in another form than the one before; the forms of a file are few.

        A file with times has no events without.
        """
        for pattern in self.patterns:
            match = pattern.match(line)
            if match is not None and (pattern is not _BARE or not len(self.rows)):
                self._pattern = pattern
                return match
        return None

    def _time(self, seconds: str, fraction: str | None) -> int:
        if self._pattern is _LATENCY:
            return int(seconds) * 1000
        if self._pattern is _BARE:
            self._bare += 1
            return self._bare * LINE_NS
        if self._pattern is _VERBOSE and fraction is not None:
            return int(seconds + fraction) * 1000
        self._ticks = self._ticks or fraction is None
        return nanoseconds(seconds, fraction)

    def _no_event(self, number: int, line: str) -> None:
        text = line.strip()
        lost = _LOST.match(line)
        full = _FULL.match(line)
        if full is not None:
            self.full_cpus[int(full[1])] += int(full[2])
        if lost is not None:
            self.lost[int(lost[1])] += int(lost[2] or 1)
            self.other(LOSSES, number, line)
        elif not text:
            self.other(EMPTY, number, line)
        elif text.startswith("#"):
            self.other(COMMENT, number, line)
        elif _TRACE_CMD.match(line):
            self.name, self.sentence = TRACE_CMD, "report of trace-cmd"
            self.other(COMMENT, number, line)
        elif text.startswith(("=> ", "<stack trace>", "<user stack trace>")):
            self.other(STACKS, number, line)
        else:
            self.tally.unknown(number, line)

    def notes(self) -> list[str]:
        found = self.events.notes()
        if self._ticks:
            found.append("the clock of the text has no unit: a tick is taken as 1 ns")
        if self._bare:
            found.append("the text has no CPUs and no times: all is on CPU 0, 1 us apart")
        return found


def _kind(event: str | None, fields: str) -> str:
    """What an event is that is none of an allocator."""
    if event is not None:
        return f"{event[:40]} events"
    return STACKS if fields.startswith("<") else FUNCTIONS

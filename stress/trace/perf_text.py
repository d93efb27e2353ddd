"""``perf script``: with and without callchains, nanoseconds, periods and thread ids.

::

    make  4812 [000]   913.204101:      kmem:kfree: call_site=... ptr=(nil)
    make  4812/4813 [001]  913.204101999:     1  kmem:kfree: call_site=...
            ffffffff81636e0d kfree+0x20d ([kernel.kallsyms])
"""

from __future__ import annotations

import re

from stress.trace.events import KernelEvents
from stress.trace.grammar import COMMENT, EMPTY, Grammar, nanoseconds

CHAINS = "lines of callchains"
RECORDS = "perf's own records"
NO_CPU = "events for which perf printed no CPU, put on CPU 0: {:,}"

_SAMPLE = re.compile(
    r"\s*+(?:(?:\S.{0,15}|\S.{16,63}?)\s++)?(-?\d{1,10})(?:/(-?\d{1,10}))?\s++(?:\[(\d{1,5})\]\s++)?"
    r"(?:[^\s\d:\[]\S{0,15}\s++)?(\d{1,12})\.(\d{1,9}):\s++"
    r"(?:\d{1,20}\s++)?(?:([\w-]{1,64}):)?(\w{1,64})(?:/\S*+)?:\S*+\s*+(.*)"
)
_CHAIN = re.compile(r"\s++[\da-f]{1,16} \S")
_LOST = re.compile(r".{0,128}?(?:\[(\d{1,5})\])?[^\[\]]{0,64}?PERF_RECORD_LOST\w* lost (\d{1,18})")
_RECORD = re.compile(r".{0,128}? PERF_RECORD_\w+")


class PerfText(Grammar):
    """Text of ``perf script``, whose events are called ``kmem:kfree``."""

    name = "perf"
    sentence = "text of perf script"

    def __init__(self) -> None:
        super().__init__()
        self.events = KernelEvents(self.rows, self.caches)
        self._without_cpu = 0

    @classmethod
    def knows(cls, line: str) -> bool:
        match = _SAMPLE.match(line)
        return match is not None and match[6] is not None

    def take(self, number: int, line: str) -> None:
        match = _SAMPLE.match(line)
        if match is None:
            self._no_sample(number, line)
            return
        pid, tid, cpu, seconds, fraction, _, event, fields = match.groups()
        if not self.events.knows(event):
            self.other(f"{event} events", number, line)
            return
        self._without_cpu += cpu is None
        where = nanoseconds(seconds, fraction), int(cpu or 0), int(tid or pid)
        why = self.events.take(event, fields, where)
        if why:
            self.leave_out(why, number, line)

    def _no_sample(self, number: int, line: str) -> None:
        lost = _LOST.match(line)
        if lost is not None:
            self.lost[int(lost[1] or 0)] += int(lost[2])
            self.other(RECORDS, number, line)
        elif _RECORD.match(line):
            self.other(RECORDS, number, line)
        elif not line.strip():
            self.other(EMPTY, number, line)
        elif line.startswith("#"):
            self.other(COMMENT, number, line)
        elif _CHAIN.match(line):
            self.other(CHAINS, number, line)
        else:
            self.tally.unknown(number, line)

    def notes(self) -> list[str]:
        missing = [NO_CPU.format(self._without_cpu)] if self._without_cpu else []
        return self.events.notes() + missing

"""Output of the kernel's function_graph tracer, whose comments are the events.

::

     1)               |  /* kmalloc: call_site=... ptr=... bytes_req=640 ... */
      913.204101 |   1)  make-4812   |   |   1.280 us    |  kfree();      abstime, proc, latency
     ------------------------------------------
     1)  make-4812     =>  cc-4813
     ------------------------------------------

Without the option funcgraph-abstime there are no times, and without funcgraph-proc only the line of
a context switch names the task.
"""

from __future__ import annotations

import re

from stress.trace.events import KernelEvents
from stress.trace.grammar import COMMENT, EMPTY, LINE_NS, Grammar, nanoseconds
from stress.trace.kernel_text import FUNCTIONS, LOSSES

SWITCHES = "context switches"
_COMMENT = re.compile(r"(\w{1,64}): ?(.*)")
_PLACE = re.compile(r"\s*+(?:(\d{1,12})\.(\d{6}) \|\s*+)?(?:\d+\.\d{3} us \|\s*+)?(\d{1,5})\)(.*)")
_TASK = re.compile(r"\s*+\S.{0,16}?-(\d{1,10})\s*+\|")
_SWITCH = re.compile(r"\s*+(\d{1,5})\)\s.{0,24}?-\d{1,10}\s*+=>\s.{0,24}?-(\d{1,10})\s*+$")
_FUNCTION = re.compile(r"[^|/]{0,80}\|.*(?:\(\);|\(\) \{|\}|=>|<=)")


class GraphText(Grammar):
    """The text of ``trace`` with ``current_tracer`` function_graph."""

    name = "function_graph"
    sentence = "function_graph trace of the kernel"

    def __init__(self) -> None:
        super().__init__()
        self.events = KernelEvents(self.rows, self.caches)
        self._tasks: dict[int, int] = {}  # CPU -> the task that it runs, as far as is known
        self._untimed = 0
        self._unplaced = 0

    @classmethod
    def knows(cls, line: str) -> bool:
        placed = _PLACE.match(line)
        return bool(placed and ("/* " in placed[4] or _FUNCTION.match(placed[4])))

    def take(self, number: int, line: str) -> None:
        before, _, text = line.partition("/* ")
        comment = _COMMENT.match(text)
        if comment is None:
            self._no_comment(number, line)
            return
        event, fields = comment[1], comment[2].removesuffix("*/")
        if not self.events.knows(event):
            self.other(f"{event[:40]} events", number, line)
            return
        why = self.events.take(event, fields, self._where(before))
        if why:
            self.leave_out(why, number, line)

    def _where(self, before: str) -> tuple[int, int, int]:
        """Time, CPU and task of a line, of what stands in front of the comment."""
        placed = _PLACE.match(before)
        seconds, fraction, cpu, rest = placed.groups() if placed else (None, None, None, before)
        place = int(cpu or 0)
        self._unplaced += cpu is None
        if seconds is None:
            self._untimed += 1
        time_ns = self._untimed * LINE_NS if seconds is None else nanoseconds(seconds, fraction)
        task = _TASK.match(rest or "")
        return time_ns, place, int(task[1]) if task else self._tasks.get(place, 0)

    def _no_comment(self, number: int, line: str) -> None:
        switch = _SWITCH.match(line)
        if switch is not None and len(self._tasks) < 1 << 16:
            self._tasks[int(switch[1])] = int(switch[2])
            self.other(SWITCHES, number, line)
        elif not line.strip():
            self.other(EMPTY, number, line)
        elif line.startswith("#"):
            self.other(COMMENT, number, line)
        elif line.strip().startswith("-----"):
            self.other(SWITCHES, number, line)
        elif _FUNCTION.match(line):
            self.other(FUNCTIONS, number, line)
        else:
            self._lost_or_unknown(number, line)

    def _lost_or_unknown(self, number: int, line: str) -> None:
        lost = re.match(r"CPU:(\d{1,5}) \[LOST (\d{1,18})? ?EVENTS\]", line)
        if lost is None:
            self.tally.unknown(number, line)
            return
        self.lost[int(lost[1])] += int(lost[2] or 1)
        self.other(LOSSES, number, line)

    def notes(self) -> list[str]:
        found = self.events.notes()
        if self._untimed:
            found.append("the text has no times (option funcgraph-abstime): events are 1 us apart")
        if self._unplaced:
            found.append(f"events without a CPU, put on CPU 0: {self._unplaced:,}")
        return found

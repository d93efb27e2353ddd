"""What kernels recorded, in words: violations of the report table, and descriptions of pages.

Kernels write numbers (``kernels/reporting.py``); here they become ``Violation`` objects and
sentences. Everything only reads, and tolerates a segment that is in use, or corrupt: it must be
able to say what dead processes did.
"""

from __future__ import annotations

import numpy as np

from shmalloc import constants as c
from shmalloc.compiler.caller import name_of as name_of_kernel
from shmalloc.descriptor_text import block_text, order_of, owner_text
from shmalloc.errors import Violation
from shmalloc.history import LINES, History
from shmalloc.invariants import name_of
from shmalloc.layout import Layout
from shmalloc.page_owner import PageOwner
from shmalloc.report_text import ReportText, Stake, Words
from shmalloc.segment import Segment

_READS = 64


class Reports:
    """The report table and the histories of one segment. ``words``: its memory, read by index."""

    def __init__(self, words: Words, layout: Layout) -> None:
        self._words = words
        self._layout = layout
        self._text = ReportText(words, layout)

    def count(self) -> int:
        """How many violations kernels have reported, kept or not."""
        return int(self._words[c.H_REPORT_COUNT])

    def violations(self, first: int = 0) -> list[Violation]:
        """The kept reports from number ``first`` on, each with the history of its subject.

        The table keeps the first ``REPORTS`` of a segment's life.
        """
        history = History(self._words, self._layout)
        return [self._violation(n, history) for n in range(first, min(self.count(), c.REPORTS))]

    def complete(self, first: int = 0) -> list[Violation]:
        """As ``violations``, up to the first report that its claim has not finished yet."""
        history = History(self._words, self._layout)
        found: list[Violation] = []
        for n in range(first, min(self.count(), c.REPORTS)):
            if self._words[self._at(n) + c.R_READY] != n + 1:
                break
            found.append(self._violation(n, history))
        return found

    def last_of(self, claim: int) -> Violation | None:
        """The newest complete report of a claim, for the error of the operation that caused it."""
        for n in reversed(range(min(self.count(), c.REPORTS))):
            at = self._at(n)
            if self._words[at + c.R_CLAIM] == claim and self._words[at + c.R_READY] == n + 1:
                return self._violation(n, History(self._words, self._layout))
        return None

    def history(self, claim: int, lines: int = LINES) -> tuple[str, ...]:
        """The last operations on the CPU that a claim is on, oldest first."""
        cpu = int(self._words[self._layout.cpu(claim) + c.C_CPU])
        return History(self._words, self._layout).of_cpu(cpu, lines)

    def _allocated_by(self, stake: Stake) -> tuple[str, ...]:
        """Who allocated what is at stake, if that was sampled and lives (as dump_page_owner)."""
        if not self._layout.geometry.page_owner:
            return ()
        owner = PageOwner(self._layout, self._read)
        found = None
        if stake.address is not None:
            found = owner.of_object(stake.address)
        if found is None and stake.pfn is not None:
            found = owner.of_page(stake.pfn)
        if found is None:
            return ()
        stack = " < ".join(found.stack) or "a call whose stack was not saved"
        return (f"allocated by {stack}; pid {found.pid} ({found.command})",)

    def _read(self, first: int, count: int) -> np.ndarray:
        words = (int(self._words[word]) for word in range(first, first + count))
        return np.fromiter(words, np.int64, count)

    def _at(self, n: int) -> int:
        return self._layout.at["reports"] + n * c.R_STRIDE

    def _violation(self, n: int, history: History) -> Violation:
        at = self._at(n)
        fields = (c.R_CODE, c.R_WHERE, c.R_EXPECTED, c.R_FOUND, c.R_CLAIM)
        code, where, expected, found, claim = (int(self._words[at + field]) for field in fields)
        if self._words[at + c.R_READY] != n + 1:
            unfinished = "one that its CPU has not finished: it died, or is about to"
            return Violation(name_of(c.I_PROGRESS), f"report {n}", "a complete report", unfinished)
        stake = self._text.stake(code, where)
        return Violation(
            invariant=name_of(code),
            where=self._text.place(code, where),
            expected=self._text.expected(code, expected),
            found=self._text.found(code, found),
            history=history.of(stake) + self._allocated_by(stake),
            claim=claim,
            kernel=name_of_kernel(int(self._words[at + c.R_CALLER])),
        )


def reports_of(segment: Segment) -> Reports:
    """The reports of a segment."""
    return Reports(segment.ram, segment.layout)


def violation_count(segment: Segment) -> int:
    """How many violations were reported since the segment was made, kept or not."""
    return reports_of(segment).count()


def violations(segment: Segment, first: int = 0) -> list[Violation]:
    """The kept reports from number ``first`` on; a last entry says how many were not kept."""
    reports = reports_of(segment)
    found = reports.violations(first)
    lost = reports.count() - max(first, c.REPORTS)
    if lost > 0:
        kept_at_most = f"at most {c.REPORTS} reports"
        found.append(Violation("report table", "segment", kept_at_most, f"{lost} more"))
    return found


def _stable_pair(segment: Segment, pfn: int) -> tuple[int, int]:
    """Both words of a descriptor, word 0 unchanged around the read of word 1 (it has a version)."""
    ram, at = segment.ram, segment.layout.descriptor(pfn)
    for _ in range(_READS):
        word0 = ram[at]
        word1 = ram[at + 1]
        if ram[at] == word0:
            break
    return word0, word1


def describe_page(segment: Segment, pfn: int) -> str:
    """A sentence about ``pfn``: its state, the block that covers it, its owner."""
    word0, word1 = _stable_pair(segment, pfn)
    if word0 & c.TYPE_MASK == c.T_TAIL:
        return _describe_tail(segment, pfn)
    return f"pfn {pfn} is {owner_text(word0, word1)}: {block_text(word0, pfn)}"


def _describe_tail(segment: Segment, pfn: int) -> str:
    """A tail is covered by the first head on the way of its parents (kernels/descriptor.py)."""
    head = pfn
    while head:
        head &= head - 1
        word0, word1 = _stable_pair(segment, head)
        if word0 & c.TYPE_MASK != c.T_TAIL:
            if head + (1 << order_of(word0)) > pfn:
                state = f"{owner_text(word0, word1)}: {block_text(word0, head)}"
                return f"pfn {pfn} is inside the block of pfn {head}, {state}"
            break
    return f"pfn {pfn} is a tail that no block covers (changing, or corrupt)"

"""The live view of a run on a terminal, drawn by rich on standard error four times a second.

::

  12.3s of 20s ██████████████░░░░░░░░░░ 8s left, no violations, 4 audits
    6 workers, 256MiB in 2 zones, seed 0x1b48c44c
    memory ████░░░░░░░░░░░░░░░░░░░░ 12,345 of 65,536 pages in use
    fragmentation ▁▁▂▃▃▅▆ 68% of free pages in blocks below a huge page
    processes 212.2MiB private, 104 descriptors: controller 26.1MiB, workers 156.4MiB (6, ...
    workload  operations  per second  refused*  longest ms
    ...

Rates are of the last interval, not averages; the first frame has none. A view never gets wider
than its terminal: lines are cropped, and narrow terminals get short numbers.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.live import Live
from rich.table import Table
from rich.text import Text

from shmalloc import constants as c
from shmalloc.sizes import format_bytes
from stress.quantities import counted, exact_bytes, rough_duration, short
from stress.report.cells import bar, levels, one_line
from stress.report.text import REFUSED
from stress.run.accounts import Account
from stress.run.progress import Moment, Progress
from stress.spec import RunSpec

DRAW_EVERY_S = 0.25
BAR_CELLS = 24
NARROW_CELLS = 5
NARROW = 64  # columns; below, numbers are short
WIDE = 90  # columns; below, what "refused" means is a line of its own
_COUNTERS = (
    ("splits", c.EV_SPLIT),
    ("merges", c.EV_MERGE),
    ("contended locks", c.EV_LOCK_SLOW),
    ("lost compare-exchanges", c.EV_CAS_FAIL),
    ("steals", c.EV_STEAL),
    ("remote frees", c.EV_REMOTE_FREE),
)


class LiveProgress(Progress):
    """Redraws one block of lines; what was there before is left alone.

    ``always``: draws even if standard error is not a terminal.
    """

    def __init__(self, always: bool = False) -> None:
        screen = Console(stderr=True, force_terminal=True if always else None, force_jupyter=False)
        self._screen = screen
        self._live = Live(console=screen, auto_refresh=False, transient=True)
        self._next_s = 0.0
        self._before: Moment | None = None
        self._spec_line = ""
        self._past: deque[float] = deque(maxlen=BAR_CELLS)
        self._past_due_s = 0.0

    def tell(self, text: str) -> None:
        self._screen.print(Text(text))

    def begin(self, spec: RunSpec) -> None:
        self._spec_line = spec_line(spec)
        self._live.start()

    def moment(self, take: Callable[[], Moment]) -> None:
        now = time.monotonic()
        if now >= self._next_s:
            self._next_s = now + DRAW_EVERY_S
            self.last(take)

    def last(self, take: Callable[[], Moment]) -> None:
        moment = take()
        if moment.elapsed_s >= self._past_due_s:
            self._past_due_s = moment.elapsed_s + 1.0
            self._past.append(moment.fragmentation)
        frame = View(moment, self._before, self._spec_line, tuple(self._past))
        self._live.update(frame, refresh=True)
        self._before = moment

    def end(self) -> None:
        self._live.stop()


def spec_line(spec: RunSpec) -> str:
    """What is worth knowing of a spec while it runs; the whole of it is the run's first line."""
    parts = [
        counted(spec.workers, "worker"),
        f"{exact_bytes(spec.ram_bytes)} in {counted(len(spec.zones), 'zone')}",
        f"seed {spec.seed:#x}",
    ]
    if spec.engine != "native":
        parts.append(f"engine {spec.engine}")
    if spec.faults:
        parts.append(f"faults {','.join(map(str, spec.faults))}")
    if spec.jitter is not None:
        parts.append(f"jitter {spec.jitter}")
    return ", ".join(parts)


@dataclass(frozen=True)
class Look:
    """What depends on the width of the terminal. ``cells``: of the bars; 0 leaves them short."""

    cells: int
    number: Callable[[float], str]
    headings: tuple[str, str, str, str]
    footnote: bool

    @classmethod
    def of(cls, width: int) -> Look:
        if width < NARROW:
            return cls(0, short, ("ops", "per s", "refused*", "max ms"), True)
        refused = REFUSED if width >= WIDE else "refused*"
        headings = ("operations", "per second", refused, "longest ms")
        return cls(BAR_CELLS, "{:,.0f}".format, headings, width < WIDE)


class View:
    """One frame: the moment ``now``; ``before`` gives the rates, ``past`` the fragmentation."""

    def __init__(
        self,
        now: Moment,
        before: Moment | None,
        spec_line: str = "",
        past: Sequence[float] = (),
    ) -> None:
        self._now = now
        self._before = before
        self._past = past
        self._spec_line = spec_line

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        look = Look.of(options.max_width)
        yield Group(
            one_line(self._headline(look)),
            one_line(Text(self._spec_line, style="dim")),
            one_line(self._memory(look)),
            one_line(self._fragmentation()),
            one_line(self._processes()),
            self._table(look),
            *([one_line(Text(f"* {REFUSED}", style="dim"))] if look.footnote else []),
            self._counters() if look.cells else one_line(self._counters()),
            one_line(self._lists(look)),
            one_line(self._orders(look)),
        )

    def _headline(self, look: Look) -> Text:
        now, found = self._now, self._now.snapshot.reports
        whole = f"of {now.duration_s:g}s" if now.share is None else "of once through the trace"
        text = Text(f"{now.elapsed_s:6.1f}s {whole} ")
        text.append(bar(now.done, look.cells))
        if look.cells and now.left_s is not None:
            text.append(f" {rough_duration(round(now.left_s))} left,")
        violations = counted(found, "violation") if found else "no violations"
        text.append(f" {violations}", "bold red" if found else "green")
        return text.append(f", {counted(now.audits, 'audit')}")

    def _memory(self, look: Look) -> Text:
        """The share of all managed pages that is allocated."""
        used, managed = self._now.used_pages, self._now.snapshot.managed_pages
        share = bar(used / max(1, managed), look.cells or NARROW_CELLS)
        return Text(f"memory {share} {look.number(used)} of {look.number(managed)} pages in use")

    def _fragmentation(self) -> Text:
        """How the share of the free pages that are in small blocks went, and what it is now."""
        now = self._now.fragmentation
        past = levels(self._past or (now,), most=1.0)
        return Text(f"fragmentation {past} {now:.0%} of free pages in blocks below a huge page")

    def _processes(self) -> Text:
        """Private memory by role; the segment is not in it."""
        uses = self._now.processes
        if not uses:
            return Text("processes not measured yet")
        sizes: dict[str, list[int]] = {}
        for use in uses:
            role = "workers" if use.role.startswith("worker ") else use.role
            sizes.setdefault(role, []).append(use.private_bytes)
        parts = ", ".join(f"{role} {_sum(each)}" for role, each in sizes.items())
        files = counted(sum(use.fds for use in uses), "descriptor")
        own = format_bytes(sum(use.private_bytes for use in uses))
        return Text(f"processes {own} private, {files}: {parts}")

    def _table(self, look: Look) -> Table:
        """One row for each workload; those that run now are bright."""
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column("workload", no_wrap=True)
        for heading in look.headings:
            table.add_column(heading, justify="right", no_wrap=True)
        for account in self._now.accounts:
            rate = self._rate(account.operations, _account(self._before, account.name).operations)
            table.add_row(
                account.name,
                look.number(account.operations),
                look.number(rate) if account.running and rate is not None else "-",
                look.number(account.refused),
                f"{account.longest_s * 1e3:,.0f}" if account.longest_s else "-",
                style="" if account.running else "dim",
            )
        return table

    def _rate(self, count: int, before: int) -> float | None:
        """How much a count rose in each second since the last frame; None in the first frame."""
        if self._before is None or self._now.elapsed_s <= self._before.elapsed_s:
            return None
        return max(0.0, (count - before) / (self._now.elapsed_s - self._before.elapsed_s))

    def _counters(self) -> Text:
        rates = []
        for name, which in _COUNTERS:
            before = 0 if self._before is None else self._before.event(which)
            rate = self._rate(self._now.event(which), before)
            rates.append(f"{name} {'-' if rate is None else short(rate)}")
        return Text(f"per second: {', '.join(rates)}")

    def _lists(self, look: Look) -> Text:
        """Pages on the lists of each CPU, as a row of bars."""
        pages = self._now.snapshot.pcp_pages
        listed, longest = look.number(sum(pages)), look.number(max(pages))
        return Text(f"per-CPU lists {levels(pages)} {listed} pages, {longest} on the longest")

    def _orders(self, look: Look) -> Text:
        """Free blocks by order."""
        counts = self._now.snapshot.free_by_order
        orders = "  ".join(f"{order}:{look.number(n)}" for order, n in enumerate(counts))
        return Text(f"free blocks by order  {orders}")


def _sum(sizes: list[int]) -> str:
    """``26.1MiB``; for several ``104.4MiB (4, at most 26.2MiB)``."""
    whole = format_bytes(sum(sizes))
    if len(sizes) == 1:
        return whole
    return f"{whole} ({len(sizes)}, at most {format_bytes(max(sizes))})"


def _account(moment: Moment | None, name: str) -> Account:
    accounts = () if moment is None else moment.accounts
    return next((account for account in accounts if account.name == name), Account(name))

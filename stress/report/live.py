"""The live view of a run on a terminal, drawn by rich on standard error four times a second.

::

      12.3s of 20s ██████████████░░░░░░░░░░  4 audits, no violations
    6 workers, 256MiB in 2 zones, seed 0x1b48c44c
    memory ████░░░░░░░░░░░░░░░░░░░░  12,345 of 65,536 pages in use, 512 on the lists of CPUs
    workload    operations  per second  refused*  longest call
    ...

Rates are of the last interval, not averages; the first frame has none. A view never gets wider
than its terminal: lines are cropped, and narrow terminals get short numbers.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.live import Live
from rich.table import Table
from rich.text import Text

from shmalloc import constants as c
from stress.quantities import counted, exact_bytes
from stress.report.text import REFUSED
from stress.run.accounts import Account
from stress.run.progress import Moment, Progress
from stress.spec import RunSpec

DRAW_EVERY_S = 0.25
BAR_CELLS = 24
NARROW = 64  # columns; below, numbers are short
WIDE = 90  # columns; below, what "refused" means is a line of its own
_LEVELS = "▁▂▃▄▅▆▇█"
_COUNTERS = (
    ("splits", c.EV_SPLIT), ("merges", c.EV_MERGE), ("contended locks", c.EV_LOCK_SLOW),
    ("lost compare-exchanges", c.EV_CAS_FAIL), ("steals", c.EV_STEAL),
    ("remote frees", c.EV_REMOTE_FREE),
)  # fmt: skip


class LiveProgress(Progress):
    """Redraws one block of lines; what was there before is left alone."""

    def __init__(self, console: Console | None = None) -> None:
        screen = console or Console(stderr=True)
        self._screen = screen
        self._live = Live(console=screen, auto_refresh=False, transient=True)
        self._next_s = 0.0
        self._before: Moment | None = None
        self._spec_line = ""

    def tell(self, text: str) -> None:
        self._screen.print(Text(text))

    def begin(self, spec: RunSpec) -> None:
        self._spec_line = spec_line(spec)
        self._live.start()

    def moment(self, take: Callable[[], Moment]) -> None:
        now = time.monotonic()
        if now >= self._next_s:
            self._next_s = now + DRAW_EVERY_S
            moment = take()
            self._live.update(View(moment, self._before, self._spec_line), refresh=True)
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


class View:
    """One frame: the moment ``now``; ``before`` gives the rates."""

    def __init__(self, now: Moment, before: Moment | None, spec_line: str = "") -> None:
        self._now = now
        self._before = before
        self._spec_line = spec_line

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        narrow, wide = options.max_width < NARROW, options.max_width >= WIDE
        number = short if narrow else "{:,.0f}".format
        cells = BAR_CELLS // 2 if narrow else BAR_CELLS
        yield Group(
            _line(self._headline(cells)),
            _line(Text(self._spec_line, style="dim")),
            _line(self._memory(cells, number)),
            self._table(number, REFUSED if wide else "refused*"),
            *([] if wide else [_line(Text(f"* {REFUSED}", style="dim"))]),
            self._counters(),
            _line(self._lists(number)),
            _line(self._orders(number)),
        )

    def _headline(self, cells: int) -> Text:
        now = self._now
        text = Text(f"{now.elapsed_s:6.1f}s of {now.duration_s:g}s ")
        text.append(_bar(now.elapsed_s / now.duration_s, cells))
        text.append(f"  {counted(now.audits, 'audit')}, ")
        found = now.snapshot.reports
        style = "bold red" if found else "green"
        return text.append(counted(found, "violation") if found else "no violations", style)

    def _memory(self, cells: int, number: Callable[[float], str]) -> Text:
        """The share of all managed pages that is allocated."""
        used, managed = self._now.used_pages, self._now.snapshot.managed_pages
        text = Text(f"memory {_bar(used / max(1, managed), cells)}  ")
        listed = number(sum(self._now.snapshot.pcp_pages))
        text.append(f"{number(used)} of {number(managed)} pages in use, {listed} on per-CPU lists")
        return text

    def _table(self, number: Callable[[float], str], refused: str) -> Table:
        """One row for each workload; those that run now are bright."""
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column("workload", no_wrap=True)
        for heading in ("operations", "per second", refused, "longest call"):
            table.add_column(heading, justify="right")
        for account in self._now.accounts:
            rate = self._rate(account.operations, _account(self._before, account.name).operations)
            table.add_row(
                account.name,
                number(account.operations),
                number(rate) if account.running and rate is not None else "-",
                number(account.refused),
                f"{account.longest_s * 1e3:,.1f} ms" if account.longest_s else "-",
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

    def _lists(self, number: Callable[[float], str]) -> Text:
        """Pages on the lists of each CPU, as a row of bars."""
        pages = self._now.snapshot.pcp_pages
        most = max(*pages, 1)
        bars = "".join(_LEVELS[min(7, n * 8 // (most + 1))] for n in pages)
        return Text(f"per-CPU lists {bars}  {number(max(pages))} pages on the longest")

    def _orders(self, number: Callable[[float], str]) -> Text:
        """Free blocks by order."""
        counts = self._now.snapshot.free_by_order
        orders = "  ".join(f"{order}:{number(n)}" for order, n in enumerate(counts))
        return Text(f"free blocks by order  {orders}")


def _line(text: Text) -> Text:
    """``text`` on one line, cropped at the edge of the terminal."""
    text.no_wrap, text.overflow = True, "ellipsis"
    return text


def _bar(share: float, cells: int) -> str:
    full = round(min(1.0, share) * cells)
    return "█" * full + "░" * (cells - full)


def _account(moment: Moment | None, name: str) -> Account:
    accounts = () if moment is None else moment.accounts
    return next((account for account in accounts if account.name == name), Account(name))


def short(number: float) -> str:
    """``999``, ``12.3k``, ``4.5M``: three digits and a unit."""
    units = iter("kMGT")
    unit = ""
    while number >= 999.5:
        number, unit = number / 1000, next(units)
    return f"{number:.3g}{unit}"

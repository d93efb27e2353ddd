"""The live view on a terminal: rates, counters, per-CPU fill, fragmentation; four times a second.

Drawn by rich on standard error. Rates are of the last interval, not averages.
"""

from __future__ import annotations

import operator
import time
from collections.abc import Callable

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from shmalloc import constants as c
from stress.report.progress import Moment, Progress
from stress.report.text import first_line
from stress.spec import RunSpec

DRAW_EVERY_S = 0.25
BAR_CELLS = 24
_BLOCKS = "▁▂▃▄▅▆▇█"
_COUNTERS = (
    ("allocs", c.EV_ALLOC), ("frees", c.EV_FREE), ("failures", c.EV_FAIL),
    ("object allocs", c.EV_OBJ_ALLOC), ("object frees", c.EV_OBJ_FREE), ("splits", c.EV_SPLIT),
    ("merges", c.EV_MERGE), ("lost CAS", c.EV_CAS_FAIL), ("contended locks", c.EV_LOCK_SLOW),
    ("steals", c.EV_STEAL), ("remote frees", c.EV_REMOTE_FREE),
)  # fmt: skip


class LiveProgress(Progress):
    """Redraws one block of lines; what was there before is left alone."""

    def __init__(self, console: Console | None = None) -> None:
        screen = console or Console(stderr=True)
        self._screen = screen
        self._live = Live(console=screen, auto_refresh=False, transient=True)
        self._next_s = 0.0
        self._before: Moment | None = None

    def tell(self, text: str) -> None:
        self._screen.print(Text(text))

    def begin(self, spec: RunSpec) -> None:
        self._live.start()
        self._live.update(Text(first_line(spec)), refresh=True)

    def moment(self, take: Callable[[], Moment]) -> None:
        now = time.monotonic()
        if now >= self._next_s:
            self._next_s = now + DRAW_EVERY_S
            moment = take()
            self._live.update(render(moment, self._before), refresh=True)
            self._before = moment

    def end(self) -> None:
        self._live.stop()


def render(moment: Moment, before: Moment | None) -> Group:
    """The view of one moment; ``before`` gives the rates."""
    return Group(
        _headline(moment, before), _counter_table(moment, before), _fill(moment), _fragments(moment)
    )


def _headline(moment: Moment, before: Moment | None) -> Text:
    share = min(1.0, moment.elapsed_s / moment.duration_s)
    bar = "█" * round(share * BAR_CELLS)
    rate = _rate(moment, before, lambda m: m.operations)
    violations = moment.snapshot.reports
    text = Text(f"{moment.elapsed_s:6.1f}s of {moment.duration_s:g}s {bar:░<{BAR_CELLS}} ")
    text.append(f"{rate:,.0f} operations/s  {moment.audits} audits  ")
    text.append(f"{violations} violations", style="bold red" if violations else "green")
    text.append(f"  {', '.join(moment.workloads)}", style="dim")
    return text


def _rate(moment: Moment, before: Moment | None, of: Callable[[Moment], int]) -> float:
    if before is None or moment.elapsed_s <= before.elapsed_s:
        return of(moment) / max(moment.elapsed_s, 1e-9)
    return (of(moment) - of(before)) / (moment.elapsed_s - before.elapsed_s)


def _counter_table(moment: Moment, before: Moment | None) -> Table:
    table = Table.grid(padding=(0, 2))
    for name, which in _COUNTERS:
        rate = _rate(moment, before, operator.methodcaller("event", which))
        table.add_row(name, f"{moment.event(which):>15,}", Text(f"{rate:>12,.0f}/s", style="dim"))
    return table


def _fill(moment: Moment) -> Text:
    """Pages on the lists of each CPU, as a row of bars."""
    pages = moment.snapshot.pcp_pages
    most = max(*pages, 1)
    bars = "".join(_BLOCKS[min(7, n * 8 // (most + 1))] for n in pages)
    return Text(f"per-CPU lists {bars}  {sum(pages):,} pages, at most {max(pages):,} on one")


def _fragments(moment: Moment) -> Text:
    """Free blocks by order, and the share of free memory in blocks of the largest order."""
    counts = moment.snapshot.free_by_order
    free = sum(n << order for order, n in enumerate(counts))
    whole = (counts[-1] << (len(counts) - 1)) / free if free else 0.0
    orders = "  ".join(f"{order}:{n:,}" for order, n in enumerate(counts))
    used = 1 - moment.snapshot.free_pages / max(1, moment.snapshot.managed_pages)
    share = f"{used:.0%} used, {whole:.0%} of the free in whole blocks"
    return Text(f"free by order {orders}   {share}")

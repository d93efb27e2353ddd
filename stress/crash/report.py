"""The tables of crash mode: operation x write sites x crashes x recovered x failed."""

from __future__ import annotations

from collections.abc import Sequence

from stress.crash.result import AT_END, RETURNED, Counts, CrashResult, Key, place
from stress.crash.sites import HALVES, Coverage, coverage
from stress.explorer.report.wording import path_at
from stress.machine.site import Site
from stress.tables import grid, text_of

COLUMNS = (
    "operation",
    "write sites",
    "crashes",
    "recovered",
    "failed",
    "cut",
    "in recovery",
    "recovered",
    "failed",
    "cut",
)
BETWEEN = "(between operations)"


def by_operation(
    result: CrashResult, named: bool = False
) -> dict[str, tuple[set[Site], Counts, Counts]]:
    """Write sites, crashes, and crashes inside recovery, of each operation.

    ``named``: deaths outside a public operation, in a program's own lines, share one row.
    """
    rows: dict[str, tuple[set[Site], Counts, Counts]] = {}

    def row_of(key: Key) -> tuple[set[Site], Counts, Counts]:
        name = HALVES.get(key.operation, key.operation)
        if named and name.startswith("(") and name != RETURNED:
            name = BETWEEN
        return rows.setdefault(name, (set(), Counts(), Counts()))

    for key, counts in result.once.items():
        sites, once, _ = row_of(key)
        once.merge(counts)
        if key.site != AT_END:
            sites.add(key.site)
    for key, counts in result.again.items():
        row_of(key)[2].merge(counts)
    return rows


def table_rows(result: CrashResult, known: Sequence[Coverage] = ()) -> list[list[str]]:
    """Its rows, by ``COLUMNS``; with ``known`` they have the write sites of each operation."""
    totals = {one.name: one for one in known}
    rows = []
    for name, (sites, once, again) in sorted(by_operation(result, bool(known)).items()):
        one = totals.get(name)
        rows.append([name, str(one) if one else str(len(sites)), *_cells(once), *_cells(again)])
    every = str(totals["all"]) if "all" in totals else ""
    rows.append(["all", every, *_cells(result.total()), *_cells(result.total(second=True))])
    return rows


def table(result: CrashResult, known: Sequence[Coverage] = ()) -> str:
    """The table as text."""
    shown = grid(*COLUMNS, right=COLUMNS[1:])
    for row in table_rows(result, known):
        shown.add_row(*row)
    return text_of(shown)


def _cells(counts: Counts) -> list[str]:
    return [f"{n:,}" for n in (counts.crashes, counts.recovered, counts.failed, counts.cut)]


def site_table(result: CrashResult) -> str:
    """One line for each operation and site."""
    lines = []
    for key, counts in sorted(result.once.items()):
        said = f"{counts.crashes:>8,} crashes {counts.failed:>8,} failed"
        lines.append(f"{said}  {key.operation:<20} {place(key.site)}")
    return "\n".join(lines) + "\n"


def covered(result: CrashResult) -> list[Coverage]:
    """Coverage of the allocator's write sites by the crashes of ``result``."""
    hit = [(key.operation, key.site) for key in result.once if key.site != AT_END]
    hit += [("recover", site) for site in result.recovery_sites]
    return coverage(hit)


def missing(known: Sequence[Coverage], by_operation: bool = False) -> str:
    """The write sites without a crash; ``by_operation``: also those of each operation."""
    *operations, every = known
    lines = [f"write sites of public operations with a crash: {every}"]
    lines += [f"  not tried: {path_at(site)} in {site.function}" for site in every.missing]
    pairs = sum(len(one.known) for one in operations)
    left = [(one.name, site) for one in operations for site in one.missing]
    lines.append(f"sites in each operation that can reach them: {pairs - len(left):,}/{pairs:,}")
    for name, site in left if by_operation else ():
        lines.append(f"  not tried in {name}: {path_at(site)} in {site.function}")
    return "\n".join(lines) + "\n"

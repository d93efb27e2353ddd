"""The database of a soak, or of a run with ``--db``, as a source of ``shmstress top``.

It shows the newest run: its rounds, what the newest round does (its samples, one a second), its
processes, and what was found. Only ``Reader`` is asked, so a killed soak is shown as it was, and
its writer never waits for us.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from rich.console import RenderableType
from rich.text import Text

from shmalloc.errors import MisuseError
from shmalloc.page_states import STATE_NAMES
from shmalloc.processes import printable
from shmalloc.sizes import format_bytes, parse_bytes
from stress.geometry import PAGE_BYTES, parse_geometry
from stress.quantities import counted, rough_duration, short
from stress.records.reader import Reader
from stress.records.rows import FindingRow, ProcessRow, RoundRow, RunRow, SampleRow
from stress.report.cells import bar, levels, one_line
from stress.report.run_time import worked_s
from stress.top.fitting import Column, Fitting, Look, Rows
from stress.top.memory_map import fewer
from stress.top.memory_panels import ROWS, legend, map_rows, map_width
from stress.top.panel import Panel

KEPT_SAMPLES = 600
SHORTEST_S = 1e-3  # between two samples; a rate over less says nothing
SHOWN_ROUNDS = 8
MOST_WIDTH = 120  # samples in a row of small bars
BAD = ("FAILED", "ERROR", "UNFIT")


@dataclass(frozen=True)
class Reading:
    """The newest run of a database at a moment, and the newest of its rounds."""

    run: RunRow
    rounds: tuple[RoundRow, ...]
    samples: tuple[SampleRow, ...]
    processes: tuple[ProcessRow, ...]
    findings: tuple[FindingRow, ...]
    time_s: float

    @property
    def rates(self) -> list[float]:
        """Operations a second between each two samples, and no number that is infinite."""
        pairs = zip(self.samples, self.samples[1:], strict=False)
        return [
            max(0, new.operations - old.operations) / (new.at_s - old.at_s)
            for old, new in pairs
            if new.at_s - old.at_s >= SHORTEST_S
        ]

    @property
    def worked_s(self) -> float:
        """How long the run has worked; of one that is lost, until the last that is known of it."""
        last_s = self.time_s if self.run.state == "running" else 0.0
        last_s = max([last_s, *(one.time_s for one in self.samples)])
        return worked_s(self.run, self.rounds, last_s - self.run.started_s)

    @property
    def ram_map(self) -> bytes:
        """The newest map; a sample without one has that of the sample before."""
        return next((one.ram_map for one in reversed(self.samples) if one.ram_map), b"")


class DatabaseSource:
    """The database at ``path``. Raises ``MisuseError`` if it is none, or empty."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._reader = Reader(path)
        self._rounds: dict[int, RoundRow] = {}
        self._samples: deque[SampleRow] = deque(maxlen=KEPT_SAMPLES)
        self._processes: list[ProcessRow] = []
        self._now: Reading | None = None

    @property
    def ended(self) -> str:
        if self._now is None or self._now.run.state == "running":
            return ""
        run = self._now.run
        ending = f": {run.verdict}" if run.verdict else ""
        return printable(f"the {run.kind} is {run.state}{ending}")

    def read(self) -> None:
        """The newest run; of its rounds and samples, those that are new or were not over."""
        with self._reader.snapshot():
            run = self._newest()
            if self._now is None or self._now.run.id != run.id:
                self._rounds.clear()
            over = [number for number, one in self._rounds.items() if one.state == "ended"]
            for one in self._reader.rounds(run.id, after=max(over, default=0)):
                self._rounds[one.id] = one
            newest = max(self._rounds, default=None)
            findings = self._reader.findings()
            if newest is not None:
                self._read_samples(newest)
        self._now = Reading(
            run=run,
            rounds=tuple(self._rounds.values()),
            samples=tuple(self._samples),
            processes=tuple(self._processes),
            findings=tuple(findings),
            time_s=time.time(),
        )

    def _newest(self) -> RunRow:
        runs = self._reader.runs()
        if not runs:
            raise MisuseError(f"top: no run is recorded in {self._path} yet; try again")
        return runs[-1]

    def _read_samples(self, round_id: int) -> None:
        if self._samples and self._samples[-1].round_id != round_id:
            self._samples.clear()
            self._processes.clear()
        after = self._samples[-1].id if self._samples else 0
        self._samples.extend(self._reader.samples(round_id=round_id, after=after))
        after = max((one.id for one in self._processes), default=0)
        found = self._reader.processes(round_id=round_id, after=after)
        newest_s = max((one.time_s for one in found), default=0.0)
        self._processes = [one for one in found if one.time_s == newest_s] or self._processes

    def panels(self, sort: str) -> list[Panel]:
        now = self._reading()
        found: list[tuple[str, str, Callable[[Reading, Look], Iterable[RenderableType]]]] = [
            ("run", printable(f"{now.run.kind} in {self._path}"), run_lines),
            ("findings", f"findings: {len(now.findings)}", findings),
            ("round", "the newest round", round_lines),
            ("processes", "its processes", partial(processes, sort=sort)),
            ("rounds", f"the last of {counted(len(now.rounds), 'round')}", rounds),
            ("map", "map of its RAM", ram_map),
        ]
        present = {"findings": now.findings, "processes": now.processes, "map": now.ram_map}
        return [
            Panel(key, title, Rows(partial(draw, now)), key in ("rounds", "map"))
            for key, title, draw in found
            if present.get(key, True)
        ]

    def document(self) -> dict[str, object]:
        now = self._reading()
        newest = now.samples[-1] if now.samples else None
        return {
            "run": now.run.as_dict(),
            "verdicts": verdicts(now.rounds),
            "rounds": [_without_result(one) for one in now.rounds[-SHOWN_ROUNDS:]],
            "sample": None if newest is None else {**newest.as_dict(), "ram_map": None},
            "operations_per_s": now.rates[-1] if now.rates else None,
            "processes": [one.as_dict() for one in now.processes],
            "findings": [one.as_dict() for one in now.findings],
        }

    def close(self) -> None:
        self._reader.close()

    def _reading(self) -> Reading:
        assert self._now is not None, "read first"
        return self._now


def _without_result(one: RoundRow) -> dict[str, object]:
    return {name: value for name, value in one.as_dict().items() if name != "result"}


def verdicts(rounds: Iterable[RoundRow]) -> dict[str, int]:
    """How many rounds ended with each verdict; those without one by their state."""
    return dict(Counter(one.verdict or one.state for one in rounds))


def run_lines(now: Reading, look: Look) -> Iterable[RenderableType]:
    """Whether it runs, for how long, and how its rounds ended."""
    run = now.run
    text = Text(run.state, "bold red" if run.state == "lost" else "")
    if run.verdict:
        text.append(printable(f": {run.verdict}"), "bold red" if run.verdict in BAD else "green")
    planned = printable(str(run.spec.get("duration", "")))
    text.append(f", {rough_duration(round(now.worked_s))}" + (f" of {planned}" if planned else ""))
    text.append(printable(f", seed {run.seed}") if run.seed else "")
    yield one_line(text)
    yield one_line(Text(printable(run.command), "dim"))
    line = Text("rounds: ")
    for name, count in verdicts(now.rounds).items():
        line.append(printable(f"{count:,} {name}  "), "bold red" if name in BAD else "")
    yield line


def round_lines(now: Reading, look: Look) -> Iterable[RenderableType]:
    """What it is, how fast, how full, how fragmented; the small bars are of the last samples."""
    if not now.rounds:
        yield Text("none has begun", "dim")
        return
    newest = now.rounds[-1]
    yield one_line(Text(f"{newest.number}: {printable(newest.command)}"))
    if newest.features:
        yield one_line(Text(f"features: {printable(', '.join(newest.features))}", "dim"))
    if not now.samples:
        yield Text("no sample yet", "dim")
        return
    last, rates = now.samples[-1], now.rates
    room = min(MOST_WIDTH, max(8, look.width - 44))
    rate = f"{short(rates[-1])}/s" if rates else "-"
    yield one_line(
        Text(f"{'operations':14}{short(last.operations):>8} {rate:>9} ")
        + Text(levels(rates[-room:], ascii=look.ascii), "cyan")
    )
    used = [one.used_pages / max(1, one.managed_pages) for one in now.samples]
    yield one_line(
        Text(f"{'memory':14}{used[-1]:>8.0%} {bar(used[-1], 9, look.ascii)} ")
        + Text(levels(used[-room:], 1.0, look.ascii), "green")
    )
    broken = [one.fragmentation for one in now.samples if one.fragmentation is not None]
    if broken:
        yield one_line(
            Text(f"{'fragmentation':14}{broken[-1]:>8.0%} {'':9} ")
            + Text(levels(broken[-room:], 1.0, look.ascii), "yellow")
        )
    found = counted(last.reports, "violation") if last.reports else "no violations"
    text = f"{found}, {counted(last.audits, 'audit')}, {last.refused:,} refused"
    yield Text(text, "bold red" if last.reports else "")


def processes(now: Reading, look: Look, sort: str = "number") -> Iterable[RenderableType]:
    """Memory and descriptors of each process of the round."""
    table = Fitting(
        Column("process"),
        Column("pid", 1, right=True),
        Column("private", right=True),
        Column("resident", 3, right=True),
        Column("files", 2, right=True),
        Column("threads", 5, right=True),
        Column("cpu s", 4, right=True),
    )
    shown = list(now.processes)
    if sort == "fill":
        shown.sort(key=lambda one: -(one.private_bytes or 0))
    if sort == "rate":
        shown.sort(key=lambda one: -(one.cpu_s or 0))
    for one in shown:
        table.add(
            one.role,
            str(one.pid),
            _size(one.private_bytes),
            _size(one.rss_bytes),
            _number(one.fds),
            _number(one.threads),
            "-" if one.cpu_s is None else f"{one.cpu_s:,.1f}",
        )
    yield table.drawn(look.width)


def _size(size: int | None) -> str:
    return "-" if size is None else format_bytes(size)


def _number(count: int | None) -> str:
    return "-" if count is None else f"{count:,}"


def rounds(now: Reading, look: Look) -> Iterable[RenderableType]:
    """The last rounds, the newest first."""
    table = Fitting(
        Column("round", right=True),
        Column("kind"),
        Column("verdict"),
        Column("seconds", 2, right=True),
        Column("operations", 3, right=True),
        Column("command", 4, flexible=True),
    )
    for one in reversed(now.rounds[-SHOWN_ROUNDS:]):
        verdict = one.verdict or one.state
        table.add(
            str(one.number),
            one.kind,
            verdict,
            "-" if one.seconds is None else f"{one.seconds:.1f}",
            "-" if one.operations is None else short(one.operations),
            one.command,
            style="bold red" if verdict in (*BAD, "lost") else "",
        )
    yield table.drawn(look.width)


def findings(now: Reading, look: Look) -> Iterable[RenderableType]:
    """Each defect once, the last seen first."""
    table = Fitting(
        Column("fingerprint"),
        Column("invariant"),
        Column("seen", 1, right=True),
        Column("last", 2, right=True),
        Column("status"),
        Column("where", 3, flexible=True),
    )
    for one in sorted(now.findings, key=lambda one: -one.last_seen_s):
        table.add(
            one.fingerprint,
            one.invariant,
            f"{one.count:,}",
            f"{rough_duration(round(now.time_s - one.last_seen_s))} ago",
            one.status,
            one.site,
            style="bold red" if one.status == "open" else "dim",
        )
    yield table.drawn(look.width)


def ram_map(now: Reading, look: Look) -> Iterable[RenderableType]:
    """The state of most pages of each stretch of the RAM, each row with its first pfn."""
    cells, pages = fewer(now.ram_map, map_width(look) * ROWS), _pages(now.rounds)
    yield from map_rows(cells, pages, look)
    known = {state: "" for state in sorted({*cells}) if state in STATE_NAMES}
    yield legend(known, None if pages is None else -(-pages // len(cells)), look)


def _pages(rounds: Sequence[RoundRow]) -> int | None:
    """The end of the pfns of the newest round; None if its settings do not say."""
    spec = rounds[-1].spec if rounds else {}
    try:
        first = parse_geometry(str(spec["geometry"])).start_pfn if "geometry" in spec else 0
        return first + parse_bytes(str(spec["ram"])) // PAGE_BYTES
    except (KeyError, MisuseError):
        return None

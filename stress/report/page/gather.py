"""``report_of``: the model of the page, filled from a database through ``Reader``.

One run a page, the last one unless another is asked for. Everything is read in one state of the
file, so that the page fits together while a soak goes on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from shmalloc.errors import MisuseError
from stress.quantities import counted
from stress.records.reader import Reader
from stress.records.rows import FindingRow, RoundRow, RunRow
from stress.report.page import cells, facts, samples, words
from stress.report.page.model import (
    Chart,
    Feature,
    Finding,
    InlinePage,
    Latency,
    LineRow,
    Mark,
    Number,
    Report,
    Unit,
)
from stress.report.page.model import RoundRow as ShownRound
from stress.report.page.thin import Line
from stress.report.run_time import elapsed_s, sessions_of, worked_s
from stress.run.histogram import PERCENTILES, Histogram, bounds_of

MOST_FINDINGS = 100
MOST_REPORT = 20_000  # characters of a failure in words
MOST_ROUNDS = 500  # rows of the table of rounds
PAGES_BYTES = 3 << 20  # of all explorer pages that stand in this one
MOST_CURVE = 80  # points of a percentile curve
MOST_NAMED = 8  # rounds that are named one by one
_REPEATS = {None: "", 0: "It did not come again when it was repeated.", 1: "It repeats."}


def report_of(reader: Reader, run: RunRow, source: str) -> Report:
    """Everything that the page says of ``run``, but a comparison. ``source``: what to call it."""
    rounds = reader.rounds(run.id)
    found = samples.sampled(reader, run, rounds)
    end_s = max(elapsed_s(run, rounds, found.last_s), found.last_s, 1e-3)
    findings = _findings_of(reader, run)
    shown_rounds, rounds_note = _rounds(rounds)
    return Report(
        title=f"shmstress {run.kind}, {words.date(run.started_s)}",
        verdict=facts.verdict_of(run.verdict) if run.state == "ended" else None,
        sentence=facts.sentence(run, rounds, findings, worked_s(run, rounds, found.last_s)),
        facts=facts.what_ran(run, rounds, found.samples, found.last_s),
        spec=facts.what_it_is(run),
        command=run.command,
        findings=_findings(reader, findings),
        rate=_rate(found, end_s),
        memory=_memory(found, end_s),
        descriptors=_descriptors(found, end_s),
        latencies=_latencies(reader, rounds),
        fragmentation=_fragmentation(found, end_s),
        free_blocks=cells.free_blocks(found.free, end_s),
        ram_map=cells.ram_map(found.maps, end_s, _pages_of(rounds)),
        marks=_marks(rounds),
        rounds=shown_rounds,
        features=_features(rounds),
        environment=facts.environment(run),
        source=source,
        rounds_note=rounds_note,
        notes=_notes(reader, run, len(findings)),
    )


def _notes(reader: Reader, run: RunRow, findings: int) -> tuple[str, ...]:
    notes = []
    others = len(reader.runs()) - 1
    if others:
        said = f"Run {run.id} of this database, which has {others:,} more"
        notes.append(f"{said}: --run ID shows another one.")
    if sessions_of(run) > 1:
        notes.append("The soak went on after pauses, which are gaps in the pictures.")
    if findings > MOST_FINDINGS:
        notes.append(f"{MOST_FINDINGS} of {findings:,} findings are shown: see shmstress history.")
    return tuple(notes)


# --- over time -----------------------------------------------------------------------------------
def _chart(
    key: str, title: str, unit: Unit, lines: Iterable[Line], end_s: float, note: str = ""
) -> Chart | None:
    kept = tuple(line for line in lines if len(line.measured))
    if not kept:
        return None
    rows = tuple(_row(key, line, unit) for line in kept)
    return Chart(key, title, unit, kept, 0.0, end_s, note, rows)


def _row(key: str, line: Line, unit: Unit) -> LineRow:
    values = line.measured
    numbers = {"least": np.min(values), "greatest": np.max(values), "last": values[-1]}
    made = [
        Number(f"{key}/{line.name}/{which}", _exact(float(value)), unit.text(float(value)))
        for which, value in numbers.items()
    ]
    return LineRow(line.name, *made)


def _exact(value: float) -> float | int:
    return int(value) if value.is_integer() else value


def _rate(found: samples.Sampled, end_s: float) -> Chart | None:
    lines = [series.line(name) for name, series in found.rates.items()]
    title = "Operations of each workload in a second, by all its workers."
    note = "A workload has a gap where it did not run."
    return _chart("rate", title, Unit.RATE, lines, end_s, note)


def _memory(found: samples.Sampled, end_s: float) -> Chart | None:
    title = (
        "Private memory of each process: what it shares with no other. The segment is not in it."
    )
    lines = samples.by_role(found.private)
    return _chart("memory", title, Unit.BYTES, lines, end_s, _many(found.private))


def _descriptors(found: samples.Sampled, end_s: float) -> Chart | None:
    title = "Open file descriptors of each process."
    lines = samples.by_role(found.fds)
    return _chart("descriptors", title, Unit.COUNT, lines, end_s, _many(found.fds))


def _many(series: Mapping[str, object]) -> str:
    if len(series) <= samples.MOST_ROLES:
        return ""
    return "The workers are many: shown are the smallest and the largest of them at each time."


def _fragmentation(found: samples.Sampled, end_s: float) -> Chart | None:
    title = "Share of the free pages in blocks too small for a huge page (order 9)."
    note = "The kernel's unusable free space index: 0 % is none, 100 % all of them."
    line = found.fragmentation.line("unusable free memory")
    return _chart("fragmentation", title, Unit.SHARE, [line], end_s, note)


def _pages_of(rounds: Sequence[RoundRow]) -> int | None:
    """Pages of the RAM; None if rounds differ in them or do not say."""
    from shmalloc.sizes import parse_bytes
    from stress.geometry import PAGE_BYTES

    settings = [facts.settings_of(one) for one in rounds if one.kind == "run"]
    sizes = {str(one.get("ram") or one.get("zones", "")) for one in settings}
    if len(sizes) != 1:
        return None
    try:
        zones = [part.partition("@")[0] for part in sizes.pop().split(",")]
        return sum(parse_bytes(size) for size in zones) // PAGE_BYTES
    except MisuseError:
        return None


# --- latencies -----------------------------------------------------------------------------------
def merged(reader: Reader, rounds: Iterable[RoundRow]) -> dict[str, Histogram]:
    """The histogram of each operation over all ``rounds``."""
    whole: dict[str, Histogram] = {}
    for one in rounds:
        for operation, data in reader.latencies(one.id).items():
            whole[operation] = whole.get(operation, Histogram()) + Histogram.from_dict(data)
    return whole


def _latencies(reader: Reader, rounds: Iterable[RoundRow]) -> tuple[Latency, ...]:
    whole = merged(reader, rounds)
    return tuple(_latency(name, whole[name]) for name in sorted(whole) if whole[name].count)


def _latency(operation: str, histogram: Histogram) -> Latency:
    key = f"latency/{operation}"
    durations = {f"p{q:g}": histogram.percentile(q) for q in PERCENTILES}
    durations["max"] = histogram.max_ns
    table = [Number(f"{key}/calls", histogram.count, f"{histogram.count:,}")]
    table += [Number(f"{key}/{name}", ns, words.nanoseconds(ns)) for name, ns in durations.items()]
    return Latency(operation, tuple(table), _curve(histogram))


def _curve(histogram: Histogram) -> tuple[tuple[float, int], ...]:
    """Shares of calls with the duration that they did not exceed; the last one is the longest."""
    filled = np.flatnonzero(histogram.counts)
    shares = np.cumsum(histogram.counts[filled]) / histogram.count
    points = [(0.0, bounds_of(int(filled[0]))[0])]
    step = MOST_CURVE / (1 + math.log10(histogram.count))  # points for each nine
    for bucket, share in zip(filled.tolist(), shares.tolist(), strict=True):
        share = min(share, 1 - 0.5 / histogram.count)  # half a call from the end: 1 is not on it
        far = math.log10((1 - points[-1][0]) / (1 - share)) >= 1 / step
        if far or bucket == filled[-1]:
            points.append((share, min(bounds_of(bucket)[1], histogram.max_ns)))
    return tuple(points)


# --- findings ------------------------------------------------------------------------------------
def _findings_of(reader: Reader, run: RunRow) -> list[FindingRow]:
    """What the rounds of this run have seen: open ones first, then by count."""
    seen = reader.findings(run_id=run.id)
    return sorted(seen, key=lambda one: (one.status != "open", -one.count, one.fingerprint))


def _findings(reader: Reader, rows: Sequence[FindingRow]) -> tuple[Finding, ...]:
    budget = PAGES_BYTES
    shown = []
    for row in rows[:MOST_FINDINGS]:
        pages, more = _pages(reader, row, budget)
        budget -= sum(len(page.text) for page in pages)
        times = "once" if row.count == 1 else f"{row.count:,} times"
        shown.append(
            Finding(
                fingerprint=row.fingerprint,
                invariant=row.invariant,
                sentence=row.sentence,
                site=row.site,
                status=row.status,
                first=words.date(row.first_seen_s),
                last=words.date(row.last_seen_s),
                count=Number(f"findings/{row.fingerprint}/count", row.count, times),
                repeats=_REPEATS.get(row.repeatable, ""),
                command=row.command,
                report=_cut(row.report),
                pages=pages,
                more_pages=more,
            )
        )
    return tuple(shown)


def _cut(text: str) -> str:
    left_out = len(text) - MOST_REPORT
    return text if left_out <= 0 else f"{text[:MOST_REPORT]}\n... {left_out:,} characters more"


def _pages(reader: Reader, row: FindingRow, budget: int) -> tuple[tuple[InlinePage, ...], str]:
    """The explorer's pages of a finding, while the page has room for them."""
    kept: list[InlinePage] = []
    left_out = 0
    for file in reader.artifacts(fingerprint=row.fingerprint):
        if file.media_type != "text/html":
            continue
        if file.bytes > budget:
            left_out += 1
            continue
        text = reader.content(file.id).decode("utf-8", "replace")
        budget -= len(text)
        kept.append(InlinePage(file.name, text))
    if not left_out:
        return tuple(kept), ""
    return tuple(kept), f"{counted(left_out, 'page')} more: shmstress show {row.fingerprint}"


# --- rounds --------------------------------------------------------------------------------------
def _marks(rounds: Sequence[RoundRow]) -> tuple[Mark, ...]:
    totals: dict[str, int] = {}
    missed: dict[str, list[int]] = {}
    for one in rounds:
        for name, count in one.marks.items():
            totals[name] = totals.get(name, 0) + count
            if not count:
                missed.setdefault(name, []).append(one.number)
    return tuple(
        Mark(name, Number(f"marks/{name}", total, f"{total:,}"), _named(missed.get(name, [])))
        for name, total in totals.items()
    )


def _named(numbers: Sequence[int]) -> str:
    shown = ", ".join(map(str, numbers[:MOST_NAMED]))
    more = len(numbers) - MOST_NAMED
    return f"{shown} and {more:,} more" if more > 0 else shown


def _rounds(rounds: Sequence[RoundRow]) -> tuple[tuple[ShownRound, ...], str]:
    """All that did not pass, and the last of the others, as many as the table takes."""
    notable = [one for one in rounds if _verdict(one) != "PASSED"]
    passed = [one for one in rounds if _verdict(one) == "PASSED"]
    room = max(0, MOST_ROUNDS - len(notable))
    kept = notable[-MOST_ROUNDS:] + passed[len(passed) - min(room, len(passed)) :]
    shown = tuple(_round(one) for one in sorted(kept, key=lambda one: one.number))
    left_out = len(rounds) - len(kept)
    note = f"{counted(left_out, 'round')} left out: the earliest of those that passed."
    return shown, note if left_out else ""


def _verdict(one: RoundRow) -> str:
    return one.verdict or one.state.upper()


def _round(one: RoundRow) -> ShownRound:
    key = f"rounds/{one.id}"
    seconds, operations = one.seconds or 0.0, one.operations or 0
    return ShownRound(
        number=one.number,
        kind=one.kind,
        what=facts.what_it_is(one, without=("seed", "duration", "at_s")),
        seed=one.seed or "",
        verdict=_verdict(one),
        seconds=Number(f"{key}/seconds", seconds, f"{seconds:,.1f}"),
        operations=Number(f"{key}/operations", operations, f"{operations:,}"),
        command=one.command,
    )


def _features(rounds: Sequence[RoundRow]) -> tuple[Feature, ...]:
    """Features of a swarm, those that fewest rounds had first."""
    names = {str(name) for one in rounds for name in one.features}
    made = [_feature(name, rounds) for name in sorted(names)]
    return tuple(sorted(made, key=lambda one: one.on.value))


def _feature(name: str, rounds: Sequence[RoundRow]) -> Feature:
    def number(which: str, wanted: Callable[[RoundRow], bool]) -> Number:
        count = sum(1 for one in rounds if wanted(one))
        return Number(f"features/{name}/{which}", count, f"{count:,}")

    return Feature(
        name,
        number("on", lambda one: name in one.features),
        number("off", lambda one: name not in one.features),
        number("failed", lambda one: name in one.features and one.verdict == "FAILED"),
    )

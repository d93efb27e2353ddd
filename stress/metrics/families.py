"""The metrics by name: what a ``State`` says, as families of prometheus_client.

Names follow Prometheus' rules: base units (seconds, bytes, ratios from 0 to 1), ``_total`` for what
only rises, one prefix. Every name is in docs/watching.md, and a test compares the two.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from shmalloc import __version__
from shmalloc.invariants import BY_NAME
from stress.metrics.state import UNKNOWN, State
from stress.run.histogram import Histogram, bucket_of
from stress.run.process_use import ProcessUse
from stress.run.progress import Moment
from stress.spec import PAGE_BYTES
from stress.verdict import Verdict
from stress.workloads import EVENT_NAMES

PREFIX = "shmalloc_"
LEAST_BIT, MOST_BIT = 6, 34  # buckets end at 64 ns, 128 ns, ... 17 s: powers of two
NS_PER_S = 1e9


def families(state: State) -> Iterator[Metric]:
    """Everything that is exported, in the order of a page."""
    yield from _of_run(state)
    yield from _of_counts(state)
    if state.moment is not None:
        yield from _of_round(state.moment)
        yield from _of_memory(state.moment)
        yield from _of_processes(state.moment.processes)


def _gauge(name: str, help: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(PREFIX + name, help, value=value)


def _gauges(
    name: str, help: str, label: str, values: Mapping[str, float] | Iterable[tuple[str, float]]
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(PREFIX + name, help, labels=[label])
    for key, value in values.items() if isinstance(values, Mapping) else values:
        family.add_metric([key], value)
    return family


def _counters(name: str, help: str, label: str, values: Mapping[str, float]) -> CounterMetricFamily:
    family = CounterMetricFamily(PREFIX + name, help, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family


def _of_run(state: State) -> Iterator[Metric]:
    info = {"version": __version__, "command": state.command}
    yield _info("info", "What runs: the value is always 1.", info)
    yield _gauge("start_time_seconds", "When the command began, unix time.", state.started_s)
    yield _gauge("round", "Number of the round at work; 0 before the first.", state.round)
    if state.round:
        settings = {name: str(state.about.get(name, "")) for name in ("engine", "link-store")}
        about = {"kind": state.kind, **{n.replace("-", "_"): v for n, v in settings.items()}}
        yield _info("round_info", "What the round is: the value is always 1.", about)
    yield _gauge("finished", "1 when nothing more will come, else 0.", float(state.finished))
    verdicts = {one.name: float(state.verdict is one) for one in Verdict}
    yield _gauges("verdict", "1 for the verdict at the end, else 0.", "verdict", verdicts)


def _info(name: str, help: str, labels: Mapping[str, str]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(PREFIX + name, help, labels=list(labels))
    family.add_metric(list(labels.values()), 1)
    return family


def _of_counts(state: State) -> Iterator[Metric]:
    counts = state.counts
    yield _counters("operations", "Operations of each workload.", "workload", counts.operations)
    yield _counters(
        "allocations_refused",
        "Allocations that found no memory, as workloads expect.",
        "workload",
        counts.refused,
    )
    named = {name: counts.events[number] for number, name in EVENT_NAMES.items()}
    yield _counters("events", "What the allocator's kernels counted.", "event", named)
    yield _histograms(counts.latencies)
    yield CounterMetricFamily(
        PREFIX + "audits", "Full recounts of the memory, workers stopped.", value=counts.audits
    )
    known = dict.fromkeys((*BY_NAME, UNKNOWN), 0)
    yield _counters(
        "violations",
        "Broken invariants of rounds that are over.",
        "invariant",
        {**known, **counts.violations},
    )
    yield CounterMetricFamily(
        PREFIX + "findings", "Fingerprints that were not known before.", value=state.findings
    )
    rounds = {one.name: counts.rounds.get(one.name, 0) for one in Verdict}
    yield _counters("rounds", "Rounds that are over.", "verdict", rounds)


def _histograms(latencies: Mapping[str, Histogram]) -> HistogramMetricFamily:
    family = HistogramMetricFamily(
        PREFIX + "operation_duration_seconds",
        "How long calls of the allocator take, of those that were timed.",
        labels=["operation", "result"],
    )
    for name, histogram in latencies.items():
        operation, _, failed = name.partition(" ")
        total_s = histogram.mean_ns * histogram.count / NS_PER_S
        family.add_metric([operation, failed or "done"], buckets_of(histogram), total_s)
    return family


def buckets_of(histogram: Histogram) -> list[tuple[str, float]]:
    """Calls that took at most each bound: powers of two in ns, where buckets of ours end, too."""
    below = np.concatenate(([0], np.cumsum(histogram.counts)))
    bounds = [1 << bit for bit in range(LEAST_BIT, MOST_BIT + 1)]
    found = [(repr(bound / NS_PER_S), float(below[bucket_of(bound)])) for bound in bounds]
    return [*found, ("+Inf", float(histogram.count))]


def _of_round(moment: Moment) -> Iterator[Metric]:
    yield _gauge("sample_time_seconds", "When the newest sample was taken.", moment.time_s)
    yield _gauge("round_worked_seconds", "Work in this round so far.", moment.elapsed_s)
    yield _gauge("round_duration_seconds", "Work that this round plans.", moment.duration_s)
    yield _gauge(
        "round_reports",
        "Violations that kernels have reported in this round.",
        moment.snapshot.reports,
    )
    running = {one.name: float(one.running) for one in moment.accounts}
    yield _gauges("workload_running", "1 while workers are at it.", "workload", running)
    longest = {one.name: one.longest_s for one in moment.accounts}
    yield _gauges(
        "workload_longest_call_seconds", "The longest call of this round.", "workload", longest
    )


def _of_memory(moment: Moment) -> Iterator[Metric]:
    snapshot = moment.snapshot
    listed = sum(snapshot.pcp_pages)
    pages = {
        "used": moment.used_pages,
        "free": snapshot.free_pages - snapshot.isolated_pages,
        "isolated": snapshot.isolated_pages,
        "per_cpu": listed,
    }
    yield _gauges(
        "memory_bytes",
        "Managed memory by where it is: per_cpu is free, on a list of one CPU slot.",
        "state",
        {state: count * PAGE_BYTES for state, count in pages.items()},
    )
    managed = snapshot.managed_pages * PAGE_BYTES
    yield _gauge("managed_bytes", "Memory that belongs to the allocator.", managed)
    by_order = ((str(order), n) for order, n in enumerate(snapshot.free_by_order))
    yield _gauges("free_blocks", "Free blocks of 2^order pages.", "order", by_order)
    by_cpu = ((str(cpu), pages * PAGE_BYTES) for cpu, pages in enumerate(snapshot.pcp_pages))
    yield _gauges("cpu_list_bytes", "Free memory on the lists of each slot.", "cpu", by_cpu)
    yield _gauge(
        "fragmentation_ratio",
        "Share of the free memory in blocks too small for a huge page.",
        moment.fragmentation,
    )


def _of_processes(processes: Iterable[ProcessUse]) -> Iterator[Metric]:
    """By role, not by pid: of two processes of one role the numbers are added."""
    sums: dict[str, Counter[str]] = {}
    for one in processes:
        sums.setdefault(one.role, Counter()).update(
            rss=one.rss_bytes, private=one.private_bytes, fds=one.fds, threads=one.threads
        )
    cpu_s: dict[str, float] = {}
    for one in processes:
        cpu_s[one.role] = cpu_s.get(one.role, 0.0) + one.cpu_s
    for key, name, help in (
        ("rss", "process_resident_memory_bytes", "Memory in RAM, the segment included."),
        ("private", "process_private_memory_bytes", "Memory in RAM that it shares with no other."),
        ("fds", "process_open_fds", "Open files."),
        ("threads", "process_threads", "Threads."),
    ):
        yield _gauges(name, help, "role", {role: count[key] for role, count in sums.items()})
    yield _counters("process_cpu_seconds", "Processor time.", "role", cpu_s)

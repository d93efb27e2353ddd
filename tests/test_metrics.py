"""Metrics of a run: what is exported from its moments, over HTTP and as a file, and how it ends."""

from __future__ import annotations

import socket
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_open

from shmalloc import constants as c
from shmalloc.errors import MisuseError, Violation
from stress import cli
from stress.metrics import attach
from stress.metrics.attach import attached
from stress.metrics.exporter import Exporter
from stress.metrics.places import Places
from stress.metrics.state import Ending
from stress.run.accounts import Account
from stress.run.histogram import Histogram
from stress.run.memory import Snapshot
from stress.run.process_use import ProcessUse
from stress.run.progress import Moment
from stress.spec import RunSpec, Zone
from stress.verdict import Verdict
from support import exposition

SPEC = RunSpec(("churn", "oom-edge"), 2, (Zone(8 << 20),), seed=0xABC, link_store="table")


def use(pid: int, role: str, private_bytes: int, cpu_s: float = 1.5) -> ProcessUse:
    return ProcessUse(pid, role, 9 << 20, private_bytes, 7 << 20, fds=11, threads=2, cpu_s=cpu_s)


def moment(operations: int = 100, **more: object) -> Moment:
    """1000 managed pages, 400 free in the zone (of which 40 isolated), 30 on lists."""
    events = [0] * c.EV_COUNT
    events[c.EV_SPLIT] = 7
    snapshot = Snapshot(tuple(events), (16, 0, 96), (10, 20), 400, 40, 1000, 3)
    accounts = (Account("churn", operations, 5, 0.25, running=True), Account("oom-edge", 9))
    processes = (use(1, "controller", 100), use(2, "worker 0", 30), use(3, "worker 0", 12))
    given = {"time_s": 1700.0, "processes": processes, **more}
    return Moment(2.5, 60.0, 4, snapshot, accounts, **given)


@pytest.fixture
def exporter() -> Exporter:
    """One that has a run, and no place to write to."""
    made = Exporter(Places(), "run", print)
    made.begin(SPEC)
    return made


def page_of(exporter: Exporter) -> exposition.Page:
    return exposition.read(generate_latest(exporter._registry).decode())


# --- what is exported ----------------------------------------------------------------------------


def test_a_page_keeps_the_rules_of_the_format_and_of_names(exporter):
    assert exposition.problems_of(page_of(exporter)) == []
    exporter.last(lambda: moment(latencies={"alloc_pages": filled([5, 70, 1 << 40])}))
    page = page_of(exporter)
    assert exposition.problems_of(page) == [] and len(page.families) > 25


@pytest.mark.parametrize(
    "page, problem",
    [
        ("# HELP a_total x\n# TYPE a_total gauge\na_total 1\n", "a gauge of that name"),
        ("# HELP a x\n# TYPE a counter\na 1\n", "a counter of that name"),
        ("# HELP a x\n# TYPE a gauge\na 1\na 1\n", "twice"),
        ("a 1\n", "before its HELP"),
        ("# HELP a_ms x\n# TYPE a_ms gauge\na_ms 1\n", "base units"),
        ("# HELP a x\n# TYPE a gauge\na{b=1} 1\n", "no sample"),
    ],
)
def test_a_page_that_breaks_a_rule_is_noticed(page, problem):
    assert any(problem in found for found in exposition.problems_of(exposition.read(page)))


def test_counts_and_gauges_are_those_of_the_moment(exporter):
    exporter.last(moment)
    value = page_of(exporter).value
    assert value("shmalloc_operations_total", workload="churn") == 100
    assert value("shmalloc_allocations_refused_total", workload="churn") == 5
    assert value("shmalloc_events_total", event="split") == 7
    assert value("shmalloc_workload_running", workload="oom-edge") == 0
    assert value("shmalloc_workload_longest_call_seconds", workload="churn") == 0.25
    assert value("shmalloc_round_worked_seconds") == 2.5 and value("shmalloc_audits_total") == 4
    assert value("shmalloc_round_reports") == 3 and value("shmalloc_sample_time_seconds") == 1700
    assert value("shmalloc_round_info", kind="run", engine="native", link_store="table") == 1


def test_all_managed_memory_is_in_one_state(exporter):
    exporter.last(moment)
    page = page_of(exporter)
    states = {state: page.value("shmalloc_memory_bytes", state=state) / 4096
              for state in page.values("shmalloc_memory_bytes", "state")}  # fmt: skip
    assert states == {"free": 360, "isolated": 40, "per_cpu": 30, "used": 570}
    assert sum(states.values()) * 4096 == page.value("shmalloc_managed_bytes")
    assert page.value("shmalloc_free_blocks", order="2") == 96
    assert page.value("shmalloc_cpu_list_bytes", cpu="1") == 20 * 4096
    assert page.value("shmalloc_fragmentation_ratio") == 16 / (16 + 96 * 4)


def test_processes_are_told_apart_by_role_and_not_by_pid(exporter):
    exporter.last(moment)
    page = page_of(exporter)
    name = "shmalloc_process_private_memory_bytes"
    assert (page.value(name, role="controller"), page.value(name, role="worker 0")) == (100, 42)
    assert page.value("shmalloc_process_cpu_seconds_total", role="worker 0") == 3.0


def filled(durations_ns: list[int]) -> Histogram:
    histogram = Histogram()
    for ns in durations_ns:
        histogram.add(ns)
    return histogram


def test_buckets_count_the_calls_that_were_not_longer(exporter, rng):
    durations_ns = [int(2 ** rng.uniform(3, 36)) for _ in range(2000)]
    exporter.last(lambda: moment(latencies={"alloc_pages": filled(durations_ns)}))
    page = page_of(exporter)
    name, labels = "shmalloc_operation_duration_seconds", {"operation": "alloc_pages"}
    for bit in range(6, 35):
        count = page.value(f"{name}_bucket", le=repr((1 << bit) / 1e9), result="done", **labels)
        assert count == sum(ns < 1 << bit for ns in durations_ns)
    assert page.value(f"{name}_count", result="done", **labels) == 2000
    total_s = page.value(f"{name}_sum", result="done", **labels)
    assert total_s == pytest.approx(sum(durations_ns) / 1e9, rel=1 / 32)


def test_calls_that_failed_are_a_result_of_their_operation(exporter):
    exporter.last(lambda: moment(latencies={"alloc_pages failed": filled([3])}))
    labels = {"operation": "alloc_pages", "result": "failed"}
    assert page_of(exporter).value("shmalloc_operation_duration_seconds_count", **labels) == 1


def test_counters_never_fall_from_round_to_round(exporter):
    for number, operations in ((1, 100), (2, 5)):
        exporter.begin_round(number, "run", {})
        made = moment(operations, latencies={"free_pages": filled([1] * number)})
        exporter.last(lambda made=made: made)
        exporter.end_round(Ending(Verdict.PASSED))
    exporter.begin_round(3, "explore", {})
    value = page_of(exporter).value
    assert value("shmalloc_operations_total", workload="churn") == 105
    assert value("shmalloc_events_total", event="split") == 14
    labels = {"operation": "free_pages", "result": "done"}
    assert value("shmalloc_operation_duration_seconds_count", **labels) == 3
    assert value("shmalloc_audits_total") == 8 and value("shmalloc_round") == 3
    assert value("shmalloc_rounds_total", verdict="PASSED") == 2


def test_a_result_is_newer_than_the_last_moment_of_its_round(exporter):
    exporter.last(lambda: moment(latencies={"free_pages": filled([1])}))
    newer = {"free_pages": filled([1, 1])}
    exporter.end_round(Ending(Verdict.PASSED, (), 0, newer, {"merge": 11}, audits=9))
    value = page_of(exporter).value
    labels = {"operation": "free_pages", "result": "done"}
    assert value("shmalloc_operation_duration_seconds_count", **labels) == 2
    assert value("shmalloc_events_total", event="merge") == 11
    assert value("shmalloc_events_total", event="split") == 7
    assert value("shmalloc_audits_total") == 9


def test_violations_are_counted_by_invariant_and_those_not_kept_are_unknown(exporter):
    found = [Violation("I_TAIL", "pfn 3", "1", "2"), Violation("I_TAIL", "pfn 4", "1", "2")]
    exporter.end_round(Ending(Verdict.FAILED, found, total=5))
    exporter.finding()
    page = page_of(exporter)
    counts = {name: page.value("shmalloc_violations_total", invariant=name)
              for name in page.values("shmalloc_violations_total", "invariant")}  # fmt: skip
    assert {name: n for name, n in counts.items() if n} == {"I_TAIL": 2, "unknown": 3}
    assert "I_SLAB" in counts and page.value("shmalloc_findings_total") == 1


def test_the_end_is_told_with_the_verdict(exporter):
    assert page_of(exporter).value("shmalloc_finished") == 0
    exporter.finish(Verdict.VACUOUS)
    page = page_of(exporter)
    assert page.value("shmalloc_finished") == 1
    verdicts = {name: page.value("shmalloc_verdict", verdict=name) for name in Verdict.__members__}
    assert [name for name, is_it in verdicts.items() if is_it] == ["VACUOUS"]


def test_a_moment_is_taken_once_a_second():
    now, taken = [0.0], []
    exporter = Exporter(Places(), "run", print, clock=lambda: now[0])
    exporter.begin(SPEC)
    for now[0] in (0.0, 0.4, 0.9, 1.0, 1.5, 7.0, 7.5, 8.0):
        exporter.moment(lambda: taken.append(now[0]) or moment())
    assert taken == [0.0, 1.0, 7.0, 8.0]


def test_label_values_do_not_grow_with_time(exporter):
    """Rounds of other seeds and with other processes add no series."""
    exporter.last(moment)
    series = len(list_of(exporter))
    for number in range(2, 6):
        exporter.begin_round(number, "run", {**SPEC.as_dict(), "seed": hex(number)})
        processes = (use(100 + number, "controller", 1), use(200 + number, "worker 0", 1))
        exporter.last(lambda processes=processes: moment(processes=processes))
    assert len(list_of(exporter)) == series


def list_of(exporter: Exporter) -> list[object]:
    return [key for family in page_of(exporter).families.values() for key in family.samples]


# --- over HTTP -----------------------------------------------------------------------------------


@pytest.fixture
def served() -> Iterator[tuple[Exporter, str]]:
    lines: list[str] = []
    with attached(Places(port=0), "run", lines.append) as exporter:
        assert exporter is not None
        exporter.begin(SPEC)
        yield exporter, lines[0].removeprefix("metrics: ")


def get(url: str, **headers: str) -> str:
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=60) as reply:
        return reply.read().decode()


def test_a_scrape_has_the_newest_moment(served):
    exporter, url = served
    exporter.last(lambda: moment(1))
    exporter.last(lambda: moment(77))
    page = exposition.read(get(url))
    assert page.value("shmalloc_operations_total", workload="churn") == 77
    assert exposition.problems_of(page) == []


def test_openmetrics_is_given_to_those_that_ask_for_it(served):
    exporter, url = served
    exporter.last(lambda: moment(77))
    text = get(url, Accept="application/openmetrics-text; version=1.0.0")
    assert text.endswith("# EOF\n")
    samples = {
        (s.name, s.labels.get("workload")): s.value for f in read_open(text) for s in f.samples
    }
    assert samples["shmalloc_operations_total", "churn"] == 77


def test_only_this_machine_can_scrape_by_default(served):
    assert served[1].startswith("http://127.0.0.1:")


def test_an_ipv6_address_is_served():
    lines: list[str] = []
    with attached(Places(port=0, address="::1"), "run", lines.append) as exporter:
        exporter.begin(SPEC)
        assert "shmalloc_info" in get(lines[0].removeprefix("metrics: "))


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "metrics"]


def test_the_threads_end_and_the_port_is_free_when_the_block_fails():
    lines: list[str] = []
    with pytest.raises(RuntimeError), attached(Places(port=0), "run", lines.append) as exporter:
        exporter.begin(SPEC)
        assert len(threads()) == 1
        raise RuntimeError
    port = int(lines[0].rpartition(":")[2].partition("/")[0])
    assert threads() == []
    with socket.create_server(("127.0.0.1", port)):
        pass


def test_a_scrape_before_the_run_begins_waits_and_is_answered():
    lines: list[str] = []
    with attached(Places(port=0), "run", lines.append) as exporter:
        answers: list[str] = []
        url = lines[0].removeprefix("metrics: ")
        asking = threading.Thread(target=lambda: answers.append(get(url)))
        asking.start()
        assert threads() == []  # what forks meanwhile has no threads of ours
        exporter.begin(SPEC)
        asking.join(60)
        assert "shmalloc_round 1.0" in answers[0]


def test_a_client_that_asks_nothing_does_not_hold_up_the_end(served):
    host, port = served[1].split("/")[2].split(":")
    with socket.create_connection((host, int(port))):
        assert "shmalloc_info" in get(served[1])
        served[0].close()
    assert threads() == []


def test_a_port_in_use_is_refused_in_one_line(served):
    port = int(served[1].split("/")[2].rpartition(":")[2])
    with pytest.raises(MisuseError, match=rf"metrics-port: {port} of 127.0.0.1 is in use"):
        Exporter(Places(port=port), "run", print)


def test_an_address_of_another_machine_is_refused():
    with pytest.raises(MisuseError, match=r"metrics-address: '192\.0\.2\.1' is not of"):
        Exporter(Places(port=0, address="192.0.2.1"), "run", print)


def test_without_prometheus_client_it_is_told_what_to_install(monkeypatch, capsys):
    monkeypatch.setattr(attach, "find_spec", lambda name: None)
    assert cli.run(("run", "--metrics-port", "0", "--duration", "1s")) == 7
    captured = capsys.readouterr()
    assert "pip install 'shmalloc[metrics]'" in captured.err and captured.out == ""


# --- as a file -----------------------------------------------------------------------------------


@pytest.fixture
def written(tmp_path: Path) -> tuple[Exporter, Path, list[str]]:
    lines: list[str] = []
    path = tmp_path / "deep" / "run.prom"
    path.parent.mkdir()
    exporter = Exporter(Places(file=str(path)), "run", lines.append)
    exporter.begin(SPEC)
    return exporter, path, lines


def test_the_file_is_replaced_as_a_whole(written):
    exporter, path, _ = written
    exporter.last(lambda: moment(1))
    with path.open() as before:
        exporter.last(lambda: moment(2))
        old, new = exposition.read(before.read()), exposition.read(path.read_text())
    pages = [page.value("shmalloc_operations_total", workload="churn") for page in (old, new)]
    assert pages == [1, 2] and exposition.problems_of(new) == []
    assert [other.name for other in path.parent.iterdir()] == ["run.prom"]


def test_the_file_keeps_the_last_state(written):
    exporter, path, _ = written
    exporter.last(lambda: moment(5))
    exporter.finish(Verdict.PASSED)
    exporter.close()
    assert "shmalloc_finished 1.0" in path.read_text()
    assert 'shmalloc_verdict{verdict="PASSED"} 1.0' in path.read_text()


def test_a_file_that_cannot_be_written_is_told_once_and_tried_again(written):
    exporter, path, lines = written
    path.parent.rename(path.parent.with_name("away"))
    for _ in range(3):
        exporter.last(lambda: moment(5))
    assert len(lines) == 1 and "metrics-file: " in lines[0] and exporter.trouble
    path.parent.with_name("away").rename(path.parent)
    exporter.last(lambda: moment(6))
    assert path.exists() and exporter.trouble == ""


@pytest.mark.parametrize(
    "name, told",
    [("run.txt", "end in .prom"), ("-", "end in .prom"), ("missing/run.prom", "cannot be written")],
)
def test_a_file_that_no_collector_reads_is_refused(tmp_path, name, told):
    with pytest.raises(MisuseError, match=told):
        Exporter(Places(file=name if name == "-" else str(tmp_path / name)), "run", print)


def test_a_directory_is_no_file(tmp_path):
    (tmp_path / "run.prom").mkdir()
    with pytest.raises(MisuseError, match="is a directory"):
        Exporter(Places(file=str(tmp_path / "run.prom")), "run", print)

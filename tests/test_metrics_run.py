"""Metrics end to end: a real run, scraped while it works; the dashboard asks for what there is."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import urllib.request
from dataclasses import dataclass

import pytest
from prometheus_client.parser import text_string_to_metric_families

from support import exposition, promql
from support.runs import ROOT, RunningRun, compile_once, shmstress, wait_until

WORKLOADS = {"churn", "slabmix", "oom-edge"}
RUN = ("--workload", ",".join(WORKLOADS), "--workers", "2", "--ram", "16MiB", "--duration", "4s")


@dataclass
class Scraped:
    """A run that was scraped: a page while it worked, its last file, its JSON document."""

    during: str
    at_end: str
    result: dict


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> Scraped:
    folder = tmp_path_factory.mktemp("metrics")
    file, document = folder / "run.prom", folder / "run.json"
    places = ("--metrics-port", "0", "--metrics-file", str(file), "--json", str(document))
    with RunningRun(*RUN, "--seed", "7", *places) as run:
        line = run.process.stderr.readline()
        url = re.fullmatch(r"metrics: (http://127\.0\.0\.1:\d+/metrics)\n", line)[1]
        pages: list[str] = []

        def at_work() -> bool:
            with urllib.request.urlopen(url, timeout=60) as reply:
                pages[:] = [reply.read().decode()]
            samples = exposition.read(pages[0]).families["shmalloc_operations_total"].samples
            return sum(samples.values()) > 0

        wait_until(at_work, "a scrape with operations")
        code, output = run.end()
    assert code == 0, output
    (result,) = json.loads(document.read_text())["results"]
    return Scraped(pages[0], file.read_text(), result)


def test_a_scrape_during_a_run_is_read_by_prometheus_own_parser(scraped):
    families = {family.name: family for family in text_string_to_metric_families(scraped.during)}
    assert families["shmalloc_operations"].type == "counter"
    assert families["shmalloc_operation_duration_seconds"].type == "histogram"
    samples = families["shmalloc_operations"].samples
    assert {sample.labels["workload"] for sample in samples} == WORKLOADS
    assert exposition.read(scraped.during).value("shmalloc_finished") == 0


@pytest.mark.parametrize("which", ["during", "at_end"])
def test_a_page_keeps_the_rules_of_the_text_format(scraped, which):
    assert exposition.problems_of(exposition.read(getattr(scraped, which))) == []


def test_the_last_page_has_the_numbers_of_the_runs_document(scraped):
    page, result = exposition.read(scraped.at_end), scraped.result
    for workload in result["workloads"]:
        labels = {"workload": workload["name"]}
        assert page.value("shmalloc_operations_total", **labels) == workload["ops"]
        assert page.value("shmalloc_allocations_refused_total", **labels) == workload["refused"]
    for event, count in result["events"].items():
        assert page.value("shmalloc_events_total", event=event) == count
    for name, histogram in result["latencies"].items():
        operation, _, failed = name.partition(" ")
        labels = {"operation": operation, "result": failed or "done"}
        counted = page.value("shmalloc_operation_duration_seconds_count", **labels)
        assert counted == histogram["calls"]


def test_the_last_page_says_how_it_ended(scraped):
    page, result = exposition.read(scraped.at_end), scraped.result
    assert page.value("shmalloc_finished") == 1 and result["verdict"] == "PASSED"
    assert page.value("shmalloc_verdict", verdict="PASSED") == 1
    assert page.value("shmalloc_rounds_total", verdict="PASSED") == 1
    assert page.value("shmalloc_audits_total") == result["audits"]


def test_a_run_that_fails_leaves_its_verdict_and_what_was_broken(tmp_path):
    file = tmp_path / "failed.prom"
    arguments = ("--workload", "churn", "--workers", "2", "--ram", "16MiB", "--duration", "1h")
    with RunningRun(*arguments, "--metrics-port", "0", "--metrics-file", str(file)) as run:
        url = run.process.stderr.readline().split()[1]
        os.kill(run.workers()[0], signal.SIGKILL)
        code, output = run.end()
    page = exposition.read(file.read_text())
    assert code == 1 and "a living worker" in output
    assert page.value("shmalloc_verdict", verdict="FAILED") == page.value("shmalloc_finished") == 1
    assert page.value("shmalloc_violations_total", invariant="I_PROGRESS") == 1
    with pytest.raises(OSError):
        urllib.request.urlopen(url, timeout=60)


def test_a_port_in_use_ends_the_command_before_the_run_begins():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = shmstress("run", *RUN, "--metrics-port", str(port))
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr.count("\n") == 1 and f"metrics-port: {port}" in done.stderr


def test_a_soak_sums_up_its_rounds(tmp_path):
    """Its rounds have no features that want kernels of their own: these take long to compile."""
    compile_once()
    file, document = tmp_path / "soak.prom", tmp_path / "soak.json"
    arguments = ("--db", str(tmp_path / "s.db"), "--rounds", "2", "--round-time", "1s", "--ram")
    places = ("--metrics-file", str(file), "--json", str(document), "--progress", "never")
    done = shmstress(
        "soak", *arguments, "16MiB", "--only", "run", "--workload", "churn", "--workers", "2",
        "--without", "fault:*,delays,flight,interpreted", "--seed", "5", "--duration", "1h",
        *places,
    )  # fmt: skip
    assert done.returncode in (0, 5), done.stderr
    page = exposition.read(file.read_text())
    assert exposition.problems_of(page) == []
    verdicts = page.values("shmalloc_rounds_total", "verdict")
    assert sum(page.value("shmalloc_rounds_total", verdict=name) for name in verdicts) == 2
    assert page.value("shmalloc_round") == 2 and page.value("shmalloc_finished") == 1
    assert page.value("shmalloc_operations_total", workload="churn") > 0


# --- the dashboard -------------------------------------------------------------------------------

DASHBOARD = ROOT / "examples" / "grafana" / "shmalloc.json"


def test_the_dashboard_asks_only_for_what_a_scrape_has(scraped):
    page = exposition.read(scraped.at_end)
    assert [problem for query in queries() for problem in promql.problems_of(query, page)] == []


def test_the_dashboard_asks_for_most_of_what_a_scrape_has(scraped):
    """A new metric belongs on it, or is one of these."""
    asked = {name for query in queries() for name in re.findall(r"shmalloc_[a-z_]+", query)}
    asked = {re.sub(r"_(bucket|count)$", "", name) for name in asked}
    left_out = {
        "shmalloc_finished", "shmalloc_managed_bytes", "shmalloc_process_resident_memory_bytes",
        "shmalloc_process_threads", "shmalloc_round_duration_seconds", "shmalloc_round_info",
        "shmalloc_round_worked_seconds", "shmalloc_start_time_seconds",
        "shmalloc_workload_longest_call_seconds", "shmalloc_workload_running",
    }  # fmt: skip
    assert set(exposition.read(scraped.at_end).families) - asked == left_out


@pytest.mark.parametrize(
    "query, problem",
    [
        ("sum(shmalloc_no_such_total)", "no metric"),
        ('shmalloc_operations_total{order="1"}', "no label"),
        ("sum by (order) (shmalloc_operations_total)", "no label"),
        ('rate(shmalloc_events_total{event="spilt"}[5m])', "no value"),
        ('rate(shmalloc_events_total{event=~"split|merg"}[5m])', "no value"),
        ("avg(shmalloc_round)", "no function"),
        ("shmalloc_round{instance=~'$x'}", "no token"),
        ('shmalloc_round{instance=~"$x"}', "no variable"),
        ("sum(shmalloc_round", "brackets"),
    ],
)
def test_a_query_that_asks_for_something_else_is_noticed(scraped, query, problem):
    found = promql.problems_of(query, exposition.read(scraped.at_end))
    assert any(problem in one for one in found), found


def test_every_panel_has_a_place_of_its_own():
    panels = json.loads(DASHBOARD.read_text())["panels"]
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells)) and max(x for x, _ in cells) < 24
    assert len({panel["id"] for panel in panels}) == len(panels)


def queries() -> list[str]:
    """Every expression of the dashboard; the values of a variable as the metric with that label."""
    dashboard = json.loads(DASHBOARD.read_text())
    found = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            name, label = re.fullmatch(
                r"label_values\((\w+), (\w+)\)", variable["definition"]
            ).groups()
            found.append(f"sum by ({label}) ({name})")
    assert len(found) > 20
    return found


def test_the_documentation_names_every_metric(scraped):
    text = (ROOT / "docs" / "watching.md").read_text()
    named = set(re.findall(r"`(shmalloc_[a-z_]+)`", text))
    assert named == set(exposition.read(scraped.at_end).families)


def test_the_pages_of_prometheus_client_are_not_needed_to_read_them(scraped):
    """The two readers, ours and theirs, see the same samples."""
    theirs = {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(scraped.at_end)
        for sample in family.samples
    }
    families = exposition.read(scraped.at_end).families.values()
    assert {key: value for family in families for key, value in family.samples.items()} == theirs

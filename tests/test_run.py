"""``shmstress run`` end to end: real processes, real signals, exit codes and reports."""

import json
import os
import re
import signal
import time
import tomllib
from xml.etree import ElementTree

import pytest

from shmalloc import constants as c
from stress.workloads.latency import SAMPLE_EVERY
from support.runs import RunningRun, alive, shmstress, wait_until

CHURN = ("--workload", "churn", "--workers", "2", "--ram", "32MiB", "--zones", "1")
ENDLESS = (*CHURN, "--duration", "10m", "--audit-every", "1s")


@pytest.fixture(scope="module")
def passed(tmp_path_factory):
    """One short run that passes, with every kind of result."""
    directory = tmp_path_factory.mktemp("run")
    run = shmstress(
        "run", *CHURN, "--duration", "2s", "--seed", "0x2a", "--json", str(directory / "run.json"),
        "--junit", str(directory / "run.xml"), "--out", str(directory / "out"),
    )  # fmt: skip
    print(run.stdout, run.stderr)
    return run, directory


def test_a_sound_run_passes_with_exit_code_0(passed):
    assert passed[0].returncode == 0 and passed[0].stdout.splitlines()[-1].startswith("PASSED ")


@pytest.mark.parametrize("line", [0, -1])
def test_first_and_last_line_carry_seed_and_spec(passed, line):
    text = passed[0].stdout.splitlines()[line]
    assert "seed=0x2a" in text and "spec: shmstress run --workload churn --workers 2" in text


def test_the_json_document_tells_marks_and_counts(passed):
    document = json.loads((passed[1] / "run.json").read_text())
    result = document["results"][0]
    assert document["schema"] == 1 and document["verdict"] == "PASSED"
    assert result["ops"] > 1000 and result["audits"] >= 3 and not result["missed_marks"]


def test_the_json_document_tells_where_and_when_it_ran(passed):
    result = json.loads((passed[1] / "run.json").read_text())["results"][0]
    assert abs(result["started"] - time.time()) < 3600 and result["hostname"]
    assert result["wall_seconds"] >= result["seconds"] + result["startup_seconds"]


def test_the_json_document_tells_how_long_calls_took(passed):
    result = json.loads((passed[1] / "run.json").read_text())["results"][0]
    calls = result["latencies"]["alloc_pages"]
    assert calls["p50_ns"] <= calls["p99_ns"] <= calls["max_ns"]
    share = sum(count for _, count in calls["buckets"]) / result["events"]["alloc"]
    assert 0.8 < share * SAMPLE_EVERY < 1.2


def test_the_json_document_tells_what_each_process_used(passed):
    result = json.loads((passed[1] / "run.json").read_text())["results"][0]
    uses = {use["role"]: use for use in result["processes"]}
    assert set(uses) == {"controller", "worker 0", "worker 1", "forkserver", "resource tracker"}
    assert all(use["fds"] > 2 and use["threads"] >= 1 for use in uses.values())
    worker = uses["worker 0"]  # has touched most of the segment, which is not its own
    assert worker["shared_bytes"] > 16 << 20 > worker["private_bytes"] // 4 > 0


def test_the_junit_document_has_a_case_for_the_processes_and_each_workload(passed):
    suite = ElementTree.fromstring((passed[1] / "run.xml").read_text()).find("testsuite")
    names = [case.get("name") for case in suite.findall("testcase")]
    assert names[:2] == ["processes", "churn"] and suite.get("failures") == "0"


def test_the_artifacts_of_a_run_lie_in_one_directory(passed):
    (directory,) = (passed[1] / "out").iterdir()
    names = {path.name for path in directory.iterdir()}
    assert {"spec.toml", "environment.json", "run.json", "worker-0.log", "worker-1.log"} <= names
    assert tomllib.loads((directory / "spec.toml").read_text())["seed"] == "0x2a"


def test_json_on_standard_output_is_the_only_thing_there():
    run = shmstress("run", *CHURN, "--duration", "1s", "--json", "-")
    assert json.loads(run.stdout)["verdict"] == "PASSED" and "PASSED" in run.stderr


def test_only_a_first_run_compiles_once_and_says_so(tmp_path):
    short = (*CHURN, "--duration", "1s")
    cold, warm = (shmstress("run", *short, SHMALLOC_CACHE_DIR=str(tmp_path)) for _ in range(2))
    assert cold.returncode == warm.returncode == 0 and warm.stderr == ""
    assert cold.stderr.startswith("compiling ") and cold.stderr.count("\n") == 1
    assert len(list(tmp_path.glob("*.image"))) == 1


def test_a_mark_that_is_never_reached_makes_the_run_vacuous():
    run = shmstress(
        "run", "--workload", "handoff", "--workers", "1", "--ram", "32MiB", "--duration", "1s"
    )
    lines = run.stdout.splitlines()
    assert run.returncode == 5 and lines[-1].startswith("VACUOUS ")
    assert any("remote-free" in line for line in lines if line.startswith("never reached"))


def test_more_memory_than_there_is_is_the_environment_s_fault():
    run = shmstress("run", *CHURN, "--ram", "200GiB")
    assert run.returncode == 7 and "asked for" in run.stdout


def test_a_killed_worker_is_named_with_its_last_operations():
    with RunningRun(*ENDLESS) as run:
        victim = run.workers()[1]
        os.kill(victim, signal.SIGKILL)
        code, output = run.end()
    report = next(line for line in output.splitlines() if line.startswith("!!!"))
    assert code == 1 and "I_PROGRESS" in report and f"worker 1 (pid {victim}, cpu slot 1" in report
    assert "SIGKILL" in report and "cpu 1: " in output
    assert not run.segment_names


def test_a_worker_that_dies_by_sigsegv_is_a_violation():
    with RunningRun(*ENDLESS) as run:
        os.kill(run.workers()[0], signal.SIGSEGV)
        code, output = run.end()
    assert code == 1 and "died by SIGSEGV" in output


def test_a_worker_that_dies_by_sigbus_is_the_environment_s_fault():
    with RunningRun(*ENDLESS) as run:
        os.kill(run.workers()[0], signal.SIGBUS)
        code, output = run.end()
    assert code == 7 and "--prealloc" in output


def test_a_crash_in_a_kernel_names_the_kernel():
    """The system takes the workers' memory away."""
    with RunningRun(*ENDLESS) as run:
        with run.attach() as segment:
            os.truncate(f"/dev/shm/{segment.name}", 8 * segment.layout.frame(0))
        code, output = run.end()
    assert code == 7 and "died by SIGBUS in kernel " in output and ", address 0x" in output


def test_a_kernel_that_leaves_the_segment_is_named_with_its_line():
    with RunningRun(*ENDLESS) as run:
        with run.attach() as segment:
            segment.ram[segment.layout.cpu(0) + c.C_HOME_PCP] = 1 << 40
        code, output = run.end()
    report = next(line for line in output.splitlines() if line.startswith("!!!"))
    assert code == 1 and "M_OUT_OF_RANGE" in report and "is outside the segment of" in report
    assert re.search(r"in shmalloc\.kernels\.\w+\.\w+, \S+/kernels/\w+\.py:\d+, on cpu \d", report)


def test_a_stopped_worker_is_reported_as_hung():
    with RunningRun(*ENDLESS, "--hang-timeout", "1s") as run:
        victim = run.workers()[0]
        os.kill(victim, signal.SIGSTOP)
        code, output = run.end()
    assert code == 1 and "fell silent for more than 1 s (process state: stopped)" in output
    assert not alive(victim)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_in_order(number):
    with RunningRun(*ENDLESS) as run:
        workers = run.workers()
        run.send(number)
        code, output = run.end()
    assert code == 2 and output.splitlines()[-1].startswith("INTERRUPTED ")
    assert not any(map(alive, workers)) and not run.segment_names


def test_a_signal_to_all_processes_at_once_is_an_interruption():
    """As a service manager or ``timeout`` sends it: workers and forkserver die of it, too."""
    with RunningRun(*ENDLESS, group=True) as run:
        os.killpg(run.process.pid, signal.SIGTERM)
        code, output = run.end()
    assert code == 2 and output.splitlines()[-1].startswith("INTERRUPTED ")
    assert not run.segment_names


def test_a_second_signal_ends_the_run_at_once_even_if_a_worker_does_not_answer():
    with RunningRun(*ENDLESS, "--hang-timeout", "2m") as run:
        os.kill(run.workers()[0], signal.SIGSTOP)
        run.send(signal.SIGINT)
        # The handler has run when the stop word is set; only then is the second one a second one.
        with run.attach() as segment:
            wait_until(lambda: segment.ram.load(c.H_STOP) == 1, "the first signal to be seen")
        before_s = time.monotonic()
        run.send(signal.SIGINT)
        code, _ = run.end()
    assert code == 2 and time.monotonic() - before_s < 30 and not run.segment_names


def test_workers_leave_when_the_controller_is_killed():
    with RunningRun(*ENDLESS) as run:
        workers = run.workers()
        run.process.kill()
        wait_until(lambda: not any(map(alive, workers)), "the workers to leave")
        leftover = run.segment_names
    assert shmstress("run", *CHURN, "--duration", "1s").returncode == 0
    assert leftover and not run.segment_names  # the next run has swept it


def test_a_corrupted_descriptor_is_found_reported_and_kept(tmp_path):
    """A free page's descriptor is turned into an allocated one behind the allocator's back."""
    with RunningRun(*ENDLESS, "--out", str(tmp_path)) as run:
        with run.attach() as segment:
            free_head = last_free_head(segment)
            at = segment.layout.descriptor(free_head)
            segment.ram[at] = (segment.ram[at] & ~c.TYPE_MASK) | c.T_ALLOCATED
        code, output = run.end()
    (directory,) = tmp_path.iterdir()
    assert code == 1 and "\n!!! " in output
    assert "to try again, run: shmstress run --workload churn" in output
    assert (directory / "segment.bin").stat().st_size > 32 << 20
    assert json.loads((directory / "violations.jsonl").read_text().splitlines()[0])["invariant"]


def test_a_stolen_stamp_is_found_by_its_owner():
    with RunningRun(*ENDLESS) as run:
        with run.attach() as segment:
            wait_until(lambda: overwrite_stamps(segment) > 0, "a page that is owned")
        code, output = run.end()
    assert code == 1 and "X_PAYLOAD" in output


def last_free_head(segment):
    """The last free block of the largest order: no worker reaches it for a long time."""
    pages = range(segment.geometry.pages - 1, -1, -1)
    words = ((pfn, segment.ram[segment.layout.descriptor(pfn)]) for pfn in pages)
    return next(
        pfn
        for pfn, word in words
        if word & c.TYPE_MASK == c.T_FREE
        and (word >> c.ORDER_SHIFT) & c.ORDER_MASK == segment.geometry.max_order
    )


def overwrite_stamps(segment):
    """Write over the first word of every page that the owner map calls owned; how many."""
    owners = segment.layout.at["owners"]
    hit = 0
    for pfn in range(segment.geometry.pages):
        if segment.ram.load(owners + pfn):
            segment.ram[segment.layout.frame(pfn)] = 0x5EED
            hit += 1
    return hit

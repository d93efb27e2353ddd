"""The views of a run: frames of the live view, lines of the plain one, accounts of workloads."""

import io
import os
import pty
import re
import subprocess
import sys
from dataclasses import replace

import pytest
from rich.console import Console

from shmalloc import constants as c
from stress.faults.grammar import Kill
from stress.quantities import brief_ns, counted, rough_duration, short
from stress.report.cells import bar, levels
from stress.report.live import LiveProgress, View, spec_line
from stress.report.progress import PlainProgress, plain_line
from stress.report.text import result_lines
from stress.run.accounts import Account, Accounts
from stress.run.histogram import Histogram
from stress.run.memory import RunMemory, Snapshot
from stress.run.process_use import ProcessUse
from stress.run.progress import Moment, Progress, Several, unusable_share
from stress.run.result import RunResult, WorkloadResult
from stress.spec import RunSpec, Zone
from stress.workloads.area import W_LONGEST_NS, W_OPERATIONS
from support.runs import compile_once, environment

SPEC = RunSpec(("churn", "oom-edge"), 2, (Zone(8 << 20), Zone(8 << 20, 1)), seed=0xABC)


def moment(elapsed_s, operations, refused=0, audits=1, reports=0):
    """Two workloads: churn keeps working, oom-edge is idle since its first slice."""
    snapshot = Snapshot((0,) * c.EV_COUNT, (3, 1), (12, 0), 1012, 0, 4096, reports)
    accounts = (
        Account("churn", operations, refused, 0.0123, running=True),
        Account("oom-edge", 5_000_000, 1_234, 0.5),
    )
    return Moment(elapsed_s, 20.0, audits, snapshot, accounts)


def frame(now, before=None, width=80, line="2 workers"):
    console = Console(record=True, width=width, file=io.StringIO(), color_system=None)
    console.print(View(now, before, line))
    return console.export_text().splitlines()


def row(lines, name):
    (found,) = [line.split() for line in lines if line.startswith(name)]
    return found


def test_each_workload_has_a_row_with_operations_rate_refusals_and_longest_call():
    lines = frame(moment(3.0, 3_000_000, 7), moment(1.0, 1_000_000))
    assert row(lines, "churn") == ["churn", "3,000,000", "1,000,000", "7", "12"]
    assert row(lines, "oom-edge") == ["oom-edge", "5,000,000", "-", "1,234", "500"]


def test_the_first_frame_has_no_rates():
    lines = frame(moment(0.001, 4000))
    assert row(lines, "churn")[2] == "-"
    assert "splits -, merges -" in " ".join(lines)


def test_a_count_that_fell_with_its_worker_has_no_negative_rate():
    assert row(frame(moment(3.0, 100), moment(1.0, 5000)), "churn")[2] == "0"


def test_memory_in_use_is_a_bar_of_all_pages():
    (line,) = [line for line in frame(moment(1.0, 1)) if line.startswith("memory")]
    assert line.count("█") == 18 and line.count("░") == 6  # three quarters of 24
    assert "3,072 of 4,096 pages in use" in line


@pytest.mark.parametrize("width", [40, 80, 120])
def test_a_frame_fits_its_terminal_and_says_what_refused_means(width):
    lines = frame(moment(3.0, 3_000_000), moment(1.0, 1), width, spec_line(SPEC) + ", more" * 30)
    assert max(map(len, lines)) <= width
    assert "refused (out of memory, expected)" in " ".join(" ".join(lines).split())
    assert sum("2 workers" in line for line in lines) == 1
    shown = ("churn", "oom-edge", "workload", "memory", "   3.0s of")
    assert all("…" not in line for line in lines if line.startswith(shown))


def test_a_narrow_frame_has_short_numbers():
    assert row(frame(moment(3.0, 3_210_000), None, 40), "churn")[1] == "3.21M"


def test_a_violation_is_told_in_the_first_line():
    assert "no violations, 1 audit" in frame(moment(1.0, 1))[0]
    assert "1 violation, 2 audits" in frame(moment(1.0, 1, audits=2, reports=1))[0]


def test_the_line_of_a_spec_names_what_was_chosen():
    spec = RunSpec(("churn",), 1, (Zone(1 << 20),), faults=(Kill(0.5),))
    assert spec_line(spec) == "1 worker, 1MiB in 1 zone, seed 0x1, faults kill:every=0.5s"


def test_plain_progress_is_one_line_each_ten_seconds_with_rates_since_the_last():
    now, lines = [0.0], []
    progress = PlainProgress(lines.append, lambda: now[0])
    for second, operations in ((9, 900), (10, 1000), (15, 1500), (20, 21000)):
        now[0] = float(second)
        progress.moment(lambda at=second, done=operations: moment(float(at), done))
    assert len(lines) == 2 and all(line.endswith("running churn\n") for line in lines)
    assert "10s of 20s: 5,001,000 operations, 500,100 per second, 1,234 refused" in lines[0]
    assert " 2,000 per second" in lines[1]


def test_the_account_of_a_slice_begins_at_zero_and_ends_in_the_result():
    result = RunResult(SPEC)
    with RunMemory(SPEC) as memory:
        accounts, ram, area = Accounts(memory, result), memory.ram, memory.layout.work(1)
        ram[area + W_OPERATIONS] = 99  # of a slice before
        ram[memory.layout.cpu(1) + c.C_EVENTS + c.EV_FAIL] = 5
        accounts.begin({0: "churn", 1: "oom-edge"})
        assert accounts.now()[1] == Account("oom-edge", running=True)
        ram[area + W_OPERATIONS], ram[area + W_LONGEST_NS] = 40, 2_000_000
        ram[memory.layout.cpu(1) + c.C_EVENTS + c.EV_FAIL] = 8
        assert accounts.now()[1] == Account("oom-edge", 40, 3, 0.002, running=True)
        accounts.end()
        assert result.workloads["oom-edge"].refused == 3
        assert accounts.now()[1] == Account("oom-edge", 0, 3)


def test_what_a_dead_worker_did_counts_when_its_slot_gets_another_life():
    result = RunResult(SPEC)
    with RunMemory(SPEC) as memory:
        accounts, ram, area = Accounts(memory, result), memory.ram, memory.layout.work(1)
        accounts.begin({0: "churn", 1: "oom-edge"})
        ram[area + W_OPERATIONS] = 40
        memory.prepare_area(1, "oom-edge", 0, life=1)
        assert accounts.now()[1].operations == result.workloads["oom-edge"].ops == 40
        ram[area + W_OPERATIONS] = 2
        assert accounts.now()[1].operations == 42


@pytest.mark.parametrize(
    "number, text",
    [
        (0, "0"),
        (7.4, "7.4"),
        (999, "999"),
        (999.6, "1k"),
        (-12345, "-12.3k"),
        (4.56e9, "4.56G"),
        (1.5e15, "1.5P"),
        (1e30, "1e+30"),
        (float("inf"), "inf"),
    ],
)
def test_short_numbers_have_three_digits_and_a_unit(number, text):
    assert short(number) == text


def test_bars_and_levels_keep_their_length_whatever_they_show():
    assert [bar(share, 4) for share in (-1, 0.5, 7)] == ["░░░░", "██░░", "████"]
    assert bar(0.5, 4, ascii=True) == "##.."
    assert levels([0, 5, 10]) == "▁▄█" and levels([]) == "" and levels([0, 0]) == "▁▁"
    assert levels([1], most=8, ascii=True) == "_"


def test_one_is_singular():
    texts = [counted(count, "audit") for count in (0, 1, 2, 1000)]
    assert texts == ["0 audits", "1 audit", "2 audits", "1,000 audits"]


def test_on_a_terminal_the_spec_stands_once_before_the_results():
    """A real run on a pseudo-terminal: frames come and go, the command line is printed once."""
    compile_once()
    ours, theirs = pty.openpty()
    run = subprocess.Popen(
        [sys.executable, "-m", "stress", "run", "--workload", "churn", "--workers", "2", "--ram",
         "32MiB", "--duration", "1s"],
        env=environment(COLUMNS="80", TERM="xterm"), stdout=theirs, stderr=theirs, close_fds=True,
    )  # fmt: skip
    os.close(theirs)
    written = b""
    while True:
        try:
            written += os.read(ours, 1 << 16)
        except OSError:  # the end of the other side
            break
    os.close(ours)
    assert run.wait() == 0
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", written.decode()).replace("\r", "")
    before, _, results = text.partition("refused (out of memory, expected)\nper second:")
    assert before.count("shmstress run --workload churn") == 1
    assert re.search(r"^churn +[\d,]+ +-", before, re.M)  # the first frame: no rate yet
    assert re.search(r"^churn +[\d,]+ +[\d,]+ ", results, re.M)
    assert "PASSED" in results.splitlines()[-1]


def test_progress_always_draws_into_a_pipe(capfd):
    view = LiveProgress(always=True)
    view.begin(SPEC)
    view.moment(lambda: moment(3.0, 3_000_000))
    view.end()
    out, err = capfd.readouterr()
    assert out == "" and "3,000,000" in err and "2 workers, 16MiB in 2 zones" in err


def test_the_final_table_names_refusals_and_fits_a_terminal():
    result = RunResult(SPEC)
    result.workloads["oom-edge"] = WorkloadResult("oom-edge", 60.5, 1_000, 10, 0.25, refused=77)
    heading, _, line, note = list(result_lines(result))[:4]
    assert heading.split()[-3:] == ["longest", "ms", "refused*"] and len(heading) < 80
    assert line.split() == ["oom-edge", "60.5", "1,000", "17", "250.0", "77"]
    assert note == "* refused (out of memory, expected)"


class Asking(Progress):
    """Takes a moment whenever it may."""

    def __init__(self):
        self.seen = []

    def moment(self, take):
        self.seen.append(take())


def test_several_receivers_get_one_and_the_same_moment():
    receivers, taken = [Asking(), Progress(), Asking()], []

    def take():
        taken.append(moment(1.0, 1))
        return taken[-1]

    Several(receivers).moment(take)
    assert [id(one) for asking in receivers[::2] for one in asking.seen] == [id(taken[0])] * 2
    assert len(taken) == 1


def test_no_moment_is_taken_that_nobody_asked_for():
    Several([Progress(), Progress()]).moment(lambda: pytest.fail("was taken"))


@pytest.mark.parametrize(
    "free_by_order, share",
    [
        ((0,) * 11, 1.0),  # nothing is free
        ((512, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0), 0.5),
        ((0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3), 0.0),  # a larger block does
        ((10, 5), 0.5),  # the largest order is below that of a huge page
    ],
)
def test_fragmentation_is_the_share_of_free_pages_in_blocks_too_small(free_by_order, share):
    assert unusable_share(free_by_order) == share


@pytest.mark.parametrize(
    "ns, text",
    [(0, "0ns"), (950, "950ns"), (1250, "1.25us"), (999_600, "1ms"), (40_000_000, "40ms"),
     (1_500_000_000, "1.5s"), (10**13, "10000s")],
)  # fmt: skip
def test_a_brief_duration_has_three_digits_and_the_unit_that_suits_it(ns, text):
    assert brief_ns(ns) == text


def test_the_text_of_a_run_has_a_line_for_each_operation_that_was_timed():
    result, calls = RunResult(SPEC), Histogram()
    for ns in (100, 100, 100, 7_000_000):
        calls.add(ns)
    result.latencies["alloc_pages"] = calls
    (line,) = [line.split() for line in result_lines(result) if line.startswith("alloc_pages")]
    assert line == ["alloc_pages", "4", "101ns", "7ms", "7ms", "7ms", "7ms"]


def process(role, mib, fds=10):
    return ProcessUse(1, role, mib << 21, mib << 20, mib << 20, fds, 1, 0.5)


def test_a_frame_shows_the_private_memory_of_processes_by_role():
    uses = (process("controller", 26), process("worker 0", 20), process("worker 1", 25))
    now = replace(moment(1.0, 1), processes=uses)
    (line,) = [line for line in frame(now, width=120) if line.startswith("processes")]
    assert line.startswith("processes 71MiB private, 30 descriptors: controller 26MiB, ")
    assert line.endswith("workers 45MiB (2, at most 25MiB)")


def test_a_frame_says_how_long_the_run_still_takes():
    assert "17 s left, no violations" in frame(moment(3.0, 1))[0]


def test_a_trace_that_is_replayed_once_has_its_own_share_and_pace():
    now = replace(moment(30.0, 1), share=0.25, duration_s=86400.0)
    line = frame(now, width=100)[0]
    assert "of once through the trace" in line and "1 min 30 s left" in line
    assert line.count("█") == 6  # a quarter of 24
    assert plain_line(now, None).startswith("30s, 25% of the trace: ")


def test_fragmentation_is_drawn_over_time():
    console = Console(record=True, width=100, file=io.StringIO(), color_system=None)
    console.print(View(moment(3.0, 1), None, past=(0.0, 0.5, 1.0)))
    (line,) = [x for x in console.export_text().splitlines() if x.startswith("fragmentation")]
    assert line.startswith("fragmentation ▁▄█ ")


@pytest.mark.parametrize(
    "seconds, text",
    [
        (-1, "0 s"),
        (0, "0 s"),
        (0.523, "0.523 s"),
        (59.4, "59.4 s"),
        (59.96, "1 min"),
        (100, "1 min 40 s"),
        (3605, "1 h"),
        (7500, "2 h 5 min"),
        (273600, "3 d 4 h"),
        (1e12, "11.6M d 1 h"),
    ],
)
def test_a_rough_duration_has_its_two_largest_units(seconds, text):
    assert rough_duration(seconds) == text

"""The arithmetic of a bench: figures from answers, rounds over a team that is made up, goals."""

import json
import re
import statistics
from pathlib import Path

import pytest

from stress.bench import goals, page, plot, report, rounds
from stress.bench.catalogue import PATTERNS, chosen, parse_counts
from stress.bench.figures import Row, Series, Spread, row_of, slice_of
from stress.bench.goals import FASTEST, IN_F, IN_NS, OF_OTHER, RATE, Goal, judge
from stress.bench.jobs import Job, Place, make_jobs
from stress.bench.machine import Machine, processor_in
from stress.bench.peers import Peer
from stress.bench.result import Curve, Result
from stress.bench.sheets import Sheet
from stress.bench.team import Answer
from stress.report.generated_part import END, refreshed

MACHINE = Machine("2026-01-02", "A Processor", True, 2, 8 << 30, "6.1.0-x", "3.11.7", "", 0.25)


def answer(operations=1000, own_ns=20_000, start=0, end=20_000, switches=0, f_ns=10.0):
    return Answer(operations, own_ns, start, end, switches, f_ns)


def job_of(name="repeat", workers=1):
    return Job(0, PATTERNS[name], "shmalloc", workers, 0, Place(1 << 26))


def row(pattern="repeat", who="shmalloc", workers=1, **more):
    values = {
        "timed": PATTERNS[pattern].timed, "memory": "shared", "ns": Spread(19, 20, 21),
        "f": Spread(1.9, 2.0, 2.1), "rate": Spread(49, 50, 51), "core_f_ns": (10.0,) * workers,
        "kept": 21, "dropped": 1, "switches": 1, "crowded": False,
    }  # fmt: skip
    return Row(pattern, who, workers, **{**values, **more})


# --- a slice --------------------------------------------------------------------------------------
def test_an_operation_costs_the_time_of_all_workers():
    one = slice_of([answer(1000, 20_000), answer(1000, 30_000)], cores=2)
    assert one.ns == 25.0 and one.f == 2.5
    assert one.rate == pytest.approx(1000 / 20e-6 + 1000 / 30e-6)


def test_of_a_pair_both_sides_are_paid_for():
    """The side that frees counts the operations; the other one's time is part of their cost."""
    one = slice_of([answer(0, 40_000), answer(1000, 60_000)], cores=2)
    assert one.ns == 100.0 and one.rate == pytest.approx(1000 / 60e-6)


def test_f_is_that_of_the_cores_of_the_slice():
    one = slice_of([answer(f_ns=8.0), answer(f_ns=12.0)], cores=2)
    assert one.f == one.ns / 10.0 and one.f_ns == (8.0, 12.0)


def test_more_workers_than_cores_share_the_wall_time():
    answers = [
        answer(1000, 90_000, 0, 90_000, f_ns=30.0),
        answer(1000, 90_000, 10_000, 100_000, f_ns=11.0),
        answer(2000, 90_000, 5_000, 95_000, f_ns=10.0),
    ]
    one = slice_of(answers, cores=2)
    assert one.ns == 100_000 * 2 / 4000
    assert one.rate == pytest.approx(4000 / 100e-6)
    assert one.f_ns == (10.0, 11.0)  # of each core the least: the others shared it


def test_a_slice_without_operations_has_no_figure():
    with pytest.raises(ValueError, match="without an operation"):
        slice_of([answer(0)], cores=1)


# --- a row ----------------------------------------------------------------------------------------
def test_median_and_quartiles():
    assert Spread.of([1, 2, 3, 4, 5]) == (2, 3, 4)
    assert Spread.of([4.0]) == (4.0, 4.0, 4.0)
    values = [7.0, 1.0, 5.0, 3.0]
    assert Spread.of(values).median == statistics.median(values)


def test_a_slice_in_which_a_core_was_lost_is_dropped_and_counted():
    series = Series(job_of(), crowded=False)
    series.add([answer(switches=2)], cores=2)
    series.add([answer()], cores=2)
    made = row_of(series)
    assert (made.kept, made.dropped, made.switches) == (1, 1, 2)
    assert made.ns.median == 20.0 and made.f.median == 2.0 and made.rate.median == 50.0


def test_where_workers_are_more_than_cores_it_is_kept_and_counted():
    series = Series(job_of(workers=2), crowded=True)
    series.add([answer(switches=2), answer(switches=3)], cores=1)
    made = row_of(series)
    assert (made.kept, made.dropped, made.switches, made.crowded) == (1, 0, 5, True)


def test_where_a_helper_takes_part_it_is_kept():
    helped = Peer("SharedMemory", "python", "python", shared=True, helped=True)
    series = Series(Job(0, PATTERNS["py-array-64B"], "SharedMemory", 1, peer=helped), crowded=False)
    series.add([answer(switches=1)], cores=2)
    assert row_of(series).kept == 1


def test_a_job_without_a_slice_has_no_row():
    series = Series(job_of(), crowded=False)
    series.add([answer(switches=1)], cores=2)
    assert row_of(series) is None


# --- rounds ---------------------------------------------------------------------------------------
WARM = 2 + rounds.BELIEVED  # slices of a job whose first length is right


class MadeUp:
    """A team whose slices take ``ns`` for each repeat; of each job's slices some are disturbed."""

    def __init__(self, jobs, ns=1000, disturbed=lambda number: False, cold_ns=0):
        self.jobs, self.cores, self.refused = tuple(jobs), [0, 1], {}
        self._ns, self._disturbed, self._cold_ns = ns, disturbed, cold_ns
        self.asked = []

    def crowded(self, job):
        return job.workers > 2

    def slice(self, job, repeats, number):
        self.asked.append((job.number, repeats, number))
        lost = int(self._disturbed(len(self.asked)))
        spent = repeats * self._ns + (self._cold_ns if lost or len(self.asked) == 1 else 0)
        return [Answer(repeats, spent, 0, spent, lost, 10.0)] * job.workers


def test_a_slice_gets_its_length_although_the_first_one_is_cold():
    team = MadeUp([job_of()], ns=100, cold_ns=10**9)
    repeats = rounds.repeats_of(team, Series(team.jobs[0], crowded=False))
    assert rounds.NEAR * rounds.SLICE_NS < repeats * 100 < 2 * rounds.SLICE_NS


def test_a_slice_gets_its_length_although_the_first_ones_are_disturbed():
    team = MadeUp([job_of()], ns=100, cold_ns=10**9, disturbed=lambda n: n <= 4)
    repeats = rounds.repeats_of(team, Series(team.jobs[0], crowded=False))
    assert rounds.NEAR * rounds.SLICE_NS < repeats * 100 < 2 * rounds.SLICE_NS


def test_an_operation_that_is_longer_than_a_slice_is_done_once():
    team = MadeUp([job_of()], ns=10**8)
    assert rounds.repeats_of(team, Series(team.jobs[0], crowded=False)) == 1


def test_jobs_have_their_slices_in_turn():
    jobs = [Job(n, PATTERNS["repeat"], f"{n}", 1, 0, Place(1 << 26)) for n in range(3)]
    team = MadeUp(jobs, ns=10**7)
    rows, lost = rounds.measure(team, 4)
    assert [job for job, _, _ in team.asked[3 * WARM :]] == [0, 1, 2] * 4
    assert [row.kept for row in rows] == [4, 4, 4] and lost == []


def test_a_job_whose_slices_are_dropped_gets_more_rounds():
    team = MadeUp([job_of()], ns=10**7, disturbed=lambda n: n > WARM and n % 2 == 0)
    (made,), lost = rounds.measure(team, 5)
    assert (made.kept, made.dropped) == (5, 4) and lost == []


def test_a_job_that_is_always_disturbed_is_given_up_and_named():
    team = MadeUp([job_of()], ns=10**7, disturbed=lambda n: True)
    rows, (lost,) = rounds.measure(team, 5)
    assert rows == [] and str(lost) == "repeat of shmalloc, workers: 1"
    assert len(team.asked) == WARM + 5 * rounds.PATIENCE


def test_a_peer_that_no_worker_could_open_is_left_out():
    peer = Peer("jemalloc", "malloc", "malloc", "x.so")
    team = MadeUp([job_of(), Job(1, PATTERNS["object"], "jemalloc", 1, peer=peer)], ns=10**7)
    team.refused = {"jemalloc": "no room"}
    rows, lost = rounds.measure(team, 2)
    assert [made.who for made in rows] == ["shmalloc"] and lost == []


# --- jobs -----------------------------------------------------------------------------------------
def test_patterns_of_pairs_have_even_numbers_of_workers():
    jobs = make_jobs([PATTERNS["ublk"]], (1, 2, 3, 4), [], full=False)
    assert [job.workers for job in jobs] == [2, 4]


def test_a_private_heap_gets_no_objects_of_others():
    peer = Peer("glibc", "malloc", "malloc")
    jobs = make_jobs([PATTERNS["larson"]], (1, 2), [peer], full=False)
    assert [(job.who, job.workers) for job in jobs] == [
        ("shmalloc", 1), ("shmalloc", 2), ("glibc", 1),
    ]  # fmt: skip


def test_what_another_worker_frees_needs_a_shared_heap():
    heaps = [Peer("glibc", "malloc", "malloc"), Peer("boost", "malloc", "heap", shared=True)]
    jobs = make_jobs([PATTERNS["xmalloc"]], (1, 2), heaps, full=False)
    assert [job.who for job in jobs] == ["shmalloc", "boost"]


def test_patterns_are_chosen_by_name_by_group_and_by_effort():
    assert [one.name for one in chosen(("object", "repeat-9"), full=False)] == [
        "repeat-9",
        "object",
    ]
    assert "repeat-9" not in [one.name for one in chosen(("pages",), full=False)]
    assert [one.name for one in chosen((), full=True)] == list(PATTERNS)
    assert parse_counts("2, 1,2", 8) == (2, 1)


# --- goals ----------------------------------------------------------------------------------------
ROWS = [
    row(), row(workers=2, rate=Spread(80, 90, 95)), row(who="llfree", f=Spread(4, 5, 6)),
    row("py-pages", ns=Spread(390, 401, 410)), row("py-array-64B", f=Spread(8, 9, 10)),
    row("py-array-64B", "heap", f=Spread(40, 45, 50)),
]  # fmt: skip


@pytest.mark.parametrize(
    ("goal", "shown", "reached"),
    [
        (Goal(("repeat", "shmalloc", 1), IN_F, 1.3), "2.00 F", False),
        (Goal(("repeat", "shmalloc", 1), IN_F, 2.0), "2.00 F", True),
        (Goal(("py-pages", "shmalloc", 1), IN_NS, 400), "401 ns", False),
        (Goal(("repeat", "shmalloc", 1), OF_OTHER, 0.5, ("repeat", "llfree", 1)), "0.40 x", True),
        (Goal(("repeat", "shmalloc", 2), RATE, 1.7, ("repeat", "shmalloc", 1)), "1.80 x", True),
        (Goal(("repeat", "shmalloc", 2), RATE, 1.9, ("repeat", "shmalloc", 1)), "1.80 x", False),
        (Goal(("py-array-64B", "shmalloc", 1), FASTEST), "0.20 x", True),
        (Goal(("py-pages", "shmalloc", 1), FASTEST), "not measured", None),
        (Goal(("mixed", "shmalloc", 1), IN_F, 3.0), "not measured", None),
        (Goal(("repeat", "shmalloc", 2), OF_OTHER, 1, ("repeat", "x", 2)), "not measured", None),
    ],
    ids=str,
)  # fmt: skip
def test_a_goal_is_judged_by_its_row(goal, shown, reached):
    judged = judge(goal, ROWS)
    assert (judged.shown, judged.reached) == (shown, reached)


def test_goals_are_about_patterns_that_exist():
    keys = [key for goal in goals.GOALS for key in (goal.row, goal.other) if key is not None]
    assert {pattern for pattern, _, _ in keys} <= set(PATTERNS)
    jobs = make_jobs(chosen((), full=False), (1, 2, 4), [], full=False)
    ours = {(job.pattern.name, job.who, job.workers) for job in jobs}
    assert {key for key in keys if key[1] != "llfree"} - ours == set()


# --- what is shown --------------------------------------------------------------------------------
@pytest.fixture
def result():
    crowded = row(workers=4, crowded=True, core_f_ns=(10.0, 11.0), switches=77)
    curve = Curve("memory", "a page by size", "MiB", "F", {"repeat": [(16.0, 2.0), (64.0, 2.5)]})
    sheet = Sheet("Fragmented memory", ("held", "F"), ("F",), "A note.", [("none", "1.0")])
    return Result(
        MACHINE, 21, [*ROWS, crowded], ["boost is not measured: install it"],
        ["mixed of shmalloc, workers: 2"], [curve], [sheet],
    )  # fmt: skip


def test_rows_that_are_timed_differently_have_tables_of_their_own(result):
    tables = {sheet.title: sheet for sheet in report.sheets(result)}
    compiled, crowded, python = (
        tables[title]
        for title in (
            "Compiled loops", "Compiled loops, more workers than cores", "Calls from Python",
        )
    )  # fmt: skip
    assert {cells[0] for cells in compiled.rows} == {"repeat"}
    assert {cells[0] for cells in python.rows} == {"py-pages", "py-array-64B"}
    assert "switches" in crowded.columns and "dropped" not in crowded.columns
    assert "77" in crowded.rows[0]
    assert "Goals" in tables and "a page by size" in tables and "Fragmented memory" in tables


def test_the_report_names_the_machine_f_and_what_is_missing(result):
    text = report.text(result)
    for told in (
        "A Processor (virtual), 2 cores", "F, two uncontended two-word swaps: 10.0 ns and 10.5 ns",
        "note: boost is not measured: install it",
        "note: mixed of shmalloc, workers: 2: every slice was disturbed",
        "<= 1.3 F not reached",
    ):  # fmt: skip
        assert told in text


@pytest.mark.parametrize(
    ("dropped", "switches", "crowded", "told"),
    [(3, 4, False, "3"), (0, 0, False, "0"), (0, 9, False, "0, 9 switches"), (0, 9, True, "9")],
)
def test_a_row_says_how_it_was_disturbed(dropped, switches, crowded, told):
    assert report.disturbed(row(dropped=dropped, switches=switches, crowded=crowded)) == told


def test_markdown_has_a_row_for_each_row(result):
    lines = report.markdown(result).splitlines()
    assert sum(line.startswith("| repeat |") for line in lines) >= 4
    widths = [line.count("|") for line in lines if line.startswith("|")]
    assert widths and 0 not in widths


def test_json_has_everything(result):
    document = json.loads(report.document(result))
    assert document["schema"] == 1 and len(document["rows"]) == 7
    assert document["rows"][0]["f"] == {"low": 1.9, "median": 2.0, "high": 2.1}
    assert document["goals"][0] == {
        "pattern": "repeat", "allocator": "shmalloc", "workers": 1, "goal": "<= 1.3 F",
        "value": 2.0, "reached": False,
    }  # fmt: skip
    assert document["growth"][0]["lines"] == {"repeat": [[16.0, 2.0], [64.0, 2.5]]}


def test_a_page_is_renewed_between_its_lines_only(result):
    before = f"# Mine\n\nold\n\n{page.BEGIN}\n\nfigures\n{END}\nafter\n"
    made = page.renewed(before, result, "speed")
    assert made.startswith(f"# Mine\n\nold\n\n{page.BEGIN}") and made.endswith("\nafter\n")
    assert "pictures/speed.svg" in made and "pictures/speed-growth.svg" in made
    assert "figures\n<!--" not in made
    assert page.renewed(made, result, "speed") == made
    assert set(page.pictures(result, "speed")) == {"speed.svg", "speed-growth.svg"}


PAGE = Path(__file__).parent.parent / "docs" / "performance.md"
FIGURE = re.compile(r"\d[\d.,]*\s?(?:ns|us|ms|s|F|x|%|times)\b")
CHOSEN = ["2 ms", "100 ms"]  # the length of a slice, the time that a lock is kept


def test_the_page_has_its_figures_from_the_command_alone():
    text = PAGE.read_text("utf-8")
    generated = text.partition(page.BEGIN)[2].partition(END)[0]
    for part in ("## Goals", "### Compiled loops", "### Calls from Python", "## How cost grows"):
        assert part in generated
    by_hand = refreshed(text, page.BEGIN, "")
    assert [figure for figure in FIGURE.findall(by_hand) if figure not in CHOSEN] == []


@pytest.mark.parametrize(("suffix", "magic"), [(".svg", b"<?xml"), (".png", b"\x89PNG")])
def test_a_picture_is_made_in_both_formats_and_always_the_same(result, suffix, magic):
    assert plot.drawn(result, suffix).startswith(magic)
    assert plot.drawn(result, suffix) == plot.drawn(result, suffix)


def test_a_picture_of_nothing_is_one():
    assert plot.drawn(Result(MACHINE, 21), ".svg").startswith(b"<?xml")


def test_the_name_of_the_processor_is_found():
    assert processor_in("processor : 0\nmodel name\t: A  Chip\nflags : a b\n") == "A Chip"
    assert processor_in("CPU implementer : 0x41\n") == ""
    assert str(MACHINE).startswith("A Processor (virtual), 2 cores, 8GiB, Linux 6.1.0, Python 3.11")
    assert not MACHINE.busy

"""How long calls take: what workers count in the segment, and what the controller makes of it."""

import time

import pytest

from shmalloc import constants as c
from shmalloc.dialect import kernel
from shmalloc.engine import get_engine
from shmalloc.layout import Geometry, ZoneSpec
from shmalloc.memory import Ram
from shmalloc.segment import Segment
from stress import explore
from stress.machine.program import Program
from stress.run import histogram
from stress.run.latencies import Latencies, Reading, ns_per_tick, read_clocks, row_name
from stress.run.memory import RunMemory
from stress.spec import RunSpec, Zone
from stress.workloads import latency
from stress.workloads.latency import (
    BUCKETS,
    L_ALLOC_PAGES,
    L_FREE_PAGES,
    LATENCY_WORDS,
    SAMPLE_EVERY,
    bucket_of,
    clock_of,
    clock_of_some,
    count,
    note,
)

GEOMETRY = Geometry(
    zones=(ZoneSpec(64),), cpus=2, max_order=4, pageblock_order=3, latency_words=LATENCY_WORDS
)


@pytest.fixture
def segment():
    with Segment.create(GEOMETRY, None, False, "interpreted") as segment:
        yield segment


@pytest.fixture
def latencies(segment):
    found = Latencies(segment.ram, segment.layout, "interpreted", 2)
    found.start()
    return found


@kernel
def found_bucket(mem, ns: int) -> int:
    return bucket_of(ns)


@kernel
def sampled(mem, numbers: int) -> int:
    """How many of the numbers below ``numbers`` are timed."""
    timed = 0
    for number in range(numbers):
        if clock_of_some(mem, number, SAMPLE_EVERY) != 0:
            timed += 1
    return timed


def test_the_kernel_finds_the_bucket_that_the_histogram_means(engine):
    find, ram = engine.bind(found_bucket), Ram.of_words(16)
    for ns in [*range(300), *(1 << k for k in range(62)), *((1 << k) - 1 for k in range(62))]:
        assert find(ram, ns) == histogram.bucket_of(ns)


def test_both_files_have_the_same_buckets():
    assert (BUCKETS, latency.STEP_BITS) == (histogram.BUCKETS, histogram.STEP_BITS)


def test_a_call_is_counted_in_the_row_of_its_operation_and_its_outcome(segment, latencies):
    note(segment.ram, 0, L_ALLOC_PAGES, clock_of(segment.ram), 7)
    note(segment.ram, 1, L_ALLOC_PAGES, clock_of(segment.ram), c.E_NOMEM)
    note(segment.ram, 1, L_FREE_PAGES, clock_of(segment.ram), 0)
    counts = {name: found.count for name, found in latencies.total().items()}
    assert counts == {"alloc_pages": 1, "alloc_pages failed": 1, "free_pages": 1}


def test_the_slots_add_up_and_the_longest_call_stands(segment, latencies):
    for cpu, ns in ((0, 100), (0, 5000), (1, 70)):
        count(segment.ram, cpu, 0, ns)
    found = latencies.total()[row_name(0)]
    assert found.count == 3 and 4990 <= found.max_ns <= 5010


def test_a_clock_that_went_back_counts_as_no_time(segment, latencies):
    count(segment.ram, 0, 0, -50)
    assert latencies.total()["alloc_pages"].percentile(50) == 0


def test_a_duration_beyond_the_scale_is_the_longest_that_it_has(segment, latencies):
    count(segment.ram, 0, 0, 1 << 62)
    found = latencies.total()["alloc_pages"]
    assert found.count == 1 and found.max_ns > 1 << 40


def test_nothing_counts_before_the_calibration(segment):
    latencies = Latencies(segment.ram, segment.layout, "interpreted", 2)
    note(segment.ram, 0, L_ALLOC_PAGES, clock_of(segment.ram), 0)
    assert latencies.total() == {}


def test_no_clock_is_read_in_a_segment_without_the_region():
    geometry = Geometry(zones=(ZoneSpec(64),), max_order=4, pageblock_order=3)
    with Segment.create(geometry, None, False, "interpreted") as segment:
        assert clock_of(segment.ram) == 0 and sampled(segment.ram, 10 * SAMPLE_EVERY) == 0


def test_the_sample_has_its_share_of_the_calls(engine, segment):
    """Of consecutive numbers, the hash leaves none of its parts out for long."""
    sample = engine.bind(sampled)
    for calls in (20, 100):
        found = sample(segment.ram, calls * SAMPLE_EVERY)
        assert abs(found - calls) <= 2


def test_the_scale_is_that_of_two_readings():
    assert ns_per_tick(Reading(100, 1000), Reading(400, 1100)) == pytest.approx(1 / 3)
    assert ns_per_tick(Reading(100, 1000), Reading(100, 1100)) == 0.0


def test_a_reading_is_the_one_that_took_the_least_time():
    ticks = iter(range(1000))
    assert 0 <= read_clocks(lambda: next(ticks)).ticks < 16


def test_the_native_clock_is_calibrated_to_real_nanoseconds(segment):
    """Judged by the other clock of the system, over the time of the calibration itself."""
    latencies = Latencies(segment.ram, segment.layout, "native", 2)
    began_ns, began = time.perf_counter_ns(), get_engine("native").call(latency.clock, segment.ram)
    latencies.start()
    ticks = get_engine("native").call(latency.clock, segment.ram) - began
    ns = time.perf_counter_ns() - began_ns
    count(segment.ram, 0, 0, ticks)
    assert latencies.total()["alloc_pages"].max_ns == pytest.approx(ns, rel=0.01)


@kernel
def timed_write(mem, cpu) -> int:
    """Clock, shared write, clock, as a workload does it; the parts of the CPUs are their own."""
    began = clock_of(mem)
    mem[SHARED] = cpu
    note(mem, cpu, L_ALLOC_PAGES, began, 0)
    return began


@kernel
def bare_write(mem, cpu) -> int:
    mem[SHARED] = cpu
    return 0


SHARED = 10
REGION = 64


def explored(thread):
    scales = [(REGION + cpu * LATENCY_WORDS + word, 1 << 20) for cpu in (0, 1) for word in (0, 1)]
    program = Program(
        "timed",
        words=REGION + 2 * LATENCY_WORDS,
        threads=[thread, thread],
        init=[(c.H_AT_LATENCY, REGION), *scales],
        observe=[("r", 0), ("r", 1), SHARED],
    )
    return explore(program, "dpor", races=False, engine="interpreted")


def test_a_clock_gives_the_explorer_no_more_classes_of_schedules():
    timed, bare = explored(timed_write), explored(bare_write)
    assert timed.schedules == bare.schedules == 2


def test_a_schedule_has_the_same_clock_whenever_it_runs():
    first, again = explored(timed_write), explored(timed_write)
    assert first.outcomes == again.outcomes and len(first.outcomes) == 2


def test_what_a_dead_worker_counted_is_there_in_the_next_life_of_its_slot():
    spec = RunSpec(("churn",), 2, (Zone(8 << 20),), engine="interpreted")
    with RunMemory(spec) as memory:
        memory.latencies.start()
        count(memory.ram, 1, 0, 100)
        memory.prepare_area(1, "churn", 0, life=1)
        count(memory.ram, 1, 0, 100)
        assert memory.latencies.total()["alloc_pages"].count == 2


def test_the_rate_of_the_counter_is_left_for_the_oracles(segment, latencies):
    # Interpreted kernels count nanoseconds.
    assert segment.ram[c.H_CLOCK_KHZ] == pytest.approx(1_000_000, rel=0.05)

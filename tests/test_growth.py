"""Growth that does not end is found in any process; warm-up, noise and steps are no growth."""

import os
import random

import pytest

from stress.run.growth import (
    DESCRIPTOR_FLOOR,
    FEWEST,
    KEPT,
    MEMORY_FLOOR_BYTES,
    WARM_UP_S,
    GrowthWatch,
    growth_of,
)
from stress.run.process_use import ProcessUse, use_of
from support.runs import ROOT, shmstress

MIB = 1 << 20
LEVEL = 30 * MIB
SECONDS = 60
RUN = ("run", "--workload", "churn", "--workers", "2", "--ram", "32MiB", "--duration", "4s")

# Put into a directory of PYTHONPATH: every process that the forkserver forks leaks in a thread. The
# controller looks more often, so that the test does not have to wait for it.
LEAKING = """
import os, threading, time
from stress.run import growth, process_use

growth.WARM_UP_S = 0.3
process_use.LOOK_EVERY_S = 0.1

def leak():
    kept = []
    while True:
        kept.append((b"x" * (1 << 19), os.dup(2)))
        time.sleep(0.02)

os.register_at_fork(after_in_child=lambda: threading.Thread(target=leak, daemon=True).start())
"""


def found(values, floor=MEMORY_FLOOR_BYTES):
    """The growth of a series with a sample each second."""
    return growth_of(range(len(values)), values, floor)


def noise(seed, bytes_):
    draw = random.Random(seed)
    return [draw.gauss(0, bytes_) for _ in range(SECONDS)]


def steps(count, seconds=SECONDS):
    """``count`` steps of 20 MiB at even distances."""
    return [LEVEL + 20 * MIB * (i * (count + 1) // seconds) for i in range(seconds)]


@pytest.mark.parametrize("seconds", [5, 20, 60, 3600])
def test_a_flat_series_does_not_grow(seconds):
    assert found([LEVEL] * seconds) is None


@pytest.mark.parametrize("rate", [MIB, MIB // 4])
def test_a_leak_grows_by_its_rate(rate):
    growth = found([LEVEL + rate * i for i in range(SECONDS)])
    assert growth is not None
    assert growth.amount / growth.span_s == pytest.approx(rate)


@pytest.mark.parametrize("seed", range(20))
def test_a_leak_is_found_beneath_noise(seed):
    values = [LEVEL + MIB * i + more for i, more in enumerate(noise(seed, 4 * MIB))]
    assert found(values) is not None


@pytest.mark.parametrize("bytes_", [MIB, 8 * MIB, 40 * MIB])
@pytest.mark.parametrize("seed", range(40))
def test_noise_does_not_grow(seed, bytes_):
    assert found([LEVEL + more for more in noise(seed, bytes_)]) is None


@pytest.mark.parametrize("seconds", [20, 61, 600])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_few_steps_are_no_growth(count, seconds):
    assert found(steps(count, seconds)) is None


def test_many_steps_are_growth():
    assert found(steps(12)) is not None


@pytest.mark.parametrize("seed", range(10))
def test_a_step_beneath_noise_is_no_growth(seed):
    values = [a + b for a, b in zip(steps(1), noise(seed, 2 * MIB), strict=True)]
    assert found(values) is None


def test_what_goes_up_and_down_does_not_grow():
    assert found([LEVEL + 20 * MIB * (i % 10) / 10 for i in range(SECONDS)]) is None


def test_growth_below_the_floor_is_none():
    assert found([LEVEL + MEMORY_FLOOR_BYTES / 2 * i / SECONDS for i in range(SECONDS)]) is None


def test_the_bound_of_a_large_process_is_a_share_of_its_level():
    assert found([1000 * MIB + 20 * MIB * i / SECONDS for i in range(SECONDS)]) is None
    assert found([1000 * MIB + 99 * MIB * i / SECONDS for i in range(SECONDS)]) is not None


def test_a_warm_up_does_not_count():
    rising = int(WARM_UP_S)
    values = [LEVEL * min(i, rising) / rising for i in range(SECONDS)]
    assert found(values) is None


def test_a_few_samples_tell_nothing():
    assert found([LEVEL + 10 * MIB * i for i in range(int(WARM_UP_S) + FEWEST - 1)]) is None
    assert found([]) is None


def test_one_wild_sample_hides_no_leak():
    values = [LEVEL + MIB * i for i in range(SECONDS)]
    values[30] = 500 * MIB
    assert found(values) is not None


def use(pid, private=LEVEL, fds=12, cpu_s=1.0, role="worker 0"):
    return ProcessUse(pid, role, 2 * private, private, private, fds, 1, cpu_s)


def watched(seconds, of):
    """A watch that saw what ``of`` says for each second."""
    watch = GrowthWatch()
    for second in range(seconds):
        watch.see(float(second), of(second))
    return watch


def test_a_leak_is_told_once_with_process_amount_and_time():
    watch = watched(SECONDS, lambda i: (use(7, LEVEL + MIB * i), use(8)))
    (violation,) = watch.violations()
    assert violation.invariant == "X_MEMORY_GROWTH" and violation.where == "worker 0 (pid 7)"
    assert violation.expected == "less than 4.0 MiB more, whatever the time"
    assert violation.found.startswith("5") and " MiB more in 5" in violation.found
    assert watch.violations() == []


def test_descriptors_that_stay_open_are_told():
    watch = watched(SECONDS, lambda i: (use(7, fds=12 + i),))
    (violation,) = watch.violations()
    assert violation.invariant == "X_DESCRIPTOR_GROWTH"
    assert f"less than {DESCRIPTOR_FLOOR} descriptors more" in violation.expected


def test_a_process_that_is_gone_is_forgotten():
    watch = watched(SECONDS, lambda i: (use(7, LEVEL + MIB * i),) if i < 59 else ())
    assert watch.violations() == []


def test_another_process_of_the_same_pid_starts_anew():
    """Each lives for ten seconds and is larger than the one before."""
    watch = watched(SECONDS, lambda i: (use(7, LEVEL + i // 10 * 50 * MIB, cpu_s=i % 10),))
    assert watch.violations() == []


def test_hours_are_kept_in_little_memory_and_still_seen():
    watch = watched(20 * KEPT, lambda i: (use(7, LEVEL + i * 2048),))
    (series,) = watch._series.values()
    assert len(series.times_s) <= KEPT and watch.violations()


def test_a_thinned_series_stays_even():
    watch = watched(5 * KEPT, lambda i: (use(7),))
    (series,) = watch._series.values()
    gaps = {b - a for a, b in zip(series.times_s, series.times_s[1:], strict=False)}
    assert len(gaps) == 1


def test_the_same_measurement_twice_is_one_sample():
    watch, uses = GrowthWatch(), (use(7),)
    for second in range(5):
        watch.see(float(second), uses)
    (series,) = watch._series.values()
    assert len(series.times_s) == 1


def test_the_segment_is_no_private_memory():
    """A megabyte of our own counts, one of shared memory does not."""
    import mmap

    before = use_of(os.getpid(), "test")
    shared = mmap.mmap(-1, 64 * MIB)
    shared.write(b"x" * (64 * MIB))
    between = use_of(os.getpid(), "test")
    own = b"x" * (32 * MIB)
    after = use_of(os.getpid(), "test")
    assert between.private_bytes - before.private_bytes < 8 * MIB < len(own)
    assert after.private_bytes - between.private_bytes > 24 * MIB
    shared.close()


def test_a_process_that_is_gone_uses_nothing():
    assert use_of(2**22 - 1, "gone") is None


def test_leaks_planted_in_real_workers_end_the_run_as_violations(tmp_path):
    """End to end: worker processes that leak memory and descriptors beside their work."""
    (tmp_path / "sitecustomize.py").write_text(LEAKING)
    run = shmstress(*RUN, PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}")
    print(run.stdout, run.stderr)
    memory, descriptors = [x for x in run.stdout.splitlines() if x.startswith("!!! X_")]
    assert run.returncode == 1
    assert "X_MEMORY_GROWTH: a process of a run" in memory and "MiB more in" in memory
    assert "X_DESCRIPTOR_GROWTH: a process" in descriptors and "descriptors more in" in descriptors
    assert all("at worker " in line for line in (memory, descriptors))

"""Latency histograms: buckets cover every duration once, percentiles bound it, nothing is lost."""

import random

import pytest

from stress.run.histogram import BUCKETS, STEPS, Histogram, bounds_of, bucket_of


def test_the_buckets_cover_every_duration_once_and_in_order():
    expected = 0
    for bucket in range(BUCKETS):
        low, high = bounds_of(bucket)
        assert low == expected and bucket_of(low) == bucket_of(high) == bucket
        expected = high + 1
    assert expected == 1 << 40


def test_a_bucket_is_never_wider_than_a_share_of_its_durations():
    for bucket in range(STEPS, BUCKETS):
        low, high = bounds_of(bucket)
        assert (high - low + 1) * STEPS <= low


@pytest.mark.parametrize("ns", [1 << 40, 1 << 62])
def test_a_duration_beyond_all_buckets_is_in_the_last_one(ns):
    histogram = Histogram()
    histogram.add(ns)
    assert histogram.counts[BUCKETS - 1] == 1 and histogram.max_ns == ns


@pytest.mark.parametrize("q", [50, 90, 99, 99.9, 100])
def test_a_percentile_is_at_most_a_bucket_above_the_true_one(q):
    draw = random.Random(int(q * 10))
    durations = sorted(int(draw.lognormvariate(6, 2)) for _ in range(10_000))
    histogram = Histogram()
    for ns in durations:
        histogram.add(ns)
    true = durations[int(q * 100) - 1]
    assert true <= histogram.percentile(q) <= max(true + 1, true * (1 + 1 / STEPS))


def test_no_percentile_exceeds_the_longest_call():
    histogram = Histogram()
    histogram.add(1000, 3)
    assert [histogram.percentile(q) for q in (50, 99.9, 100)] == [1000] * 3


def test_an_empty_histogram_has_zero_percentiles():
    assert Histogram().percentile(99) == Histogram().mean_ns == Histogram().count == 0


def test_a_sum_has_the_calls_of_both():
    one, other = Histogram(), Histogram()
    one.add(5, 2)
    other.add(7000)
    both = one + other
    assert (both.count, both.max_ns, one.count) == (3, 7000, 2)
    assert both.percentile(50) == 5


def test_a_histogram_survives_the_way_through_json():
    histogram = Histogram()
    for ns in (0, 1, 40, 100_000, 1 << 45):
        histogram.add(ns, ns % 7 + 1)
    assert Histogram.from_dict(histogram.as_dict()) == histogram


def test_the_mean_is_near_the_true_one():
    histogram = Histogram()
    for ns in range(1, 2001):
        histogram.add(ns)
    assert abs(histogram.mean_ns - 1000.5) < 1000.5 / STEPS

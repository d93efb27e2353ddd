"""Long series reduced to columns: nothing a picture could show is lost, nothing is invented."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stress.report.page.cells import free_blocks
from stress.report.page.thin import Line, columns_of, thinned

END_S = 1000.0
COLUMNS = 10
# Whole values; None is a gap.
series = st.lists(st.one_of(st.none(), st.integers(0, 99)), min_size=1, max_size=400)


def line_of(values):
    numbers = np.array([np.nan if value is None else float(value) for value in values])
    return Line("x", np.linspace(0, END_S, len(values)), numbers)


def pixels(line):
    """Per column the least, the greatest, the first and the last value: what a picture shows."""
    found = {}
    for at_s, value in zip(line.times_s, line.values, strict=True):
        if not np.isnan(value):
            column = min(int(at_s / END_S * COLUMNS), COLUMNS - 1)
            found.setdefault(column, []).append(value)
    return {at: (min(all_), max(all_), all_[0], all_[-1]) for at, all_ in found.items()}


@settings(deadline=None)
@given(series)
def test_a_thinned_line_covers_the_same_pixels(values):
    line = line_of(values)
    less = thinned(line, 0.0, END_S, COLUMNS)
    assert pixels(less) == pixels(line)


@settings(deadline=None)
@given(series)
def test_a_thinned_line_has_few_samples_and_only_measured_ones(values):
    line = line_of(values)
    less = thinned(line, 0.0, END_S, COLUMNS)
    assert len(less.times_s) <= 6 * COLUMNS  # and a gap before and behind in each
    measured = {(t, v) for t, v in zip(line.times_s, line.values, strict=True) if not np.isnan(v)}
    kept = {(t, v) for t, v in zip(less.times_s, less.values, strict=True) if not np.isnan(v)}
    assert kept <= measured


@settings(deadline=None)
@given(series)
def test_each_column_tells_its_least_and_its_greatest_value(values):
    line = line_of(values)
    told = columns_of(line, 0.0, END_S, COLUMNS)
    seen = {
        at: (least, greatest)
        for at, (least, greatest) in enumerate(zip(told.least, told.greatest, strict=True))
        if not np.isnan(least)
    }
    assert seen == {at: value[:2] for at, value in pixels(line).items()}


def test_a_peak_of_one_sample_in_eight_hours_is_kept():
    values = np.ones(28_800)
    values[12_345] = 77.0
    less = thinned(Line("x", np.arange(28_800.0), values), 0.0, 28_800.0, 400)
    assert less.times_s[less.values == 77.0].tolist() == [12_345.0]
    assert len(less.times_s) <= 4 * 400


@pytest.mark.parametrize("gap", [5_000, 14_399, 14_400])
def test_a_gap_wider_than_a_column_stays_a_gap(gap):
    values = np.ones(28_800)
    values[gap : gap + 300] = np.nan
    less = thinned(Line("x", np.arange(28_800.0), values), 0.0, 28_800.0, 400)
    inside = (less.times_s >= gap) & (less.times_s < gap + 300)
    assert np.isnan(less.values[inside]).all() and inside.any()


def test_a_state_stands_until_the_next_one_or_the_end_of_its_round():
    found = [(0.0, (1,)), (100.0, (2,)), (200.0, ()), (300.0, (3,)), (301.0, ())]
    grid = free_blocks(found, 400.0)
    shown = {at: grid.cells[0, at] for at in (0, 99, 100, 199, 250, 300, 302, 399)}
    nothing = [at for at, value in shown.items() if np.isnan(value)]
    assert nothing == [250, 302, 399]
    assert [shown[at] for at in (0, 99, 100, 199, 300)] == [1, 1, 2, 2, 3]

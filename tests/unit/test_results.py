"""What many calls came to, against the statistics of all of them."""

from __future__ import annotations

import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.client.results import Tally

TIMES = st.lists(st.floats(0.001, 60_000), min_size=2, max_size=60)


def of(times_ms: list[float]) -> Tally:
    tally = Tally()
    for each in times_ms:
        tally.ended("ok", each)
    return tally


@given(TIMES)
def test_figures_are_those_of_all_calls(times_ms: list[float]):
    """
    Exact where that costs nothing; percentiles by the nearest rank, at most 0.8 % too high.
    """
    results = of(times_ms).results()

    assert results.calls == len(times_ms)
    assert (results.min_ms, results.max_ms) == (min(times_ms), max(times_ms))
    assert results.mean_ms == pytest.approx(statistics.fmean(times_ms))
    assert results.stdev_ms == pytest.approx(statistics.stdev(times_ms), rel=1e-6, abs=1e-6)
    assert results.cv == pytest.approx(results.stdev_ms / results.mean_ms)
    ordered = sorted(times_ms)
    found = {50: results.p50_ms, 95: results.p95_ms, 99: results.p99_ms}
    for percent, value in found.items():
        exact = ordered[math.ceil(percent / 100 * len(ordered)) - 1]
        # A nanosecond, where times are as short as that.
        assert exact - 2e-6 <= value <= exact * 1.008 + 2e-6
    assert results.median_ms == results.p50_ms


def test_without_calls_there_is_nothing_to_say():
    """
    Not even 0.
    """
    results = Tally().results()

    assert results.calls == 0
    assert [results.mean_ms, results.median_ms, results.min_ms, results.max_ms] == [None] * 4
    assert [results.stdev_ms, results.p95_ms, results.p99_ms, results.cv] == [None] * 4


def test_one_call_has_no_deviation():
    """
    All the rest it has.
    """
    results = of([5.0]).results()

    assert (results.mean_ms, results.min_ms, results.max_ms, results.p99_ms) == (5, 5, 5, 5)
    assert (results.stdev_ms, results.cv) == (None, None)


def test_small_deviations_of_long_times_are_not_lost():
    """
    Sums of squares would lose them.
    """
    times_ms = [1e6 + n * 1e-3 for n in range(100)]

    assert of(times_ms).results().stdev_ms == pytest.approx(statistics.stdev(times_ms), rel=1e-3)

"""Durations in buckets, against a list of all of them."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise

import pytest
from hdrh.histogram import HdrHistogram
from hypothesis import example, given, settings
from hypothesis import strategies as st

from harness.errors import InvalidValue
from harness.resilience.hdr import encoded
from harness.resilience.histogram import LIMIT_NS, SIZE, Distribution, Histogram, bounds_ns

RANKS = (0, 0.1, 25, 50, 90, 99.9, 100)

durations = st.one_of(
    st.integers(0, 300),
    st.integers(0, LIMIT_NS - 1),
    # Around the ends of octaves.
    st.builds(lambda bits, by: max(0, (1 << bits) + by), st.integers(0, 42), st.integers(-2, 2)),
)
many = st.lists(durations, min_size=1, max_size=60)


def histogram(values: list[int]) -> Histogram:
    made = Histogram()
    for value in values:
        made.record(value)
    return made


def at_rank(values: list[int], percent: float) -> int:
    rank = math.ceil(Fraction(str(percent)) * len(values) / 100)
    return sorted(values)[max(1, rank) - 1]


def test_buckets_follow_each_other_without_a_gap_and_are_narrow():
    """
    Each begins where the one before ended, and its ends are 0.8 % apart at most.
    """
    ends = [bounds_ns(index) for index in range(SIZE)]

    assert ends[0] == (0, 0)
    assert all(low == before + 1 for (_, before), (low, _) in pairwise(ends))
    assert all(high - low <= 0.008 * low for low, high in ends)
    assert ends[-1][1] == LIMIT_NS - 1


def test_every_end_of_a_bucket_is_counted_in_it():
    """
    Where a value is counted agrees with what the bucket is said to hold.
    """
    for index in range(0, SIZE, 61):
        assert histogram([*bounds_ns(index)]).snapshot().buckets == ((index, 2),)

    every = histogram([end for index in range(SIZE) for end in bounds_ns(index)])
    assert every.snapshot().buckets == tuple((index, 2) for index in range(SIZE))


@settings(max_examples=60)
@given(many)
def test_a_percentile_is_in_the_bucket_of_the_value_of_that_rank(values: list[int]):
    """
    Never below that value, at most 0.8 % above it.
    """
    taken = histogram(values).snapshot()

    for percent in RANKS:
        value, found = at_rank(values, percent), taken.percentile(percent)
        assert found is not None
        assert value <= found <= value * 1.008


@settings(max_examples=40)
@given(many, many)
def test_merged_histograms_are_that_of_all_values_in_any_order(one: list[int], other: list[int]):
    """
    Exactly, whichever is merged into which; so is a merged snapshot.
    """
    whole = histogram(sorted(one + other))
    forth, back, from_values = histogram(one), histogram(other), histogram(one)

    forth.merge(histogram(other))
    back.merge(histogram(one))
    from_values.merge(histogram(other).snapshot())

    assert forth == back == from_values == whole


@settings(max_examples=40)
@given(many)
def test_count_sum_mean_and_ends_are_those_of_the_values(values: list[int]):
    """
    Count, sum and mean are exact; the ends are those of the outermost buckets.
    """
    taken = histogram(values).snapshot()

    assert (taken.count, taken.total_ns) == (len(values), sum(values))
    assert taken.mean_ns == sum(values) / len(values)
    assert taken.low_ns is not None
    assert taken.high_ns is not None
    assert min(values) / 1.008 <= taken.low_ns <= min(values)
    assert max(values) <= taken.high_ns <= max(values) * 1.008


@settings(max_examples=40)
@given(many)
def test_counts_below_powers_of_two_are_exact(values: list[int]):
    """
    A bucket begins there.
    """
    bounds = [1 << bits for bits in range(43)]

    below = histogram(values).snapshot().counts_below(bounds)

    assert below == [sum(value < bound for value in values) for bound in bounds]


def test_an_empty_one_has_no_percentile_no_mean_and_no_ends():
    """
    Nothing is made up.
    """
    empty = Histogram().snapshot()

    assert empty == Distribution()
    assert (empty.count, empty.percentile(50), empty.mean_ns) == (0, None, None)
    assert (empty.low_ns, empty.high_ns, Histogram().percentile(99)) == (None, None, None)


@pytest.mark.parametrize("percent", [-0.1, 100.1, math.nan])
def test_a_percentile_out_of_range_is_refused(percent: float):
    """
    A share of more than all is a mistake of whoever asks, also where nothing was recorded.
    """
    with pytest.raises(InvalidValue, match="expected 0 to 100"):
        Histogram().percentile(percent)


def test_a_percentile_is_taken_as_it_is_written():
    """
    99.9 % of 1000 values are 999 of them, although the float is a little more.
    """
    assert histogram([1] * 999 + [200]).percentile(99.9) == 1


@pytest.mark.parametrize(("percent", "value"), [(0, 0), (25, 63), (50, 127), (75, 191), (100, 255)])
def test_a_percentile_is_exact_where_each_value_has_a_bucket(percent: float, value: int):
    """
    Of 0 to 255, by nearest rank.
    """
    assert histogram(list(range(256))).percentile(percent) == value


def test_what_is_too_long_is_in_the_last_bucket_and_told():
    """
    Its sum stays exact.
    """
    made = histogram([LIMIT_NS - 1, LIMIT_NS, 1 << 90])

    taken = made.snapshot()
    assert taken.buckets == ((SIZE - 1, 3),)
    assert taken.overflows == 2
    assert taken.total_ns == 2 * LIMIT_NS - 1 + (1 << 90)


@pytest.mark.parametrize("value", [-1, -255, -256, -1_234_567, -(1 << 90)])
def test_what_is_negative_counts_as_0_and_is_told(value: int):
    """
    A clock that jumped back takes nothing from the sum.
    """
    taken = histogram([value, 10]).snapshot()

    assert taken.buckets == ((0, 1), (10, 1))
    assert (taken.negatives, taken.total_ns, taken.overflows) == (1, 10, 0)


def test_merged_histograms_have_the_odd_values_of_both():
    """
    Those below 0, and those that were too long.
    """
    made = histogram([-1, -2, LIMIT_NS])

    made.merge(histogram([-3, LIMIT_NS, LIMIT_NS]))

    assert (made.negatives, made.overflows) == (3, 3)
    assert made == histogram([-1, -2, -3, LIMIT_NS, LIMIT_NS, LIMIT_NS])


def test_a_snapshot_does_not_change_by_later_records():
    """
    Nor by a merge.
    """
    made = histogram([5])
    taken = made.snapshot()

    made.record(5)
    made.merge(histogram([7]))

    assert taken.buckets == ((5, 1),)
    assert made != histogram([5])


@settings(max_examples=8)
@example([5, 5, 5, 10**9, 10**9])
@given(st.lists(durations, max_size=30))
def test_hdrhistogram_reads_the_same_counts_and_quantiles_within_a_bucket(values: list[int]):
    """
    Decoded by HdrHistogram's own library.
    """
    taken = histogram(values).snapshot()

    read = HdrHistogram.decode(encoded(taken))

    assert read.get_total_count() == len(values)
    found = [
        (index, read.get_count_at_value(sum(bounds_ns(index)) // 2)) for index, _ in taken.buckets
    ]
    assert tuple(found) == taken.buckets
    for rank, value in enumerate(sorted(values), 1):
        ((index, _),) = histogram([value]).snapshot().buckets
        low, high = bounds_ns(index)
        assert low <= read.get_value_at_percentile(100 * rank / len(values)) <= high

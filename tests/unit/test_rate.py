"""The exact interval of a rate, against known values and against the binomial sums themselves."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import InvalidValue
from harness.rate import exact_interval, said

CONFIDENCES = st.floats(0.5, 0.999)
MANY = 100_000


@st.composite
def counts(draw: st.DrawFn, most: int = 400) -> tuple[int, int]:
    """Passed and runs."""
    runs = draw(st.integers(1, most))
    return draw(st.integers(0, runs)), runs


def chance(count: int, runs: int, rate: float) -> float:
    """Of exactly so many, from whole numbers: nothing is shared with what is tested."""
    if rate in (0.0, 1.0):
        return float(count == runs * rate)
    ways = math.log(math.comb(runs, count))
    return math.exp(ways + count * math.log(rate) + (runs - count) * math.log1p(-rate))


@pytest.mark.parametrize(
    ("passed", "runs", "expected"),
    [
        (20, 20, (0.8316, 1.0)),
        (0, 20, (0.0, 0.1684)),
        (18, 20, (0.6830, 0.9877)),
        (0, 1, (0.0, 0.975)),
        (1, 1, (0.025, 1.0)),
    ],
)
def test_known_intervals(passed: int, runs: int, expected: tuple[float, float]):
    """Values from printed tables."""
    assert exact_interval(passed, runs) == pytest.approx(expected, abs=5e-5)


@pytest.mark.parametrize("runs", [1, 2, 20, 1_000, MANY])
def test_where_all_passed_the_lower_end_has_a_closed_form(runs: int):
    """The rate whose power is half of what the confidence leaves."""
    lower, upper = exact_interval(runs, runs)

    assert lower == pytest.approx(0.025 ** (1 / runs), rel=1e-9)
    assert upper == 1.0


@given(counts(), CONFIDENCES)
def test_the_ends_are_where_the_tails_say(count: tuple[int, int], confidence: float):
    """At each end, what was seen or more extreme has half of what the confidence leaves."""
    passed, runs = count
    lower, upper = exact_interval(passed, runs, confidence=confidence)
    alpha = (1 - confidence) / 2

    if passed > 0:
        above = math.fsum(chance(k, runs, lower) for k in range(passed, runs + 1))
        assert above == pytest.approx(alpha, rel=1e-8)
    if passed < runs:
        below = math.fsum(chance(k, runs, upper) for k in range(passed + 1))
        assert below == pytest.approx(alpha, rel=1e-8)


@pytest.mark.parametrize("passed", [1, 10, 30_000, 50_000, 99_000, MANY - 1])
def test_many_runs_are_exact_too(passed: int):
    """At 100000 runs nothing overflows, and the tails still weigh what they must."""
    lower, upper = exact_interval(passed, MANY)

    def log_chance(count: int, rate: float) -> float:
        ways = math.lgamma(MANY + 1) - math.lgamma(count + 1) - math.lgamma(MANY - count + 1)
        return ways + count * math.log(rate) + (MANY - count) * math.log1p(-rate)

    above = math.fsum(math.exp(log_chance(k, lower)) for k in range(passed, MANY + 1))
    below = math.fsum(math.exp(log_chance(k, upper)) for k in range(passed + 1))
    assert (above, below) == pytest.approx((0.025, 0.025), rel=1e-6)


@given(st.integers(1, 40), st.floats(0, 1), CONFIDENCES)
def test_the_true_rate_is_covered_as_often_as_promised(runs: int, rate: float, confidence: float):
    """Summed over all that can be seen at a rate, the intervals that hold it weigh enough."""
    covered = []
    for passed in range(runs + 1):
        lower, upper = exact_interval(passed, runs, confidence=confidence)
        if lower <= rate <= upper:
            covered.append(chance(passed, runs, rate))

    assert math.fsum(covered) >= confidence - 1e-9


@given(counts(), CONFIDENCES)
def test_the_point_estimate_lies_inside(count: tuple[int, int], confidence: float):
    """What was seen is never excluded."""
    passed, runs = count
    lower, upper = exact_interval(passed, runs, confidence=confidence)

    assert 0 <= lower <= passed / runs <= upper <= 1


@given(counts(), CONFIDENCES)
def test_failures_mirror_passes(count: tuple[int, int], confidence: float):
    """Counting failures instead gives the same interval, turned round."""
    passed, runs = count
    lower, upper = exact_interval(passed, runs, confidence=confidence)
    mirrored = exact_interval(runs - passed, runs, confidence=confidence)

    assert (1 - upper, 1 - lower) == pytest.approx(mirrored, abs=1e-12)


@given(counts(), CONFIDENCES)
def test_one_more_pass_moves_both_ends_up(count: tuple[int, int], confidence: float):
    """Of as many runs."""
    passed, runs = count
    if passed == runs:
        passed -= 1
    before = exact_interval(passed, runs, confidence=confidence)
    after = exact_interval(passed + 1, runs, confidence=confidence)

    assert before[0] < after[0]
    assert before[1] < after[1]


@given(counts(), CONFIDENCES, CONFIDENCES)
def test_more_confidence_is_a_wider_interval(count: tuple[int, int], one: float, other: float):
    """It holds the one of less."""
    narrow = exact_interval(*count, confidence=min(one, other))
    wide = exact_interval(*count, confidence=max(one, other))

    assert wide[0] <= narrow[0]
    assert narrow[1] <= wide[1]


@given(st.integers(1, 400))
def test_more_runs_that_all_pass_prove_more(runs: int):
    """The lower end rises with every one."""
    assert exact_interval(runs, runs)[0] < exact_interval(runs + 1, runs + 1)[0]


@pytest.mark.parametrize("confidence", [1e-12, 1 - 1e-15])
def test_extreme_confidences_still_give_an_interval(confidence: float):
    """Narrow or wide, in order, and inside 0 to 1."""
    lower, upper = exact_interval(18, 20, confidence=confidence)

    assert 0 < lower < 0.9 < upper < 1


@pytest.mark.parametrize(
    ("passed", "runs", "row"),
    [
        (0, 0, "runs"),
        (1, -1, "runs"),
        (1, 2.0, "runs"),
        (True, True, "runs"),
        (-1, 5, "passed"),
        (6, 5, "passed"),
        (2.5, 5, "passed"),
        ("3", 5, "passed"),
    ],
)
def test_counts_that_are_none_are_refused(passed: Any, runs: Any, row: str):
    """The row names the argument and what it may be."""
    with pytest.raises(InvalidValue) as refused:
        exact_interval(passed, runs)

    assert [label for label, _ in refused.value.details] == [row]


@pytest.mark.parametrize("confidence", [0.0, 1.0, -0.5, 95, float("nan"), "0.95"])
def test_a_confidence_out_of_range_is_refused(confidence: Any):
    """Percentages and certainty included."""
    with pytest.raises(InvalidValue, match="confidence"):
        exact_interval(18, 20, confidence=confidence)


@pytest.mark.parametrize(
    ("passed", "runs", "sentence"),
    [
        (18, 20, "18 of 20 (90 %; exact 95 % interval 68.3 % to 98.8 %)"),
        (20, 20, "20 of 20 (100 %; exact 95 % interval 83.1 % to 100 %)"),
        (0, 20, "0 of 20 (0 %; exact 95 % interval 0 % to 16.9 %)"),
        (1, 3, "1 of 3 (33.3 %; exact 95 % interval 0.8 % to 90.6 %)"),
    ],
)
def test_what_is_said(passed: int, runs: int, sentence: str):
    """Counts first; one digit behind the point, where it is needed."""
    assert said(passed, runs) == sentence


@pytest.mark.parametrize(
    ("passed", "words"), [(1, "(under 0.1 %;"), (MANY - 1, "(over 99.9 %;"), (100, "(0.1 %;")]
)
def test_some_is_never_said_to_be_none_or_all(passed: int, words: str):
    """Rounding makes no certainty."""
    assert words in said(passed, MANY)


@given(counts())
def test_the_interval_said_is_not_narrower_than_the_exact_one(count: tuple[int, int]):
    """Rounded outwards, so that nothing is claimed that was not proven."""
    lower, upper = exact_interval(*count)
    found = re.search(r"interval (.+) % to (.+) %\)$", said(*count))

    assert found is not None
    assert float(found[1]) <= 100 * lower + 1e-9
    assert 100 * upper - 1e-9 <= float(found[2])

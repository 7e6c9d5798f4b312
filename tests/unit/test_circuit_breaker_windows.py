"""
A breaker's windows against lists: what they hold after each call, and what they say of it.

The windows keep running totals; the lists are counted anew each time.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.resilience.breaker import BreakerSettings
from harness.resilience.breaker.windows import CountWindow, Rates, TimeWindow, Window, window_of

NEVER = Rates(minimum_calls=10**6, failure_rate=1, slow_call_rate=None)
# Back and forth over the ends of a part of one second and a window of five.
STEPS_S = [0, 0, 0.25, 0.75, 1, 3, 4, 4.75, 5, 6, 30, -0.25, -1, -4, -5, -6, -30]


def sums(ends: list[tuple[bool, bool]]) -> tuple[int, int, int]:
    return len(ends), sum(failed for failed, _ in ends), sum(slow for _, slow in ends)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=30), st.integers(1, 6))
def test_a_count_window_holds_the_last_calls(ends: list[tuple[bool, bool]], calls: int):
    """
    Calls, failures and slow ones are those of the last so many, whatever came before.
    """
    window = CountWindow(NEVER, calls=calls)

    for n, (failed, slow) in enumerate(ends, 1):
        window.record(0.0, failed=failed, slow=slow)
        assert window.counts == sums(ends[:n][-calls:])


@given(
    st.lists(st.tuples(st.sampled_from(STEPS_S), st.booleans(), st.booleans()), max_size=40),
    st.sampled_from([-2.5, 0.0, 1000.0]),
)
def test_a_time_window_holds_the_last_parts(ends: list[tuple[float, bool, bool]], now_s: float):
    """
    A call leaves with its second. Going back by less than the window it counts with the newest,
    going back by more it is the first; and there are never more parts than the window has.
    """
    window = TimeWindow(NEVER, window_s=5, parts=5)
    held: list[tuple[int, bool, bool]] = []

    for step_s, failed, slow in ends:
        now_s += step_s
        second = int(now_s // 1)
        if held and second <= held[-1][0] - 5:
            held = []
        second = max(second, held[-1][0]) if held else second
        held = [each for each in held if each[0] > second - 5] + [(second, failed, slow)]
        window.record(now_s, failed=failed, slow=slow)
        assert window.counts == sums([each[1:] for each in held])
        assert len(window._kept) == len({each[0] for each in held}) <= 5


@pytest.mark.parametrize("policy", ["count_window", "time_window"])
def test_a_window_has_the_bounds_of_the_settings(policy: Any):
    """
    At its own number of calls, or seconds in tenths, the first call leaves it; not before.
    """
    window = window_of(
        BreakerSettings(policy=policy, window_calls=30, window_s=30, minimum_calls=30)
    )
    assert window is not None

    for second in range(30):
        window.record(second, failed=second == 0, slow=False)
    assert window.counts == (30, 1, 0)
    window.record(30, failed=False, slow=False)

    # A tenth of the window leaves at once; of calls, one.
    assert window.counts == ((30, 0, 0) if policy == "count_window" else (28, 0, 0))


@pytest.mark.parametrize(
    ("calls", "failed", "slow", "why"),
    [
        (9, 9, 9, None),
        (10, 4, 2, None),
        (10, 5, 0, "5 of 10 calls failed"),
        (10, 5, 3, "5 of 10 calls failed"),
        (10, 4, 3, "3 of 10 calls were slow"),
        (100, 49, 29, None),
        (100, 0, 30, "30 of 100 calls were slow"),
    ],
)
def test_rates_are_shares_of_the_calls(calls: int, failed: int, slow: int, why: str | None):
    """
    Half of them failed, or three tenths slow; failures are named first.
    """
    rates = Rates(minimum_calls=10, failure_rate=0.5, slow_call_rate=0.3)

    assert rates.why_open(calls=calls, failed=failed, slow=slow) == why


@pytest.mark.parametrize(("slow_call_s", "why"), [(None, None), (1, "1 of 1 calls were slow")])
def test_without_a_limit_no_call_is_judged_for_being_slow(slow_call_s: Any, why: str | None):
    """
    The rate of slow calls, 1.0 unless it is set, holds where a time is set.
    """
    window: Window | None = window_of(
        BreakerSettings(policy="count_window", minimum_calls=1, slow_call_s=slow_call_s)
    )
    assert window is not None

    assert window.record(0.0, failed=False, slow=True) == why

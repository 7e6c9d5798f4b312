"""Waits between tries, and the budget of repeats."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.clock import Draws
from harness.errors import InvalidValue
from harness.resilience.backoff import Backoff, RetryBudget, RetrySettings

JITTERS: list[Literal["full", "decorrelated", "none"]] = ["full", "decorrelated", "none"]


def backoff(seed: int = 1, path: str = "client-1", **settings: Any) -> Backoff:
    return Backoff(RetrySettings(**settings), draws=Draws(seed, path))


def test_without_jitter_waits_double_up_to_the_cap():
    """
    0.1, 0.2, 0.4 and so on; the cap is kept for ever after, however many there are.
    """
    one = backoff(jitter="none", base_s=0.1, cap_s=1)

    assert [one.next_s() for _ in range(6)] == [0.1, 0.2, 0.4, 0.8, 1, 1]
    for _ in range(2000):
        assert one.next_s() == 1


@given(st.sampled_from(JITTERS), st.integers(0, 2**31), st.integers(1, 40))
def test_no_wait_is_outside_its_bounds(jitter: Any, seed: int, times: int):
    """
    Full jitter from 0 on, decorrelated from the base on, none above its bound or the cap.
    """
    one = backoff(seed, jitter=jitter, base_s=0.1, cap_s=5)

    for _ in range(times):
        bound_s = one.bound_s
        wait_s = one.next_s()
        assert (0 if jitter == "full" else 0.1) <= wait_s <= bound_s <= 5


@pytest.mark.parametrize("jitter", ["full", "decorrelated"])
def test_waits_are_the_seeds_and_the_clients(jitter: Any):
    """
    The same seed and client wait the same; another client, or another seed, otherwise.
    """

    def waits(seed: int, path: str) -> list[float]:
        one = backoff(seed, path, jitter=jitter)
        return [one.next_s() for _ in range(5)]

    assert waits(1, "a") == waits(1, "a")
    assert waits(1, "a") != waits(1, "b")
    assert waits(1, "a") != waits(2, "a")


def test_the_nth_wait_is_the_nth_draw():
    """
    So a run can be told what a client will wait, whatever happened to it before.
    """
    one = backoff(1, "a", base_s=1, cap_s=1000)
    draws = Draws(1, "a")

    assert [one.next_s() for _ in range(5)] == [draws.at(n) * 2**n for n in range(5)]


def test_full_jitter_spreads_a_herd_over_the_whole_wait():
    """
    Of a thousand clients in their fourth wait, every tenth of it has about a hundred.
    """
    tenths = [0] * 10
    for n in range(1000):
        one = backoff(7, f"client-{n}", base_s=1, cap_s=100)
        for _ in range(3):
            one.next_s()
        tenths[int(one.next_s() / 8 * 10)] += 1

    assert all(60 <= count <= 140 for count in tenths)


def test_decorrelated_jitter_grows_from_the_wait_before():
    """
    The bound is three times the last wait, whatever that was.
    """
    one = backoff(3, jitter="decorrelated", base_s=1, cap_s=1000)

    for _ in range(5):
        last_s = one.next_s()
        assert one.bound_s == pytest.approx(max(1, 3 * last_s))


def test_a_connection_alone_ends_no_row_of_failures():
    """
    A daemon that accepts and closes is waited for longer each time.
    """
    one = backoff(jitter="none", base_s=0.1, proof_s=5)

    waits = []
    for n in range(4):
        one.opened(float(n))
        waits.append(one.next_s())

    assert waits == [0.1, 0.2, 0.4, 0.8]


@pytest.mark.parametrize(("answered_s", "next_s"), [(4.999, 0.4), (5.0, 0.1), (5.001, 0.1)])
def test_an_answer_late_enough_proves_a_connection(answered_s: float, next_s: float):
    """
    Before its time it proves nothing: a daemon may die of the first call each time.
    """
    one = backoff(jitter="none", base_s=0.1, proof_s=5)
    one.next_s()
    one.next_s()

    one.opened(100.0)
    one.answered(100.0 + answered_s)

    assert one.next_s() == next_s


def test_an_answer_of_no_connection_proves_nothing():
    """
    The connection it came by has ended.
    """
    one = backoff(jitter="none", base_s=0.1, proof_s=5)
    one.answered(0.0)
    one.opened(0.0)
    one.next_s()

    one.answered(100.0)

    assert one.next_s() == 0.2


def test_a_clock_that_jumps_back_puts_the_proof_off_by_its_time_only():
    """
    It is counted from the jump on.
    """
    one = backoff(jitter="none", base_s=0.1, proof_s=5)
    one.next_s()
    one.opened(1000.0)

    one.answered(10.0)
    assert one.failures == 1
    one.answered(15.0)

    assert one.failures == 0


def test_decorrelated_waits_begin_anew_after_a_proof():
    """
    From the base, as at first.
    """
    one = backoff(3, jitter="decorrelated", base_s=1, cap_s=1000, proof_s=0)
    for _ in range(5):
        one.next_s()

    one.opened(0.0)
    one.answered(0.0)

    assert (one.failures, one.bound_s) == (0, 3)


def test_other_settings_hold_for_the_next_wait():
    """
    The row of failures goes on.
    """
    one = backoff(jitter="none", base_s=0.1)
    one.next_s()

    one.adopt(RetrySettings(jitter="none", base_s=1))

    assert one.next_s() == 2


# ---- the budget


@pytest.mark.parametrize(("repeats", "granted"), [(9, 9), (10, 10), (11, 10), (13, 10)])
def test_a_full_budget_grants_so_many_repeats(repeats: int, granted: int):
    """
    And not one more.
    """
    budget = RetryBudget(RetrySettings(budget=10))

    assert sum(budget.take() for _ in range(repeats)) == granted
    assert (budget.spent, budget.refused) == (granted, repeats - granted)


@pytest.mark.parametrize(("successes", "granted"), [(9, False), (10, True)])
def test_successes_fill_it(successes: int, granted: bool):
    """
    Ten of a tenth make one, exactly.
    """
    budget = RetryBudget(RetrySettings(budget=1, budget_per_success=0.1))
    assert budget.take()

    for _ in range(successes):
        budget.succeeded()

    assert budget.take() is granted


def test_it_holds_no_more_than_its_bound():
    """
    A quiet night saves no storm up for the morning.
    """
    budget = RetryBudget(RetrySettings(budget=2, budget_per_success=1))

    for _ in range(100):
        budget.succeeded()

    assert [budget.take() for _ in range(3)] == [True, True, False]


def test_of_many_failing_calls_a_tenth_is_repeated():
    """
    In a storm the load grows by the budget's share, not by the number of attempts.
    """
    budget = RetryBudget(RetrySettings(budget=10, budget_per_success=0.1))

    repeats = 0
    for call in range(10_000):
        if call % 2:
            budget.succeeded()
        elif budget.take():
            repeats += 1

    assert repeats <= 10 + 5_000 * 0.1


def test_a_smaller_budget_takes_the_rest_away():
    """
    And a larger one is filled by successes.
    """
    budget = RetryBudget(RetrySettings(budget=10))

    budget.adopt(RetrySettings(budget=2))
    assert budget.left == 2
    budget.adopt(RetrySettings(budget=10, budget_per_success=1))
    budget.succeeded()
    assert budget.left == 3


def test_a_cap_below_the_first_wait_is_refused():
    """
    They contradict one another.
    """
    with pytest.raises(InvalidValue, match=r"cap_s +0.05 is less than the first wait, base_s 0.1"):
        RetrySettings(base_s=0.1, cap_s=0.05)
    assert RetrySettings(base_s=1, cap_s=1).cap_s == 1
    with pytest.raises(InvalidValue) as caught:
        RetrySettings(base_s=-1, cap_s=0.05)
    assert [key for key, _ in caught.value.details] == ["base_s"]

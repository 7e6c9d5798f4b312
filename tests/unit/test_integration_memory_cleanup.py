"""Metrics over thousands of clients that come and go: what is forgotten, and what is not."""

from __future__ import annotations

import gc
import tracemalloc
from itertools import count

import pytest

from harness.resilience.metrics import Metrics, MetricsSettings

TTL_S = 60.0


class Clock:
    """Seconds as the test sets them."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def metrics(clock: Clock) -> Metrics:
    return Metrics(clock=clock, settings=MetricsSettings(client_ttl_s=TTL_S))


def come_and_go(metrics: Metrics, clients: range) -> None:
    for n in clients:
        client = metrics.client(f"client-{n}")
        client.opened()
        client.sent(1_000_000)
        client.closed()


def held_bytes() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


def test_clients_that_come_and_go_leave_no_memory_behind(metrics: Metrics, clock: Clock):
    """
    After many times as many clients as are remembered, no more is held than after the first.
    """
    per_round = 500
    held: list[int] = []
    tracemalloc.start()
    try:
        before = held_bytes()
        for n in range(10):
            come_and_go(metrics, range(n * per_round, (n + 1) * per_round))
            held.append(held_bytes() - before)
            clock.now_s += TTL_S
            assert metrics.forget_gone() == per_round
        after = held_bytes() - before
    finally:
        tracemalloc.stop()

    # The floor proves that clients take what is measured here.
    assert held[0] > per_round * 100
    assert max(held) < 1.2 * held[0]
    assert after < held[0] / 10


def test_without_a_clean_up_the_limit_bounds_memory():
    """
    The longest gone go first; live ones are not counted among them.
    """
    metrics = Metrics(clock=lambda: 0.0, settings=MetricsSettings(max_clients=160))
    for n in range(300):
        metrics.client(f"live-{n}").opened()

    for n in range(0, 3000, 100):
        come_and_go(metrics, range(n, n + 100))
        taken = metrics.snapshot()
        assert taken.live_clients == 300
        assert 150 <= taken.gone_clients <= 160 or n == 0

    assert "client-2999" in taken.clients
    assert "client-0" not in taken.clients
    assert taken.clean_ups.removed_for_room == 3000 - taken.gone_clients


def test_a_live_client_is_never_forgotten_however_quiet(metrics: Metrics, clock: Clock):
    """
    A year of silence, and a time to live of 0.
    """
    client = metrics.client("quiet")
    client.opened()
    client.received()
    come_and_go(metrics, range(1000))
    clock.now_s += 365 * 86_400

    assert metrics.forget_gone(0) == 1000

    taken = metrics.snapshot()
    assert list(taken.clients) == ["quiet"]
    assert taken.clients["quiet"].received == 1


def test_totals_stay_when_clients_are_forgotten(metrics: Metrics, clock: Clock):
    """
    To the last message, over thousands of clients and many clean-ups.
    """
    for n in range(0, 3000, 300):
        come_and_go(metrics, range(n, n + 300))
        clock.now_s += TTL_S / 2
        metrics.forget_gone()

    taken = metrics.snapshot()
    assert taken.gone_clients < 3000
    assert (taken.messages.sent, taken.connections.total) == (3000, 3000)
    assert taken.latency.distribution.total_ns == 3000 * 1_000_000


def test_a_clean_up_counts_itself():
    """
    Its runs, whom it removed, and what it took by the clock that was handed in.
    """
    readings = count(step=0.25)
    metrics = Metrics(clock=lambda: next(readings))
    assert metrics.snapshot().clean_ups.last_ms is None
    come_and_go(metrics, range(3))

    metrics.forget_gone(0)
    first = metrics.snapshot().clean_ups
    metrics.forget_gone(0)
    second = metrics.snapshot().clean_ups

    assert (first.runs, first.removed, first.removed_for_room) == (1, 3, 0)
    assert (second.runs, second.removed) == (2, 3)
    assert first.last_ms == first.total_ms
    assert first.last_ms is not None
    assert 250 <= first.last_ms <= 1000
    assert second.total_ms == first.last_ms + (second.last_ms or 0)


@pytest.mark.parametrize(("away_s", "forgotten"), [(9, False), (10, True), (11, True)])
def test_a_client_is_forgotten_as_soon_as_it_is_as_old_as_is_said(
    metrics: Metrics, clock: Clock, away_s: float, forgotten: bool
):
    """
    Not only once it is older; and it counts from the end of the last connection.
    """
    client = metrics.client("a")
    client.opened()
    client.opened()
    client.closed()
    clock.now_s += 100
    client.closed()
    clock.now_s += away_s

    assert metrics.forget_gone(10) == forgotten


def test_a_time_to_live_of_0_forgets_all_that_are_not_live(metrics: Metrics):
    """
    At the very moment in which they went; and it is not the setting's.
    """
    come_and_go(metrics, range(3))
    metrics.client("failed").connection_failed()
    assert metrics.forget_gone() == 0

    assert metrics.forget_gone(0) == 4
    assert metrics.snapshot().clients == {}


def test_a_failure_makes_a_client_that_is_not_live_younger(metrics: Metrics, clock: Clock):
    """
    Its age counts from the last thing it tried.
    """
    client = metrics.client("a")
    client.opened()
    client.closed()
    clock.now_s += TTL_S - 1
    client.connection_failed()
    clock.now_s += 1

    assert metrics.forget_gone() == 0
    clock.now_s += TTL_S - 1
    assert metrics.forget_gone() == 1


def test_what_a_forgotten_client_does_is_in_the_totals_and_its_next_connection_begins_anew(
    metrics: Metrics,
):
    """
    Through the handle that somebody kept.
    """
    client = metrics.client("a")
    client.opened()
    client.sent(5)
    client.closed()
    metrics.forget_gone(0)

    client.sent(6)
    assert metrics.snapshot().clients == {}
    client.opened()
    client.sent(7)

    taken = metrics.snapshot()
    assert (taken.clients["a"].sent, taken.clients["a"].connections) == (1, 1)
    assert taken.messages.sent == 3
    assert taken.connections.reconnections == 0


@pytest.mark.parametrize("due", [0, 1, 63, 64, 65, 200, 499, 500, 501, 999, 1000])
def test_exactly_those_due_are_forgotten_whatever_part_they_are(
    metrics: Metrics, clock: Clock, due: int
):
    """
    The longest gone, and of the others all figures stay.
    """
    come_and_go(metrics, range(due))
    clock.now_s += 1
    come_and_go(metrics, range(due, 1000))

    assert metrics.forget_gone(1) == due

    taken = metrics.snapshot()
    assert list(taken.clients) == [f"client-{n}" for n in range(due, 1000)]
    assert all(client.sent == 1 for client in taken.clients.values())

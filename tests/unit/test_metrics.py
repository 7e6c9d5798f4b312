"""Figures of connections, messages, clients and breakers, on a clock of the test's own."""

from __future__ import annotations

import json
import math
from dataclasses import FrozenInstanceError, asdict, dataclass, field

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from harness.errors import InvalidValue
from harness.resilience.breaker import State, Transition
from harness.resilience.metrics import Metrics, MetricsSettings
from harness.resilience.snapshot import BreakerView, Queue, Retries

MS = 1_000_000


class Clock:
    """Seconds as the test sets them."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def made(**values: float) -> tuple[Metrics, Clock]:
    clock = Clock()
    return Metrics(clock=clock, settings=MetricsSettings(**values)), clock


def transition(name: str, before: State, after: State) -> Transition:
    return Transition(name=name, epoch=1, at_s=0.0, before=before, after=after, why="test")


def test_every_kind_of_message_is_counted_for_its_client_and_in_all():
    """
    Each by itself; what one client does is not another's.
    """
    metrics, _ = made()
    one, other = metrics.client("one"), metrics.client("other")
    counted = ["sent", "received", "queued", "failed", "expired", "deduplicated"]
    for times, what in enumerate(counted, 1):
        for _ in range(times):
            getattr(one, what)(*([MS] if what == "sent" else []))
    other.received()

    taken = metrics.snapshot()

    expected = {what: times for times, what in enumerate(counted, 1)}
    seen = asdict(taken.clients["one"])
    assert {what: seen[what] for what in counted} == expected
    assert asdict(taken.messages) == expected | {"received": 3}
    assert taken.clients["other"].received == 1


def test_connections_of_a_client_are_counted_with_those_that_are_open():
    """
    Two at once are no reconnection; one after both ended is.
    """
    metrics, clock = made()
    client = metrics.client("a")
    client.opened()
    client.opened()
    client.closed()
    clock.now_s += 5
    assert metrics.snapshot().clients["a"].gone_s is None

    client.closed()
    clock.now_s += 5
    assert metrics.snapshot().clients["a"].gone_s == 5

    client.opened()
    client.timed_out()
    client.timed_out()

    seen = metrics.snapshot().connections
    assert (seen.total, seen.active, seen.reconnections, seen.timeouts) == (3, 1, 1, 2)
    client.closed()
    client.opened()
    one = metrics.snapshot().clients["a"]
    assert (one.timeouts, one.reconnections, one.connections) == (2, 2, 4)


def test_a_client_that_only_failed_is_there():
    """
    Without a connection ever.
    """
    metrics, _ = made()

    metrics.client("a").connection_failed()

    taken = metrics.snapshot()
    assert taken.clients["a"].failed_connections == 1
    assert (taken.connections.failed, taken.connections.total) == (1, 0)


def test_a_client_that_failed_last_is_the_last_to_make_room():
    """
    However long it had been gone before.
    """
    metrics, clock = made(max_clients=2)
    for name in ("a", "b", "a", "c"):
        clock.now_s += 1
        metrics.client(name).connection_failed()

    assert set(metrics.snapshot().clients) == {"a", "c"}


def test_a_close_without_an_open_is_told_and_takes_nothing_away():
    """
    The number of open connections never falls below those that are open.
    """
    metrics, _ = made()
    client, other = metrics.client("a"), metrics.client("b")
    other.opened()

    client.closed()

    seen = metrics.snapshot().connections
    assert (seen.active, seen.unmatched_closes) == (1, 1)


def test_two_handles_of_one_client_count_for_the_same():
    """
    A client is its id.
    """
    metrics, _ = made()
    one, other = metrics.client("a"), metrics.client("a")

    one.opened()
    other.received()
    other.closed()

    client = metrics.snapshot().clients["a"]
    assert (client.active, client.received) == (0, 1)


def test_latency_waiting_and_processing_are_three_distributions():
    """
    With percentiles, each of its own.
    """
    metrics, _ = made()
    client = metrics.client("a")
    for latency_ms in range(1, 101):
        client.sent(latency_ms * MS)
    metrics.queue_wait.record(7 * MS)
    metrics.processing.record(9 * MS)

    taken = metrics.snapshot()

    assert taken.latency.mean_ms == 50.5
    assert (taken.latency.count, taken.latency.low_ms) == (100, pytest.approx(1, rel=0.008))
    assert taken.latency.p50_ms == pytest.approx(50, rel=0.008)
    assert taken.latency.p999_ms == taken.latency.high_ms == pytest.approx(100, rel=0.008)
    assert taken.latency.p95_ms == pytest.approx(95, rel=0.008)
    assert taken.latency.p99_ms == pytest.approx(99, rel=0.008)
    assert (taken.queue_wait.mean_ms, taken.processing.mean_ms) == (7, 9)


@pytest.mark.parametrize("latency_ns", [0, 255, 256, 1_234_567, -5, 1 << 60])
def test_what_a_client_sent_is_recorded_as_the_histogram_would(latency_ns: int):
    """
    The hot path's copy of the recording does the same, at its edges too.
    """
    metrics, _ = made()

    metrics.client("a").sent(latency_ns)
    metrics.processing.record(latency_ns)

    assert metrics.latency == metrics.processing
    assert metrics.snapshot().messages.sent == 1


def test_the_queue_has_a_size_a_peak_and_overflows():
    """
    The peak stays when the queue is empty again.
    """
    metrics, _ = made()

    for size in (1, 5, 0):
        metrics.queue_sized(size)
    metrics.queue_overflowed()
    metrics.queue_overflowed(3)

    assert metrics.snapshot().queue == Queue(size=0, peak=5, overflows=4)


def test_the_rate_of_retries_is_of_those_that_ended():
    """
    One under way is no failure; where none ended there is no rate.
    """
    metrics, _ = made()
    for _ in range(9):
        metrics.retry_began()
    assert metrics.snapshot().retries.success_rate is None

    for _ in range(2):
        for _ in range(3):
            metrics.retry_succeeded()
        metrics.retry_failed()

    assert metrics.snapshot().retries == Retries(
        attempts=9, successes=6, failures=2, success_rate=0.75
    )


def test_breakers_are_seen_by_name_and_in_all():
    """
    A reset of a closed one closes nothing.
    """
    metrics, _ = made()
    metrics.breaker_changed(transition("a", "closed", "open"))
    metrics.breaker_refused("a")
    metrics.breaker_changed(transition("a", "open", "half_open"))
    metrics.breaker_changed(transition("b", "closed", "closed"))

    taken = metrics.snapshot()

    assert taken.breakers["a"] == BreakerView(
        state="half_open", opens=1, half_opens=1, closes=0, refusals=1
    )
    assert taken.breakers["b"].state == "closed"
    totals = taken.breaker_totals
    assert (totals.opens, totals.half_opens, totals.closes, totals.refusals) == (1, 1, 0, 1)


def test_breakers_are_counted_on():
    """
    Everything twice: by name, and in all.
    """
    metrics, _ = made()
    lives: list[tuple[State, State]] = [
        ("closed", "open"),
        ("open", "half_open"),
        ("half_open", "closed"),
    ]
    for before, after in lives * 2:
        metrics.breaker_changed(transition("a", before, after))
        metrics.breaker_refused("a")

    taken = metrics.snapshot()

    assert taken.breakers["a"] == BreakerView(
        state="closed", opens=2, half_opens=2, closes=2, refusals=6
    )
    assert asdict(taken.breaker_totals) == {
        "opens": 2,
        "half_opens": 2,
        "closes": 2,
        "refusals": 6,
    }


def test_a_breaker_of_which_a_refusal_alone_was_told_counts_as_closed():
    """
    As one does that nobody told anything of.
    """
    metrics, _ = made()
    metrics.breaker_refused("a")

    assert metrics.snapshot().breakers == {
        "a": BreakerView(state="closed", opens=0, half_opens=0, closes=0, refusals=1)
    }


def test_of_too_many_breakers_the_one_told_of_longest_ago_is_forgotten():
    """
    What it counted stays in the totals; so it does where somebody says that one is gone.
    """
    metrics, _ = made(max_breakers=2)
    for name in ("a", "b", "a", "c"):
        metrics.breaker_changed(transition(name, "closed", "open"))

    assert set(metrics.snapshot().breakers) == {"a", "c"}
    metrics.breaker_forgotten("a")
    metrics.breaker_forgotten("never seen")
    taken = metrics.snapshot()
    assert set(taken.breakers) == {"c"}
    assert taken.breaker_totals.opens == 4


def test_a_snapshot_is_frozen_and_json():
    """
    Later counts do not change it.
    """
    metrics, _ = made()
    client = metrics.client("a")
    client.sent(MS)
    metrics.breaker_changed(transition("a", "closed", "open"))
    taken = metrics.snapshot()

    client.sent(MS)

    assert taken.messages.sent == taken.clients["a"].sent == 1
    with pytest.raises(FrozenInstanceError):
        taken.uptime_s = 1  # type: ignore[misc]
    assert json.loads(msgspec.json.encode(taken)) == json.loads(json.dumps(asdict(taken)))
    assert metrics.snapshot(clients=False).clients == {}


def test_a_snapshot_says_when_it_was_taken():
    """
    On the clock handed in, and how long after the beginning.
    """
    metrics, clock = made()
    clock.now_s += 12

    taken = metrics.snapshot()

    assert (taken.taken_s, taken.uptime_s) == (1012, 12)


def test_a_clean_up_is_due_after_each_interval():
    """
    So that whoever has a loop knows how long to sleep.
    """
    metrics, clock = made(clean_up_interval_s=10)
    assert (metrics.due_clean_up(), metrics.next_clean_up_s()) == (False, 10)

    clock.now_s += 10
    assert (metrics.due_clean_up(), metrics.next_clean_up_s()) == (True, 0)

    metrics.forget_gone()
    assert (metrics.due_clean_up(), metrics.next_clean_up_s()) == (False, 10)


def test_a_clock_that_jumps_back_neither_freezes_the_clean_up_nor_drops_anybody():
    """
    Time goes on from where it was.
    """
    metrics, clock = made(client_ttl_s=10, clean_up_interval_s=10)
    client = metrics.client("a")
    client.opened()
    client.closed()
    clock.now_s -= 500
    assert metrics.forget_gone() == 0

    clock.now_s += 9
    assert metrics.snapshot().uptime_s == 9
    assert (metrics.forget_gone(), metrics.next_clean_up_s()) == (0, 10)
    clock.now_s += 1
    assert metrics.forget_gone() == 1
    assert metrics.snapshot().uptime_s == 10


def test_other_settings_hold_at_once():
    """
    The limit on who is remembered, and how long.
    """
    metrics, clock = made()
    for n in range(5):
        metrics.client(f"{n}").connection_failed()

    metrics.adopt(MetricsSettings(max_clients=2, client_ttl_s=1))

    assert set(metrics.snapshot().clients) == {"3", "4"}
    clock.now_s += 1
    assert metrics.forget_gone() == 2


@pytest.mark.parametrize("ttl_s", [-1, math.nan])
def test_a_time_to_live_below_0_is_refused(ttl_s: float):
    """
    Nobody has gone in the future.
    """
    metrics, _ = made()

    with pytest.raises(InvalidValue, match="seconds, 0 or more"):
        metrics.forget_gone(ttl_s)


@dataclass
class Client:
    """What the model knows of a client."""

    active: int = 0
    connections: int = 0
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTS, 0))
    gone_s: float = 0.0


COUNTS = ("sent", "received", "failed_connections", "reconnections")
LIMIT = 3
ids = st.sampled_from("abcde")


class Model(RuleBasedStateMachine):
    """Metrics, and beside them plain dictionaries that look at everything each time."""

    @initialize()
    def begin(self) -> None:
        self.clock = Clock()
        self.metrics = Metrics(clock=self.clock, settings=MetricsSettings(max_clients=LIMIT))
        self.handles = {name: self.metrics.client(name) for name in "abcde"}
        # Who is remembered, the longest gone first; and for whom a handle counts, who may be
        # forgotten until its next connection.
        self.known: dict[str, Client] = {}
        self.bound: dict[str, Client] = {}
        self.time_s = 0.0
        self.totals = dict.fromkeys(COUNTS, 0)
        self.removed = self.for_room = self.unmatched = 0
        for name in "abcde":
            self.bound[name] = self.register(name)

    def register(self, name: str) -> Client:
        client = self.known.pop(name, None) or Client()
        self.known[name] = client
        if not client.active:
            client.gone_s = self.time_s
            self.limit()
        return client

    def limit(self) -> None:
        gone = [name for name, client in self.known.items() if not client.active]
        for name in gone[: max(0, len(gone) - LIMIT)]:
            del self.known[name]
            self.for_room += 1

    def count(self, name: str, what: str) -> None:
        self.bound[name].counts[what] += 1
        self.totals[what] += 1

    @rule(name=ids)
    def opens(self, name: str) -> None:
        self.handles[name].opened()
        client = self.known.get(name) or Client()
        self.known[name] = self.bound[name] = client
        if client.connections and not client.active:
            self.count(name, "reconnections")
        client.active += 1
        client.connections += 1

    @rule(name=ids)
    def closes(self, name: str) -> None:
        self.handles[name].closed()
        client = self.known.get(name)
        if client is None or not client.active:
            self.unmatched += 1
            return
        client.active -= 1
        self.register(name)

    @rule(name=ids)
    def fails(self, name: str) -> None:
        self.handles[name].connection_failed()
        self.bound[name] = self.register(name)
        self.count(name, "failed_connections")

    @rule(name=ids, what=st.sampled_from(["sent", "received"]))
    def counts(self, name: str, what: str) -> None:
        getattr(self.handles[name], what)(*([MS] if what == "sent" else []))
        self.count(name, what)

    @rule(by_s=st.integers(0, 20), back_s=st.sampled_from([0, 0, 0, 7, 5000]))
    def time_passes(self, by_s: int, back_s: int) -> None:
        self.clock.now_s += by_s
        self.metrics.forget_gone(1e9)
        self.clock.now_s -= back_s
        self.metrics.forget_gone(1e9)
        self.time_s += by_s

    @rule(ttl_s=st.sampled_from([0, 1, 5, 10, 20]))
    def cleans_up(self, ttl_s: int) -> None:
        due = [
            name
            for name, client in self.known.items()
            if not client.active and self.time_s - client.gone_s >= ttl_s
        ]
        for name in due:
            del self.known[name]
        self.removed += len(due)

        assert self.metrics.forget_gone(ttl_s) == len(due)

    @invariant()
    def agree(self) -> None:
        taken = self.metrics.snapshot()
        assert {
            name: (
                *(client.active, client.connections, client.gone_s),
                *(getattr(client, what) for what in COUNTS),
            )
            for name, client in taken.clients.items()
        } == {
            name: (
                client.active,
                client.connections,
                None if client.active else self.time_s - client.gone_s,
                *client.counts.values(),
            )
            for name, client in self.known.items()
        }
        seen = taken.connections
        assert self.totals == {
            "sent": taken.messages.sent,
            "received": taken.messages.received,
            "failed_connections": seen.failed,
            "reconnections": seen.reconnections,
        }
        assert seen.active == sum(client.active for client in self.known.values())
        assert seen.unmatched_closes == self.unmatched
        assert taken.clean_ups.removed == self.removed
        assert taken.clean_ups.removed_for_room == self.for_room


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=25, stateful_step_count=25)

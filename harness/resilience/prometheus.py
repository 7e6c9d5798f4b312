"""
Metrics for Prometheus: read when they are scraped, at no cost for whoever counts.

Needs the extra `metrics`. What is exported, all of it with the prefix `harness_`:

    connections_total, connections_failed_total, reconnections_total,
    connection_timeouts_total, connections_unmatched_closes_total       counters
    connections_active, clients_live, clients_gone                      gauges
    messages_total{what}: sent, received, queued, failed, expired, deduplicated
    queue_messages, queue_messages_peak, queue_overflows_total
    retries_total, retries_ended_total{outcome}: success, failure
    breakers{state}: how many are in it; closed, open, half_open         a gauge each
    breaker_state{breaker, state}: 1 for the state it has, 0 for others  if asked for
    breaker_transitions_total{after}, breaker_refusals_total
    clean_ups_total, clean_up_seconds_total, clients_forgotten_total{why}: ttl, room
    send_latency_seconds, queue_wait_seconds, processing_seconds        histograms
    uptime_seconds

Figures of single clients are not: every client would be a series of its own, for good. For
the same reason single breakers are exported where somebody asks for them only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Final, get_args

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from harness.errors import InvalidValue
from harness.resilience.breaker import State
from harness.resilience.histogram import Distribution
from harness.resilience.snapshot import BreakerView, Snapshot

__all__ = ["MetricsCollector", "histogram"]

_BOUNDS_NS: Final = tuple(1 << bits for bits in range(16, 38))
"""Where buckets end: powers of two from 66 us to 137 s, where buckets of ours begin."""


class MetricsCollector(Collector):
    """
    To be registered: `CollectorRegistry().register(MetricsCollector(...))`.

    Args:
        take: Takes a snapshot; best one without clients:
            `lambda: metrics.snapshot(clients=False)`.
        single_breakers: Whether the state of each is exported, by name; not where there is
            one for each client.

    Raises:
        InvalidValue: If `take` is no function: a scrape would be the first to notice.
    """

    def __init__(self, take: Callable[[], Snapshot], *, single_breakers: bool = False) -> None:
        if not callable(take):
            raise InvalidValue(
                f"take is a {type(take).__name__}; expected a function that takes a snapshot",
                [("next", "MetricsCollector(lambda: metrics.snapshot(clients=False))")],
            )
        self._take = take
        self._single_breakers = single_breakers

    def collect(self) -> Iterator[Metric]:
        """All families, of one snapshot."""
        taken = self._take()
        yield from _connections(taken)
        yield from _messages(taken)
        yield from _breakers(taken)
        if self._single_breakers:
            yield _states(taken.breakers)
        yield from _clean_ups(taken)
        timings = {
            "send_latency": ("What sending a message took.", taken.latency),
            "queue_wait": ("How long messages waited to be worked on.", taken.queue_wait),
            "processing": ("What working on messages took.", taken.processing),
        }
        for name, (about, timing) in timings.items():
            yield histogram(f"{name}_seconds", about, timing.distribution)
        yield _gauge("uptime_seconds", "Since the metrics were made.", taken.uptime_s)


def _counter(name: str, about: str, value: float) -> Metric:
    return CounterMetricFamily(f"harness_{name}", about, value=value)


def _gauge(name: str, about: str, value: float) -> Metric:
    return GaugeMetricFamily(f"harness_{name}", about, value=value)


def _counters(name: str, about: str, label: str, values: Mapping[str, float]) -> Metric:
    family = CounterMetricFamily(f"harness_{name}", about, labels=[label])
    for which, value in values.items():
        family.add_metric([which], value)
    return family


def _connections(taken: Snapshot) -> Iterator[Metric]:
    seen = taken.connections
    yield _counter("connections", "Connections opened.", seen.total)
    yield _counter("connections_failed", "Connections that did not come about.", seen.failed)
    yield _counter("reconnections", "Connections of clients that had had one.", seen.reconnections)
    yield _counter("connection_timeouts", "Time limits that ran out.", seen.timeouts)
    yield _counter("connections_unmatched_closes", "Closes without an open.", seen.unmatched_closes)
    yield _gauge("connections_active", "Connections that are open.", seen.active)
    yield _gauge("clients_live", "Clients with a connection.", taken.live_clients)
    yield _gauge("clients_gone", "Clients without one, remembered.", taken.gone_clients)


def _messages(taken: Snapshot) -> Iterator[Metric]:
    seen, queue, retries = taken.messages, taken.queue, taken.retries
    what = {
        "sent": seen.sent,
        "received": seen.received,
        "queued": seen.queued,
        "failed": seen.failed,
        "expired": seen.expired,
        "deduplicated": seen.deduplicated,
    }
    yield _counters("messages", "Messages, by what happened.", "what", what)
    yield _gauge("queue_messages", "Messages that wait.", queue.size)
    yield _gauge("queue_messages_peak", "The most that waited.", queue.peak)
    yield _counter("queue_overflows", "Messages without room.", queue.overflows)
    yield _counter("retries", "Retries begun.", retries.attempts)
    outcomes = {"success": retries.successes, "failure": retries.failures}
    yield _counters("retries_ended", "Retries ended.", "outcome", outcomes)


def _breakers(taken: Snapshot) -> Iterator[Metric]:
    states = Counter(breaker.state for breaker in taken.breakers.values())
    family = GaugeMetricFamily("harness_breakers", "Breakers in a state.", labels=["state"])
    for state in get_args(State):
        family.add_metric([state], states[state])
    yield family
    seen = taken.breaker_totals
    after = {"open": seen.opens, "half_open": seen.half_opens, "closed": seen.closes}
    yield _counters("breaker_transitions", "Changes of state.", "after", after)
    yield _counter("breaker_refusals", "Calls refused.", seen.refusals)


def _states(breakers: Mapping[str, BreakerView]) -> Metric:
    family = GaugeMetricFamily(
        "harness_breaker_state", "1 for the state it has.", labels=["breaker", "state"]
    )
    for name, breaker in breakers.items():
        for state in get_args(State):
            family.add_metric([name, state], float(breaker.state == state))
    return family


def _clean_ups(taken: Snapshot) -> Iterator[Metric]:
    seen = taken.clean_ups
    yield _counter("clean_ups", "Runs of forgetting clients.", seen.runs)
    yield _counter("clean_up_seconds", "What these took.", seen.total_ms / 1e3)
    why = {"ttl": seen.removed, "room": seen.removed_for_room}
    yield _counters("clients_forgotten", "Clients forgotten.", "why", why)


def histogram(name: str, about: str, distribution: Distribution) -> Metric:
    """A distribution as a histogram in seconds, its name without the prefix."""
    # A bound is the last nanosecond below a power of two: Prometheus' bounds belong to the
    # bucket, and so each cumulated count is exact.
    below = [
        (repr((bound_ns - 1) / 1e9), float(count))
        for bound_ns, count in zip(_BOUNDS_NS, distribution.counts_below(_BOUNDS_NS), strict=True)
    ]
    return HistogramMetricFamily(
        f"harness_{name}",
        about,
        buckets=[*below, ("+Inf", float(distribution.count))],
        sum_value=distribution.total_ns / 1e9,
    )

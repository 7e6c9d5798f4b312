"""
What metrics said at one moment: frozen values, without a clock and without whoever counts.

All of it is JSON-able: `msgspec.json.encode(snapshot)`, or `json.dumps(asdict(snapshot))`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from harness.resilience.breaker import State
from harness.resilience.histogram import Distribution

__all__ = [
    "BreakerCounts",
    "BreakerView",
    "CleanUps",
    "ClientView",
    "Connections",
    "Messages",
    "Queue",
    "Retries",
    "Snapshot",
    "Timing",
]


@dataclass(frozen=True, kw_only=True)
class Connections:
    """
    Attributes:
        total: Opened so far.
        active: Open now.
        failed: Attempts that came to nothing.
        reconnections: Of the opened, those of a client that had had one and had none.
        timeouts: How often a time limit of a connection ran out.
        unmatched_closes: Closes without an open before: a mistake of whoever tells us.
    """

    total: int
    active: int
    failed: int
    reconnections: int
    timeouts: int
    unmatched_closes: int


@dataclass(frozen=True, kw_only=True)
class Messages:
    """How many messages were sent, and so on."""

    sent: int
    received: int
    queued: int
    failed: int
    expired: int
    deduplicated: int


@dataclass(frozen=True, kw_only=True)
class Queue:
    """How many messages wait, the most there were, and how many found no room."""

    size: int
    peak: int
    overflows: int


@dataclass(frozen=True, kw_only=True)
class Retries:
    """
    Attributes:
        attempts: Begun.
        successes: Ended well.
        failures: Ended badly.
        success_rate: The part of the ended that ended well, 0 to 1; None where none ended.
    """

    attempts: int
    successes: int
    failures: int
    success_rate: float | None


@dataclass(frozen=True, kw_only=True)
class BreakerCounts:
    """How often breakers changed into each state, and how many calls they refused."""

    opens: int
    half_opens: int
    closes: int
    refusals: int


@dataclass(frozen=True, kw_only=True)
class BreakerView(BreakerCounts):
    """One breaker: its state, and its share of the counts."""

    state: State


@dataclass(frozen=True, kw_only=True)
class Timing:
    """
    How long something took, in milliseconds; None where it never happened.

    Percentiles are at most 0.8 % above the value of their rank, `low_ms` as much below the
    least. The mean is exact.

    Attributes:
        count: How often.
        distribution: All of it; what the other figures are made of.
    """

    count: int
    mean_ms: float | None
    low_ms: float | None
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    p999_ms: float | None
    high_ms: float | None
    distribution: Distribution

    @classmethod
    def of(cls, distribution: Distribution) -> Timing:
        """The figures of a distribution."""
        return cls(
            count=distribution.count,
            mean_ms=_ms(distribution.mean_ns),
            low_ms=_ms(distribution.low_ns),
            p50_ms=_ms(distribution.percentile(50)),
            p95_ms=_ms(distribution.percentile(95)),
            p99_ms=_ms(distribution.percentile(99)),
            p999_ms=_ms(distribution.percentile(99.9)),
            high_ms=_ms(distribution.high_ns),
            distribution=distribution,
        )


def _ms(value_ns: float | None) -> float | None:
    return None if value_ns is None else value_ns / 1e6


@dataclass(frozen=True, kw_only=True)
class ClientView:
    """
    One client that is remembered.

    Attributes:
        active: Connections it has now.
        connections: Connections it ever had.
        failed_connections: Attempts that came to nothing.
        gone_s: For how long it has had none; None where it has one.
    """

    active: int
    connections: int
    reconnections: int
    failed_connections: int
    timeouts: int
    sent: int
    received: int
    queued: int
    failed: int
    expired: int
    deduplicated: int
    gone_s: float | None


@dataclass(frozen=True, kw_only=True)
class CleanUps:
    """
    What forgetting clients took.

    Attributes:
        runs: How often it was done.
        removed: Clients removed by that.
        removed_for_room: Clients removed between, because more had gone than are remembered.
        total_ms: What all runs took.
        last_ms: What the last one took; None before the first.
    """

    runs: int
    removed: int
    removed_for_room: int
    total_ms: float
    last_ms: float | None


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """
    All figures.

    Attributes:
        taken_s: When, on the metrics' clock; where that jumped back, as if it had stood still.
        uptime_s: Seconds since the metrics were made.
        breakers: By name.
        breaker_totals: Of all there ever were.
        latency: Of messages sent.
        queue_wait: What they waited before anybody worked on them.
        processing: What working on them took.
        live_clients: Clients with a connection.
        gone_clients: Clients without one that are remembered.
        clients: By id; empty where they were not asked for.
    """

    taken_s: float
    uptime_s: float
    connections: Connections
    messages: Messages
    queue: Queue
    retries: Retries
    breakers: Mapping[str, BreakerView]
    breaker_totals: BreakerCounts
    latency: Timing
    queue_wait: Timing
    processing: Timing
    live_clients: int
    gone_clients: int
    clients: Mapping[str, ClientView]
    clean_ups: CleanUps

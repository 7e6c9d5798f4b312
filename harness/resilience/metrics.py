"""
What happens to connections and messages, counted.

Counters on the hot path are plain attributes: no labels, no locks. One thread, or one event
loop, tells them. A snapshot may be taken by another thread: each figure is right by itself
then, two of them may be a message apart.

No clock here: one is handed in, and may jump.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from harness.resilience.breaker import Transition
from harness.resilience.breaker_counts import BreakersSeen
from harness.resilience.clients import ClientFigures, Clients
from harness.resilience.histogram import Histogram
from harness.resilience.settings import Settings, key
from harness.resilience.snapshot import (
    CleanUps,
    Connections,
    Messages,
    Queue,
    Retries,
    Snapshot,
    Timing,
)
from harness.resilience.steady import Steady

__all__ = ["ClientFigures", "Metrics", "MetricsSettings"]


@dataclass(frozen=True, kw_only=True)
class MetricsSettings(Settings):
    """How long figures of single clients are kept. Totals are kept for good."""

    client_ttl_s: float = key(
        3600.0,
        low=0,
        about="a client without a connection is forgotten after so long",
        variable="EXAI_METRICS_CLIENT_TTL_S",
        advice="longer than clients stay away; a client that comes back later begins at 0",
    )
    clean_up_interval_s: float = key(
        300.0,
        above=0,
        about="how often clients are forgotten",
        variable="EXAI_METRICS_CLEAN_UP_INTERVAL_S",
        advice="shorter where very many clients come and go; a run takes 0.1 ms for 1000",
    )
    max_clients: int = key(
        10_000,
        low=1,
        about="how many clients without a connection are remembered; the longest gone go first",
        variable="EXAI_METRICS_MAX_CLIENTS",
        advice="a bound on memory, about 300 bytes a client",
    )
    max_breakers: int = key(
        10_000,
        low=1,
        about="how many breakers are remembered; the one told of longest ago goes first",
        variable="EXAI_METRICS_MAX_BREAKERS",
        advice="as many as there are peers at a time",
    )


class Metrics:
    """
    The figures of one daemon.

    Args:
        clock: Seconds, monotonic.
        settings: How long single clients are remembered.

    Attributes:
        queue_wait: How long messages waited before anybody worked on them; record into it.
        processing: How long working on them took; record into it.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        settings: MetricsSettings = MetricsSettings(),
    ) -> None:
        self._now = Steady(clock)
        self._settings = settings
        self._clients = Clients(now=self._now, limit=settings.max_clients)
        self.queue_wait = Histogram()
        self.processing = Histogram()
        self._queue_size = self._queue_peak = self._queue_overflows = 0
        self._attempts = self._successes = self._failures = 0
        self._breakers = BreakersSeen(limit=settings.max_breakers)
        self._began_s = self._cleaned_s = self._now()
        self._runs = self._removed = 0
        self._clean_ups_s = 0.0
        self._last_clean_up_s: float | None = None

    @property
    def latency(self) -> Histogram:
        """How long sending took; `ClientFigures.sent` records into it."""
        return self._clients.totals.latency

    def client(self, client_id: str) -> ClientFigures:
        """Register a client, where it is not known, and get a handle to count with."""
        return ClientFigures(client_id, self._clients)

    def queue_sized(self, messages: int) -> None:
        """So many messages wait now, in all queues together."""
        self._queue_size = messages
        self._queue_peak = max(self._queue_peak, messages)

    def queue_overflowed(self, messages: int = 1) -> None:
        """Messages found no room in a queue, or had to leave it for others."""
        self._queue_overflows += messages

    def retry_began(self) -> None:
        """Something is tried once more."""
        self._attempts += 1

    def retry_succeeded(self) -> None:
        """A retry ended well."""
        self._successes += 1

    def retry_failed(self) -> None:
        """A retry ended badly."""
        self._failures += 1

    def breaker_changed(self, event: Transition) -> None:
        """A breaker changed its state; an observer of breakers."""
        self._breakers.changed(event)

    def breaker_refused(self, name: str) -> None:
        """A breaker refused a call."""
        self._breakers.refused(name)

    def breaker_forgotten(self, name: str) -> None:
        """A breaker is there no longer; totals keep what it counted."""
        self._breakers.forgotten(name)

    def adopt(self, settings: MetricsSettings) -> None:
        """Go by other settings from now on; limits hold at once."""
        self._settings = settings
        self._clients.limit = settings.max_clients
        self._clients.make_room()
        self._breakers.limit = settings.max_breakers
        self._breakers.make_room()

    def next_clean_up_s(self) -> float:
        """In how many seconds clients should be forgotten; 0 where that is due."""
        due_s = self._cleaned_s + self._settings.clean_up_interval_s
        return max(0.0, due_s - self._now())

    def due_clean_up(self) -> bool:
        """Whether clients should be forgotten now."""
        return self.next_clean_up_s() == 0

    def forget_gone(self, ttl_s: float | None = None) -> int:
        """
        Forget clients whose last connection ended, or last failed, at least so long ago.

        A client with a connection is never forgotten, however quiet it is.

        Args:
            ttl_s: Seconds; 0 forgets all that have no connection. None: as the settings say.

        Returns:
            How many were forgotten.

        Raises:
            InvalidValue: If `ttl_s` is not 0 or more.
        """
        began_s = self._now()
        removed = self._clients.forget_gone(self._settings.client_ttl_s if ttl_s is None else ttl_s)
        self._cleaned_s = self._now()
        self._last_clean_up_s = self._cleaned_s - began_s
        self._clean_ups_s += self._last_clean_up_s
        self._runs += 1
        self._removed += removed
        return removed

    def snapshot(self, *, clients: bool = True) -> Snapshot:
        """
        All figures as they are now; what comes later does not change them. Takes about 1 ms.

        Args:
            clients: Whether with those of each client; takes some 3 us a client.
        """
        now_s = self._now.peek()
        table, totals = self._clients, self._clients.totals
        latency = Timing.of(totals.latency.snapshot())
        ended = self._successes + self._failures
        return Snapshot(
            taken_s=now_s,
            uptime_s=now_s - self._began_s,
            connections=Connections(
                total=totals.connections,
                active=totals.active,
                failed=totals.failed_connections,
                reconnections=totals.reconnections,
                timeouts=totals.timeouts,
                unmatched_closes=totals.unmatched_closes,
            ),
            messages=Messages(
                sent=latency.count,
                received=totals.received,
                queued=totals.queued,
                failed=totals.failed,
                expired=totals.expired,
                deduplicated=totals.deduplicated,
            ),
            queue=Queue(
                size=self._queue_size, peak=self._queue_peak, overflows=self._queue_overflows
            ),
            retries=Retries(
                attempts=self._attempts,
                successes=self._successes,
                failures=self._failures,
                success_rate=self._successes / ended if ended else None,
            ),
            breakers=self._breakers.views(),
            breaker_totals=self._breakers.totals(),
            latency=latency,
            queue_wait=Timing.of(self.queue_wait.snapshot()),
            processing=Timing.of(self.processing.snapshot()),
            live_clients=len(table.live),
            gone_clients=len(table.gone),
            clients=table.views(now_s) if clients else {},
            clean_ups=CleanUps(
                runs=self._runs,
                removed=self._removed,
                removed_for_room=table.removed_for_room,
                total_ms=self._clean_ups_s * 1e3,
                last_ms=None if self._last_clean_up_s is None else self._last_clean_up_s * 1e3,
            ),
        )
